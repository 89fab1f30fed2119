"""The checker: whatever is altered in a plan that it can know about is named, and whatever form a plan comes in is judged."""

from __future__ import annotations

import dataclasses

import numpy as np

from optimizers.checker import check
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices

HOMES = Building("homes", 60.0, 4.0, 20.0, emitter_kw=400)
BOILER = ElectricBoiler("boiler", 75.0, minimum_load=0.2)
STEPS = 12


def town(**changes: object) -> Community:
    fields: dict[str, object] = {"buildings": [HOMES], "sources": [BOILER]}
    return Community("town", 1.0, Prices(np.full(STEPS, 0.3)), np.full(STEPS, -5.0), **(fields | changes))  # type: ignore[arg-type]


def test_a_source_above_its_rating_is_found_however_often_it_is_said_to_be_on() -> None:
    community = town()
    large = Dispatcher().plan(town(sources=[dataclasses.replace(BOILER, rated_kw=150.0)]))
    assert large.heat_kw["boiler"].max() > 75.0
    for statuses in (large.on["boiler"], 2 * large.on["boiler"]):
        assert check(dataclasses.replace(large, on={"boiler": statuses}), community) != []
    below = Dispatcher().plan(community)
    assert check(below, community) == []
    assert "boiler.status" in {b.what for b in check(dataclasses.replace(below, on={"boiler": 2 * below.on["boiler"]}), community)}
