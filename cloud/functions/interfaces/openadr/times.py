"""Moments and durations of OpenADR: RFC 3339 and ISO 8601 to milliseconds. Pure. Must not know: what they are for."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from cloud.functions.interfaces.openadr.errors import FieldError

#: A start of this day means now.
NOW: Final = "0001-01-01"
_DURATION: Final = re.compile(r"^(-?)P(?=\d|T\d)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)([DW]))?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$", re.ASCII)


def is_duration(text: str) -> str:
    """The text, when it is an ISO 8601 duration as the standard writes them.

    Raises:
        ValueError: it is none.
    """
    if _DURATION.match(text) is None:
        raise ValueError("must be an ISO 8601 duration such as PT15M")
    return text


def duration_ms(text: Any, field: str, least_ms: int, most_ms: int) -> int:
    """Milliseconds of an ISO 8601 duration.

    Raises:
        FieldError: no duration, one without a fixed length (years, months), or outside the bounds.
    """
    found = _DURATION.match(text) if isinstance(text, str) and len(text) <= 60 else None
    if found is None:
        raise FieldError(field=field, problem_zh="须为 ISO 8601 时长，如 PT15M", problem_en="must be an ISO 8601 duration such as PT15M")
    sign, years, months, days, unit, hours, minutes, seconds = found.groups()
    if int(years or 0) or int(months or 0):
        raise FieldError(field=field, problem_zh="不支持年、月和无限时长", problem_en="years, months and endless durations are not taken: an event has an end")
    whole = int(days or 0) * (7 if unit == "W" else 1) * 86_400_000 + int(hours or 0) * 3_600_000 + int(minutes or 0) * 60_000 + round(float(seconds or 0) * 1000)
    whole = -whole if sign else whole
    if not least_ms <= whole <= most_ms:
        raise FieldError(field=field, problem_zh=f"须为 {least_ms / 1000:g} 至 {most_ms / 1000:g} 秒", problem_en=f"must be {least_ms / 1000:g} s to {most_ms / 1000:g} s, not {whole / 1000:g} s")
    return whole


def moment_ms(text: str, field: str) -> int:
    """UTC milliseconds of an RFC 3339 moment.

    Raises:
        FieldError: no such moment, or without an offset: whose clock is meant is never guessed.
    """
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or len(text) <= 10:
        raise FieldError(field=field, problem_zh="须为 RFC 3339 时间", problem_en="must be a moment in RFC 3339")
    if found.tzinfo is None:
        raise FieldError(field=field, problem_zh="缺少时区偏移（如 +08:00）", problem_en="has no offset from UTC, such as +08:00")
    try:
        return round(found.timestamp() * 1000)
    except (OverflowError, ValueError):
        raise FieldError(field=field, problem_zh="超出范围", problem_en="is out of range") from None


def stamp(at_ms: int) -> str:
    """A moment in RFC 3339, UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
