"""Every limit a plan could not hold has a sentence with a cause and a way out, and the causes are the true ones where they are known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from optimizers.errors import InputError, OptimizerError
from optimizers.explanation import reasons, what_if
from optimizers.methods.dispatch import Dispatcher
from optimizers.shortfall import CAUSES, KINDS, TOLERANCE, shortfalls
from optimizers.specification import Building, Community, ElectricBoiler, Prices, RoomHeaters, Storage
from optimizers.validation import plannable
from tests.optimizers.cases import hostile, ordinary

STEPS = 32
HOMES = Building("homes", 60.0, 4.0, 20.0, emitter_kw=400.0, low_c=19.0, high_c=24.0)
PLAIN = Community("plain", 0.25, Prices(np.full(STEPS, 0.5)), np.full(STEPS, -5.0), [HOMES], [ElectricBoiler("boiler", 200.0)])


@pytest.mark.parametrize("seed", range(30))
def test_every_slack_of_a_hostile_day_has_a_sentence_that_covers_it(seed: int) -> None:
    community = plannable(hostile(seed))
    plan = Dispatcher(seconds=1).plan(community)
    told = shortfalls(plan, community)
    for name, amount in plan.slacks.items():
        mine = [s for s in told if s.name == name]
        if name.startswith("short:"):
            assert len(mine) == (amount[0] > TOLERANCE)
            continue
        covered = np.zeros(community.steps, bool)
        for s in mine:
            covered[s.first:s.last + 1] = True
            assert s.worst == pytest.approx(amount[s.first:s.last + 1].max())
        assert (covered == (amount > TOLERANCE)).all()
        assert sum(s.yuan for s in mine) == pytest.approx(plan.cost[name], rel=1e-2, abs=0.05)
    for s in told:
        assert s.kind in KINDS
        assert s.causes
        assert all(c in CAUSES for c in s.causes)
        assert s.zh.endswith("。")
        assert "Way out: " in s.en
        assert "{" not in s.zh + s.en
    assert [s.yuan for s in told] == sorted((s.yuan for s in told), reverse=True)


CASES: list[tuple[str, str, dict[str, object]]] = [
    ("floor", "sources", {"sources": [ElectricBoiler("boiler", 60.0)]}),
    ("floor", "reduced", {"sources": [ElectricBoiler("boiler", 200.0, available=0.3)]}),
    ("floor", "no_source", {"sources": [ElectricBoiler("boiler", 200.0, available=0.0)]}),
    ("floor", "emitter", {"buildings": [dataclasses.replace(HOMES, emitter_kw=50.0)]}),
    ("floor", "transformer", {"transformer_kw": 50.0}),
    ("floor", "started", {"buildings": [dataclasses.replace(HOMES, room_c=14.0)]}),
    ("shed", "base", {"transformer_kw": 50.0, "base_kw": 60.0}),
    ("over", "base", {"contract_kw": 50.0, "base_kw": 60.0}),
    ("over", "heat", {"contract_kw": 50.0}),
    ("above", "owed", {"limit_kw": np.full(STEPS, 10.0), "rooms": [RoomHeaters("panels", 40, 1.0, "homes", 0.5)]}),
    ("hot", "gains", {"buildings": [dataclasses.replace(HOMES, gains_kw=150.0)]}),
    ("hot", "started", {"buildings": [dataclasses.replace(HOMES, room_c=27.0)]}),
    ("cold", "price", {"prices": Prices(np.full(STEPS, 50.0), comfort=0.01)}),
    ("reserve", "started", {"stores": [Storage("tank", 300.0, 0.0, 100.0, 100.0, reserve_kwh=50.0)]}),
    ("short_store", "sources", {"sources": [ElectricBoiler("boiler", 101.0)], "stores": [Storage("tank", 300.0, 0.0, 100.0, 100.0, target_kwh=300.0)]}),
    ("short_building", "sources", {"sources": [ElectricBoiler("boiler", 60.0)]})]


@pytest.mark.parametrize(("kind", "cause", "change"), CASES, ids=[f"{k}-{c}" for k, c, _ in CASES])
def test_the_cause_named_is_the_one_that_was_built_in(kind: str, cause: str, change: dict[str, object]) -> None:
    community = plannable(dataclasses.replace(PLAIN, **change))  # type: ignore[arg-type]
    told = [s for s in shortfalls(Dispatcher().plan(community), community) if s.kind == kind]
    assert told
    assert any(cause in s.causes for s in told), told[0].en


def test_a_plan_that_holds_everything_has_nothing_to_tell() -> None:
    community = plannable(PLAIN)
    assert shortfalls(Dispatcher().plan(community), community) == []


def test_times_are_named_as_the_reader_asks() -> None:
    community = plannable(dataclasses.replace(PLAIN, transformer_kw=50.0, base_kw=np.where(np.arange(STEPS) < 8, 60.0, 0.0)))
    shed = next(s for s in shortfalls(Dispatcher().plan(community), community, clock=lambda h: f"{(22 + h) % 24:05.2f}") if s.kind == "shed")
    assert (shed.first, shed.last) == (0, 7)
    assert "from 22.00 to 00.00" in shed.en
    assert shed.total == pytest.approx(shed.worst * 2, rel=0.5)


@pytest.mark.parametrize("read", [reasons, what_if, shortfalls])
def test_what_is_no_plan_of_this_community_is_refused(read: Any) -> None:
    community = plannable(ordinary(3, 24))
    plan = Dispatcher().plan(community)
    assert read(plan, community) is not None
    for wrong in (None, "plan", dataclasses.replace(plan, slacks={"zzz:q": np.zeros(24)}), dataclasses.replace(plan, slacks={"cold:homes": ["a"]}), dataclasses.replace(plan, grid_kw=None), Dispatcher().plan(ordinary(3, 12))):
        with pytest.raises(OptimizerError):
            read(wrong, community)
    for other in (None, "community", ordinary(3, 12), dataclasses.replace(community, buildings=[dataclasses.replace(community.buildings[0], name="others")])):
        with pytest.raises(OptimizerError):
            read(plan, other)
    as_lists = dataclasses.replace(plan, grid_kw=plan.grid_kw.tolist(), heat_price=plan.heat_price.tolist(), slacks={name: amount.tolist() for name, amount in plan.slacks.items()})
    assert read(as_lists, community) == read(plan, community)


def test_a_clock_or_a_tolerance_that_is_none_is_refused() -> None:
    community = plannable(ordinary(3, 24))
    plan = Dispatcher().plan(community)
    for wrong in ({"clock": "now"}, {"tolerance": "small"}, {"tolerance": float("nan")}):
        with pytest.raises(InputError):
            shortfalls(plan, community, **wrong)
