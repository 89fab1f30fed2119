"""Grid-meter limit loop (关口功率限值): keeps the site's draw at its grid meter below a cap by lowering its heat sources, link or no link.

The cap comes from the plan in force (a demand-response event, a mandatory order) or stands in the site file (contracted demand). Bounds only: what is
below the cap is nobody's business here. Must not know: events, prices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from edge_agent.algorithms.rule import Given, Look, Reach, Wishes, wish
from protos.arbitration import Authority

STALE_MS: Final = 30_000
#: Room kept below the cap for what cannot be commanded between two looks.
MARGIN: Final = 0.02
#: How fast caps may rise again, share of the cap per minute: a rebound is as unwelcome as a miss.
RISE_PER_MIN: Final = 0.25
#: When no cap stands any more, limits are put back to what the sources can do, for so long; a device keeps what was written last.
RESTORE_MS: Final = 180_000


@dataclass(frozen=True, slots=True)
class Shed:
    """A source that can be lowered.

    Attributes:
        target: its power limit (kW) or stage command.
        power: where its draw is read, kW.
        rated_kw: at full load.
        stages: number of stages, 0 = it follows any kW. A limit in kW of a staged source is cut to whole stages, so that others get what it cannot use.
        floor_kw: never lowered below this (frost minimum, security load).
        first: lowered first among those with the smallest number.
    """

    target: Reach
    power: Look
    rated_kw: float
    stages: int = 0
    floor_kw: float = 0.0
    first: int = 0

    @property
    def by_stage(self) -> bool:
        """True when `target` takes a number of stages."""
        return self.stages > 0 and self.target.spec.key == "stage_command"


@dataclass(slots=True)
class GridLimit:
    """Attributes:
    meter: active power at the grid connection, kW.
    members: what can be lowered.
    contract_kw: a standing cap; inf = none but the plan's.
    """

    id: str
    meter: Look
    members: tuple[Shed, ...]
    contract_kw: float = math.inf
    authority: Authority = Authority.EDGE_ALGORITHM
    #: Values beside the bounds, in the weakest authority: limits follow a cap that rises, and are put back when it is gone.
    followed: Wishes = field(default_factory=dict, init=False)
    _base_kw: float | None = field(default=None, init=False)
    _caps: dict[int, float] = field(default_factory=dict, init=False)
    _at_ms: int = field(default=0, init=False)
    _restore_ms: int = field(default=0, init=False)

    def decide(self, given: Given) -> Wishes:
        """Caps of the members; {} when no cap stands."""
        cap, by = self.contract_kw, self.authority
        if given.grid_cap_kw is not None and given.grid_cap_kw < cap:
            cap, by = given.grid_cap_kw, given.grid_cap_by
        if not math.isfinite(cap):
            self._caps.clear()
            restoring = given.now.mono_ms < self._restore_ms
            self.followed = {m.target.slot: wish(self.id, given, Authority.EDGE_ALGORITHM, value=m.target.clamp(m.rated_kw), reason="grid cap is over") for m in self.members if restoring and not m.by_stage}
            return {}
        self._restore_ms = given.now.mono_ms + RESTORE_MS
        draws = {k: m.power.value(given.now, given.images, STALE_MS) for k, m in enumerate(self.members)}
        metered = self.meter.value(given.now, given.images, STALE_MS)
        if metered is not None and all(d is not None for d in draws.values()):
            base = metered - sum(d for d in draws.values() if d is not None)
            # What cannot be commanded: rises at once, falls slowly.
            self._base_kw = base if self._base_kw is None or base > self._base_kw else self._base_kw + 0.1 * (base - self._base_kw)
        room = cap * (1 - MARGIN) - (self._base_kw if self._base_kw is not None else 0.0)
        caps = self._share(room)
        rise = RISE_PER_MIN * cap * max(0.0, min(60.0, (given.now.mono_ms - self._at_ms) / 1000)) / 60
        for k, m in enumerate(self.members):
            if k in self._caps and caps[k] > self._caps[k]:
                caps[k] = min(caps[k], self._caps[k] + rise * m.rated_kw / max(1e-9, sum(x.rated_kw for x in self.members)))
        self._caps, self._at_ms = caps, given.now.mono_ms
        reason = f"grid cap {cap:.0f} kW" + ("" if metered is not None else ", meter silent")
        self.followed = {m.target.slot: wish(self.id, given, Authority.EDGE_ALGORITHM, value=m.target.clamp(m.rated_kw), reason=reason) for m in self.members if not m.by_stage}
        return {m.target.slot: wish(self.id, given, by, high=m.target.clamp(_level(m, caps[k])), reason=reason) for k, m in enumerate(self.members)}

    def _share(self, room: float) -> dict[int, float]:
        """What each member may draw, kW: those that are lowered last get theirs first; equals share by rating; floors stand."""
        caps = {k: m.floor_kw for k, m in enumerate(self.members)}
        left = room - sum(caps.values())
        for rank in sorted({m.first for m in self.members}, reverse=True):
            group = {k: m for k, m in enumerate(self.members) if m.first == rank}
            want = sum(m.rated_kw - m.floor_kw for m in group.values())
            share = min(1.0, max(0.0, left) / want) if want > 0 else 0.0
            for k, m in group.items():
                caps[k] += share * (m.rated_kw - m.floor_kw)
            left -= share * want
        if any(m.stages for m in self.members):
            self._whole(caps, room)
        return caps

    def _whole(self, caps: dict[int, float], room: float) -> None:
        """Staged members take whole stages; what rounding leaves over goes, stage by stage, to those lowered last."""
        step = {k: m.rated_kw / m.stages for k, m in enumerate(self.members) if m.stages}
        for k, kw in step.items():
            caps[k] = max(math.ceil(self.members[k].floor_kw / kw - 1e-9) * kw, math.floor(caps[k] / kw + 1e-9) * kw)
        for k in sorted(step, key=lambda k: -self.members[k].first):
            while caps[k] + step[k] <= self.members[k].rated_kw + 1e-9 and sum(caps.values()) + step[k] <= room + 1e-9:
                caps[k] += step[k]


def _level(member: Shed, kw: float) -> float:
    return math.floor(kw / (member.rated_kw / member.stages) + 1e-9) if member.by_stage else kw
