"""Re-planning from a running system: what is read, kept and sent; what residents chose is never the plan's own wish read back; failures are said and the last plan goes on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.loop.plant import Plant
from cloud.core.ports import Latest, ProjectInfo, Series
from cloud.functions.economic_operation.commitments import Commitment
from cloud.functions.economic_operation.rolling import Rolling
from cloud.functions.economic_operation.service import EconomicService
from cloud.ledger import Ledger
from protos.arbitration import Authority
from protos.points import BY_ID, point

NOW = 1_795_000_000_000
HOUR = 3_600_000
PROJECT = ProjectInfo(7, "P", "", "", "bj", 40.0, 116.0, "Asia/Shanghai", 2650.0, "boiler_storage")
SETPOINT = point("room_temp_setpoint").id


class Store:
    """A historian over a plant that stands still."""

    def __init__(self, plant: Plant) -> None:
        self.plant, self.age_ms, self.gone = plant, 0, False

    async def latest(self, project_id: int, device_ids: Any = None) -> list[Latest]:
        if self.gone:
            return []
        return [Latest(d.id, p, NOW - self.age_ms, v, 0) for d in self.plant.devices for p in d.points if np.isfinite(v := self.plant.read(d.id, BY_ID[p].key))]

    async def history(self, project_id: int, series: Any, start_ms: int, end_ms: int, *, resolution_s: int | None = None, max_points: int = 2000) -> list[Series]:
        step = (resolution_s or 900) * 1000
        at = [] if self.gone else list(range(start_ms // step * step, end_ms, step))[-48:]
        return [Series(d, p, step // 1000, at, [-4.0 if BY_ID[p].key == "outdoor_temp" else 20.0] * len(at), [], [], [], []) for d, p in series]


class Sender:
    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def plan(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        self.bodies.append(body)
        return []


@dataclasses.dataclass
class House:
    plant: Plant
    store: Store
    sender: Sender
    service: EconomicService
    rolling: Rolling

    async def plan(self, mode: str = "act", planned: frozenset[int] = frozenset(), held: tuple[Commitment, ...] = (), **flags: bool) -> dict[str, Any]:
        setting = self.service.setting(7)
        if setting.mode != mode:
            setting = self.service.change(7, {"mode": mode, "version": setting.version}, "Li")
        heard = {d.id: {"locked_out": False, "local_manual": False, "planned": planned, **flags} for d in self.plant.devices}
        return await self.rolling.plan(PROJECT, self.plant.devices, heard, setting, held)


@pytest.fixture
def house(ledger: Ledger) -> House:
    plant = Plant("boiler_storage")
    plant.community.publish()
    store, sender, service = Store(plant), Sender(), EconomicService(ledger, lambda: NOW)
    return House(plant, store, sender, service, Rolling(service, store, sender, None, lambda: NOW))  # type: ignore[arg-type]


async def test_a_plan_is_made_kept_and_sent(house: House) -> None:
    assert (await house.plan())["outcome"] == "planned"
    (body,) = house.sender.bodies
    assert body["start_ms"] % 900_000 == 0
    assert body["start_ms"] <= NOW < body["start_ms"] + 900_000
    kept = house.service.newest(7)
    assert kept is not None
    assert (kept["sent"], kept["steps"], kept["summary"]["weather"]["source"]) == (True, 192, "site sensor")
    assert len(kept["document"]["reasons"]) == len(kept["document"]["price"]) == 192
    assert {t["point_id"] for t in body["tracks"]} >= {SETPOINT, point("stage_command").id, point("enable_command").id}
    assert all(len(t["value"]) == 192 for t in body["tracks"])


async def test_advice_is_not_sent(house: House) -> None:
    await house.plan("advise")
    assert house.sender.bodies == []
    kept = house.service.newest(7)
    assert kept is not None
    assert kept["sent"] is False


async def test_residents_wishes_are_not_ratcheted_by_the_plan_reading_itself_back(house: House) -> None:
    await house.plan()
    first = {t["device_id"]: max(t["value"]) for t in house.sender.bodies[-1]["tracks"] if t["point_id"] == SETPOINT}
    for k in range(4):
        for device, value in first.items():
            house.plant.write(device, SETPOINT, value)
        house.plant.community.publish()
        fresh = Rolling(house.service, house.store, house.sender, None, lambda: NOW) if k == 2 else house.rolling  # type: ignore[arg-type]
        house.rolling = fresh
        await house.plan(planned=frozenset({SETPOINT}))
        again = {t["device_id"]: max(t["value"]) for t in house.sender.bodies[-1]["tracks"] if t["point_id"] == SETPOINT}
        assert again == first


async def test_switching_off_puts_back_what_residents_chose(house: House) -> None:
    own = {d.id: house.plant.read(d.id, "room_temp_setpoint") for d in house.plant.devices if SETPOINT in d.points}
    await house.plan()
    await house.rolling.release(7)
    tracks = house.sender.bodies[-1]["tracks"]
    assert {t["device_id"]: t["value"] for t in tracks} == {d: [own[d], own[d]] for d in (t["device_id"] for t in tracks)}
    assert len(tracks) == 18


async def test_a_device_under_lockout_is_not_planned_with(house: House) -> None:
    await house.plan(locked_out=True)
    assert house.service.newest(7)["code"] == "E-ECO-NOTHING"  # type: ignore[index]
    assert house.sender.bodies == []


async def test_what_cannot_be_planned_is_said_and_the_last_plan_goes_on(house: House) -> None:
    assert (await house.plan())["outcome"] == "planned"
    house.store.gone = True
    found = await house.plan()
    assert found["outcome"] == "shifted"
    assert found["code"] == "E-WEATHER"
    kept = house.service.newest(7)
    assert kept is not None
    assert kept["summary"]["zh"]
    assert kept["summary"]["goes_on"] == house.service.newest(7, planned=True)["id"]  # type: ignore[index]
    assert len(house.sender.bodies) == 1


async def test_without_any_plan_before_it_has_failed(house: House) -> None:
    house.store.gone = True
    assert (await house.plan())["outcome"] == "failed"


async def test_values_of_yesterday_are_not_the_present(house: House) -> None:
    house.store.age_ms = 86_400_000
    await house.plan()
    kept = house.service.newest(7)
    assert kept is not None
    assert not kept["document"]["store_kwh"], "a tank nobody has read is not planned with"


async def test_what_a_project_is_held_to_limits_its_plan_and_its_box(house: House) -> None:
    start = NOW // 900_000 * 900_000
    held = (Commitment("E-1", Authority.GRID_ORDER, ((start, start + 4 * 900_000, 120.0),)),)
    await house.plan(held=held)
    (body,) = house.sender.bodies
    assert body["grid_cap_kw"][:5] == [120.0] * 4 + [None]
    kept = house.service.newest(7)
    assert kept is not None
    assert max(kept["document"]["grid_kw"][:4]) <= 120.5
    assert len(kept["document"]["plain_kw"]) == 192, "what it would have done without is kept beside it"
    house.sender.bodies.clear()
    await house.rolling.cap(PROJECT, house.plant.devices, held)
    await house.rolling.cap(PROJECT, house.plant.devices, ())
    assert [b["grid_cap_kw"] for b in house.sender.bodies] == [[120.0] * 4, [None]], "by its box alone, and let go"


async def test_a_source_somebody_holds_for_an_hour_is_missed_for_an_hour_only(house: House) -> None:
    boilers = [d.id for d in house.plant.devices if d.profile == "electric_boiler"]
    setting = house.service.change(7, {"mode": "act", "version": house.service.setting(7).version}, "Li")
    plain = {"locked_out": False, "local_manual": False, "planned": frozenset[int](), "held_until_ms": 0}
    heard = {d.id: plain | ({"locked_out": True, "held_until_ms": NOW + HOUR} if d.id in boilers else {}) for d in house.plant.devices}
    found = await house.rolling.plan(PROJECT, house.plant.devices, heard, setting)
    assert found["outcome"] == "planned"
    document = house.service.newest(7)["document"]  # type: ignore[index]
    used = np.sum([document["sources_kw"][name] for name in document["sources_kw"]], axis=0)
    assert len(document["sources_kw"]) == len(boilers)
    assert used[:4].max() == 0
    assert used[5:].max() > 0
    assert found["cold_k"] < 0.5
