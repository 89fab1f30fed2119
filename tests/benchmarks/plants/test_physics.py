"""The plants' physics keeps its energy, respects its limits and its delays; random runs, every component."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plants.physics.electric_boiler import ElectricBoiler
from benchmarks.plants.physics.heat_pump import HeatPump
from benchmarks.plants.physics.ledger import CP
from benchmarks.plants.physics.meters import ElectricityMeter, HeatMeter, Registers
from benchmarks.plants.physics.network import Loop, Pump
from benchmarks.plants.physics.room_heaters import RoomHeaters
from benchmarks.plants.physics.rooms import Rooms, apartment_block
from benchmarks.plants.physics.tank import Tank
from benchmarks.plants.physics.valves import Valves

seeds = st.integers(0, 2**31)
steps = st.sampled_from([5.0, 15.0, 60.0])
runs = settings(max_examples=25, deadline=None)


@runs
@given(seeds, steps)
def test_rooms_close_their_energy_balance(seed: int, dt: float) -> None:
    rng = np.random.default_rng(seed)
    envelope, *_ = apartment_block(rng, 4, 5, 85.0, 40.0)
    rooms = Rooms(envelope, rng.uniform(10, 24, 20))
    before = rooms.stored()
    for _ in range(300):
        rooms.step(dt, rng.uniform(-25, 15), rng.uniform(0, 12), rng.uniform(-1, 8, 20), rng.uniform(0, 3, 20))
    assert rooms.ledger.turnover > 1e3
    assert rooms.ledger.imbalance(rooms.stored() - before) < 1e-6


def test_rooms_balance_notices_a_forgotten_kilowatt() -> None:
    rng = np.random.default_rng(1)
    rooms = Rooms(apartment_block(rng, 2, 3, 85.0, 40.0)[0], 18.0)
    before = rooms.stored()
    for _ in range(100):
        rooms.step(60.0, -5.0, 2.0, np.full(6, 3.0), np.zeros(6))
    rooms.ledger.add(entered=100 * 60.0)  # one kW too much in the books
    assert rooms.ledger.imbalance(rooms.stored() - before) > 1e-3


def test_a_corner_room_under_the_roof_is_the_coldest_when_all_get_the_same_heat() -> None:
    rng = np.random.default_rng(3)
    envelope, area, corner, top = apartment_block(rng, 5, 6, 85.0, 40.0)
    rooms = Rooms(envelope, 20.0)
    for _ in range(4000):
        rooms.step(60.0, -9.0, 2.0, area * 0.035, np.zeros(30))
    coldest = int(np.argmin(rooms.t_air))
    assert corner[coldest]
    assert rooms.t_air[~corner & ~top].mean() > rooms.t_air[corner & top].mean() + 1.0


def test_rooms_do_not_depend_on_the_step() -> None:
    ends = []
    for dt in (5.0, 60.0):
        envelope, area, *_ = apartment_block(np.random.default_rng(5), 3, 4, 85.0, 40.0)
        rooms = Rooms(envelope, 20.0)
        for _ in range(int(6 * 3600 / dt)):
            rooms.step(dt, -10.0, 3.0, area * 0.03, np.zeros(12))
        ends.append(rooms.t_air.copy())
    assert np.abs(ends[0] - ends[1]).max() < 0.02


@runs
@given(seeds, steps)
def test_tank_closes_its_energy_balance_and_stays_stratified(seed: int, dt: float) -> None:
    rng = np.random.default_rng(seed)
    tank = Tank(rng.uniform(3, 80), 10, 0.05, t0=60.0)
    before = tank.stored()
    for _ in range(300):
        charge = rng.choice([0.0, rng.uniform(0.5, 12)])
        tank.step(dt, charge, rng.uniform(-30, 300) if charge else 0.0, rng.choice([0.0, rng.uniform(0.5, 15)]), rng.uniform(25, 50))
        assert np.all(np.diff(tank.t) <= 1e-9)
    assert tank.ledger.imbalance(tank.stored() - before) < 1e-6


@runs
@given(seeds, steps)
def test_loop_and_radiators_close_their_energy_balance(seed: int, dt: float) -> None:
    rng = np.random.default_rng(seed)
    n = 24
    loop = Loop(rng.uniform(0.02, 0.06, n), rng.uniform(0.1, 0.3, n), 2.5, 0.05)
    pump = Pump(3.0, 200.0, 0.2)
    before, to_rooms = loop.stored(), 0.0
    for _ in range(300):
        opening = rng.choice([0.0, 0.5, 1.0], n)
        flow = pump.operate(dt, float((loop.conductance * opening).sum()))
        q = loop.step(dt, flow, rng.uniform(35, 70), opening, rng.uniform(15, 22, n), heat_in=pump.power_kw)
        to_rooms += float(q.sum()) * dt
        assert np.all(q[opening == 0] == 0)
    assert to_rooms > 0
    assert loop.ledger.imbalance(loop.stored() - before) < 1e-6


def test_the_end_of_the_line_gets_less_water() -> None:
    loop = Loop(np.linspace(0.06, 0.03, 10), np.full(10, 0.2), 2.0, 0.02)
    q = np.zeros(10)
    for _ in range(200):
        q = loop.step(60.0, 0.8, 55.0, np.ones(10), np.full(10, 20.0))
    assert q[0] > 1.1 * q[-1]


@runs
@given(seeds, steps)
def test_heat_pump_closes_its_energy_balance_and_never_beats_carnot(seed: int, dt: float) -> None:
    rng = np.random.default_rng(seed)
    unit = HeatPump(45.0)
    before = unit.stored()
    wish = 1.0
    for k in range(800):
        if k % 97 == 0:
            wish = rng.choice([0.0, rng.uniform(0.1, 1.0), 1.0])
        t_out, t_supply = rng.uniform(-18, 6), rng.uniform(35, 52)
        unit.step(dt, wish=wish, t_out=t_out, humidity=rng.uniform(30, 98), t_supply=t_supply, t_entering=t_supply - 5)
        if unit.heat_kw > 0:
            assert unit.heat_kw / unit.power_kw < (t_supply + 273.15) / (t_supply - t_out)
    assert unit.ledger.imbalance(unit.stored() - before) < 1e-6


def test_heat_pump_ices_up_in_wet_cold_and_defrosts_at_the_waters_cost() -> None:
    unit = HeatPump(45.0)
    heat, defrosts, was = [], 0, False
    for _ in range(6 * 60):
        unit.step(60.0, wish=1.0, t_out=-1.0, humidity=90.0, t_supply=41.0, t_entering=36.0)
        defrosts += unit.defrosting > 0 and not was
        was = unit.defrosting > 0
        heat.append(unit.heat_kw)
    assert 3 <= defrosts <= 12
    assert min(heat) < 0
    dry = HeatPump(45.0)
    for _ in range(6 * 60):
        dry.step(60.0, wish=1.0, t_out=-1.0, humidity=40.0, t_supply=41.0, t_entering=36.0)
    assert dry.ice_kg == 0


def test_compressor_is_locked_for_five_minutes_between_switches() -> None:
    unit = HeatPump(45.0)

    def run(seconds: int, wish: float) -> int:
        """Seconds until `running` changes, or -1."""
        was = unit.running
        for k in range(0, seconds, 5):
            unit.step(5.0, wish=wish, t_out=-5.0, humidity=40.0, t_supply=41.0, t_entering=36.0)
            if unit.running != was:
                return k + 5
        return -1

    assert run(10, 1.0) == 5
    assert 295 <= run(600, 0.0) <= 305
    assert 295 <= run(600, 1.0) <= 305


def test_cop_falls_with_cold_and_with_hot_water() -> None:
    assert HeatPump.cop(7, 35) > HeatPump.cop(-12, 35) > HeatPump.cop(-12, 50) > 1.5
    assert 2.2 < HeatPump.cop(-12, 41) < 2.7


def test_boiler_stages_come_one_by_one_and_low_water_trips_at_once() -> None:
    boiler = ElectricBoiler(180.0, 6, stage_s=10.0)
    seen = []
    for _ in range(14):
        boiler.step(5.0, wish=6, flow=8.0, t_entering=50.0)
        seen.append(boiler.on)
    assert seen[:6] == [0, 1, 1, 2, 2, 3]
    assert seen[-1] == 6
    boiler.level = 10.0
    boiler.step(5.0, wish=6, flow=8.0, t_entering=50.0)
    assert (boiler.on, boiler.power_kw, boiler.tripped) == (0, 0.0, True)
    boiler.level = 30.0
    boiler.step(5.0, wish=6, flow=8.0, t_entering=50.0)
    assert boiler.tripped
    boiler.level = 85.0
    boiler.leaving = 60.0
    boiler.step(15.0, wish=6, flow=8.0, t_entering=50.0)
    assert not boiler.tripped


def test_boiler_raises_water_by_what_it_takes_from_the_grid() -> None:
    boiler = ElectricBoiler(180.0, 6)
    for _ in range(200):
        boiler.step(15.0, wish=3, flow=4.0, t_entering=50.0)
    assert abs((boiler.leaving - 50.0) * 4.0 * CP - 0.985 * 90.0) < 0.1


def test_a_valve_takes_three_minutes_and_counts_its_open_time() -> None:
    valves = Valves(2)
    valves.command[:] = [0.0, 1.0]
    states = []
    for _ in range(40):
        valves.step(5.0)
        states.append(valves.state[0])
    assert states[0] == 2 and states[34] == 2 and states[36] == 0
    assert valves.on_time_s[1] == 200.0
    assert 80 <= valves.on_time_s[0] <= 100
    valves.command[0] = 1.0
    valves.step(60.0, alive=False)
    assert valves.state[0] == 0


@runs
@given(seeds)
def test_room_heaters_hold_their_rooms_and_obey_the_switch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    envelope, area, *_ = apartment_block(rng, 3, 4, 18.0, 55.0)
    rooms, heaters = Rooms(envelope, 18.0), RoomHeaters(area * 0.11)
    heaters.enable[0] = 0
    for _ in range(12 * 60):
        power = heaters.step(60.0, rooms.t_air)
        rooms.step(60.0, -5.0, 2.0, power, np.zeros(12))
        assert power[0] == 0 or rooms.t_air[0] < 6.5
    held = rooms.t_air[1:]
    assert np.all(np.abs(held - 19.0) < 1.0)
    assert rooms.t_air[0] < 18.0


@runs
@given(st.floats(0, 3e6), st.lists(st.floats(0, 5000), min_size=1, max_size=40))
def test_registers_roll_over_and_lose_nothing(start: float, amounts: list[float]) -> None:
    register = Registers(np.array([start]))
    for amount in amounts:
        before = register.shown()[0]
        register.add(np.array([amount]))
        after = register.shown()[0]
        assert 0 <= after < 1e6
        seen = (after - before) % 1e6
        assert min(abs(seen - amount), 1e6 - abs(seen - amount)) < 0.0201


def test_electricity_meter_splits_by_tariff_and_keeps_the_demand() -> None:
    meter = ElectricityMeter(60.0, 1_000_000.0, np.random.default_rng(1))
    before = meter.registers.total.copy()
    for k in range(480):
        meter.step(15.0, 120.0, 4 if k < 240 else 2, 0.98)
    change = (meter.registers.total - before) * 60
    assert abs(change[0] - 240.0) < 1e-6
    assert abs(change[4] - 120.0) < 1e-6 and abs(change[2] - 120.0) < 1e-6
    assert abs(meter.demand_max - 120.0) < 1e-9
    meter.registers.reset()
    assert meter.registers.shown()[0] == 0


def test_heat_meter_does_not_count_backwards() -> None:
    meter = HeatMeter(10.0, 1.0)
    meter.step(3600.0, -5.0, 1.0, 40.0, 42.0)
    assert meter.registers.total[0] == 10.0
    assert meter.registers.total[1] == 2.0
