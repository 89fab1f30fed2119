"""The laws of authority: bounds intersect downwards, choice is made below, every override expires."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from protos.arbitration import Authority, Hold, decide

NOW = 1_000_000
AUTHORITIES = list(Authority)


@st.composite
def hold(draw):
    low, high = sorted(draw(st.tuples(st.floats(-50, 150), st.floats(-50, 150))))
    return Hold(draw(st.sampled_from(AUTHORITIES)), draw(st.one_of(st.none(), st.floats(-50, 150))), draw(st.sampled_from([None, low])), draw(st.sampled_from([None, high])),
                draw(st.integers(0, 5)), draw(st.sampled_from([0, NOW - 1, NOW, NOW + 1])))


HOLDS = st.lists(hold(), max_size=10)


def standing(holds):
    newest: dict[Authority, Hold] = {}
    for h in holds:
        if h.alive(NOW) and (h.authority not in newest or h.version > newest[h.authority].version):
            newest[h.authority] = h
    return newest


@given(HOLDS)
def test_the_strongest_with_a_wish_chooses(holds):
    decision = decide(holds, NOW)
    wishing = [h for h in standing(holds).values() if h.value is not None]
    assert decision.chosen_by == (min(wishing, key=lambda h: h.authority) if wishing else None)
    assert (decision.value is None) == (not wishing)


@given(HOLDS)
def test_the_value_lies_within_every_stronger_bound_that_could_be_met(holds):
    decision = decide(holds, NOW)
    if decision.value is not None:
        for h in standing(holds).values():
            if h.authority <= decision.chosen_by.authority and h not in decision.conflicts:
                assert (h.low is None or decision.value >= h.low) and (h.high is None or decision.value <= h.high)


@given(HOLDS, st.floats(-20, 20), st.floats(30, 100))
def test_physical_limits_are_never_left(holds, low, high):
    decision = decide(holds, NOW, low=low, high=high)
    assert low <= decision.low <= decision.high <= high
    assert decision.value is None or low <= decision.value <= high


@given(HOLDS)
def test_order_of_arrival_does_not_matter_between_authorities(holds):
    one_each = list(standing(holds).values())
    assert decide(one_each, NOW) == decide(one_each[::-1], NOW)


@given(HOLDS)
def test_an_expired_hold_changes_nothing(holds):
    assert decide(holds, NOW) == decide([h for h in holds if h.alive(NOW)], NOW)


@given(HOLDS, hold())
def test_a_weaker_wish_never_moves_a_stronger_choice(holds, extra):
    before = decide(holds, NOW)
    if before.chosen_by is not None and extra.authority > before.chosen_by.authority:
        assert decide([*holds, extra], NOW).value == before.value


def test_a_stronger_cap_limits_and_is_named():
    cap, wish = Hold(Authority.GRID_ORDER, high=300.0), Hold(Authority.OPERATOR, 800.0)
    decision = decide([wish, cap], NOW)
    assert (decision.value, decision.chosen_by, decision.limited_by) == (300.0, wish, cap)


def test_a_bound_that_contradicts_a_stronger_one_is_a_conflict():
    strong, weak = Hold(Authority.FROST, low=20.0), Hold(Authority.OPERATOR, high=10.0)
    decision = decide([strong, weak], NOW)
    assert decision.conflicts == (weak,)
    assert (decision.low, decision.high) == (20.0, math.inf)
