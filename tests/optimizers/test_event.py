"""Event plans: the promise is held where it can be and told where it cannot, heat comes before, the rebound is limited, and a re-plan mid-event goes on from there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.checker import check
from optimizers.demand_response.event import Terms, event_plan
from optimizers.errors import InputError
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices, Storage
from optimizers.validation import plannable
from tests.optimizers.cases import hostile, ordinary

STEPS = 48
HOMES = Building("homes", 60.0, 4.0, 20.0, emitter_kw=400.0, low_c=19.5, high_c=22.0)
PLAIN = Community("homes", 0.25, Prices(np.full(STEPS, 0.5)), np.full(STEPS, -5.0), [HOMES], [ElectricBoiler("boiler", 200.0)], [Storage("tank", 200.0, 0.0, 100.0, 100.0)])
BASELINE = Dispatcher().plan(PLAIN).grid_kw
TERMS = Terms(20, 28, 60.0, BASELINE[20:28], 2.0, 130.0)


def test_the_promise_is_held_by_heating_before_and_the_rebound_is_limited() -> None:
    found = event_plan(PLAIN, TERMS)
    assert (found.delivered_kw >= 60 - 1e-6).all()
    assert found.missing_kw.max() < 1e-6
    assert 0 <= found.preheat_from < 20
    assert found.plan.grid_kw[:20].sum() > found.plain.grid_kw[:20].sum() + 1
    assert found.rebound_kw <= 130 + 1e-6
    assert found.above_yuan == pytest.approx(0, abs=1e-6)
    assert found.cost_yuan > 0
    assert check(found.plan, found.community) == []


def test_what_cannot_be_delivered_is_told_before_it_happens() -> None:
    bare = dataclasses.replace(PLAIN, stores=[], buildings=[dataclasses.replace(HOMES, room_c=19.5, capacity_kwh_k=5.0)], prices=Prices(np.full(STEPS, 0.5), floor=4000.0, comfort=2000.0))
    found = event_plan(bare, dataclasses.replace(TERMS, committed_kw=95.0))
    assert found.missing_kw.max() > 5
    assert found.above_yuan > 0
    assert np.allclose(found.delivered_kw + found.missing_kw, np.maximum(95.0, found.delivered_kw), atol=1e-6)


def test_a_replan_mid_event_goes_on_from_where_things_stand() -> None:
    planner = Dispatcher()
    found = event_plan(PLAIN, TERMS, planner=planner)
    passed = 24
    state = dataclasses.replace(
        PLAIN, prices=Prices(np.full(STEPS, 0.5)), buildings=[dataclasses.replace(HOMES, room_c=float(found.plan.room_c["homes"][passed - 1]))],
        stores=[Storage("tank", 200.0, float(found.plan.energy_kwh["tank"][passed - 1]), 100.0, 100.0, target_kwh=0.0)])
    again = event_plan(state, TERMS.later(passed), planner=planner)
    assert len(again.delivered_kw) == 4
    assert (again.delivered_kw >= 60 - 1e-6).all()
    assert again.preheat_from == 0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 300), st.integers(-4, 20), st.integers(1, 10), st.floats(0, 500), st.booleans())
def test_every_event_gets_a_plan_that_obeys_the_physics(seed: int, first: int, length: int, committed: float, wild: bool) -> None:
    community = plannable((hostile if wild else ordinary)(seed, 32))
    last = max(first + length, 1)
    found = event_plan(community, Terms(first, last, committed, np.full(last - first, 150.0), 1.0, 200.0), planner=Dispatcher(seconds=1))
    assert check(found.plan, found.community) == []
    assert len(found.delivered_kw) == last - max(0, first)
    assert (found.missing_kw >= 0).all()
    assert max(0, first) >= found.preheat_from >= 0


@pytest.mark.parametrize(("change", "field"), [({"first": 60, "last": 64}, "first"), ({"first": -30, "last": -22}, "first"), ({"first": 28, "last": 20}, "first"), ({"baseline_kw": np.zeros(3)}, "baseline_kw"), ({"committed_kw": -1.0}, "committed_kw")])
def test_terms_that_cannot_be_are_refused_by_name(change: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as refused:
        event_plan(PLAIN, dataclasses.replace(TERMS, **change))  # type: ignore[arg-type]
    assert refused.value.facts["field"] == field
