"""Report by exception (变化上报): which of the values just read become readings.

A value is reported when it moved by its dead band, when its quality changed, or after the longest promised silence. Values are quantised to the
instrument's resolution. NaN, infinities and values outside the template's limits are BAD and counted. Sans-IO: time is an argument.
Must not know: drivers, the spool, the uplink.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge_agent.drivers.driver import Value
from edge_agent.templates import PointSpec
from protos.batch import Reading, quantise
from protos.points import Kind, Quality

_EXACT = {Kind.STATE, Kind.ALARM, Kind.COMMAND}
#: What somebody or something caused is stamped with the second it was seen in, so that no effect stands before its cause; measured values stand on the grid.
_CAUSED = _EXACT | {Kind.SETPOINT}
_SECOND_MS = 1000


def align(at_ms: int, grid_ms: int) -> int:
    """The grid instant at or before `at_ms`."""
    return at_ms - at_ms % grid_ms


@dataclass(slots=True)
class _Last:
    at_ms: int
    mono_ms: int
    value: float
    quality: int


@dataclass(slots=True)
class Sampler:
    """The memory of one device's points.

    Attributes:
        device_id: whose points.
        specs: key -> point.
        grid_ms: timestamps of measured values are multiples of this; those of states, alarms, commands and set-points of a second, where that is finer.
        counts: BAD values by reason ("nan", "range", "bad") and "stale" readings.
    """

    device_id: int
    specs: Mapping[str, PointSpec]
    grid_ms: int
    counts: Counter[str] = field(default_factory=Counter)
    _last: dict[str, _Last] = field(default_factory=dict)

    def take(self, values: Mapping[str, Value], at_ms: int, mono_ms: int) -> list[Reading]:
        """Judge values read together.

        Args:
            values: key -> value as read.
            at_ms: the time they will be stamped with (UTC; or monotonic while the clock is not trusted), aligned here.
            mono_ms: monotonic time, for silences.

        Returns:
            The readings to spool, at most one per point and instant.
        """
        out: list[Reading] = []
        for key, raw in values.items():
            spec = self.specs.get(key)
            if spec is None:
                continue
            stamp = self._stamp(spec, at_ms)
            judged = self._judge(spec, raw)
            if judged is None:
                continue
            value, quality = judged
            last = self._last.get(key)
            if last is None or (stamp != last.at_ms and self._worth(spec, last, value, quality, mono_ms)):
                self._last[key] = _Last(stamp, mono_ms, value, quality)
                out.append(Reading(self.device_id, spec.point.id, stamp, value, quality))
        return out

    def silent(self, at_ms: int, mono_ms: int) -> list[Reading]:
        """The device did not answer: its last values go out once as STALE, then again after every longest silence."""
        out: list[Reading] = []
        for key, last in self._last.items():
            spec = self.specs[key]
            stamp = self._stamp(spec, at_ms)
            if stamp != last.at_ms and (last.quality != Quality.STALE or mono_ms - last.mono_ms >= spec.max_silent_s * 1000):
                self._last[key] = _Last(stamp, mono_ms, last.value, Quality.STALE)
                self.counts["stale"] += 1
                out.append(Reading(self.device_id, spec.point.id, stamp, last.value, Quality.STALE))
        return out

    def _stamp(self, spec: PointSpec, at_ms: int) -> int:
        return align(at_ms, min(self.grid_ms, _SECOND_MS) if spec.point.kind in _CAUSED else self.grid_ms)

    def _judge(self, spec: PointSpec, raw: Value) -> tuple[float, int] | None:
        if not math.isfinite(raw.value):
            self.counts["bad" if raw.quality is Quality.BAD else "nan"] += 1
            last = self._last.get(spec.key)
            return None if last is None else (last.value, Quality.BAD)  # the last number stands there, marked BAD; nothing is invented
        value = quantise(raw.value, spec.resolution)
        quality = int(raw.quality)
        if not spec.low <= value <= spec.high:
            self.counts["range"] += 1
            quality = Quality.BAD
        return value, quality

    @staticmethod
    def _worth(spec: PointSpec, last: _Last, value: float, quality: int, mono_ms: int) -> bool:
        if quality != last.quality or mono_ms - last.mono_ms >= spec.max_silent_s * 1000:
            return True
        moved = abs(value - last.value)
        if spec.point.kind in _EXACT or spec.deadband == 0:
            return moved > 0
        return moved >= spec.deadband * (1 - 1e-9)


def image(values: Mapping[str, Value]) -> dict[str, float]:
    """The good numbers among `values`, for decisions."""
    return {key: v.value for key, v in values.items() if v.quality == Quality.GOOD and math.isfinite(v.value)}


def safety(readings: Iterable[Reading], kinds: Mapping[int, Kind]) -> list[Reading]:
    """The readings that are kept even when the spool is full: counters (bills) and alarms."""
    return [r for r in readings if kinds.get(r.point_id) in {Kind.COUNTER, Kind.ALARM}]
