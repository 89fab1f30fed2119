"""One logical project (供暖项目) as the host sees it: what its batches mean. Sans-IO: batches in, effects out.

Must not know: JetStream, ClickHouse, Ray, clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cloud.core.ports import DeviceInfo, Latest, ProjectInfo
from cloud.functions.monitoring.live import AlarmChange, LastAlarm, Twin
from cloud.historian.columns import Array, Columns

FUTURE_MS = 10 * 60_000
OLDEST_MS = 1_420_070_400_000  # 2015-01-01


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows that were refused, with the stable reason: device, point, future, past, not_finite, range."""

    reason: str
    detail: str
    rows: Columns


@dataclass(frozen=True, slots=True)
class Effects:
    """What a batch did."""

    accepted: Columns
    set_aside: list[SetAside]
    alarms: list[AlarmChange]


class Project:
    """Twin, alarms and the judgement of readings of one project."""

    def __init__(self, info: ProjectInfo, devices: Iterable[DeviceInfo]) -> None:
        self.info = info
        self._agents: dict[int, str] = {}
        self._owner: Array = np.empty(0, "<i4")  # of each point of the twin: number of its agent in `_numbers`
        self._numbers: dict[str, int] = {}
        self.twin = Twin([])
        self.refresh(info, devices)

    def refresh(self, info: ProjectInfo, devices: Iterable[DeviceInfo]) -> None:
        """Take up a changed registration; values and alarm states carry over."""
        listed = list(devices)
        self.info = info
        self._agents = {d.id: d.agent_id for d in listed}
        twin = Twin(listed)
        twin.adopt(self.twin)
        self.twin = twin
        self._numbers = {agent: k for k, agent in enumerate(dict.fromkeys(self._agents.values()))}
        self._owner = np.array([self._numbers[self._agents[int(key) >> 16]] for key in twin.keys], "<i4")

    def restore(self, latest: Sequence[Latest], alarms: Sequence[LastAlarm]) -> None:
        """Take up stored values and the newest alarm of each rule after a restart."""
        self.twin.restore(latest, alarms)

    def on_batch(self, agent_id: str, columns: Columns, received_ms: int, *, judge: bool = True) -> Effects:
        """Judge one batch.

        Args:
            agent_id: who sent it; rows of another agent's device are refused.
            columns: its rows.
            received_ms: when the stream stored it, UTC milliseconds; later timestamps than this + 10 min are refused.
            judge: False for backfill: alarms do not fire again.
        """
        index, known = self.twin.locate(columns.device, columns.point)
        number = self._numbers.get(agent_id, -1)
        usable = columns.quality != 2
        if len(columns) and number >= 0 and known.all():
            fine = (self._owner[index] == number) & (np.isfinite(columns.value) & self.twin.within(index, columns.value) | ~usable)
            if fine.all() and int(columns.at_ms.max()) <= received_ms + FUTURE_MS and int(columns.at_ms.min()) >= OLDEST_MS:
                return self._accept(columns, index, [], judge=judge)
        return self._sort_out(agent_id, columns, received_ms, index, known, usable, judge=judge)

    def _sort_out(self, agent_id: str, columns: Columns, received_ms: int, index: Array, known: Array, usable: Array, *, judge: bool) -> Effects:
        """Something is wrong with some rows: name each for its first fault, take the rest."""
        aside: list[SetAside] = []
        mine = np.array([self._agents.get(int(d)) == agent_id for d in np.unique(columns.device)])
        owned = mine[np.searchsorted(np.unique(columns.device), columns.device)]
        fine = np.ones(len(columns), bool)

        def refuse(bad: Array, reason: str, what: str) -> None:
            nonlocal fine
            bad = bad & fine
            if bad.any():
                rows = columns.take(bad)
                aside.append(SetAside(reason, what.format(n=len(rows), device=int(rows.device[0]), point=int(rows.point[0]), value=float(rows.value[0]), at=int(rows.at_ms[0])), rows))
                fine &= ~bad

        refuse(~owned, "device", "{n} rows of device {device}, which this agent does not own")
        refuse(~known, "point", "{n} rows of device {device}, point {point}, which is not registered")
        refuse(columns.at_ms > received_ms + FUTURE_MS, "future", "{n} rows stamped ahead of their arrival, first at {at} ms")
        refuse(columns.at_ms < OLDEST_MS, "past", "{n} rows stamped before 2015, first at {at} ms")
        refuse(~np.isfinite(columns.value) & usable, "not_finite", "{n} rows that are not a number, device {device}, point {point}")
        refuse(usable & ~self.twin.within(index, columns.value) & known, "range", "{n} rows outside the physical range, device {device}, point {point}, first {value}")
        return self._accept(columns.take(fine), index[fine], aside, judge=judge)

    def _accept(self, accepted: Columns, where: Array, aside: list[SetAside], *, judge: bool) -> Effects:
        """Take rows into the twin and judge alarms."""
        # A BAD value (sensor fault) is kept as evidence, but a store of finite numbers needs a number.
        if len(accepted):
            odd = ~np.isfinite(accepted.value)
            if odd.any():
                accepted = Columns(accepted.device, accepted.point, accepted.at_ms, np.where(odd, 0.0, accepted.value), accepted.quality)
        changes = self.twin.update(where, accepted.at_ms, accepted.value, accepted.quality, judge=judge)
        return Effects(accepted, aside, changes)
