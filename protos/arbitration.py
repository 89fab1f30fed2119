"""Who may decide about an actuator, and what follows (order of authority, DOMAIN 2).

Bounds intersect downwards, choice is made below, every override expires. The agent decides with this code; the cloud
previews with the same code. Must not know: devices, transports, clocks (time is an argument).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass


class Authority(enum.IntEnum):
    """Order of authority per actuator; a smaller number is stronger."""

    INTERLOCK = 0
    EMERGENCY_STOP = 1
    LOCKOUT = 2        # maintenance tag, or the device's local control
    FROST = 3
    GRID_ORDER = 4     # mandatory
    OPERATOR = 5
    DEMAND_RESPONSE = 6
    RESIDENT = 7
    PLAN = 8
    EDGE_ALGORITHM = 9
    SCHEDULE = 10


#: Who may speak through a plan document.
PLANNING = (Authority.GRID_ORDER, Authority.DEMAND_RESPONSE, Authority.PLAN)


@dataclass(frozen=True, slots=True)
class Hold:
    """One wish about one actuator: a value, or bounds, until `expires_ms`.

    Attributes:
        authority: who asks.
        value: the chosen value in the point's canonical unit, or None when only bounds are given.
        low: floor, or None.
        high: cap, or None.
        version: per actuator, rising; of two holds with one authority the newer stands.
        expires_ms: UTC milliseconds; 0 = never (interlock, lockout only).
        holder: person, event or system.
        reason: free text shown on the page.
        command_id: 16 bytes, empty for holds the agent made itself.
    """

    authority: Authority
    value: float | None = None
    low: float | None = None
    high: float | None = None
    version: int = 0
    expires_ms: int = 0
    holder: str = ""
    reason: str = ""
    command_id: bytes = b""

    def alive(self, now_ms: int) -> bool:
        """True until the hold expires."""
        return self.expires_ms == 0 or now_ms < self.expires_ms


@dataclass(frozen=True, slots=True)
class Decision:
    """What the actuator shall be, and why.

    Attributes:
        value: canonical unit, or None when nobody wishes anything.
        low: effective floor (-inf when none).
        high: effective cap (+inf when none).
        chosen_by: the hold whose value was taken, or None.
        limited_by: the hold whose bound moved that value, or None.
        conflicts: weaker holds whose bounds could not be met.
    """

    value: float | None
    low: float
    high: float
    chosen_by: Hold | None
    limited_by: Hold | None
    conflicts: tuple[Hold, ...]


def decide(holds: Iterable[Hold], now_ms: int, *, low: float = -math.inf, high: float = math.inf) -> Decision:
    """Decide one actuator.

    Args:
        holds: all holds of the actuator; expired ones are ignored, of one authority the highest version counts.
        now_ms: UTC milliseconds.
        low: the actuator's physical floor, canonical unit.
        high: the actuator's physical cap.

    Returns:
        A decision whose value lies within every bound of every stronger authority.
    """
    newest: dict[Authority, Hold] = {}
    for hold in holds:
        if hold.alive(now_ms) and (hold.authority not in newest or hold.version > newest[hold.authority].version):
            newest[hold.authority] = hold
    chosen: Hold | None = None
    limited: Hold | None = None
    floor_by: Hold | None = None
    cap_by: Hold | None = None
    conflicts: list[Hold] = []
    value: float | None = None
    for authority in sorted(newest):
        hold = newest[authority]
        wish_low = low if hold.low is None else hold.low
        wish_high = high if hold.high is None else hold.high
        if wish_low > high or wish_high < low or wish_low > wish_high:
            conflicts.append(hold)
        else:
            if wish_low > low:
                low, floor_by = wish_low, hold
            if wish_high < high:
                high, cap_by = wish_high, hold
        if hold.value is not None and chosen is None:
            chosen = hold
            # The choice is final here; bounds of weaker holds no longer matter to it.
            value = min(max(hold.value, low), high)
            limited = floor_by if value > hold.value else cap_by if value < hold.value else None
            break
    return Decision(value, low, high, chosen, limited, tuple(conflicts))
