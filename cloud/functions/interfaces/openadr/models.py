"""Shapes of OpenADR 3.1 requests, as the public OpenAPI document gives them (openadr3-3.1.0.yaml, Apache-2.0), with limits on sizes.

What a field means is judged by `mapping`. Must not know: ledgers, services.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from cloud.functions.interfaces.openadr.times import is_duration
from cloud.functions.params import Line

Text128 = Annotated[Line, Field(min_length=1, max_length=128)]
ObjectId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$")]
Duration = Annotated[str, Field(max_length=60), AfterValidator(is_duration)]
DateTime = Annotated[str, Field(min_length=10, max_length=40, json_schema_extra={"format": "date-time"})]
Metadata = Annotated[str | None, Field(max_length=60)]


def _value(value: Any) -> Any:
    """A number, text, truth value or point; nothing that JSON cannot carry back."""
    if isinstance(value, dict):
        if set(value) != {"x", "y"} or any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in value.values()):
            raise ValueError("a point has finite numbers x and y")
        return value
    if isinstance(value, bool) or (isinstance(value, str) and len(value) <= 1000):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= 1e15:
        return value
    raise ValueError("must be a finite number, a text of at most 1000 characters, a truth value or a point")


Value = Annotated[Any, PlainValidator(_value), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "maxLength": 1000}, {"type": "boolean"}, {
    "type": "object", "required": ["x", "y"], "properties": {"x": {"type": "number"}, "y": {"type": "number"}}}]})]


class Shape(BaseModel):
    """Strict; a field nobody knows is refused rather than passed over."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")


class ValuesMap(Shape):
    """One or more values of a type."""

    type: Text128
    values: list[Value] = Field(max_length=200)


class IntervalPeriod(Shape):
    """Start, duration, randomised start."""

    start: DateTime | None = None
    duration: Duration | None = None
    randomizeStart: Duration | None = None  # noqa: N815  the standard's names


class Interval(Shape):
    """A window and what holds in it."""

    id: int = Field(ge=-(1 << 31), lt=1 << 31)
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    payloads: list[ValuesMap] = Field(max_length=20)


class EventPayloadDescriptor(Shape):
    """Units of an event's values."""

    objectType: Literal["EVENT_PAYLOAD_DESCRIPTOR"]  # noqa: N815
    payloadType: Text128  # noqa: N815
    units: Text128 | None = None
    currency: Annotated[Line, Field(max_length=10)] | None = None


class ReportPayloadDescriptor(Shape):
    """Units of a report's values."""

    objectType: Literal["REPORT_PAYLOAD_DESCRIPTOR"]  # noqa: N815
    payloadType: Text128  # noqa: N815
    readingType: Text128 | None = None  # noqa: N815
    units: Text128 | None = None
    accuracy: float | None = None
    confidence: int | None = Field(None, ge=0, le=100)


class ReportDescriptor(Shape):
    """A report that is asked for."""

    payloadType: Text128  # noqa: N815
    readingType: Text128 | None = None  # noqa: N815
    units: Text128 | None = None
    targets: list[Text128] | None = Field(None, max_length=20_000)
    aggregate: bool = False
    startInterval: int = -1  # noqa: N815
    numIntervals: int = -1  # noqa: N815
    historical: bool = True
    frequency: int = -1
    repeat: int = 1
    reportIntervals: Literal["INTERVALS", "SUB_INTERVALS", "OPEN_INTERVALS"] = "INTERVALS"  # noqa: N815


class Known(Shape):
    """What a server says of an object: who read one may send it back. Of it only `modificationDateTime` counts, as the version that was read."""

    id: Metadata = None
    createdDateTime: Metadata = None  # noqa: N815
    modificationDateTime: Metadata = None  # noqa: N815
    objectType: Metadata = None  # noqa: N815
    kang: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """As it is kept: what the client said, without what the server adds."""
        return self.model_dump(exclude_unset=True, exclude=set(Known.model_fields))


class ProgramDescription(Shape):
    """Where a program is described."""

    URL: Annotated[str, Field(min_length=2, max_length=2000)]


class ProgramRequest(Known):
    """A program; the attributes KANG_* say how its events are meant (documentation, "grid dispatch")."""

    programName: Text128  # noqa: N815
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    programDescriptions: list[ProgramDescription] | None = Field(None, max_length=20)  # noqa: N815
    payloadDescriptors: list[EventPayloadDescriptor | ReportPayloadDescriptor] | None = Field(None, max_length=50)  # noqa: N815
    attributes: list[ValuesMap] | None = Field(None, max_length=50)
    targets: list[Text128] | None = Field(None, max_length=20_000)


class EventRequest(Known):
    """An event. What it asks for is judged field by field, not by the shape."""

    programID: ObjectId  # noqa: N815
    eventName: Annotated[Line, Field(max_length=200)] | None = None  # noqa: N815
    duration: Duration | None = None
    priority: int | None = None
    targets: list[Text128] | None = Field(None, max_length=20_000)
    reportDescriptors: list[ReportDescriptor] | None = Field(None, max_length=50)  # noqa: N815
    payloadDescriptors: list[EventPayloadDescriptor] | None = Field(None, max_length=50)  # noqa: N815
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    intervals: list[Interval] | None = Field(None, max_length=1500)


class ReportResource(Shape):
    """What one resource did."""

    resourceName: Text128  # noqa: N815
    intervalPeriod: IntervalPeriod | None = None  # noqa: N815
    intervals: list[Interval] = Field(max_length=1500)


class ReportRequest(Known):
    """A report of a VEN."""

    clientID: Metadata = None  # noqa: N815
    eventID: ObjectId  # noqa: N815
    clientName: Text128  # noqa: N815
    reportName: Annotated[Line, Field(max_length=200)] | None = None  # noqa: N815
    payloadDescriptors: list[ReportPayloadDescriptor] | None = Field(None, max_length=50)  # noqa: N815
    resources: list[ReportResource] = Field(max_length=1000)

    def document(self) -> dict[str, Any]:
        """As it is kept; whose it is, is known from who asks."""
        return self.model_dump(exclude_unset=True, exclude={*Known.model_fields, "clientID"})
