"""Community (a): two staged electric boilers charge a 60 m3 tank in the valley tariff; 30 valve households on radiators.

18 of 30 rooms have a sensor. Must not know: registers, sockets.
"""

from __future__ import annotations

import math
from typing import ClassVar

from benchmarks.plants.communities.hydronic import Hydronic, Sizing
from benchmarks.plants.community import tariff_slot
from benchmarks.plants.device import Channel, Device, Facts
from benchmarks.plants.physics.electric_boiler import ElectricBoiler
from benchmarks.plants.physics.ledger import CP
from benchmarks.plants.template import load

BOILER_KW, STAGES, CHARGE_TEMP = 180.0, 6, 80.0


class BoilerStorage(Hydronic):
    """清河苑: a slab block of 1998 on electric boilers with storage."""

    key: ClassVar[str] = "boiler_storage"
    channels: ClassVar[tuple[Channel, ...]] = (Channel("field", "modbus", 0), Channel("meters_645", "dlt645", 1), Channel("meters_188", "cjt188", 2))
    prefix = "QH"
    sizing = Sizing(floors=5, units=6, area_m2=88.0, w_per_m2=42.0, sensor_share=0.6, radiator_ua_per_m2=0.0017, branch=0.034, imbalance=0.7, pump_kw=1.5,
                    pump_head_kpa=200.0, pump_drop=1.0, tank_m3=60.0, tank_ua=0.12, tank_t0=68.0, transformer_kva=630.0, ct_ratio=120.0, first_kwh=1_843_200.0)

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.facts = Facts("QHY", "清河苑电锅炉蓄热站", "Qingheyuan boiler and storage plant", "北京市海淀区", 40.033, 116.345, 0.0, "boiler_storage", "tou_1_10kv")
        self.boilers = [ElectricBoiler(BOILER_KW, STAGES) for _ in range(2)]
        self.codes = [f"QH-B{k + 1}" for k in range(2)]
        self.charging = True
        points = tuple(load("electric_boiler_modbus").places)
        devices = [Device(code, f"{k + 1}号电锅炉", f"Electric boiler {k + 1}", "electric_boiler_modbus", "field", k + 1, points, location="清河苑电锅炉蓄热站/锅炉间",
                          rated_kw=BOILER_KW, parent="QH-TR", attributes={"stages": STAGES}) for k, code in enumerate(self.codes)]
        self._build(devices, "清河苑3号楼", "Qingheyuan block 3")
        self.facts = Facts("QHY", "清河苑电锅炉蓄热站", "Qingheyuan boiler and storage plant", "北京市海淀区", 40.033, 116.345, round(float(self.area.sum()), 1), self.key, "tou_1_10kv")
        for k, boiler in enumerate(self.boilers):
            self.components[f"boiler_{k + 1}"] = boiler
            self.ledgers.append(boiler.ledger)

    def _supply_curve(self) -> float:
        return min(70.0, max(35.0, 42.5 + 1.0 * (5.0 - self.weather.temperature)))

    def _installed_kw(self) -> float:
        return BOILER_KW * len(self.boilers)

    def _local_stages(self) -> int:
        """Stages the local controller wants: all in the valley until the tank is full, else just enough to hold the supply temperature."""
        valley = tariff_slot(self.local_hour) == 4
        bottom, top = self.tank.bottom, self.tank.top
        self.charging = valley and bottom < CHARGE_TEMP - (2.0 if self.charging else 8.0)
        if self.charging:
            return STAGES * len(self.boilers)
        return min(STAGES * len(self.boilers), max(0, math.ceil(2 * (self.t_set + 1.5 - top))))

    def _sources(self, dt: float) -> tuple[float, float, float]:
        allowed = self._charge_enable() > 0.5
        wanted = self._local_stages()
        limit = self._charge_limit()
        flow = heat = power = 0.0
        for k, (code, boiler) in enumerate(zip(self.codes, self.boilers, strict=True)):
            share = wanted // 2 + (wanted % 2 if k == 0 else 0)
            enable = self.wished(code, "enable_command", float(share > 0))
            stages = self.wished(code, "stage_command", float(share if share or not enable else 1))
            set_point = self.wished(code, "leaving_temp_setpoint", CHARGE_TEMP)
            room = min(self.wished(code, "power_limit_setpoint", BOILER_KW), max(0.0, limit - power))
            stages = min(stages, math.floor(room / (BOILER_KW / STAGES) + 1e-6))
            if not allowed or enable < 0.5 or self.tank.bottom > set_point - 1.5:
                stages = 0
            m = min(8.0, max(1.2, BOILER_KW * stages / STAGES / (CP * max(set_point - self.tank.bottom, 2.0))))
            boiler.level += max(-0.5 * dt, min(0.5 * dt, (10.0 if code in self.faults["low_water"] else 85.0) - boiler.level))
            boiler.step(dt, wish=int(stages), flow=m if enable > 0.5 or boiler.on else 0.0, t_entering=self.tank.bottom, alive=self.alive)
            if boiler.on:
                flow, heat = flow + m, heat + boiler.heat_kw
            power += boiler.power_kw
            self.totals.add(code, boiler.power_kw * dt / 3600)
        return flow, heat, power

    def _publish(self) -> None:
        super()._publish()
        wanted = self._local_stages()
        for k, (code, b) in enumerate(zip(self.codes, self.boilers, strict=True)):
            share = wanted // 2 + (wanted % 2 if k == 0 else 0)
            enable = self.wished(code, "enable_command", float(share > 0 or b.on > 0))
            low = float(b.level < 20)
            self.image.put(code, {
                "active_power": b.power_kw, "energy_import": self.totals[code], "leaving_temp": b.leaving, "entering_temp": self.tank.bottom, "element_temp": b.element,
                "outlet_pressure": 260.0 if not low else 60.0, "water_level": b.level, "stage_count_on": float(b.on), "run_hours": b.run_s / 3600 + 1800, "start_count": b.starts + 400,
                "flow": 3.6 * b.heat_kw / (CP * max(b.leaving - self.tank.bottom, 2.0)), "run_state": float(enable > 0.5 and not b.tripped and self.alive),
                "overheat_alarm": float(b.leaving > 98), "low_water_alarm": low, "leakage_alarm": 0.0, "phase_loss_alarm": float(not self.alive),
                "fault_code": 3.0 if b.tripped else 0.0, "leaving_temp_setpoint": self.wished(code, "leaving_temp_setpoint", CHARGE_TEMP),
                "power_limit_setpoint": self.wished(code, "power_limit_setpoint", BOILER_KW), "stage_command": self.wished(code, "stage_command", float(b.on)),
                "enable_command": enable, "reset_command": 0.0})
