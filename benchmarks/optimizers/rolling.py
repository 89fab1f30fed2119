"""B2: a day of re-plans every quarter hour with new forecasts, one Dispatcher kept; a PuLP model rebuilt beside it. Must not know: other rows."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator

import numpy as np
import pulp

from benchmarks.optimizers.cases import STEP_H, WEEKS, m1
from benchmarks.report import QUICK, Report, quantile
from optimizers.formulations import reference
from optimizers.methods.dispatch import Dispatcher
from optimizers.plan import Plan
from optimizers.specification import Array, Building, Community, ElectricBoiler, HeatPump
from optimizers.validation import plannable

HORIZON = 96


def moved(community: Community, plan: Plan) -> dict[str, object]:
    """States one step later, as the plan says."""
    homes, tank = community.buildings[0], community.stores[0]
    sources: list[ElectricBoiler | HeatPump] = []
    for s in community.sources:
        on = bool(plan.on[s.name][0])
        sources.append(dataclasses.replace(s, on=on, since_h=s.since_h + STEP_H if on == s.on else STEP_H))
    return {"sources": sources, "buildings": [dataclasses.replace(homes, room_c=float(plan.room_c[homes.name][0]))],
            "stores": [dataclasses.replace(tank, energy_kwh=float(plan.energy_kwh[tank.name][0]), target_kwh=500.0)]}


def day(count: int, planner: Dispatcher, *, seed: int = 5) -> Iterator[tuple[Community, Plan, float]]:
    """(what was asked, the plan, seconds) for every re-plan; forecasts are the truth plus an error that grows with lead and is drawn anew."""
    draw = np.random.default_rng(seed)
    long = m1(WEEKS[1], HORIZON + count)
    states: dict[str, object] = {}
    for k in range(count):
        def window(values: object, k: int = k) -> Array:
            return np.asarray(values, np.float64)[k:k + HORIZON]

        error = draw.normal(0, 0.05, HORIZON).cumsum()
        community = dataclasses.replace(
            long, prices=dataclasses.replace(long.prices, energy=window(long.prices.energy)), outdoor_c=window(long.outdoor_c) + error, sun_kw_m2=window(long.sun_kw_m2),
            base_kw=window(long.base_kw) + draw.normal(0, 1, HORIZON), pv_kw=window(long.pv_kw), **states)  # type: ignore[arg-type]
        community = dataclasses.replace(community, buildings=[target(b) for b in community.buildings])
        began = time.perf_counter()
        plan = planner.plan(community)
        yield community, plan, time.perf_counter() - began
        states = moved(community, plan)


def target(building: Building) -> Building:
    """The same end for every window."""
    return dataclasses.replace(building, target_c=20.0)




def run(report: Report) -> None:
    """All of B2."""
    count = 24 if QUICK else 96
    for _ in day(4, Dispatcher()):  # imports and first touches
        pass
    asked, plans, seconds, rebuilt = list[Community](), list[Plan](), list[float](), list[float]()
    for community, plan, took in day(count, Dispatcher()):
        asked.append(community)
        plans.append(plan)
        seconds.append(took)
        if len(plans) % (8 if QUICK else 4) == 1:  # interleaved
            began = time.perf_counter()
            problem = reference.Model(plannable(community)).problem
            problem.solve(pulp.HiGHS(msg=False, gapRel=1e-3, timeLimit=60, threads=1))
            rebuilt.append(time.perf_counter() - began)
    kept = seconds[1:]
    report.add("B2.median", statistics.median(kept) * 1e3, "ms", at_most=10.0, note=f"{count} re-plans, T={HORIZON}, first ({seconds[0] * 1e3:.0f} ms) left out")
    report.add("B2.p95", quantile(kept, 0.95) * 1e3, "ms", at_most=30.0)
    report.add("B2.pulp_rebuild.ratio", statistics.median(rebuilt) / statistics.median(kept), "x ours", note=f"PuLP+HiGHS anew each time: {statistics.median(rebuilt) * 1e3:.0f} ms")
    report.add("B2.gap.worst", max(p.gap for p in plans), "relative", at_most=0.005, note=f"{sum(p.how == 'milp' for p in plans)} of {count} escalated")
    cold = [Dispatcher().plan(c).bound for c in asked[::6]]
    report.add("B2.bound_drift", max(abs(p.bound - b) / abs(b) for p, b in zip(plans[::6], cold, strict=True) if p.how != "milp"), "relative", at_most=1e-6, note="kept against fresh solver, relaxed optimum")
    changes = sum(bool(a.on[s][0] != b.on[s][0]) for a, b in itertools.pairwise(plans) for s in a.on)
    report.add("B2.switches", changes, "in the day")
