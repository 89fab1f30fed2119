"""The checker: whatever is altered in a plan that it can know about is named, and whatever form a plan comes in is judged."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from optimizers.checker import check
from optimizers.methods.dispatch import Dispatcher
from optimizers.methods.portfolio import Column
from optimizers.plan import Plan
from optimizers.specification import Building, Community, ElectricBoiler, Prices, RoomHeaters, Storage

HOMES = Building("homes", 60.0, 4.0, 20.0, emitter_kw=400)
BOILER = ElectricBoiler("boiler", 75.0, minimum_load=0.2)
STEPS = 12


def town(**changes: Any) -> Community:
    fields: dict[str, Any] = {"buildings": [HOMES], "sources": [BOILER]}
    return Community("town", 1.0, Prices(np.full(STEPS, 0.3)), np.full(STEPS, -5.0), **(fields | changes))


def test_a_source_above_its_rating_is_found_however_often_it_is_said_to_be_on() -> None:
    community = town()
    large = Dispatcher().plan(town(sources=[dataclasses.replace(BOILER, rated_kw=150.0)]))
    assert large.heat_kw["boiler"].max() > 75.0
    for statuses in (large.on["boiler"], 2 * large.on["boiler"]):
        assert check(dataclasses.replace(large, on={"boiler": statuses}), community) != []
    below = Dispatcher().plan(community)
    assert check(below, community) == []
    assert "boiler.status" in {b.what for b in check(dataclasses.replace(below, on={"boiler": 2 * below.on["boiler"]}), community)}


@pytest.mark.parametrize(("altered", "named"), [
    ({"sol_status": "safe"}, "sol_status"), ({"sol_status": None}, "sol_status"), ({"how": "magic"}, "how"), ({"how": np.zeros(2)}, "how"), ({"seconds": "abc"}, "seconds"), ({"seconds": -1.0}, "seconds"),
    ({"repaired": "x"}, "repaired"), ({"repaired": (1,)}, "repaired"), ({"mass_c": {"homes": np.full(STEPS, 500.0)}}, "homes.mass_c"), ({"rooms_kw": None}, "rooms_kw"), ({"charge_kw": {"ghost": [1]}}, "ghost.charge_kw"),
    ({"heat_price": "dear"}, "heat_price"), ({"cost": "dear"}, "cost"), ({"slacks": 3}, "slacks")])
def test_names_words_and_types_that_do_not_belong_in_a_plan_are_found(altered: dict[str, Any], named: str) -> None:
    community = town()
    plan = Dispatcher().plan(community)
    assert any(b.what.startswith(named) for b in check(dataclasses.replace(plan, **altered), community))


def test_a_source_the_community_does_not_have_is_found() -> None:
    plan = Dispatcher().plan(town())
    for field in ("on", "heat_kw", "power_kw"):
        ghost = dataclasses.replace(plan, **{field: {**getattr(plan, field), "ghost": np.full(STEPS, 1e6)}})
        assert [b.what for b in check(ghost, town())] == [f"ghost.{field} is unknown"]


def test_a_plan_that_was_written_to_a_file_and_read_again_is_judged_alike() -> None:
    community = town(stores=[Storage("tank", 100.0, 50.0, 50.0, 50.0)], rooms=[RoomHeaters("panels", 5, 1.0, "homes", 0.2)])
    plan = Dispatcher().plan(community)
    read = Plan(**json.loads(json.dumps(dataclasses.asdict(plan), default=np.ndarray.tolist)))
    assert check(read, community) == []
    assert {b.what for b in check(dataclasses.replace(read, grid_kw=[kw + 1 for kw in read.grid_kw]), community)} >= {"power balance", "cost.energy"}
    assert [b.what for b in check(dataclasses.replace(read, grid_kw=["a"] * STEPS), community)] == ["grid_kw is no row"]


def test_plans_and_communities_are_compared_by_what_they_say() -> None:
    plan, again = Dispatcher().plan(town()), Dispatcher().plan(town())
    assert plan == again
    assert plan == Plan(**json.loads(json.dumps(dataclasses.asdict(plan), default=np.ndarray.tolist)))
    assert plan != dataclasses.replace(plan, grid_kw=plan.grid_kw + 1)
    assert plan != dataclasses.replace(plan, grid_kw=plan.grid_kw[1:])
    assert plan != dataclasses.replace(plan, on={})
    assert plan != "plan"
    assert len({town(), town(), dataclasses.replace(town(), base_kw=np.full(STEPS, 3.0))}) == 2
    holed = dataclasses.replace(town(), outdoor_c=np.full(STEPS, np.nan))
    assert holed == dataclasses.replace(holed, outdoor_c=np.full(STEPS, np.nan))
    assert Column(0, 1.0, np.zeros(3), True) == Column(0, 1.0, np.zeros(3), True) != Column(0, 1.0, np.ones(3), True)
