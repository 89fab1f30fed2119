"""Weather compensation (气候补偿): the supply temperature follows the outdoor temperature. The safe schedule when nobody plans.

Must not know: who measures outdoors.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Final

from edge_agent.algorithms.rule import Given, Look, Reach, Wishes, wish
from protos.arbitration import Authority

DEADBAND_K: Final = 0.5


@dataclass(slots=True)
class WeatherCurve:
    """Set-point by outdoor temperature, between support points; beyond the ends it stays level.

    Attributes:
        outdoor: where the outdoor temperature is read; unread for an hour, `without` counts.
        target: the set-point.
        curve: [(outdoor degC, set-point)], rising outdoor temperature.
        without: set-point when the outdoor temperature is unknown: warm enough for the coldest support point unless given.
        night_k: lowered by so much from 22 to 5 o'clock local time.
    """

    id: str
    outdoor: Look
    target: Reach
    curve: tuple[tuple[float, float], ...]
    without: float | None = None
    night_k: float = 0.0
    authority: Authority = Authority.SCHEDULE
    _last: float | None = field(default=None, init=False)

    def decide(self, given: Given) -> Wishes:
        """The set-point; it moves in steps of at least half a kelvin, so that a device is not written at every breath of wind."""
        outdoor = self.outdoor.value(given.now, given.images, 3_600_000)
        wanted = (self.curve[0][1] if self.without is None else self.without) if outdoor is None else between(self.curve, outdoor)
        if self.night_k and given.local_hour is not None and not 5 <= given.local_hour < 22:
            wanted -= self.night_k
        if self._last is None or abs(wanted - self._last) >= DEADBAND_K:
            self._last = wanted
        reason = "outdoor unknown" if outdoor is None else f"outdoor {outdoor:.1f} degC"
        return {self.target.slot: wish(self.id, given, self.authority, value=self.target.clamp(self._last), reason=reason)}


def between(curve: tuple[tuple[float, float], ...], x: float) -> float:
    """Linear between support points, level beyond."""
    if x <= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return curve[-1][1]
