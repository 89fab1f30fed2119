"""Community (b): three air-source heat pumps on a 5 m3 buffer; 24 valve households with floor heating.

14 of 24 rooms have a sensor. Must not know: registers, sockets.
"""

from __future__ import annotations

import math
from typing import ClassVar

from benchmarks.plants.communities.hydronic import Hydronic, Sizing
from benchmarks.plants.device import Channel, Device, Facts
from benchmarks.plants.physics.heat_pump import HeatPump
from benchmarks.plants.physics.ledger import CP
from benchmarks.plants.template import load

UNIT_KW, UNIT_FLOW, UNITS = 45.0, 2.2, 3


class HeatPumpCommunity(Hydronic):
    """妫水家园: a village block of 2016 on low-temperature air-source heat pumps."""

    key: ClassVar[str] = "heat_pump"
    channels: ClassVar[tuple[Channel, ...]] = (Channel("field", "modbus", 0), Channel("meters_645", "dlt645", 1), Channel("meters_188", "cjt188", 2))
    prefix = "GS"
    sizing = Sizing(floors=4, units=6, area_m2=95.0, w_per_m2=36.0, sensor_share=0.59, radiator_ua_per_m2=0.0024, branch=0.058, imbalance=0.6, pump_kw=1.5,
                    pump_head_kpa=220.0, pump_drop=0.58, tank_m3=5.0, tank_ua=0.03, tank_t0=42.0, transformer_kva=160.0, ct_ratio=40.0, first_kwh=412_500.0)

    def __init__(self, seed: int = 2) -> None:
        super().__init__(seed)
        self.facts = Facts("GSJ", "妫水家园热泵站", "Guishui heat-pump plant", "北京市延庆区", 40.457, 115.975, 0.0, self.key, "tou_residential")
        self.pumps = [HeatPump(UNIT_KW) for _ in range(UNITS)]
        self.codes = [f"GS-HP{k + 1}" for k in range(UNITS)]
        points = tuple(load("heat_pump_modbus").places)
        devices = [Device(code, f"{k + 1}号空气源热泵", f"Heat pump {k + 1}", "heat_pump_modbus", "field", k + 1, points, location="妫水家园热泵站/机组区",
                          rated_kw=18.0, parent="GS-TR", attributes={"rated_heat_kw": UNIT_KW}) for k, code in enumerate(self.codes)]
        self._build(devices, "妫水家园1号楼", "Guishui block 1")
        self.facts = Facts("GSJ", "妫水家园热泵站", "Guishui heat-pump plant", "北京市延庆区", 40.457, 115.975, round(float(self.area.sum()), 1), self.key, "tou_residential")
        for k, unit in enumerate(self.pumps):
            self.components[f"heat_pump_{k + 1}"] = unit
            self.ledgers.append(unit.ledger)

    def _supply_curve(self) -> float:
        return min(48.0, max(30.0, 35.0 + 0.45 * (5.0 - self.weather.temperature)))

    def _installed_kw(self) -> float:
        return UNIT_KW * UNITS

    def _full_temp(self) -> float:
        return self.t_set + 5

    def _wish(self, code: str, unit: HeatPump, k: int) -> float:
        """Wished share of full capacity; units start one after another as the buffer falls."""
        set_point = self.wished(code, "leaving_temp_setpoint", self.t_set + 2.0)
        error = set_point - self.tank.t[len(self.tank.t) // 2]
        local = max(0.3, min(1.0, 0.45 + 0.3 * error)) if error > (-1.5 if unit.running else 0.3 * k) else 0.0
        held = self.remote.get((code, "enable_command"))
        enable = self.wished(code, "enable_command", 1.0)
        if enable < 0.5 or self._charge_enable() < 0.5:
            return 0.0
        if held is not None and local == 0.0 and unit.leaving < 55:
            local = unit.minimum_share  # a person asked for it: run at the floor
        full = unit.capacity(self.weather.temperature, self._leaving(unit)) / unit.cop(self.weather.temperature, self._leaving(unit))
        limit = self.wished(code, "power_limit_setpoint", UNIT_KW)
        share = min(local, max(0.0, limit / full), self._charge_limit() / self._installed_kw())
        return share if share >= unit.minimum_share - 1e-9 else 0.0

    def _leaving(self, unit: HeatPump) -> float:
        return self.tank.bottom + max(unit.heat_kw, 0.0) / (UNIT_FLOW * CP)

    def _sources(self, dt: float) -> tuple[float, float, float]:
        heat = power = 0.0
        for k, (code, unit) in enumerate(zip(self.codes, self.pumps, strict=True)):
            unit.step(dt, wish=self._wish(code, unit, k), t_out=self.weather.temperature, humidity=self.weather.humidity, t_supply=self._leaving(unit),
                      t_entering=self.tank.bottom, alive=self.alive)
            heat, power = heat + unit.heat_kw, power + unit.power_kw
            self.totals.add(code, unit.power_kw * dt / 3600)
        flow = UNIT_FLOW * UNITS if self.alive or heat else 0.0
        return flow, heat, power + (0.35 * UNITS if self.alive else 0.0)

    def _delay_zero(self, *, on: bool) -> None:
        super()._delay_zero(on=on)
        for unit in self.pumps:
            unit.lock_s = 0.0 if on else 300.0

    def _publish(self) -> None:
        super()._publish()
        t_out = self.weather.temperature
        for code, u in zip(self.codes, self.pumps, strict=True):
            cold, hot = t_out - 8, u.leaving + 5
            self.image.put(code, {
                "active_power": u.power_kw, "energy_import": self.totals[code], "leaving_temp": u.leaving, "entering_temp": self.tank.bottom,
                "flow": UNIT_FLOW * 3.6 if self.alive else 0.0, "heating_capacity": max(0.0, u.heat_kw), "cop": max(0.0, u.heat_kw / u.power_kw) if u.running else 0.0,
                "outdoor_temp": t_out, "compressor_frequency": 90.0 * u.share if u.running else 0.0, "suction_temp": cold + 5 if u.running else t_out,
                "discharge_temp": hot + 30 + 0.6 * (hot - cold) * 0.5 if u.running else u.leaving, "suction_pressure": r32_pressure(cold if u.running else t_out),
                "discharge_pressure": r32_pressure(hot if u.running else t_out), "evaporator_temp": (2.0 if u.defrosting else cold) if u.running else t_out,
                "run_hours": u.run_s / 3600 + 3200, "start_count": u.starts + 2400, "run_state": float(u.running), "defrost_state": float(u.running and u.defrosting > 0),
                "overheat_alarm": 0.0, "leakage_alarm": 0.0, "phase_loss_alarm": float(not self.alive), "fault_code": 0.0,
                "leaving_temp_setpoint": self.wished(code, "leaving_temp_setpoint", self.t_set + 2.0),
                "power_limit_setpoint": self.wished(code, "power_limit_setpoint", UNIT_KW), "enable_command": self.wished(code, "enable_command", 1.0), "reset_command": 0.0})


def r32_pressure(t: float) -> float:
    """Saturation pressure of R32, kPa absolute, Clausius-Clapeyron fitted to 813 kPa at 0 degC and 2478 kPa at 40 degC."""
    return 813.0 * math.exp(math.log(2478 / 813) * (1 / 273.15 - 1 / (t + 273.15)) / (1 / 273.15 - 1 / 313.15))
