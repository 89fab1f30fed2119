"""What the two water-heated communities share: valve households, loop, pump, mixing valve, tank, meters, their local control and publication.

Sources are left to the subclass. Must not know: registers, sockets.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.plants.communities.households import Thermostats, Totals, household_devices
from benchmarks.plants.community import Community, tariff_slot, three_phase
from benchmarks.plants.device import Device
from benchmarks.plants.physics.ledger import CP
from benchmarks.plants.physics.meters import ElectricityMeter, HeatMeter
from benchmarks.plants.physics.network import Loop, Pump
from benchmarks.plants.physics.rooms import Rooms, apartment_block
from benchmarks.plants.physics.tank import Tank
from benchmarks.plants.physics.valves import Valves
from benchmarks.plants.template import load

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sizing:
    """What distinguishes one hydronic community from another (units in the names; ua per m2 is kW/K/m2)."""

    floors: int
    units: int
    area_m2: float
    w_per_m2: float
    sensor_share: float
    radiator_ua_per_m2: float
    branch: float
    imbalance: float
    pump_kw: float
    pump_head_kpa: float
    pump_drop: float
    tank_m3: float
    tank_ua: float
    tank_t0: float
    transformer_kva: float
    ct_ratio: float
    first_kwh: float
    loop_m3: float = 2.5
    duty: float = 0.85


class Hydronic(Community):
    """Households on a loop fed from a tank."""

    sizing: Sizing
    prefix: str

    def _build(self, sources: list[Device], block_zh: str, block_en: str) -> None:
        s, rng = self.sizing, self.rng
        envelope, area, corner, top = apartment_block(rng, s.floors, s.units, s.area_m2, s.w_per_m2)
        n = s.floors * s.units
        self.area, self.corner, self.top = area, corner, top
        line = np.arange(n) / (n - 1)  # 0 beside the plant room .. 1 end of the line
        self.rooms = Rooms(envelope, rng.uniform(19.0, 21.0, n))
        ua = s.radiator_ua_per_m2 * area * (1 + 0.25 * corner + 0.30 * top)
        self.loop = Loop(s.branch * (1 + s.imbalance * (0.5 - line)) * rng.uniform(0.95, 1.05, n), ua, s.loop_m3, 0.06, t0=45.0)
        self.pump = Pump(s.pump_kw, s.pump_head_kpa, s.pump_drop)
        self.tank = Tank(s.tank_m3, 10, s.tank_ua, t0=s.tank_t0)
        self.valves = Valves(n)
        self.thermostats = Thermostats(n, s.duty, rng)
        self.meter = ElectricityMeter(s.ct_ratio, s.first_kwh, rng)
        self.heat_meter = HeatMeter(s.first_kwh * 0.8 % 900_000, s.first_kwh * 0.06)
        sensors = np.zeros(n, dtype=bool)
        sensors[rng.choice(n, round(n * s.sensor_share), replace=False)] = True
        self.sensors = sensors
        p = self.prefix
        self.names = {k: f"{p}-{k}" for k in ("TANK", "PUMP", "LOOP", "WS", "TR", "EM", "HM")}
        station = f"{self.facts.name_zh}/热力站"
        households = household_devices(p, block_zh, block_en, s.floors, s.units, area, corner, top, sensors)
        self.household_codes = [d.code for d in households]

        def device(key: str, zh: str, en: str, template: str, unit: int | str, channel: str = "field", **more: Any) -> Device:
            return Device(self.names[key], zh, en, template, channel, unit, tuple(load(template).places), location=station, **more)

        devices = [
            *sources,
            device("TANK", f"{s.tank_m3:g}m³蓄热水箱", f"Storage tank {s.tank_m3:g} m3", "heat_storage_modbus", 11,
                   attributes={"volume_m3": s.tank_m3, "layers": 10}),
            device("PUMP", "二次网循环泵", "Circulation pump", "circulation_pump_modbus", 12, rated_kw=s.pump_kw),
            device("LOOP", "二次管网", "Heating loop", "network_loop_modbus", 13),
            device("WS", "站外气象站", "Weather station", "weather_station_modbus", 14),
            device("TR", f"{s.transformer_kva:g}kVA配电变压器", f"Transformer {s.transformer_kva:g} kVA", "transformer_modbus", 15, rated_kw=s.transformer_kva,
                   attributes={"rated_kva": s.transformer_kva}),
            device("EM", "总电能表", "Main electricity meter", "electricity_meter_dlt645", "202600001" + f"{self.seed % 1000:03d}", "meters_645", ct_ratio=s.ct_ratio,
                   parent=self.names["TR"]),
            device("HM", "供热总热量表", "Main heat meter", "heat_meter_cjt188", "1111002600" + f"{self.seed % 10000:04d}", "meters_188", parent=self.names["LOOP"]),
            *households,
        ]
        counted = [d.code for d in devices if "energy_import" in d.points]
        self.totals = Totals(counted, rng)
        self.components |= {"rooms": self.rooms, "loop": self.loop, "pump": self.pump, "tank": self.tank, "valves": self.valves,
                            "thermostats": self.thermostats, "meter": self.meter, "heat_meter": self.heat_meter, "totals": self.totals}
        self.ledgers += [self.rooms.ledger, self.loop.ledger, self.tank.ledger]
        self._ready(devices)
        image = self.image
        self._sensor_at = {image.index[image.by_code[c], "room_temp"]: k for k, c in enumerate(self.household_codes)}
        self._columns = {p: image.column(self.household_codes, p) for p in
                         ("valve_state", "room_temp", "on_time_total", "cycle_on_ratio", "battery_voltage", "lock_state", "fault_code", "room_temp_setpoint", "valve_command")}
        self._battery = rng.uniform(3.35, 3.65, n)
        self.t_set = 45.0
        self.mains_kw = 0.0
        self.charge_kw = 0.0
        self.load_kw = 0.0

    # --- one step -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _supply_curve(self) -> float:
        """Wanted loop supply temperature by outdoor temperature (weather compensation), degC."""

    @abstractmethod
    def _sources(self, dt: float) -> tuple[float, float, float]:
        """Advance the sources; return (flow through them kg/s, heat to the tank kW, electric power kW)."""

    def _step(self, dt: float) -> None:
        w = self.weather
        self.t_set = self.wished(self.names["TANK"], "leaving_temp_setpoint", self._supply_curve())
        self.valves.command = self.thermostats.decide(self._measured(), self.now_s, self._valve_holds())
        self.valves.step(dt)
        self._pump_control()
        flow = self.pump.operate(dt, float((self.loop.conductance * self.valves.position).sum()), alive=self.alive)
        top, back = self.tank.top, self.loop.back
        share = min(1.0, max(0.0, (self.t_set - back) / (top - back))) if top > back + 0.1 else 1.0
        m_charge, q_charge, power = self._sources(dt)
        drawn = self.tank.step(dt, m_charge, q_charge, flow * share, back)
        self.charge_kw, self.load_kw = q_charge, flow * share * CP * (drawn - back)
        q = self.loop.step(dt, flow, back + share * (drawn - back), self.valves.position, self.rooms.t_air, heat_in=self.pump.power_kw)
        hour = self.local_hour
        people = self.area * (0.0045 if 6 < hour < 23 else 0.002)
        sun = self.area * 0.10 * w.sun / 1000 * 0.35
        self.rooms.step(dt, w.temperature, w.wind, 0.7 * q + people + 0.4 * sun, 0.3 * q + 0.6 * sun)
        self.mains_kw = power + self.pump.power_kw + (0.6 if self.alive else 0.0)
        self.totals.add(self.names["PUMP"], self.pump.power_kw * dt / 3600)
        self.totals.add(self.names["TR"], self.mains_kw * dt / 3600)
        self.totals.makeup(dt, self.names["LOOP"] in self.faults["low_water"])
        self.meter.step(dt, self.mains_kw, tariff_slot(hour), 0.98)
        self.heat_meter.step(dt, flow * CP * (self.loop.supply - self.loop.back), flow * 3.6, self.loop.supply, self.loop.back)

    def _measured(self) -> Array:
        """What the households' controllers see: sensor error included, a stuck sensor stays stuck, NaN without a sensor."""
        seen = np.where(self.sensors, self.rooms.t_air + self.thermostats.bias, np.nan)
        for at, value in self.image.frozen.items():
            if at in self._sensor_at:
                seen[self._sensor_at[at]] = value
        return seen

    def _valve_holds(self) -> dict[int, float]:
        held = {}
        if self.remote:
            for k, code in enumerate(self.household_codes):
                value = self.wished(code, "valve_command", -1.0)
                if value >= 0:
                    held[k] = value
        return held

    def _pump_control(self) -> None:
        name = self.names["PUMP"]
        self.pump.running = self.wished(name, "enable_command", 1.0) > 0.5
        wanted = self.wished(name, "speed_setpoint", 80.0) / 100
        self.pump.speed = min(max(wanted, 0.2), 1.0)

    def _written(self, code: str, point: str, value: float) -> None:
        if point == "room_temp_setpoint":
            self.thermostats.setpoint[self.household_codes.index(code)] = value
            self.remote.pop((code, point), None)

    def _meter_reset(self, code: str) -> None:
        meters: dict[str, ElectricityMeter | HeatMeter] = {self.names["EM"]: self.meter, self.names["HM"]: self.heat_meter}
        if code not in meters:
            super()._meter_reset(code)
        else:
            meters[code].registers.reset()

    def _delay_zero(self, *, on: bool) -> None:
        self.valves.travel_s = 0.0 if on else 180.0

    # --- publication ------------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        image, names, t = self.image, self.names, self.tank.t
        w, columns = self.weather, self._columns
        image.put(names["WS"], {"outdoor_temp": w.temperature, "humidity": w.humidity, "wind_speed": w.wind, "solar_irradiance": w.sun})
        low = self.t_set - 10
        full = self.tank.volume * 1000 * CP * (self._full_temp() - low) / 3600
        usable = max(0.0, self.tank.energy_above(low))
        short = names["TANK"] in self.faults["low_water"]
        image.put(names["TANK"], {
            "soc": min(100.0, 100 * usable / full) if full > 0 else 0.0, "stored_energy": usable, "charge_power": self.charge_kw, "discharge_power": self.load_kw,
            "supply_temp": self.tank.top, "return_temp": self.tank.bottom, "tank_level": 10.0 if short else 92.0, "run_state": float(self.charge_kw > 0.5),
            "overheat_alarm": float(self.tank.top > 96), "low_water_alarm": float(short), "fault_code": 0.0, "leaving_temp_setpoint": self.t_set,
            "power_limit_setpoint": self._charge_limit(), "charge_enable": self._charge_enable(),
            **{f"layer_temp_{k + 1}": float(t[k]) for k in range(len(t))}})
        dry = names["LOOP"] in self.faults["low_water"]
        static = 25.0 if dry else 220.0
        pump = self.pump
        on = float(pump.running and self.alive)
        image.put(names["PUMP"], {
            "active_power": pump.power_kw, "speed": 100 * pump.speed * on, "flow": pump.flow, "differential_pressure": pump.head, "return_temp": self.loop.back,
            "suction_pressure": static, "energy_import": self.totals[names["PUMP"]], "run_hours": pump.run_s / 3600 + 2100, "run_state": on,
            "phase_loss_alarm": float(not self.alive), "fault_code": 0.0, "speed_setpoint": self.wished(names["PUMP"], "speed_setpoint", 80.0),
            "enable_command": self.wished(names["PUMP"], "enable_command", 1.0), "reset_command": 0.0})
        image.put(names["LOOP"], {
            "supply_temp": self.loop.supply, "return_temp": self.loop.back, "supply_pressure": static + pump.head, "return_pressure": static, "flow": pump.flow,
            "makeup_flow": self.totals.makeup_m3h, "makeup_volume": self.totals.makeup_m3, "tank_level": 8.0 if dry else 78.0})
        electric = three_phase(self.mains_kw, self.alive, 0.98)
        rated = self.sizing.transformer_kva
        image.put(names["TR"], {**electric, "load_ratio": 100 * electric["apparent_power"] / rated, "energy_import": self.totals[names["TR"]]})
        publish_meters(image, names["EM"], self.meter, electric)
        publish_heat_meter(image, names["HM"], self.heat_meter)
        valves = self.valves
        image.put_column(columns["valve_state"], valves.state)
        image.put_column(columns["room_temp"], self.rooms.t_air + self.thermostats.bias)
        image.put_column(columns["on_time_total"], valves.on_time_s + self.thermostats.first_s)
        image.put_column(columns["cycle_on_ratio"], 100 * self.thermostats.ratio(valves.position))
        image.put_column(columns["battery_voltage"], self._battery)
        image.put_column(columns["lock_state"], np.zeros(len(self.area)))
        image.put_column(columns["fault_code"], np.zeros(len(self.area)))
        image.put_column(columns["room_temp_setpoint"], self.thermostats.setpoint)
        image.put_column(columns["valve_command"], valves.command)

    def _full_temp(self) -> float:
        return 85.0

    def _charge_limit(self) -> float:
        return self.wished(self.names["TANK"], "power_limit_setpoint", self._installed_kw())

    @abstractmethod
    def _installed_kw(self) -> float:
        """Heat the sources can give together, kW."""

    def _charge_enable(self) -> float:
        return self.wished(self.names["TANK"], "charge_enable", 1.0)

    def truth(self) -> dict[str, Any]:
        """Rooms (all of them), tank layers, loop, power and outdoor temperature as physics has them."""
        t = self.rooms.t_air
        return {
            "now_s": self.now_s, "outdoor_temp": self.weather.temperature, "room_temp": dict(zip(self.household_codes, t.tolist(), strict=True)),
            "coldest": self.household_codes[int(np.argmin(t))], "sensors": int(self.sensors.sum()), "rooms": len(t), "tank": self.tank.t.tolist(),
            "supply_temp": self.loop.supply, "return_temp": self.loop.back, "flow_m3h": self.pump.flow, "power_kw": self.mains_kw,
            "valve_position": dict(zip(self.household_codes, self.valves.position.tolist(), strict=True)), "energy_kwh": float(self.meter.registers.total[0] * self.meter.ratio),
            "heat_kwh": float(self.heat_meter.registers.total[0])}


def publish_meters(image: Any, code: str, meter: ElectricityMeter, electric: dict[str, float]) -> None:
    """Primary values of a DL/T 645 meter; its registers times the ratio."""
    shown = meter.registers.shown() * meter.ratio
    keys = ("energy_import", "energy_import_t1", "energy_import_t2", "energy_import_t3", "energy_import_t4", "energy_export", "reactive_energy")
    image.put(code, {**electric, **{k: float(v) for k, v in zip(keys, shown, strict=True)}, "demand": meter.demand, "demand_max": meter.demand_max})


def publish_heat_meter(image: Any, code: str, meter: HeatMeter) -> None:
    """Values of a CJ/T 188 heat meter."""
    heat, volume, hours = (float(v) for v in meter.registers.shown())
    image.put(code, {"heat_energy": heat, "volume": volume, "operating_hours": float(int(hours)), "heat_power": meter.power, "flow": meter.flow,
                     "supply_temp": meter.supply, "return_temp": meter.back, "battery_low": 0.0})
