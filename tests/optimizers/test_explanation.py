"""Explanations tell what binds, and a what-if is near what a second plan says."""

from __future__ import annotations

import dataclasses

import pytest

from optimizers.explanation import reasons, what_if
from optimizers.methods.dispatch import Dispatcher
from optimizers.validation import plannable
from tests.optimizers.cases import hostile, ordinary


@pytest.mark.parametrize("seed", range(12))
def test_every_slack_of_a_hostile_day_is_explained_where_it_happens(seed: int) -> None:
    community = plannable(hostile(seed))
    plan = Dispatcher().plan(community)
    told = reasons(plan, community)
    for name, amount in plan.slacks.items():
        kind = name.split(":")[0]
        if kind == "short":
            assert (amount[0] > 1e-4) == any(r.kind == kind and abs(r.amount - amount[0]) < 1e-9 for r in told[-1])
            continue
        for t, value in enumerate(amount):
            assert (value > 1e-4) == any(r.kind == kind and abs(r.amount - value) < 1e-9 for r in told[t]), (name, t)


def test_a_store_charged_at_night_says_so() -> None:
    community = plannable(ordinary(next(s for s in range(20) if ordinary(s).stores)))
    plan = Dispatcher().plan(community)
    kinds = {r.kind for interval in reasons(plan, community) for r in interval}
    assert kinds & {"cheap", "dear"}
    assert all(r.zh and r.en for interval in reasons(plan, community) for r in interval)


def test_one_degree_warmer_costs_about_what_a_second_plan_says() -> None:
    community = plannable(ordinary(2))
    community = dataclasses.replace(community, buildings=[dataclasses.replace(b, room_c=21.0, mass_c=None, floor_c=b.floor_c, low_c=b.low_c * 0 + 20.5, high_c=b.high_c * 0 + 40.0) for b in community.buildings])
    warmer = dataclasses.replace(community, buildings=[dataclasses.replace(b, low_c=b.low_c + 0.2, room_c=b.room_c + 0.2, target_c=None) for b in community.buildings])
    planner = Dispatcher(gap=1e-6)
    first, second = planner.plan(community), planner.plan(warmer)
    assert what_if(first, community, warmer_k=0.2) == pytest.approx(second.objective - first.objective, rel=0.6)
