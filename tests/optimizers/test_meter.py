"""One meter buys or sells, whatever the prices; ordinary prices need no binary for it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from optimizers.checker import check
from optimizers.formulations import reference
from optimizers.formulations.dispatch import program
from optimizers.methods.dispatch import Dispatcher
from optimizers.methods.highs import Solver
from optimizers.methods.pools import LocalPool
from optimizers.methods.scenarios import plan_scenarios
from optimizers.specification import Building, Community, ElectricBoiler, Prices
from optimizers.validation import plannable

HOMES = Building("homes", 60.0, 4.0, 20.0, emitter_kw=400)
SUN = 200 * np.clip(np.sin((np.arange(24) - 6) / 12 * np.pi), 0, None)


def town(energy: float, export: float, pv: float | np.ndarray = 0.0, least: float = 0.0) -> Community:
    return Community("town", 1.0, Prices(np.full(24, energy), export=export), np.full(24, -5.0), [HOMES], [ElectricBoiler("boiler", 150, minimum_load=least)], pv_kw=pv, base_kw=20.0, export_kw=500, transformer_kw=800)


@pytest.mark.parametrize(("energy", "export"), [(0.3, 0.5), (-0.3, 0.0), (0.3, 0.3), (-0.2, -0.1)])
@pytest.mark.parametrize("least", [0.0, 0.3])
@pytest.mark.parametrize("pv", [0.0, SUN])
def test_power_is_never_bought_and_sold_in_one_step(energy: float, export: float, pv: float | np.ndarray, least: float) -> None:
    community = town(energy, export, pv, least)
    plan = Dispatcher(gap=1e-5, seconds=20).plan(community)
    assert np.minimum(plan.grid_kw, plan.sold_kw).max() < 1e-3
    assert plan.sold_kw.max() <= np.max(pv) + 1e-6
    assert check(plan, community) == []
    best, proven = reference.solve(reference.Model(plannable(community)).problem)
    assert proven
    assert plan.objective == pytest.approx(best, rel=1e-4, abs=1e-3)


def test_a_plan_that_buys_and_sells_at_once_is_found_by_name() -> None:
    community = town(0.3, 0.5)
    plan = Dispatcher().plan(community)
    gain = 24 * 500 * (0.3 - 0.5)
    both = dataclasses.replace(plan, grid_kw=plan.grid_kw + 500, sold_kw=plan.sold_kw + 500, objective=plan.objective + gain, bound=plan.bound + gain,
                               cost={**plan.cost, "energy": plan.cost["energy"] + 24 * 500 * 0.3, "export": plan.cost["export"] - 24 * 500 * 0.5})
    assert "buying and selling at once" in {b.what for b in check(both, community)}


def test_ordinary_prices_bring_no_binaries() -> None:
    assert len(program(plannable(town(0.5, 0.3, SUN))).whole) == 0


def test_portfolios_and_scenarios_keep_to_one_way_too() -> None:
    community = town(0.3, 0.5, SUN, 0.3)
    column, = LocalPool([community], np.array([11, 12])).price(np.full(2, 0.1), whole=True)
    assert np.isfinite(column.cost)
    assert column.cost > Solver().relaxed(program(plannable(community))).objective - 1e-6
    dear = dataclasses.replace(community, prices=dataclasses.replace(community.prices, energy=np.full(24, 0.7)))
    found = plan_scenarios([community, dear], gap=0.02)
    assert [check(p, c) for p, c in zip(found.plans, (community, dear), strict=True)] == [[], []]
