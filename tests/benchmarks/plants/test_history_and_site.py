"""Seven days of history at its intervals, the site and register lists, and time that keeps up with the clock."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.plants import site
from benchmarks.plants.communities import COMMUNITIES
from benchmarks.plants.history import DAYS
from benchmarks.plants.template import load
from protos.points import BY_KEY
from tests.benchmarks.plants.support import START_S, Clock, advance, http, served, warm


def test_seven_days_of_all_plants_stay_within_the_backfill_budget() -> None:
    total = 0
    for key in COMMUNITIES:
        plant = warm(key, days=DAYS)
        end = round(plant.community.now_s * 1000)
        rows = Counter()
        for _, point, at_ms, _ in plant.history(0, end + 1):
            rows[point] += 1
            assert at_ms % 300_000 == 0
        per_meter = sum(1 for d in plant.community.image.devices if "active_power" in d.points and d.template != "room_heater_modbus")
        if per_meter and key != "decentralised":
            assert rows["active_power"] >= per_meter * DAYS * 286
        total += sum(rows.values())
    assert 800_000 < total <= 1_500_000


async def test_history_pages_give_each_row_once_in_order() -> None:
    plant = warm("boiler_storage", days=1)
    end = round(plant.community.now_s * 1000)
    whole = sorted(plant.history(0, end))
    assert len({(d, p, t) for d, p, t, _ in whole}) == len(whole)
    async with served(plant) as running:
        got, start, pages = [], 0, 0
        while start is not None:
            status, page = await http(running, f"/history?start={start}&end={end}&limit=3000")
            assert status == 200
            got += [(s["device"], s["point"], t, v) for s in page["series"] for t, v in zip(s["at_ms"], s["value"], strict=True)]
            assert page["rows"] <= 4000
            start, pages = page["next"], pages + 1
        assert pages > 5
    assert sorted(got) == whole


def test_history_values_are_what_the_registers_show() -> None:
    plant = warm("boiler_storage", days=0.5)
    advance(plant, 900 - plant.community.now_s % 900, dt=60.0)
    plant.history_ring.record(plant.community.now_s)
    at = round(plant.community.now_s * 1000)
    rows = {(d, p): v for d, p, t, v in plant.history(at, at + 1)}
    assert rows["QH-WS", "outdoor_temp"] == round(plant.community.image.get("QH-WS", "outdoor_temp"), 1)
    assert rows["QH-EM", "energy_import"] == pytest.approx(plant.community.image.get("QH-EM", "energy_import"))
    assert len(rows) > 200


def test_states_are_kept_when_they_change_and_hourly() -> None:
    plant = warm("boiler_storage", days=2)
    end = round(plant.community.now_s * 1000)
    manual = [t for d, p, t, _ in plant.history(0, end) if (d, p) == ("QH-B1", "local_manual")]
    run = [(t, v) for d, p, t, v in plant.history(0, end) if (d, p) == ("QH-B1", "run_state")]
    assert 47 <= len(manual) <= 50
    assert {v for _, v in run} == {0.0, 1.0}


def test_the_plant_keeps_up_with_the_clock_and_can_run_faster() -> None:
    clock = Clock()
    plant = warm("metered_district", clock=clock)
    plant.begin()
    clock.now += 63
    plant.tick()
    assert 0 <= clock.now - plant.community.now_s < 5
    fast = warm("metered_district", clock=clock, speed=120.0)
    fast.begin()
    before = fast.community.now_s
    clock.now += 10
    fast.tick()
    assert fast.community.now_s - before == 1200


@pytest.mark.parametrize("key", COMMUNITIES)
def test_devices_to_register_are_complete_and_parents_come_first(key: str) -> None:
    seen: set[str] = set()
    facts = site.facts(key)
    assert 39 < facts["latitude"] < 41.5 and 114 < facts["longitude"] < 118
    assert facts["heated_area_m2"] > 2000
    households = 0
    for row in site.devices(key):
        assert row["parent"] is None or row["parent"] in seen
        assert row["code"] not in seen
        seen.add(row["code"])
        assert row["profile"] == load(row["template"]).profile
        assert any("\u4e00" <= c <= "\u9fff" for c in row["name_zh"]) and row["name_en"].isascii()
        assert all(p in BY_KEY for p in row["absent_points"])
        households += "heated_area_m2" in row["attributes"]
    assert households >= 20


def test_corner_top_and_end_of_line_households_exist_and_sensors_are_few() -> None:
    for key in ("boiler_storage", "heat_pump"):
        rows = [r["attributes"] for r in site.devices(key) if r["template"] == "onoff_valve_modbus"]
        for flag in ("corner", "top", "end_of_line"):
            assert 0 < sum(a[flag] for a in rows) < len(rows)
        assert 0.4 < sum(a["has_sensor"] for a in rows) / len(rows) < 0.7


def test_site_file_names_every_device_once_with_its_ratio() -> None:
    ids = {r["code"]: 1000 + k for k, r in enumerate(site.devices("decentralised"))}
    config = site.site("decentralised", device_ids=ids, project_id=7, agent_id="edge-1", partitions=4, state_dir="s", credentials_dir="c",
                       uplink={"kind": "grpc", "address": "127.0.0.1:1"}, port_base=20_000)
    assert sorted(d["id"] for d in config["devices"]) == sorted(ids.values())
    assert {c["port"] for c in config["channels"]} == {20_000, 20_001, 20_003, 20_004, 20_005}
    assert next(d for d in config["devices"] if d["id"] == ids["SL-EM0"])["ct_ratio"] == 60.0
    places = [(d["channel"], d.get("unit"), d.get("address")) for d in config["devices"]]
    assert len(set(places)) == len(places)


def test_warm_up_is_quick() -> None:
    import time
    begun = time.process_time()
    warm("heat_pump", days=DAYS)
    assert time.process_time() - begun < 10
    assert START_S > 0


def test_history_and_live_registers_meet_without_a_step_back() -> None:
    plant = warm("boiler_storage", days=0.5)
    last: dict[tuple[str, str], float] = {}
    for device, point, _, value in plant.history(0, 1 << 52):
        if BY_KEY[point].kind == "counter":
            assert value >= last.get((device, point), 0.0)
            last[device, point] = value
    now = plant.history_ring.quantised()
    image = plant.community.image
    for (code, point), value in last.items():
        assert now[image.at(code, point)] >= value
