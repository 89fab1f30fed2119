"""Laws of the energy flow: what leaves a box is what was measured, nothing is negative, sums of projects are sums."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.core.ports import DeviceInfo, Latest, PointSetting, ProjectInfo
from cloud.functions.monitoring.flow import WATER_KWH_PER_M3K, energy_flow
from cloud.functions.monitoring.overview import merge_flows
from cloud.functions.monitoring.rooms import rooms
from protos.points import BY_KEY

NOW = 1_795_500_000_000
kilowatts = st.floats(0, 5000).map(lambda v: round(v, 1))


def device(k: int, profile: str, keys: tuple[str, ...], parent: int | None = None, **attributes: object) -> DeviceInfo:
    points = {BY_KEY[key].id: PointSetting(BY_KEY[key].id, -1e9, 1e9, 0.1, 60.0) for key in keys}
    return DeviceInfo(k, 1, "a", f"D{k}", "d", "d", "t@1", profile, parent, "", 0.0, attributes, points)


def now(k: int, key: str, value: float, age_s: float = 1.0, quality: int = 0) -> Latest:
    return Latest(k, BY_KEY[key].id, NOW - int(age_s * 1000), value, quality)


METER = device(1, "electricity_meter", ("active_power",))
BOILER = device(2, "electric_boiler", ("active_power", "flow", "leaving_temp", "entering_temp"))
PUMP = device(3, "circulation_pump", ("active_power",))
TANK = device(4, "heat_storage", ("charge_power", "discharge_power", "soc"))
HEAT = device(5, "heat_meter", ("heat_power",))


@given(boiler=kilowatts, pump=kilowatts, rest=kilowatts)
def test_the_grid_gives_exactly_what_it_is_measured_to_give(boiler: float, pump: float, rest: float) -> None:
    flow = energy_flow([METER, BOILER, PUMP], [now(1, "active_power", boiler + pump + rest), now(2, "active_power", boiler), now(3, "active_power", pump)], NOW)
    out = sum(link["kw"] for link in flow["links"] if link["source"] == "grid")
    total = boiler + pump + rest
    assert out == pytest.approx(total, abs=0.01)
    assert all(link["kw"] > 0 for link in flow["links"])


@given(charge=kilowatts, discharge=kilowatts, water=st.floats(0.1, 200), rise=st.floats(0.1, 40))
def test_heat_out_of_a_boiler_is_split_between_tank_and_house_without_loss(charge: float, discharge: float, water: float, rise: float) -> None:
    latest = [now(2, "active_power", 100), now(2, "flow", water), now(2, "leaving_temp", 40 + rise), now(2, "entering_temp", 40.0),
              now(4, "charge_power", charge), now(4, "discharge_power", discharge), now(5, "heat_power", 1.0)]
    flow = energy_flow([BOILER, TANK, HEAT], latest, NOW)
    heat = water * rise * WATER_KWH_PER_M3K
    out = sum(link["kw"] for link in flow["links"] if link["source"] == "electric_boiler")
    assert out == pytest.approx(heat, abs=0.01)
    from_tank = sum(link["kw"] for link in flow["links"] if link["source"] == "storage")
    assert from_tank == pytest.approx(max(0.0, discharge - charge), abs=0.01)


@pytest.mark.parametrize(("age_s", "quality"), [(121.0, 0), (1.0, 2), (1.0, 3)])
def test_a_stale_or_bad_value_is_absent_not_zero(age_s: float, quality: int) -> None:
    node = energy_flow([METER], [now(1, "active_power", 50.0, age_s, quality)], NOW)["nodes"][0]
    assert (node["kw"], node["measured"], node["of"]) == (None, 0, 1)


def test_what_is_left_is_named_only_when_every_consumer_is_measured() -> None:
    latest = [now(1, "active_power", 100.0), now(2, "active_power", 60.0)]
    assert "other" not in {n["id"] for n in energy_flow([METER, BOILER, PUMP], latest, NOW)["nodes"]}
    assert "other" in {n["id"] for n in energy_flow([METER, BOILER, PUMP], [*latest, now(3, "active_power", 5.0)], NOW)["nodes"]}


def test_a_meter_below_a_meter_is_not_counted_twice() -> None:
    below = device(9, "electricity_meter", ("active_power",), parent=1)
    transformer = device(8, "transformer", ("active_power",))
    flow = energy_flow([METER, below, transformer], [now(1, "active_power", 100.0), now(9, "active_power", 40.0), now(8, "active_power", 101.0)], NOW)
    assert flow["nodes"][0]["kw"] == 100.0


@given(st.lists(kilowatts, min_size=1, max_size=6))
def test_the_picture_of_many_projects_is_the_sum_of_theirs(powers: list[float]) -> None:
    merged = merge_flows([energy_flow([METER, PUMP], [now(1, "active_power", p), now(3, "active_power", p)], NOW) for p in powers])
    grid = next(n for n in merged["nodes"] if n["id"] == "grid")
    assert grid["kw"] == pytest.approx(sum(powers), abs=0.01 * len(powers)) and grid["of"] == grid["measured"] == len(powers)


@given(st.lists(st.one_of(st.none(), st.floats(5, 30)), min_size=1, max_size=30))
def test_only_measured_rooms_are_judged_and_the_coldest_is_the_coldest(values: list[float | None]) -> None:
    project = ProjectInfo(1, "p", "p", "p", "r", 40, 116, "Asia/Shanghai", 100, "boiler_storage")
    devices = [device(k, "onoff_valve_controller", ("room_temp",) if v is not None else ("valve_state",)) for k, v in enumerate(values)]
    strip = rooms(project, devices, [now(k, "room_temp", v) for k, v in enumerate(values) if v is not None], NOW)
    true = [v for v in values if v is not None]
    assert (strip["total"], strip["measured"], strip["kept"]) == (len(values), len(true), sum(v >= 18 for v in true))
    assert strip["coldest"] == (min(true) if true else None)


PV = device(6, "pv", ("active_power",))
HEAT_PUMP = device(7, "heat_pump", ("active_power", "heating_capacity"))
SITE = (METER, BOILER, PUMP, TANK, HEAT, PV, HEAT_PUMP)
AMOUNTS = ("active_power", "flow", "leaving_temp", "entering_temp", "charge_power", "discharge_power", "heat_power", "heating_capacity")


@st.composite
def pictures(draw: st.DrawFn) -> dict[str, Any]:
    """Any part of a plant, any part of it measured, the grid in either direction."""
    devices = draw(st.lists(st.sampled_from(SITE), unique_by=lambda d: d.id, min_size=1))
    latest = []
    for one in devices:
        for key in AMOUNTS:
            if BY_KEY[key].id in one.points and draw(st.booleans()):
                low = -500 if one is METER else 0
                high = 95 if key.endswith("temp") else 150 if key == "flow" else 5000
                latest.append(now(one.id, key, round(draw(st.floats(low, high)), 3)))
    return energy_flow(devices, latest, NOW)


def balance(flow: dict[str, Any], rounding: float) -> None:
    """What comes into a box and what goes out of it is what it says."""
    for node in flow["nodes"]:
        into = sum(link["kw"] for link in flow["links"] if link["target"] == node["id"])
        out = sum(link["kw"] for link in flow["links"] if link["source"] == node["id"])
        if node["id"] == "storage":
            assert into - out == pytest.approx(node["kw"] or 0.0, abs=rounding)
            continue
        if into:
            assert into == pytest.approx(node["kw"], abs=rounding), node
        if out:
            assert out == pytest.approx(node["kw"] if node["heat_kw"] is None else node["heat_kw"], abs=rounding), node


@given(pictures())
def test_the_figure_of_every_box_is_the_sum_of_its_ribbons(flow: dict[str, Any]) -> None:
    balance(flow, 0.01)


@given(st.lists(pictures(), min_size=1, max_size=5))
def test_so_it_is_when_projects_are_added(flows: list[dict[str, Any]]) -> None:
    balance(merge_flows(flows), 0.05)


def test_heat_metered_without_a_source_comes_from_the_district() -> None:
    flow = energy_flow([HEAT], [now(5, "heat_power", 420.0)], NOW)
    assert flow["links"] == [{"source": "district", "target": "heat", "kw": 420.0, "kind": "heat"}]


def test_more_heat_made_than_metered_is_called_a_loss() -> None:
    flow = energy_flow([HEAT_PUMP, HEAT], [now(7, "active_power", 100.0), now(7, "heating_capacity", 300.0), now(5, "heat_power", 280.0)], NOW)
    assert {(link["source"], link["target"], link["kw"]) for link in flow["links"] if link["kind"] == "heat"} == {
        ("heat_pump", "heat", 280.0), ("heat_pump", "losses", 20.0)}
