"""Dispatch: PuLP and arrays say the same, plans obey the specification, hostile input still gives a plan."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from optimizers.checker import check
from optimizers.errors import SpecificationError
from optimizers.formulations import reference
from optimizers.formulations.dispatch import program
from optimizers.methods.dispatch import Dispatcher
from optimizers.methods.highs import Solver
from optimizers.validation import plannable
from tests.optimizers.cases import hostile, ordinary


@pytest.mark.parametrize("seed", range(12))
def test_the_readable_model_and_the_arrays_have_the_same_optimum(seed: int) -> None:
    community = plannable((hostile if seed % 3 == 2 else ordinary)(seed, 24))
    relaxed, proven = reference.solve(reference.Model(community, relaxed=True).problem)
    assert proven
    assert Solver().relaxed(program(community)).objective == pytest.approx(relaxed, rel=1e-6, abs=1e-6)
    whole, proven = reference.solve(reference.Model(community).problem)
    assert proven
    found = Solver().whole(program(community), gap=1e-7, seconds=60)
    assert found.objective == pytest.approx(whole, rel=1e-4, abs=1e-3)


def test_ordinary_plans_obey_everything_and_are_near_the_best() -> None:
    near = 0
    for seed in range(25):
        community = plannable(ordinary(seed))
        plan = Dispatcher(seconds=30).plan(community)  # a busy machine is no excuse
        assert check(plan, community) == [], seed
        assert plan.bound <= plan.objective + 1e-6
        assert (plan.sol_status == "optimal") == (plan.gap <= 0.005)
        near += plan.gap <= 0.005
    assert near >= 23, "certified within 0.5 %"


@pytest.mark.parametrize("seed", range(40))
def test_hostile_input_still_gives_a_plan_that_tells_what_it_cannot_hold(seed: int) -> None:
    community = hostile(seed)
    plan = Dispatcher().plan(community)
    assert np.isfinite(plan.objective)
    assert check(plan, plannable(community)) == []
    if np.isnan(community.outdoor_c).any():
        assert any("outdoor_c" in note for note in plan.repaired)


def test_the_checker_finds_a_plan_that_lies() -> None:
    community = plannable(ordinary(3))
    plan = Dispatcher().plan(community)
    source = community.sources[0].name
    wrong = dataclasses.replace(plan, heat_kw={**plan.heat_kw, source: plan.heat_kw[source] + 1.0})
    assert {b.what for b in check(wrong, community)} >= {"heat balance", f"{source}.power"}
    warm = dataclasses.replace(plan, room_c={k: v + 0.1 for k, v in plan.room_c.items()})
    assert any(b.what.endswith("room_c") for b in check(warm, community))
    cheap = dataclasses.replace(plan, cost={**plan.cost, "energy": plan.cost["energy"] - 1})
    assert any(b.what == "cost.energy" for b in check(cheap, community))


def test_a_replan_of_the_same_topology_gives_the_same_as_a_fresh_one() -> None:
    kept = Dispatcher()
    for seed in range(3):
        community = ordinary(7)
        community = dataclasses.replace(community, outdoor_c=community.outdoor_c + seed)
        assert kept.plan(community).bound == pytest.approx(Dispatcher().plan(community).bound, rel=1e-6)


@pytest.mark.parametrize(("change", "field"), [({"transformer_kw": 10.0, "name": "x"}, None), ({"outdoor_c": np.zeros(3)}, "outdoor_c"), ({"step_h": 0.0}, "step_h")])
def test_what_contradicts_itself_is_refused_by_name(change: dict[str, object], field: str | None) -> None:
    community = dataclasses.replace(ordinary(1), **change)
    if field is None:
        assert check(Dispatcher().plan(community), plannable(community)) == []
        return
    with pytest.raises(SpecificationError) as refused:
        plannable(community)
    assert refused.value.facts["field"] == field


def test_a_day_of_replans_keeps_its_gap_and_obeys_every_limit() -> None:
    from benchmarks.optimizers.rolling import day

    for community, plan, _ in day(8, Dispatcher(seconds=30)):
        assert check(plan, plannable(community)) == []
        assert plan.gap <= 0.005


def test_threads_that_share_a_dispatcher_get_the_plans_they_would_get_alone() -> None:
    shared = Dispatcher()
    asked = [ordinary(seed, 48) for seed in (3, 4, 3, 4, 3, 4, 5, 5)]
    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(shared.plan, asked))
    for plan, community in zip(plans, asked, strict=True):
        assert check(plan, community) == []
        assert plan.bound <= plan.objective + 1e-6
