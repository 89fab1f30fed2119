"""States of a demand-response event (事件状态), sans-IO: what may follow what, and what time alone brings about.

A mandatory order (有序用电) knows no bid and nobody may stay away; a market event is invited, bid for and cleared first. Must not know: ledgers, clocks, kW.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cloud.functions.demand_response.errors import StateError


class Kind(enum.StrEnum):
    """What an event is."""

    ORDER = "order"    # 有序用电, 负荷管理: mandatory, unpaid
    MARKET = "market"  # 邀约型需求响应: bid for and paid


class State(enum.StrEnum):
    """Where an event stands."""

    PUBLISHED = "published"
    INVITED = "invited"
    BID = "bid"
    CLEARED = "cleared"
    CONFIRMED = "confirmed"
    PREHEATING = "preheating"
    ACTIVE = "active"
    RECOVERED = "recovered"
    EVALUATED = "evaluated"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Happening(enum.StrEnum):
    """What happens to an event."""

    AMEND = "amend"
    INVITE = "invite"
    BID = "bid"
    CLEAR = "clear"
    CONFIRM = "confirm"
    PREHEAT = "preheat"
    START = "start"
    RECOVER = "recover"
    EVALUATE = "evaluate"
    SETTLE = "settle"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"


TERMINAL: Final = frozenset({State.SETTLED, State.CANCELLED, State.SUPERSEDED})
#: States in which projects may be held to something.
BINDING: Final = frozenset({State.CONFIRMED, State.PREHEATING, State.ACTIVE})
#: States that end with a cancellation or a stronger event; what has been delivered is settled instead.
OPEN: Final = frozenset({State.PUBLISHED, State.INVITED, State.BID, State.CLEARED, *BINDING})

_COMMON: Final[Mapping[tuple[State, Happening], State]] = {
    (State.CONFIRMED, Happening.PREHEAT): State.PREHEATING, (State.CONFIRMED, Happening.START): State.ACTIVE, (State.PREHEATING, Happening.START): State.ACTIVE,
    (State.ACTIVE, Happening.RECOVER): State.RECOVERED, (State.RECOVERED, Happening.EVALUATE): State.EVALUATED, (State.EVALUATED, Happening.SETTLE): State.SETTLED,
    **{(s, Happening.CANCEL): State.CANCELLED for s in OPEN}, **{(s, Happening.SUPERSEDE): State.SUPERSEDED for s in OPEN}}
#: Kind -> (state, happening) -> state. An order under way may be amended: it is allocated anew and goes on (7.3.7 d). What was cleared is a contract.
TRANSITIONS: Final[Mapping[Kind, Mapping[tuple[State, Happening], State]]] = {
    Kind.ORDER: {**_COMMON, (State.PUBLISHED, Happening.CONFIRM): State.CONFIRMED, **{(s, Happening.AMEND): State.PUBLISHED for s in (State.PUBLISHED, *BINDING)}},
    Kind.MARKET: {**_COMMON, (State.PUBLISHED, Happening.INVITE): State.INVITED, (State.INVITED, Happening.BID): State.BID, (State.BID, Happening.BID): State.BID,
                  (State.BID, Happening.CLEAR): State.CLEARED, (State.CLEARED, Happening.CONFIRM): State.CONFIRMED,
                  **{(s, Happening.AMEND): State.PUBLISHED for s in (State.PUBLISHED, State.INVITED, State.BID)}},
}


@dataclass(frozen=True, slots=True)
class Times:
    """Moments of an event, UTC milliseconds.

    Attributes:
        bid_until_ms: gate closure, 0 = none (orders).
        preheat_ms: heat before the event begins, 0 = none.
        start_ms, end_ms: the event, [start, end).
        recovered_ms: until then draw after the event is limited; at least `end_ms`.
    """

    bid_until_ms: int
    preheat_ms: int
    start_ms: int
    end_ms: int
    recovered_ms: int


def after(kind: Kind, state: State, happening: Happening) -> State:
    """The state that follows.

    Raises:
        StateError: it cannot happen now; names both.
    """
    found = TRANSITIONS[kind].get((state, happening))
    if found is None:
        raise StateError(state=str(state), happening=str(happening))
    return found


def due(kind: Kind, state: State, times: Times, now_ms: int) -> tuple[Happening, str] | None:
    """What time alone brings about now, and why; None = nothing.

    Bids, allocations, evaluations are work: who does it says so by `after`.
    """
    if state is State.PUBLISHED and kind is Kind.MARKET and now_ms < times.bid_until_ms:
        return Happening.INVITE, ""
    if state in (State.PUBLISHED, State.INVITED) and kind is Kind.MARKET and now_ms >= times.bid_until_ms:
        return Happening.CANCEL, "no-bid"
    if state is State.BID and now_ms >= times.start_ms:
        return Happening.CANCEL, "not-cleared"
    if state in (State.PUBLISHED, State.CLEARED) and now_ms >= times.end_ms:
        return Happening.CANCEL, "not-allocated"
    if state in (State.CONFIRMED, State.PREHEATING) and now_ms >= times.start_ms:
        return Happening.START, ""
    if state is State.CONFIRMED and 0 < times.preheat_ms <= now_ms:
        return Happening.PREHEAT, ""
    if state is State.ACTIVE and now_ms >= max(times.end_ms, times.recovered_ms):
        return Happening.RECOVER, ""
    return None
