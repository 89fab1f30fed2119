"""The planner of a project: what it reads from the register, that its plan reaches devices as whole stages with the plan's energy, and that people come first."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.loop.plant import Plant
from cloud.functions.economic_operation.learner import from_register, learn, mass_now
from cloud.functions.economic_operation.planner import Comfort, Moment, Planner, room_now
from cloud.functions.economic_operation.site import Boiler, Site
from cloud.functions.economic_operation.tracks import tracks
from protos.points import point

STEPS = 96
PRICE = np.where((np.arange(STEPS) // 4 >= 23) | (np.arange(STEPS) // 4 < 7), 0.3, 1.0)
BOILERS, PUMPS, ROOMS = (Plant(k) for k in ("boiler_storage", "heat_pump", "decentralised"))


def moment(plant: Plant, **more: object) -> Moment:
    plant.community.publish()
    base = Moment(1_795_000_000_000 // 900_000 * 900_000, plant.rooms(), plant.layers(), 45.0, 38.0, {}, np.full(STEPS, -5.0), np.zeros(STEPS), PRICE, 5.0, own_c=list(plant.own()))
    return dataclasses.replace(base, **more)


def by_point(found: list, key: str) -> list:
    return [t for t in found if t.point_id == point(key).id]


def test_the_register_tells_what_there_is_to_move() -> None:
    site = BOILERS.site
    assert [(b.rated_kw, b.stages) for b in site.boilers] == [(180.0, 6), (180.0, 6)]
    assert site.tank is not None
    assert (site.tank.volume_m3, len(site.rooms), site.transformer_kw) == (60.0, 30, 0.95 * 630)
    assert sum(r.movable for r in site.rooms) == sum(r.sensor for r in site.rooms) == 18
    assert len(PUMPS.site.pumps) == 3
    assert sum(r.heater_kw for r in ROOMS.site.heaters) > 200
    assert site.plannable
    assert not dataclasses.replace(site, boilers=(), rooms=()).plannable


def test_only_layers_hot_enough_for_the_loop_count_as_stored_heat() -> None:
    tank = BOILERS.site.tank
    assert tank is not None
    assert tank.energy_kwh([80.0] * 10, 40.0, 45.0) == pytest.approx(60 * 40 * 1.163)
    assert tank.energy_kwh([80.0] * 5 + [42.0] * 5, 40.0, 45.0) == pytest.approx(30 * 40 * 1.163)
    assert tank.energy_kwh([30.0] * 10, 40.0, 45.0) == 0


@pytest.mark.parametrize("plant", [BOILERS, PUMPS, ROOMS], ids=["boilers", "heat pumps", "room heaters"])
def test_a_plan_of_every_kind_of_plant_fits_its_devices(plant: Plant) -> None:
    planned = Planner(plant.site).plan(moment(plant), from_register(plant.site))
    assert planned.tracks
    assert planned.plan.gap <= 0.01
    limits = {"enable_command": (0, 1), "stage_command": (0, 6), "power_limit_setpoint": (0, 1e4), "leaving_temp_setpoint": (20, 90), "room_temp_setpoint": (17.5, 22.5)}
    names = {point(k).id: k for k in limits}
    for track in planned.tracks:
        low, high = limits[names[track.point_id]]
        assert len(track.value) == STEPS
        assert all(v is None or low <= v <= high for v in track.value)


@given(st.lists(st.floats(0, 360), min_size=4, max_size=60))
@settings(max_examples=80, deadline=None)
def test_whole_stages_follow_the_energy_of_the_plan(wanted: list[float]) -> None:
    site = Site(1, 1000.0, (Boiler(1, "a", 180.0, 6), Boiler(2, "b", 180.0, 6)), (), None, (), 0, 0, 0, 0, math.inf)
    steps = len(wanted)
    planned = Planner(site).plan(Moment(0, np.empty(0), (), 45.0, 38.0, {}, np.zeros(steps), np.zeros(steps), np.ones(steps)), from_register(site))
    half = np.array(wanted) / 2
    plan = dataclasses.replace(planned.plan, power_kw={"a": half, "b": half})
    found = by_point(tracks(site, plan, planned.community, moment(BOILERS), Comfort(), {}), "stage_command")
    given_kw = np.sum([np.array(t.value) for t in found], axis=0) * 30.0
    assert np.all(np.abs(np.cumsum(given_kw - np.array(wanted))) <= 30.0 + 1e-6), "never more than a stage and an interval behind"


def test_the_valley_is_used_and_residents_wishes_are_the_floor() -> None:
    planned = Planner(BOILERS.site).plan(moment(BOILERS, layers_c=[46.0] * 10), from_register(BOILERS.site))
    stages = np.sum([np.array(t.value) for t in by_point(planned.tracks, "stage_command")], axis=0)
    assert stages[PRICE < 0.5].mean() > 2 * stages[PRICE > 0.5].mean()
    own = dict(zip([r.device_id for r in BOILERS.site.rooms], BOILERS.own(), strict=True))
    for track in by_point(planned.tracks, "room_temp_setpoint"):
        assert min(v for v in track.value if v is not None) >= own[track.device_id] - 0.126


def test_a_peak_that_serves_a_whole_month_is_worth_more_than_one_of_its_last_day() -> None:
    def peak(hours: float) -> float:
        m = moment(BOILERS, layers_c=[46.0] * 10, demand_yuan_kw=48.0, month_left_h=hours)
        return float(Planner(BOILERS.site).plan(m, from_register(BOILERS.site)).plan.grid_kw.max())

    assert peak(24 * 31) > peak(24) + 20


def test_in_the_cold_the_sites_own_controller_is_left_to_heat_all_it_can() -> None:
    rooms = np.where(np.isfinite(PUMPS.rooms()), 17.0, np.nan)
    cold = Planner(PUMPS.site).plan(moment(PUMPS, rooms_c=rooms, outdoor_c=np.full(STEPS, -15.0)), from_register(PUMPS.site))
    assert all(t.value[0] is None for key in ("enable_command", "power_limit_setpoint", "leaving_temp_setpoint") for t in by_point(cold.tracks, key))
    warm = Planner(PUMPS.site).plan(moment(PUMPS, rooms_c=rooms + 3.5, outdoor_c=np.full(STEPS, 5.0)), from_register(PUMPS.site))
    assert all(v is not None for t in by_point(warm.tracks, "enable_command") for v in t.value)


def test_a_response_limit_is_kept_and_rooms_stay_at_their_floor() -> None:
    limit = np.full(STEPS, np.inf)
    limit[40:48] = 20.0
    planned = Planner(BOILERS.site).plan(moment(BOILERS, layers_c=[75.0] * 10, limit_kw=limit), from_register(BOILERS.site))
    assert planned.plan.grid_kw[40:48].max() <= 20.0 + 1e-6
    assert planned.plan.room_c["rooms"].min() >= 18.0


def test_without_any_sensor_it_plans_with_the_contract() -> None:
    assert room_now(PUMPS.site, np.full(24, np.nan), Comfort(target_c=20.5)) == 20.5
    assert Planner(PUMPS.site).plan(moment(PUMPS, rooms_c=np.full(24, np.nan)), from_register(PUMPS.site)).tracks


def test_learning_goes_up_a_step_only_where_the_data_carry_it() -> None:
    site = BOILERS.site
    assert learn(site, np.full(10, 20.0), np.full(10, 100.0), np.zeros(10), np.zeros(10)).how == "register"
    rng = np.random.default_rng(1)
    hours = 24 * 14
    outdoor = -3 + 4 * np.sin(np.arange(hours) / 24 * 2 * np.pi) + np.repeat(rng.normal(0, 4, 14), 24)
    heat, room, level = np.empty(hours), np.empty(hours), 20.0
    for t in range(hours):
        heat[t] = 220.0 if (t % 24) < 9 else 20.0
        level += (heat[t] - 4.5 * (level - outdoor[t])) / 160.0
        room[t] = level
    found = learn(site, room, heat, outdoor, np.zeros(hours))
    assert found.how == "identified"
    assert found.loss_kw_k == pytest.approx(4.5, rel=0.1)
    constant = learn(site, np.full(hours, 20.0), np.full(hours, 100.0), np.zeros(hours), np.zeros(hours))
    assert (constant.how, constant.loss_kw_k) == ("balance", pytest.approx(5.0))


def test_the_mass_follows_the_rooms_slowly() -> None:
    learnt = dataclasses.replace(from_register(BOILERS.site), mass_kwh_k=200.0, coupling_kw_k=20.0)
    mass = mass_now(learnt, np.r_[np.full(48, 20.0), np.full(5, 22.0)]).mass_c
    assert mass is not None
    assert 20.0 < mass < 21.5
    assert mass_now(from_register(BOILERS.site), np.full(5, 20.0)).mass_c is None
