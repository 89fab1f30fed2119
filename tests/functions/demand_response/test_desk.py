"""The desk from an order to statements, on a clock of its own: allocated, followed by the minute, allocated anew when a project does not deliver, settled to the fen, verified from stored data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.core.ports import DeviceInfo, PointSetting, ProjectInfo, Series
from cloud.functions.demand_response.allocation import Offer, allocate
from cloud.functions.demand_response.desk import LAG_MS, Desk, recomputed
from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.resources import metered
from cloud.functions.demand_response.service import ResponseService
from cloud.ledger import Ledger
from protos.arbitration import Authority
from protos.points import point

NOW = 1_795_000_200_000 // 60_000 * 60_000
MINUTE = 60_000
POWER = point("active_power").id


def project(number: int) -> ProjectInfo:
    return ProjectInfo(number, f"P{number}", f"P{number}", f"P{number}", "bj", 40.0, 116.0, "Asia/Shanghai", 1000.0, "boiler_storage")


class Directory:
    def __init__(self, count: int) -> None:
        self._projects = {n: project(n) for n in range(1, count + 1)}

    def projects(self) -> list[ProjectInfo]:
        return list(self._projects.values())

    def project(self, number: int) -> ProjectInfo | None:
        return self._projects.get(number)

    def devices(self, number: int) -> list[DeviceInfo]:
        return [DeviceInfo(number * 10, number, "a", "TR", "", "", "t", "transformer", None, "", 500.0, {}, {POWER: PointSetting(POWER, 0.0, 1e4, 0.1, 60.0)})]


@dataclass
class Meters:
    """A historian over meters whose draw is a rule of project and minute."""

    draw: Callable[[int, int], float]
    clock: Clock
    silent: set[int] = field(default_factory=set)

    async def history(self, project_id: int, series: Any, start_ms: int, end_ms: int, *, resolution_s: int | None = None, max_points: int = 2000) -> list[Series]:
        step = (resolution_s or 60) * 1000
        at = [] if project_id in self.silent else list(range(-(-start_ms // step) * step, min(end_ms, self.clock.ms), step))
        return [Series(d, p, step // 1000, at, [self.draw(project_id, t) for t in at], [], [], [], []) for d, p in series]


@dataclass
class Clock:
    ms: int = NOW

    def __call__(self) -> int:
        return self.ms


@dataclass
class House:
    service: ResponseService
    records: Records
    desk: Desk
    meters: Meters
    clock: Clock
    directory: Directory
    told: list[dict[str, Any]]

    async def run(self, minutes: float, step_s: int = 20) -> None:
        for _ in range(round(minutes * 60 / step_s)):
            self.clock.ms += step_s * 1000
            await self.desk.tick()

    async def until(self, event: int, state: str, minutes: int = 200) -> dict[str, Any]:
        for _ in range(minutes * 3):
            found = self.service.event(event)
            assert found is not None
            if found["state"] == state:
                return found
            await self.run(1 / 3)
        raise AssertionError(f"{found['state']} ({found['why']}), not {state}")

    def submit(self, **change: Any) -> dict[str, Any]:
        return self.service.submit({"event_id": "E-1", "version": 1, "kind": "order", "start_ms": self.clock.ms + 5 * MINUTE, "end_ms": self.clock.ms + 35 * MINUTE, "kw": 120.0, "ramp_s": 120, **change}, "grid", self.directory.projects())


def house(ledger: Ledger, count: int = 3, base: float = 100.0, lazy: frozenset[int] = frozenset()) -> House:
    clock, directory, told = Clock(), Directory(count), list[dict[str, Any]]()
    service, records = ResponseService(ledger, clock), Records(ledger)

    def draw(number: int, at_ms: int) -> float:
        """A plant that does what it is held to, a little below its cap, unless it is lazy."""
        kw = base
        for held in service.commitments():
            if held["project_id"] == number and number not in lazy and not held["out"]:
                kw = min([kw, *(0.98 * cap for a, b, cap, _ in held["segments"] if a <= at_ms < b)])
        return kw if at_ms >= NOW else base

    seen: dict[tuple[int, int], float] = {}
    meters = Meters(lambda n, t: seen.setdefault((n, t), draw(n, t)), clock)

    async def tell(event: dict[str, Any]) -> None:
        told.append(event)

    for p in directory.projects():
        service.keep_resource(p.id, metered(base, 0.0, NOW))
        service.change_strategy(p.id, {"participates": True, "joins": True, "depth": 1.0, "longest_s": 14_400, "rebound_s": 600}, "Li")
    return House(service, records, Desk(service, records, directory, meters, clock, tell), meters, clock, directory, told)  # type: ignore[arg-type]


async def test_an_order_is_allocated_followed_evaluated_and_never_paid(ledger: Ledger) -> None:
    h = house(ledger)
    event = h.submit()
    await h.desk.tick()
    held = h.service.commitments(event["id"])
    assert sum(c["kw"] for c in held) == pytest.approx(120.0, abs=0.5)
    assert all(15.0 <= c["kw"] <= 65.0 for c in held), "equals share alike, to a quarter of what they can"
    assert {c["authority"] for c in held} == {int(Authority.GRID_ORDER)}
    commitments = await h.desk.commitments()
    assert set(commitments) == {1, 2, 3}
    done = await h.until(event["id"], "settled")
    minutes = h.records.minutes(event["id"])
    assert [m["at_ms"] for m in minutes] == list(range(event["start_ms"], event["end_ms"] + 10 * MINUTE, MINUTE)), "every minute once, rebound included"
    assert all(m["metered_kw"] == pytest.approx(180.0, abs=1.0) for m in minutes[:30])
    evaluation = done["outcome"]["evaluation"]
    assert evaluation["ratio"] == pytest.approx(1.0, abs=0.02)
    assert evaluation["total_micro"] == 0
    assert await h.desk.commitments() == {}
    assert [s["happening"] for s in h.service.steps(event["id"])] == ["publish", "confirm", "start", "recover", "evaluate", "settle"]


async def test_who_does_not_deliver_is_made_up_for_by_others(ledger: Ledger) -> None:
    h = house(ledger, lazy=frozenset({2}))
    event = h.submit()
    await h.desk.tick()
    promised = next(c["segments"] for c in h.service.commitments(event["id"]) if c["project_id"] == 2)
    await h.until(event["id"], "active")
    await h.run(12)
    held = {c["project_id"]: c for c in h.service.commitments(event["id"])}
    assert held[2]["kw"] == pytest.approx(0.0, abs=0.5), "counted for what it does"
    assert held[2]["segments"] == promised, "and still held to what it promised"
    assert held[1]["kw"] + held[3]["kw"] == pytest.approx(120.0, abs=1.0)
    last = h.records.minutes(event["id"])[-1]
    assert last["baseline_kw"] - last["metered_kw"] == pytest.approx(120.0, abs=2.0)
    assert any(s["happening"] == "reallocate" for s in h.service.steps(event["id"]))


async def test_security_load_and_frost_minimum_are_never_cut(ledger: Ledger) -> None:
    h = house(ledger)
    h.service.change_strategy(1, {"security_kw": 70.0}, "Li")
    h.service.change_strategy(2, {"frost_kw": 95.0}, "Li")
    event = h.submit(kw=135.0)
    await h.desk.tick()
    for held in h.service.commitments(event["id"]):
        floor = {1: 70.0, 2: 95.0}.get(held["project_id"], 0.0)
        assert all(cap >= floor - 0.01 for _, _, cap, _ in held["segments"])


async def test_a_market_event_is_bid_cleared_paid_to_the_fen_and_verified(ledger: Ledger) -> None:
    h = house(ledger)
    h.service.change_strategy(3, {"joins": False}, "Li")
    event = h.submit(kind="market", kw=150.0, bid_until_ms=h.clock.ms + 4 * MINUTE, start_ms=h.clock.ms + 10 * MINUTE, end_ms=h.clock.ms + 25 * MINUTE, micro_kwh=1_234_567, micro_kw=33_333)
    await h.run(1)
    assert h.service.event(event["id"])["state"] == "invited", "who has not answered is waited for"  # type: ignore[index]
    h.service.choose(event["id"], 3, "decline", 1.0, "Wang")
    bid = await h.until(event["id"], "bid", 3)
    assert bid["outcome"]["bid"]["kw"] == pytest.approx(150.0)
    h.service.clear("E-1", "grid", 100.0, 1_111_111)
    await h.run(1)
    assert {c["project_id"] for c in h.service.commitments(event["id"])} == {1, 2}
    done = await h.until(event["id"], "settled")
    statements, total = h.records.statements(event=event["id"])
    assert total == 4
    assert {s["participant"] for s in statements} == {"owner", "operator"}
    assert all(m % 10_000 == 0 for s in statements for m in s["lines"].values()), "whole fen"
    assert sum(s["total_micro"] for s in statements) == done["outcome"]["evaluation"]["total_micro"] > 0
    for number in (1, 2):
        mine = [s for s in statements if s["project_id"] == number]
        assert sum(s["total_micro"] for s in mine) == mine[0]["basis"]["total_micro"]
        assert mine[0]["basis"]["paid_kwh"] == "12.500", "50 kW for a quarter of an hour"
    held = next(c for c in h.service.commitments(event["id"]) if c["project_id"] == 1)
    again = await recomputed(h.service, h.directory, h.meters, done, held, 0.8)  # type: ignore[arg-type]
    assert again is not None
    assert again["lines"] == {s["participant"]: s["lines"] for s in statements if s["project_id"] == 1}


async def test_a_stronger_event_goes_first_and_the_weaker_takes_what_is_left(ledger: Ledger) -> None:
    h = house(ledger, count=1)
    order = h.submit(kw=60.0)
    await h.desk.tick()
    weaker = h.submit(event_id="E-2", kw=30.0, priority=9)
    await h.desk.tick()
    first, second = h.service.commitments(order["id"])[0], h.service.commitments(weaker["id"])[0]
    assert {cap for _, _, cap, _ in first["segments"]} == {round(40 / 0.98, 2)}
    assert {cap for _, _, cap, _ in second["segments"]} == {round((40 / 0.98 - 30) / 0.98, 2)}, "below what the stronger one left"
    await h.until(weaker["id"], "settled")
    assert h.records.statements(event=weaker["id"])[0][0]["basis"]["delivered_kwh"] == pytest.approx(15.0, abs=0.2), "what the stronger one cut is not counted twice"


async def test_a_cancelled_event_lets_go_at_once_and_an_amended_one_is_allocated_anew(ledger: Ledger) -> None:
    h = house(ledger)
    event = h.submit()
    await h.until(event["id"], "active")
    h.submit(version=2, start_ms=event["start_ms"], end_ms=event["end_ms"] + 15 * MINUTE, kw=60.0)
    await h.run(1)
    amended = h.service.event(event["id"])
    assert amended is not None
    assert (amended["state"], amended["committed_kw"]) == ("active", pytest.approx(60.0, abs=0.5))
    h.service.cancel("E-1", "grid", "not needed")
    assert await h.desk.commitments() == {}


async def test_a_silent_meter_delivers_nothing(ledger: Ledger) -> None:
    h = house(ledger)
    event = h.submit()
    await h.until(event["id"], "active")
    h.meters.silent.add(1)
    h.clock.ms += 11 * MINUTE + LAG_MS
    await h.until(event["id"], "settled")
    basis = next(s["basis"] for s in h.records.statements(event=event["id"])[0] if s["project_id"] == 1)
    assert basis["gaps"] == 30
    assert basis["delivered_kwh"] == 0.0


def test_staged_sources_are_given_caps_they_can_stand_at() -> None:
    """All but as many projects as there are segments hold a whole stage just below their cap: what is asked for is what comes."""
    rng = np.random.default_rng(5)
    offers = [Offer(n, np.full(2, kw), 0.8 * kw, 0.0, float(rng.uniform(0, 1)), 30.0, 5.0) for n, kw in enumerate(rng.uniform(60, 400, 200))]
    asked = 0.5 * sum(o.down_kw for o in offers)
    found = allocate(offers, np.full(2, asked), np.array([0.25, 0.25]))
    came = 0.0
    for o in offers:
        cap = found.cap_kw.get(o.project_id)
        if cap is None:
            continue
        stands = o.other_kw + 30.0 * np.floor((cap * 0.98 - o.other_kw) / 30.0 + 1e-9)  # as the box does
        came += float(o.base_kw[0] - min(stands[0], o.base_kw[0]))
        assert o.base_kw[0] - stands[0] <= o.down_kw + 30.0
    assert came == pytest.approx(asked, rel=0.01)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 1), st.floats(0, 1), st.floats(0, 3), st.sampled_from([0.0, 30.0])), min_size=1, max_size=12), st.floats(0, 1.3))
def test_no_split_asks_more_of_a_project_than_it_offers(rows: list[tuple[float, float, float, float, float]], share: float) -> None:
    offers = [Offer(n, np.full(3, base), down * base, max(down, forced) * base, yuan, step) for n, (base, down, forced, yuan, step) in enumerate(rows)]
    able = sum(o.most_kw for o in offers)
    found = allocate(offers, np.full(3, share * able), np.full(3, 0.25))
    for o in offers:
        assert found.kw.get(o.project_id, 0.0) <= o.most_kw + 0.02
    assert found.total_kw[0] + found.short_kw[0] >= share * able - 0.1
    if all(o.step_kw == 0 for o in offers) and share <= 1:
        assert found.short_kw.max() <= 0.05 + 1e-3 * able
