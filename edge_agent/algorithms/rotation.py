"""Staged boiler rotation (锅炉分级轮换): how many stages are needed to hold a supply temperature, given to the boilers that have run least.

Must not know: what a stage costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edge_agent.algorithms.rule import Given, Look, Reach, Wishes, wish
from protos.arbitration import Authority


@dataclass(frozen=True, slots=True)
class Member:
    """A boiler: its stage command, its stages, where its hours and its readiness are read."""

    target: Reach
    stages: int
    hours: Look
    fault: Look


@dataclass(slots=True)
class Rotation:
    """Attributes:
    temperature: what is held, degC.
    setpoint: its set-point, degC.
    stages_per_k: more stages per kelvin too cold.
    step_s: shortest time between two changes of the number of stages.
    switch_h: a boiler gives its turn away when it has run this much longer than the least used.
    """

    id: str
    temperature: Look
    setpoint: Look
    members: tuple[Member, ...]
    stages_per_k: float = 2.0
    step_s: float = 180.0
    switch_h: float = 24.0
    authority: Authority = Authority.SCHEDULE
    _stages: int = field(default=0, init=False)
    _changed_ms: int = field(default=-(1 << 60), init=False)
    _order: list[int] = field(default_factory=list, init=False)

    def decide(self, given: Given) -> Wishes:
        """Stages of every member; nothing when a temperature is unknown."""
        seen, wanted = self.temperature.value(given.now, given.images), self.setpoint.value(given.now, given.images, 3_600_000)
        if seen is None or wanted is None:
            return {}
        ready = [k for k, m in enumerate(self.members) if (m.fault.value(given.now, given.images) or 0.0) < 0.5]
        total = sum(self.members[k].stages for k in ready)
        need = min(total, max(0, math.ceil(self.stages_per_k * (wanted - seen))))
        if need != self._stages and given.now.mono_ms - self._changed_ms >= self.step_s * 1000:
            self._stages += 1 if need > self._stages else -1
            self._changed_ms = given.now.mono_ms
        self._turn(given)
        left, out = min(self._stages, total), {}
        for k in [k for k in self._order if k in ready]:
            mine = min(left, self.members[k].stages)
            left -= mine
            out[self.members[k].target.slot] = wish(self.id, given, self.authority, value=float(mine), reason=f"{wanted - seen:+.1f} K to go")
        for k in set(range(len(self.members))) - set(ready):
            out[self.members[k].target.slot] = wish(self.id, given, self.authority, value=0.0, reason="fault")
        return out

    def _turn(self, given: Given) -> None:
        """Who comes first: changes only when the hours have drifted apart, so that boilers are not started for nothing."""
        hours = [m.hours.value(given.now, given.images, 3_600_000) for m in self.members]
        if not self._order:
            self._order = sorted(range(len(self.members)), key=lambda k: hours[k] or 0.0)
        first = self._order[0]
        known = {k: h for k, h in enumerate(hours) if h is not None}
        if first in known and known[first] - min(known.values()) > self.switch_h:
            self._order = sorted(self._order, key=lambda k: known.get(k, math.inf))
