"""Plans against scenarios: one scenario is the ordinary plan, the first steps agree, every future's plan obeys its own physics, and planning for the mean is never better."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.checker import check
from optimizers.errors import OptimizerError, SpecificationError
from optimizers.methods.dispatch import Dispatcher
from optimizers.methods.scenarios import SWANSON, ScenarioPlan, from_quantiles, mean_of, plan_scenarios
from optimizers.specification import Community
from optimizers.validation import plannable
from tests.optimizers.cases import hostile, ordinary


def futures(seed: int, steps: int = 32) -> list[Community]:
    """Three futures that part more and more: colder with less sun and more other load, or the other way."""
    community, lead = plannable(ordinary(seed, steps)), np.sqrt(np.arange(steps) / steps)
    rows = np.array([-1.0, 0.0, 1.0])[:, None] * lead
    sun = np.asarray(community.sun_kw_m2)
    return from_quantiles(community, {"outdoor_c": community.outdoor_c + 6 * rows, "base_kw": np.maximum(0.0, community.base_kw - 8 * rows), "sun_kw_m2": np.maximum(0.0, sun * (1 + rows))})


def told_the_same(plan: ScenarioPlan, scenarios: list[Community]) -> None:
    first, n = plan.plans[0], plan.tied
    for other in plan.plans[1:]:
        for name in first.on:
            assert np.array_equal(first.on[name][:n], other.on[name][:n])
        for a, b in ((first.charge_kw, other.charge_kw), (first.discharge_kw, other.discharge_kw), (first.rooms_kw, other.rooms_kw)):
            assert all(np.allclose(a[k][:n], b[k][:n], atol=1e-6) for k in a)
    assert all(check(p, plannable(c)) == [] for p, c in zip(plan.plans, scenarios, strict=True))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 200), st.integers(0, 8))
def test_one_scenario_is_the_ordinary_plan(seed: int, tied: int) -> None:
    community = ordinary(seed, 32)
    alone, one = Dispatcher(seconds=20).plan(community), plan_scenarios([community], tied=tied, seconds=20)
    assert one.plans[0].objective == pytest.approx(one.expected)
    assert one.bound <= alone.objective + 1e-6
    assert alone.bound <= one.expected + 1e-6
    assert abs(one.expected - alone.objective) <= 0.0101 * max(1.0, abs(alone.objective))


def test_one_scenario_without_statuses_is_exactly_the_ordinary_plan() -> None:
    for seed in range(4):
        community = ordinary(seed, 32)
        community = dataclasses.replace(community, sources=[dataclasses.replace(s, minimum_load=0.0, up_h=0.0, down_h=0.0, start_yuan=0.0, **({"stages": 0} if hasattr(s, "stages") else {"standby_kw": 0.0}))
                                                            for s in community.sources])
        assert plan_scenarios([community]).expected == pytest.approx(Dispatcher().plan(community).objective, rel=1e-6, abs=1e-6)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 200))
def test_planning_against_scenarios_is_never_dearer_than_the_mean_s_decision(seed: int) -> None:
    scenarios = futures(seed)
    plan = plan_scenarios(scenarios, SWANSON, tied=4, seconds=20)
    told_the_same(plan, scenarios)
    assert plan.bound - 1e-6 <= plan.expected <= plan.of_mean + 1e-6
    # Nobody who must decide before he knows does better than one who knew: wait and see.
    knew = sum(w * Dispatcher(seconds=20).plan(c).bound for w, c in zip(SWANSON, scenarios, strict=True))
    assert plan.expected >= knew - 1e-4 * abs(knew)


def test_hostile_futures_still_get_a_plan() -> None:
    for seed in range(5):
        community = plannable(hostile(seed, 32))
        scenarios = from_quantiles(community, {"outdoor_c": community.outdoor_c + np.array([[-8.0], [0.0], [3.0]])})
        plan = plan_scenarios(scenarios, SWANSON, tied=2)
        assert np.isfinite(plan.expected)
        told_the_same(plan, scenarios)


def test_the_value_of_scenarios_is_found_where_there_is_one() -> None:
    gains = [s.of_mean - s.expected for s in (plan_scenarios(futures(seed), SWANSON, tied=8, seconds=20) for seed in range(4))]
    assert all(g >= -1e-6 for g in gains)
    assert max(gains) > 0


def test_what_does_not_fit_together_is_refused_by_name() -> None:
    community = ordinary(1, 32)
    with pytest.raises(SpecificationError) as refused:
        from_quantiles(community, {"outdoor_c": np.zeros((3, 5))})
    assert refused.value.facts["field"] == "outdoor_c"
    with pytest.raises(SpecificationError):
        from_quantiles(community, {"step_h": np.zeros((3, 32))})
    with pytest.raises(SpecificationError):
        plan_scenarios([community, community], [0.5, 0.6])
    with pytest.raises(SpecificationError):
        plan_scenarios([community, dataclasses.replace(community, stores=[], sources=[], rooms=[])])
    assert np.allclose(mean_of([community, community], [0.3, 0.7]).outdoor_c, community.outdoor_c)


def test_scenarios_or_shares_that_are_none_are_refused() -> None:
    community = ordinary(2, 24)
    three = [community] * 3
    for call in (lambda: mean_of(three, [5, 5, 5]), lambda: mean_of(three, [1.0]), lambda: mean_of(three, "x"), lambda: mean_of(None, [1.0]), lambda: mean_of([None], [1.0]), lambda: mean_of([], []),  # type: ignore[arg-type,list-item]
                 lambda: mean_of([community, ordinary(2, 12)], [0.5, 0.5]), lambda: plan_scenarios([community, dataclasses.replace(community, step_h=0.5)]), lambda: plan_scenarios(None),  # type: ignore[arg-type]
                 lambda: from_quantiles(community, None), lambda: from_quantiles(community, ["outdoor_c"]), lambda: from_quantiles(None, {}), lambda: from_quantiles(community, {"outdoor_c": "cold"})):  # type: ignore[arg-type,dict-item]
        with pytest.raises(OptimizerError):
            call()
