"""What a caller may wish of a device (控制指令的内容): one act, for one device or for many. Must not know: routes, transports."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field

from cloud.core.ports import CommandRequest, DeviceInfo
from cloud.functions.params import Line
from cloud.functions.remote_control import service
from cloud.security.operations import Principal

#: The caller's own name for a call, so that a repetition is the same call.
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=80, pattern=r"^[A-Za-z0-9._-]+$")]


class Act(BaseModel):
    """One act as a page asks for it; canonical units, seconds."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    kind: Literal["hold", "release", "pulse", "stop", "start", "lock", "unlock"]
    point_id: int = Field(0, ge=0, le=65535)
    value: float | None = None
    low: float | None = None
    high: float | None = None
    hold_s: float = Field(3600.0, ge=0, le=1e10)
    deadline_s: float = Field(30.0, ge=5, le=3600)
    reason: Line = Field("", max_length=200)
    work_order: Line = Field("", max_length=60)

    def of(self, device: DeviceInfo, who: Principal, key: str) -> CommandRequest:
        """The act on one device, by a person's authority."""
        return CommandRequest(device.project_id, device.id, self.kind, self.point_id, self.value, self.low, self.high, int(service.authority_of(who)), self.hold_s, self.deadline_s,
                              who.name, self.reason, self.work_order, key)
