"""在线监测, the sans-IO part of a project: the twin of its points and simple threshold alarms, fed by batches.

Pure: columns in, effects out; no clock, no store. Alarm ids are made from rule, device and cause time, so that a replay is an upsert.
Must not know: streams, ClickHouse, Ray.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.core.ports import AlarmRule, DeviceInfo, Latest

Array = npt.NDArray[Any]
_ALARM_SPACE = uuid.UUID("6f1b7a52-5f5e-4d0e-9b57-9d6f3f1f0c01")


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm was raised (`cleared_ms` 0) or cleared."""

    id: uuid.UUID
    device_id: int
    rule: AlarmRule
    raised_ms: int
    cleared_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class LastAlarm:
    """The newest alarm of one rule, as stored; `cleared_ms` 0 while it stands."""

    device_id: int
    rule: str
    raised_ms: int
    cleared_ms: int
    value: float


@dataclass(slots=True)
class _RuleState:
    rule: AlarmRule
    device_id: int
    index: int
    judged_ms: int = 0
    since_ms: int = 0       # first violating reading, 0 when normal
    raised_ms: int = 0      # cause time of the active alarm, 0 when none
    value: float = 0.0


class Twin:
    """Newest value of every registered point, and the alarm state of every rule.

    Point k has key `device << 16 | point`; arrays are ordered by key.
    """

    def __init__(self, devices: Iterable[DeviceInfo]) -> None:
        listed = list(devices)
        entries = sorted((d.id << 16 | p.point_id, p.low, p.high) for d in listed for p in d.points.values())
        self.keys: Array = np.array([e[0] for e in entries], "<u8")
        self._low: Array = np.array([e[1] for e in entries], "<f8")
        self._high: Array = np.array([e[2] for e in entries], "<f8")
        self.at_ms: Array = np.zeros(len(entries), "<i8")
        self.value: Array = np.full(len(entries), np.nan)
        self.quality: Array = np.full(len(entries), 3, "u1")
        self._rules: dict[int, list[_RuleState]] = {}
        for device in listed:
            for rule in device.alarms:
                key = device.id << 16 | rule.point_id
                at = int(np.searchsorted(self.keys, key))
                if at < len(self.keys) and self.keys[at] == key:
                    self._rules.setdefault(at, []).append(_RuleState(rule, device.id, at))
        self._ruled: Array = np.zeros(len(entries), bool)
        self._ruled[list(self._rules)] = True

    def restore(self, latest: Sequence[Latest], alarms: Sequence[LastAlarm]) -> None:
        """Take up stored last values and the newest alarm of each rule after a restart.

        What was judged before is not judged again: neither a replayed batch nor a late one may raise an alarm for a cause that was judged already.
        Needs the alarms of a batch to be stored before its values.
        """
        states = {(s.device_id, s.rule.id): s for group in self._rules.values() for s in group}
        for alarm in alarms:
            state = states.get((alarm.device_id, alarm.rule))
            if state is not None:
                state.judged_ms = max(state.judged_ms, alarm.raised_ms, alarm.cleared_ms)
                if not alarm.cleared_ms:
                    state.raised_ms = state.since_ms = alarm.raised_ms
                    state.value = alarm.value
        for item in latest:
            key = item.device_id << 16 | item.point_id
            at = int(np.searchsorted(self.keys, key))
            if at < len(self.keys) and self.keys[at] == key:
                self.at_ms[at], self.value[at], self.quality[at] = item.at_ms, item.value, item.quality
                for state in self._rules.get(at, ()):
                    state.judged_ms = max(state.judged_ms, item.at_ms)
                    if not state.raised_ms and item.quality not in (2, 3) and _excess(state.rule, item.value) > 0:
                        state.since_ms = item.at_ms  # its delay began then at the latest

    def adopt(self, other: Twin) -> None:
        """Carry values and alarm states over after devices changed."""
        common, mine, theirs = np.intersect1d(self.keys, other.keys, assume_unique=True, return_indices=True)
        if len(common):
            self.at_ms[mine], self.value[mine], self.quality[mine] = other.at_ms[theirs], other.value[theirs], other.quality[theirs]
        old = {(s.device_id, s.rule.id): s for group in other._rules.values() for s in group}
        for group in self._rules.values():
            for state in group:
                before = old.get((state.device_id, state.rule.id))
                if before is not None:
                    state.judged_ms, state.since_ms, state.raised_ms, state.value = before.judged_ms, before.since_ms, before.raised_ms, before.value

    def locate(self, device: Array, point: Array) -> tuple[Array, Array]:
        """(index, known) of each row; `index` is only meaningful where `known`."""
        keys = device.astype("<u8") << np.uint64(16) | point.astype("<u8")
        index = np.searchsorted(self.keys, keys)
        index[index == len(self.keys)] = 0
        known = (self.keys[index] == keys) if len(self.keys) else np.zeros(len(keys), bool)
        return index, known

    def within(self, index: Array, value: Array) -> Array:
        """Rows whose value is physically possible for their point."""
        return (value >= self._low[index]) & (value <= self._high[index])

    def update(self, index: Array, at_ms: Array, value: Array, quality: Array, *, judge: bool = True) -> list[AlarmChange]:
        """Take rows into the twin and judge alarms; older rows than the twin's change nothing.

        Args:
            index: point of each row, shape (n,).
            at_ms: UTC milliseconds, shape (n,).
            value: canonical units, shape (n,).
            quality: quality bytes, shape (n,).
            judge: False for backfill, which must not raise alarms again.
        """
        if not len(index):
            return []
        rising = (index[1:] > index[:-1]) | ((index[1:] == index[:-1]) & (at_ms[1:] >= at_ms[:-1]))
        if not rising.all():  # a sealed batch comes in this order; what was joined or released may not
            order = np.lexsort((at_ms, index))
            index, at_ms, value, quality = index[order], at_ms[order], value[order], quality[order]
        changes = self._judge(index, at_ms, value, quality) if judge else []
        last = np.flatnonzero(np.append(index[1:] != index[:-1], True))
        newest = last[at_ms[last] > self.at_ms[index[last]]]
        self.at_ms[index[newest]], self.value[index[newest]], self.quality[index[newest]] = at_ms[newest], value[newest], quality[newest]
        return changes

    def _judge(self, index: Array, at_ms: Array, value: Array, quality: Array) -> list[AlarmChange]:
        rows = np.flatnonzero(self._ruled[index] & (quality != 2) & (quality != 3))
        if not len(rows):
            return []
        changes: list[AlarmChange] = []
        points = index[rows]
        starts = np.flatnonzero(np.append(True, points[1:] != points[:-1]))
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            mine = rows[start:end]
            values, times = value[mine], at_ms[mine]
            for state in self._rules[int(points[start])]:
                above = state.rule.when == "above"
                violating = values > state.rule.limit if above else values < state.rule.limit
                if state.since_ms == 0 and not violating.any():
                    state.judged_ms = max(state.judged_ms, int(times[-1]))
                    continue
                changes += _walk(state, times.tolist(), values.tolist())
        return changes


def _excess(rule: AlarmRule, value: float) -> float:
    """How far a value lies beyond the limit."""
    return value - rule.limit if rule.when == "above" else rule.limit - value


def _walk(state: _RuleState, times: list[int], values: list[float]) -> list[AlarmChange]:
    """Judge one rule over readings in time order."""
    rule = state.rule
    changes: list[AlarmChange] = []
    for at, value in zip(times, values, strict=True):
        if at <= state.judged_ms:
            continue
        state.judged_ms = at
        excess = _excess(rule, value)
        if excess > 0:
            if state.since_ms == 0:
                state.since_ms = at
            if state.raised_ms == 0 and at - state.since_ms >= rule.delay_s * 1000:
                state.raised_ms, state.value = state.since_ms, value
                changes.append(_change(state, 0))
        elif state.raised_ms and excess <= -rule.hysteresis:
            changes.append(_change(state, at))
            state.raised_ms = state.since_ms = 0
        elif not state.raised_ms:
            state.since_ms = 0
    return changes


def _change(state: _RuleState, cleared_ms: int) -> AlarmChange:
    name = f"{state.device_id}:{state.rule.id}:{state.raised_ms}"
    return AlarmChange(uuid.uuid5(_ALARM_SPACE, name), state.device_id, state.rule, state.raised_ms, cleared_ms, state.value)
