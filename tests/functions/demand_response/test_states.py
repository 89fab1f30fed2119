"""Events move on as the state machine says: whatever comes in whatever order, an order is never bid for, what is over stays over, time alone always ends it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.functions.demand_response.errors import StateError
from cloud.functions.demand_response.states import OPEN, TERMINAL, TRANSITIONS, Happening, Kind, State, Times, after, due

FORWARD = list(State)[:10]


@settings(max_examples=60)
@given(st.sampled_from(Kind), st.lists(st.sampled_from(Happening), max_size=30))
def test_no_sequence_of_happenings_breaks_the_order_of_states(kind: Kind, happenings: list[Happening]) -> None:
    state, seen = State.PUBLISHED, [State.PUBLISHED]
    for happening in happenings:
        before = state
        try:
            state = after(kind, state, happening)
        except StateError:
            assert state is before
            continue
        seen.append(state)
        assert before not in TERMINAL, "what is over stays over"
        if state in FORWARD and happening is not Happening.AMEND:
            assert FORWARD.index(state) >= FORWARD.index(before), "nothing goes back but by a new version"
    if kind is Kind.ORDER:
        assert not {State.INVITED, State.BID, State.CLEARED} & set(seen), "a mandatory order is never bid for"
    if State.SETTLED in seen:
        assert State.ACTIVE in seen, "nothing is settled that did not happen"
    if State.CONFIRMED in seen and kind is Kind.MARKET:
        assert State.CLEARED in seen


@settings(max_examples=60)
@given(st.sampled_from(Kind), st.integers(0, 3), st.integers(1, 50), st.integers(1, 50), st.integers(0, 30), st.integers(0, 20))
def test_time_alone_ends_or_hands_on_every_event(kind: Kind, bid: int, wait: int, length: int, rebound: int, preheat: int) -> None:
    gate = 0 if kind is Kind.ORDER else bid + 1
    start = gate + wait
    times = Times(gate, max(1, start - preheat) if preheat else 0, start, start + length, start + length + rebound)
    for first in (s for s in OPEN if kind is Kind.MARKET or s not in (State.INVITED, State.BID, State.CLEARED)):
        state, moved = first, True
        for now in range(times.recovered_ms + 2):
            while moved := (found := due(kind, state, times, now)) is not None:
                assert found is not None
                state = after(kind, state, found[0])
                assert not (state is State.ACTIVE and now < times.start_ms), "never before its start"
                assert not (state is State.RECOVERED and now < times.end_ms)
        assert not moved
        assert state in (State.RECOVERED, State.CANCELLED), f"{first} ended {state}"


@pytest.mark.parametrize("kind", list(Kind))
def test_a_cancelled_event_takes_nothing_any_more(kind: Kind) -> None:
    for happening in Happening:
        with pytest.raises(StateError):
            after(kind, State.CANCELLED, happening)
    assert all(target in State for target in TRANSITIONS[kind].values())
