"""Statuses: a lockout is off, and shortest times last as long as they say whatever the step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.checker import check
from optimizers.formulations import reference
from optimizers.formulations.dispatch import program
from optimizers.methods.dispatch import Dispatcher
from optimizers.methods.highs import Solver
from optimizers.methods.scenarios import plan_scenarios
from optimizers.specification import Building, Community, HeatPump, Prices
from optimizers.validation import plannable

STEPS = 32
HOMES = Building("homes", 60.0, 4.0, 20.0, emitter_kw=400)
LOCKOUT = np.where((np.arange(STEPS) >= 10) & (np.arange(STEPS) < 18), 0.0, 1.0)
PUMP = HeatPump("pump", 150.0, standby_kw=2.0, start_yuan=20.0, available=LOCKOUT, on=True)


def town(pump: HeatPump, step_h: float = 0.25) -> Community:
    return Community("town", step_h, Prices(np.full(STEPS, 0.5)), np.full(STEPS, -5.0), [HOMES], [pump])


@pytest.mark.parametrize("since_h", [0.0, 24.0])
@pytest.mark.parametrize("up_h", [1.0, 6.0])
def test_a_source_under_lockout_is_off_and_draws_nothing(since_h: float, up_h: float) -> None:
    community = town(dataclasses.replace(PUMP, since_h=since_h, up_h=up_h))
    plan = Dispatcher(gap=1e-4).plan(community)
    locked = LOCKOUT == 0
    assert plan.on["pump"][locked].max() == 0
    assert plan.power_kw["pump"][locked].max() == 0
    assert check(plan, community) == []
    best, _ = reference.solve(reference.Model(plannable(community)).problem)
    assert plan.objective == pytest.approx(best, rel=1e-3)
    found = plan_scenarios([community, dataclasses.replace(community, outdoor_c=np.full(STEPS, -9.0))])
    assert [check(p, c) for p, c in zip(found.plans, (community, dataclasses.replace(community, outdoor_c=np.full(STEPS, -9.0))), strict=True)] == [[], []]


def test_standby_through_a_lockout_is_found() -> None:
    free = dataclasses.replace(PUMP, available=1.0)
    plan = Dispatcher().plan(town(free))
    assert "pump.available" in {b.what for b in check(plan, town(PUMP))}


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.25, 0.5, 1.0]), st.floats(0.1, 3.0), st.floats(0.1, 3.0), st.booleans(), st.floats(0.0, 3.0))
def test_shortest_times_are_kept_in_hours(step_h: float, up_h: float, down_h: float, on: bool, since_h: float) -> None:
    price = np.where(np.arange(STEPS) % 3 == 0, 0.1, 1.0)
    community = town(dataclasses.replace(PUMP, up_h=up_h, down_h=down_h, on=on, since_h=since_h, start_yuan=0.0, minimum_load=0.6, available=1.0), step_h)
    community = dataclasses.replace(community, prices=Prices(price))
    plan = Dispatcher(seconds=1).plan(community)
    assert check(plan, community) == []
    edges = np.flatnonzero(np.diff(plan.on["pump"])) + 1
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        assert (last - first) * step_h >= (up_h if plan.on["pump"][first] else down_h) - 1e-6
    if len(edges):
        assert since_h + edges[0] * step_h >= (up_h if plan.on["pump"][0] else down_h) - 1e-6 or bool(plan.on["pump"][0]) != on


def test_a_run_shorter_than_asked_is_found_in_hours() -> None:
    loose = town(dataclasses.replace(PUMP, available=1.0, up_h=0.25, down_h=0.25, start_yuan=0.0), 0.25)
    loose = dataclasses.replace(loose, prices=Prices(np.where(np.arange(STEPS) % 2 == 0, 0.01, 3.0)))
    plan = Dispatcher().plan(loose)
    asked = dataclasses.replace(loose, sources=[dataclasses.replace(loose.sources[0], up_h=0.3, down_h=0.3)])
    assert np.diff(plan.on["pump"]).any()
    assert {b.what for b in check(plan, asked)} & {"pump.up_h", "pump.down_h"}


def test_the_readable_model_and_the_arrays_agree_on_statuses() -> None:
    community = plannable(town(dataclasses.replace(PUMP, up_h=1.1, down_h=0.6)))
    best, proven = reference.solve(reference.Model(community).problem)
    assert proven
    assert Solver().whole(program(community), gap=1e-7, seconds=20).objective == pytest.approx(best, rel=1e-4)
