"""Community (c): a district seen through its meters only: 24 measured heat meters replayed over CJ/T 188, one DL/T 645 meter.

The readings are a measured house's (see measured_meter); the electricity meter is what a resistive boiler would take for them. Must not know: registers, sockets.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from benchmarks.plants.communities.hydronic import publish_meters
from benchmarks.plants.community import Community, tariff_slot, three_phase
from benchmarks.plants.device import Channel, Device, Facts
from benchmarks.plants.measured_meter import ReplayedMeter
from benchmarks.plants.physics.meters import REGISTER, ElectricityMeter
from benchmarks.plants.template import load

METERS, AREA_M2 = 24, 126.0


class MeteredDistrict(Community):
    """白庙村: detached houses, each with a heat meter."""

    key: ClassVar[str] = "metered_district"
    channels: ClassVar[tuple[Channel, ...]] = (Channel("meters_645", "dlt645", 1), Channel("meters_188", "cjt188", 2))

    def __init__(self, seed: int = 3) -> None:
        super().__init__(seed)
        self.facts = Facts("BMC", "白庙村分户计量小区", "Baimiao metered district", "河北省廊坊市", 39.85, 116.75, METERS * AREA_M2, self.key, "tou_1_10kv")
        self.replayed = [ReplayedMeter(k) for k in range(METERS)]
        self.base = np.zeros((METERS, 2))
        self.meter = ElectricityMeter(60.0, 640_000.0, self.rng)
        self.components = {"meter": self.meter, "bases": self}
        heat, electric = tuple(load("heat_meter_cjt188").places), tuple(load("electricity_meter_dlt645").places)
        devices = [Device(f"BM-HM{k + 1:02d}", f"白庙村{k + 1}号院热量表", f"Heat meter of house {k + 1}", "heat_meter_cjt188", "meters_188", f"11110026{k + 1:06d}", heat,
                          location=f"白庙村/{k + 1}号院", parent="BM-EM", attributes={"heated_area_m2": AREA_M2, "unit": f"{k + 1}号院", "floor": 1, "corner": True, "top": True,
                                                                           "end_of_line": k >= METERS - 3, "has_sensor": False, "replays": f"Aalborg meter 660, shifted by {k} days"})
                   for k in range(METERS)]
        devices.append(Device("BM-EM", "热源站总电能表", "Main electricity meter", "electricity_meter_dlt645", "meters_645", "202600003001", electric, location="白庙村/热源站",
                              ct_ratio=60.0))
        self._ready(devices)
        self._readings = [m.at(0.0) for m in self.replayed]
        self.heat_kw = 0.0

    STATE: ClassVar[tuple[str, ...]] = ("base",)

    def stored(self) -> float:
        """Nothing is stored here, kJ."""
        return 0.0

    def _step(self, dt: float) -> None:
        self._readings = [m.at(self.now_s) for m in self.replayed]
        self.heat_kw = sum(r.power for r in self._readings) if self.alive else 0.0
        self.meter.step(dt, self.mains_kw, tariff_slot(self.local_hour), 0.99)

    @property
    def mains_kw(self) -> float:
        """Electric power: heat over 0.97, and pumps."""
        return self.heat_kw / 0.97 + 2.2 if self.alive else 0.0

    def _publish(self) -> None:
        for k, r in enumerate(self._readings):
            shown = np.mod(np.floor(np.array([r.energy, r.volume]) * 100 + 1e-6) / 100 - self.base[k], REGISTER)
            self.image.put(f"BM-HM{k + 1:02d}", {
                "heat_energy": float(shown[0]), "volume": float(shown[1]), "heat_power": r.power, "flow": r.flow, "supply_temp": r.supply, "return_temp": r.back,
                "operating_hours": float(int(max(0.0, self.now_s - 1.75e9) / 3600)), "battery_low": 0.0})
        publish_meters(self.image, "BM-EM", self.meter, three_phase(self.mains_kw, self.alive, 0.99))

    def _meter_reset(self, code: str) -> None:
        if code == "BM-EM":
            self.meter.registers.reset()
            return
        k = int(code[-2:]) - 1
        r = self.replayed[k].at(self.now_s)
        self.base[k] = np.floor(np.array([r.energy, r.volume]) * 100 + 1e-6) / 100

    def truth(self) -> dict[str, Any]:
        """Replayed readings as they are."""
        return {"now_s": self.now_s, "outdoor_temp": self.weather.temperature, "heat_kwh": [r.energy for r in self._readings], "heat_kw": self.heat_kw, "power_kw": self.mains_kw,
                "energy_kwh": float(self.meter.registers.total[0] * self.meter.ratio)}
