"""Storage charge by valley (谷电蓄热): charge within hours of the day until the store is full; outside them charging is not allowed unless it runs empty.

Must not know: tariffs (the hours are configuration).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.algorithms.rule import Given, Look, Reach, Wishes, wish
from protos.arbitration import Authority


@dataclass(slots=True)
class ValleyCharge:
    """Attributes:
    soc: state of charge, %.
    target: the charge permission (0 or 1).
    hours: [(from, to)] local hours; a pair may pass midnight.
    full, refill: charging ends at `full` % and begins again below `refill` % within the hours.
    rescue: below this % it charges whatever the hour: people first.
    """

    id: str
    soc: Look
    target: Reach
    hours: tuple[tuple[float, float], ...]
    full: float = 98.0
    refill: float = 90.0
    rescue: float = 10.0
    authority: Authority = Authority.SCHEDULE
    _charging: bool = field(default=False, init=False)
    _rescuing: bool = field(default=False, init=False)

    def decide(self, given: Given) -> Wishes:
        """The permission; nothing when content or time is unknown."""
        soc = self.soc.value(given.now, given.images)
        if soc is None or given.local_hour is None:
            return {}
        valley = any(_within(given.local_hour, a, b) for a, b in self.hours)
        self._charging = valley and soc < (self.full if self._charging else self.refill)
        self._rescuing = soc < (self.rescue + 5.0 if self._rescuing else self.rescue)
        on = self._charging or self._rescuing
        reason = "nearly empty" if self._rescuing and not self._charging else "valley" if on else "full" if valley else "not valley"
        return {self.target.slot: wish(self.id, given, self.authority, value=float(on), reason=reason)}


def _within(hour: float, begin: float, end: float) -> bool:
    return begin <= hour < end if begin <= end else hour >= begin or hour < end
