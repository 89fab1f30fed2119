"""Communities behave like heated places: balanced, warm, slow where life is slow, obedient to commands, honest in faults."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plants.communities import COMMUNITIES, build
from benchmarks.plants.communities.boiler_storage import BoilerStorage
from benchmarks.plants.communities.decentralised import Decentralised
from benchmarks.plants.communities.heat_pump import HeatPumpCommunity
from benchmarks.plants.device import PlantError
from benchmarks.plants.plant import Plant
from benchmarks.plants.run import SEEDS
from tests.benchmarks.plants.support import START_S, Clock, advance, warm

HEATED = ("boiler_storage", "heat_pump", "decentralised")


@pytest.mark.parametrize("key", HEATED)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(1, 10_000), dt=st.sampled_from([15.0, 60.0]), data=st.data())
def test_whole_communities_close_their_energy_balance(key: str, seed: int, dt: float, data: st.DataObject) -> None:
    community = build(key, seed)
    start = START_S + data.draw(st.integers(0, 31)) * 86400
    before = community.stored()
    for k in range(round(8 * 3600 / dt)):
        if k % 200 == 0 and data.draw(st.booleans()):
            community.inject("blackout", on=data.draw(st.booleans()))
        community.advance(start + (k + 1) * dt, dt)
    assert sum(ledger.turnover for ledger in community.ledgers) > 1e5
    assert community.imbalance(before) < 1e-6


@pytest.mark.parametrize("key", HEATED)
def test_people_stay_warm_without_the_cloud(key: str) -> None:
    plant = warm(key, days=4)
    truth = plant.community.truth()
    temperatures = np.array(list(truth["room_temp"].values()))
    assert temperatures.min() > 15.5
    assert 18.5 < temperatures.mean() < 21.5
    assert temperatures.max() < 26
    assert truth["sensors"] < truth["rooms"]


def test_the_tank_is_charged_in_the_valley_and_lives_from_it_in_the_day() -> None:
    plant = warm("boiler_storage", days=3)
    valley, day = 0.0, 0.0
    for _ in range(1440):
        plant.community.advance(plant.community.now_s + 60, 60.0)
        hour = plant.community.local_hour
        if hour >= 23 or hour < 7:
            valley += plant.community.truth()["power_kw"]
        else:
            day += plant.community.truth()["power_kw"]
    assert valley > 4 * day


def test_same_seed_same_run() -> None:
    a, b = (warm("heat_pump", days=0.3).community.image.values for _ in range(2))
    assert np.array_equal(a, b, equal_nan=True)
    other = Plant(build("heat_pump", 99), clock=Clock())
    other.warm_up(0.3)
    assert not np.array_equal(a, other.community.image.values, equal_nan=True)


@pytest.mark.parametrize("key", COMMUNITIES)
def test_every_point_has_a_value_within_its_template_or_is_declared_absent(key: str) -> None:
    from benchmarks.plants.template import load
    community = warm(key).community
    for (k, point), at in community.image.index.items():
        device = community.image.devices[k]
        value = community.image.values[at]
        if point in device.absent:
            assert math.isnan(value)
        else:
            place = load(device.template).places[point]
            assert place.low <= value <= place.high, (device.code, point, value)


def test_a_remote_valve_command_takes_three_minutes_and_outranks_the_thermostat() -> None:
    plant = warm("boiler_storage")
    community = plant.community
    code = "QH-H303"
    advance(plant, 400)
    wish = 0.0 if community.image.get(code, "valve_state") == 1 else 1.0
    community.write(code, "valve_command", wish)
    advance(plant, 175)
    assert community.image.get(code, "valve_state") == 2
    advance(plant, 10)
    assert community.image.get(code, "valve_state") == wish
    advance(plant, 3600, dt=60.0)
    assert community.image.get(code, "valve_state") == wish
    advance(plant, 4 * 3600, dt=60.0)
    assert (code, "valve_command") not in community.remote


def test_a_heat_pump_obeys_within_its_five_minute_lock() -> None:
    plant = warm("heat_pump", days=0.5)
    community = plant.community
    assert isinstance(community, HeatPumpCommunity)
    running = next(c for c, u in zip(community.codes, community.pumps, strict=True) if u.running and u.since_s > 600)
    community.write(running, "enable_command", 0.0)
    advance(plant, 10)
    assert community.image.get(running, "run_state") == 0
    community.write(running, "enable_command", 1.0)
    advance(plant, 280)
    assert community.image.get(running, "run_state") == 0
    advance(plant, 40)
    assert community.image.get(running, "run_state") == 1


def test_delay_zero_makes_actuators_immediate() -> None:
    plant = warm("boiler_storage")
    plant.community.inject("delay_zero")
    state = plant.community.image.get("QH-H101", "valve_command")
    plant.community.write("QH-H101", "valve_command", 1 - state)
    advance(plant, 5)
    assert plant.community.image.get("QH-H101", "valve_state") == 1 - state
    plant.community.inject("delay_zero", on=False)
    plant.community.write("QH-H101", "valve_command", state)
    advance(plant, 5)
    assert plant.community.image.get("QH-H101", "valve_state") == 2


def test_power_limit_and_stage_commands_bind_the_boiler() -> None:
    plant = warm("boiler_storage")
    community = plant.community
    community.write("QH-B1", "enable_command", 1.0)
    community.write("QH-B1", "stage_command", 6.0)
    community.write("QH-B1", "power_limit_setpoint", 95.0)
    advance(plant, 120)
    assert community.image.get("QH-B1", "run_state") == 1
    assert community.image.get("QH-B1", "active_power") == 90.0
    community.write("QH-B1", "enable_command", 0.0)
    advance(plant, 70)
    assert community.image.get("QH-B1", "active_power") == 0
    assert community.image.get("QH-B1", "run_state") == 0


def test_local_manual_takes_writes_and_does_nothing() -> None:
    plant = warm("boiler_storage")
    community = plant.community
    community.inject("local_manual", "QH-PUMP")
    community.write("QH-PUMP", "speed_setpoint", 35.0)
    advance(plant, 5)
    assert community.image.get("QH-PUMP", "local_manual") == 1
    assert community.image.get("QH-PUMP", "speed_setpoint") == 80.0
    community.inject("local_manual", "QH-PUMP", on=False)
    community.write("QH-PUMP", "speed_setpoint", 35.0)
    advance(plant, 5)
    assert community.image.get("QH-PUMP", "speed") == 35.0


def test_a_stuck_sensor_keeps_its_value_and_misleads_the_controller() -> None:
    plant = warm("boiler_storage", days=0.5)
    community = plant.community
    assert isinstance(community, BoilerStorage)
    k = int(np.argmax(community.sensors & (np.arange(30) % 6 == 2)))
    code = community.household_codes[k]
    at = community.image.at(code, "room_temp")
    community.image.values[at] = 30.0
    community.inject("stuck", code, point="room_temp")
    advance(plant, 24 * 3600, dt=60.0)
    assert community.image.values[at] == 30.0
    assert community.valves.position[k] == 0
    assert community.rooms.t_air[k] < 19.0
    community.inject("stuck", code, on=False, point="room_temp")
    advance(plant, 5)
    assert community.image.values[at] < 20.0


def test_low_water_trips_the_boiler_and_raises_its_alarm() -> None:
    plant = warm("boiler_storage")
    community = plant.community
    community.write("QH-B2", "enable_command", 1.0)
    community.write("QH-B2", "stage_command", 3.0)
    advance(plant, 120)
    assert community.image.get("QH-B2", "active_power") == 90
    community.inject("low_water", "QH-B2")
    advance(plant, 200)
    assert community.image.get("QH-B2", "low_water_alarm") == 1
    assert community.image.get("QH-B2", "active_power") == 0
    assert community.image.get("QH-B2", "fault_code") == 3
    with pytest.raises(PlantError, match="cannot have low_water"):
        community.inject("low_water", "QH-WS")


@pytest.mark.parametrize("key", HEATED)
def test_a_blackout_stops_the_heat_and_rooms_cool(key: str) -> None:
    plant = warm(key, days=0.5)
    before = np.mean(list(plant.community.truth()["room_temp"].values()))
    plant.community.inject("blackout")
    advance(plant, 6 * 3600, dt=60.0)
    truth = plant.community.truth()
    assert truth["power_kw"] == 0
    assert np.mean(list(truth["room_temp"].values())) < before - 1.0
    plant.community.inject("blackout", on=False)
    advance(plant, 3600, dt=60.0)
    assert plant.community.truth()["power_kw"] > 0


@pytest.mark.parametrize(("key", "code", "point"), [("boiler_storage", "QH-EM", "energy_import"), ("heat_pump", "GS-HM", "heat_energy"),
                                                    ("metered_district", "BM-HM07", "heat_energy"), ("decentralised", "SL-EM3", "energy_import")])
def test_a_reset_meter_shows_zero_and_counts_on(key: str, code: str, point: str) -> None:
    plant = warm(key)
    assert plant.community.image.get(code, point) > 1000
    plant.community.inject("meter_reset", code)
    plant.community.publish()
    assert plant.community.image.get(code, point) == 0
    advance(plant, 12 * 3600, dt=60.0)
    assert 0 < plant.community.image.get(code, point) < 5000


def test_unknown_faults_devices_and_points_are_refused_with_a_way_out() -> None:
    community = build("metered_district")
    for arguments in (("explode", "*"), ("stuck", "BM-EM"), ("comms_loss", "nowhere"), ("meter_reset", "nothing")):
        with pytest.raises(PlantError) as caught:
            community.inject(*arguments)
        assert caught.value.code == "E-PLANT" and "检查" in caught.value.message("zh")
    with pytest.raises(PlantError, match="known: boiler_storage"):
        build("igloo")


@pytest.mark.parametrize("key", COMMUNITIES)
def test_a_saved_state_goes_on_where_it_stopped(key: str, tmp_path) -> None:
    clock = Clock()
    plant = warm(key, clock=clock, state=tmp_path / "state.json")
    plant.save()
    clock.now += 7200
    again = Plant(build(key, SEEDS[key]), clock=clock, state=tmp_path / "state.json")
    again.warm_up(7)
    advance(plant, 7200, dt=60.0)
    assert again.community.now_s == plant.community.now_s
    np.testing.assert_allclose(again.community.image.values, plant.community.image.values, rtol=1e-9, atol=1e-9)
    state = json.loads((tmp_path / "state.json").read_text())
    with pytest.raises(PlantError, match="another community"):
        build(key, 77).restore(state)


def test_the_dormitory_sheds_when_its_heaters_are_disabled() -> None:
    plant = warm("decentralised", days=0.5)
    community = plant.community
    assert isinstance(community, Decentralised)
    before = community.truth()["power_kw"]
    for code in community.codes[:100]:
        community.write(code, "enable_command", 0.0)
    advance(plant, 300)
    assert community.truth()["power_kw"] < 0.75 * before
    community.write(community.codes[0], "room_temp_setpoint", 16.0)
    mechanical = next(c for c, s in zip(community.codes, community.has_sensor, strict=True) if not s)
    kept = community.image.get(mechanical, "room_temp_setpoint")
    community.write(mechanical, "room_temp_setpoint", 12.0)
    advance(plant, 5)
    assert community.image.get(mechanical, "room_temp_setpoint") == kept
