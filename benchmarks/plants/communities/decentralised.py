"""Community (d): 200 room heaters behind four gateways of 50 units; the main and four feeder meters speak DL/T 645.

140 of 200 thermostats report the room; the other 60 are mechanical ones behind a relay (no room_temp, set-point not remote). Must not know: registers, sockets.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benchmarks.plants.communities.hydronic import publish_meters
from benchmarks.plants.community import Community, tariff_slot, three_phase
from benchmarks.plants.device import Channel, Device, Facts
from benchmarks.plants.physics.meters import ElectricityMeter
from benchmarks.plants.physics.room_heaters import RoomHeaters
from benchmarks.plants.physics.rooms import Rooms, apartment_block
from benchmarks.plants.template import load

ROOMS, GATEWAYS, FLOORS, UNITS = 200, 4, 10, 20
KVA = 400.0
Array = npt.NDArray[np.float64]


class Decentralised(Community):
    """松林学院: a dormitory with electric film heating."""

    key: ClassVar[str] = "decentralised"
    channels: ClassVar[tuple[Channel, ...]] = (Channel("gateway_1", "modbus", 0), Channel("meters_645", "dlt645", 1), Channel("gateway_2", "modbus", 3),
                                               Channel("gateway_3", "modbus", 4), Channel("gateway_4", "modbus", 5))

    def __init__(self, seed: int = 4) -> None:
        super().__init__(seed)
        rng = self.rng
        envelope, area, corner, top = apartment_block(rng, FLOORS, UNITS, 18.0, 55.0)
        self.area = area
        self.rooms = Rooms(envelope, rng.uniform(17.5, 20.0, ROOMS))
        rated = np.round(area * 0.085 * (1 + 0.35 * corner + 0.3 * top), 1)
        self.heaters = RoomHeaters(rated)
        self.heaters.setpoint = rng.choice([18.0, 19.0, 20.0, 21.0], ROOMS, p=[0.2, 0.4, 0.3, 0.1])
        self.heaters.energy_kwh = np.round(rng.uniform(300, 1900, ROOMS), 2)
        self.bias = np.round(rng.normal(0, 0.2, ROOMS), 2)
        self.has_sensor = np.zeros(ROOMS, dtype=bool)
        self.has_sensor[rng.choice(ROOMS, 140, replace=False)] = True
        self.gateway = np.arange(ROOMS) // (ROOMS // GATEWAYS)
        self.meters = [ElectricityMeter(60.0, 380_000.0, rng)] + [ElectricityMeter(20.0, 90_000.0, rng) for _ in range(GATEWAYS)]
        self.meter_codes = ["SL-EM0"] + [f"SL-EM{k + 1}" for k in range(GATEWAYS)]
        self.power: Array = np.zeros(ROOMS)
        self.feeder_kw = [0.0] * (1 + GATEWAYS)
        self.codes = [f"SL-R{k // UNITS + 1:02d}{k % UNITS + 1:02d}" for k in range(ROOMS)]
        self.facts = Facts("SLX", "松林学院分散电采暖", "Songlin college room heaters", "河北省张家口市", 40.405, 115.52, round(float(area.sum()), 1), self.key, "tou_residential")
        self._ready(self._devices(rated, corner, top))
        self.components = {"rooms": self.rooms, "heaters": self.heaters, **{f"meter_{k}": m for k, m in enumerate(self.meters)}}
        self.ledgers = [self.rooms.ledger]
        self._place = {c: k for k, c in enumerate(self.codes)}
        self._columns = {p: self.image.column(self.codes, p) for p in load("room_heater_modbus").places}
        self._sensor_at = {int(at): k for k, at in enumerate(self._columns["room_temp"])}

    def _devices(self, rated: Array, corner: npt.NDArray[np.bool_], top: npt.NDArray[np.bool_]) -> list[Device]:
        heater, meter = tuple(load("room_heater_modbus").places), tuple(load("electricity_meter_dlt645").places)
        devices = [Device("SL-EM0", "总电能表", "Main electricity meter", "electricity_meter_dlt645", "meters_645", "202600004000", meter, "松林学院/配电室", ct_ratio=60.0,
                          rated_kw=KVA, attributes={"rated_kva": KVA})]
        devices += [Device(f"SL-EM{g + 1}", f"{g + 1}号馈线电能表", f"Feeder meter {g + 1}", "electricity_meter_dlt645", "meters_645", f"20260000400{g + 1}", meter,
                           "松林学院/配电室", parent="SL-EM0", ct_ratio=20.0) for g in range(GATEWAYS)]
        for k, code in enumerate(self.codes):
            floor, unit = k // UNITS + 1, k % UNITS + 1
            g = int(self.gateway[k])
            devices.append(Device(
                code, f"学生公寓{floor}{unit:02d}室电热膜", f"Room {floor}{unit:02d} film heater", "room_heater_modbus", f"gateway_{g + 1}", k % (ROOMS // GATEWAYS) + 1, heater,
                f"松林学院/学生公寓/{floor}层/{floor}{unit:02d}室", f"SL-EM{g + 1}", float(rated[k]), absent=frozenset() if self.has_sensor[k] else frozenset({"room_temp"}),
                attributes={"heated_area_m2": float(self.area[k]), "building": "学生公寓", "floor": floor, "unit": f"{floor}{unit:02d}", "corner": bool(corner[k]), "top": bool(top[k]),
                            "bottom": floor == 1, "end_of_line": False, "has_sensor": bool(self.has_sensor[k])}))
        return devices

    def _step(self, dt: float) -> None:
        w = self.weather
        seen = self.rooms.t_air + self.bias
        for at, value in self.image.frozen.items():
            if at in self._sensor_at:
                seen[self._sensor_at[at]] = value
        held = self.heaters.enable
        if self.remote:
            held = np.array([self.wished(c, "enable_command", 1.0) for c in self.codes])
        elif not held.all():
            held = np.ones(ROOMS)
        self.heaters.enable = held
        self.power = self.heaters.step(dt, seen, alive=self.alive)
        people = self.area * (0.004 if self.local_hour > 21 or self.local_hour < 8 else 0.0015)
        sun = self.area * 0.10 * w.sun / 1000 * 0.35
        self.rooms.step(dt, w.temperature, w.wind, 0.7 * self.power + people + 0.4 * sun, 0.3 * self.power + 0.6 * sun)
        slot = tariff_slot(self.local_hour)
        feeders = np.bincount(self.gateway, self.power, GATEWAYS)
        self.feeder_kw = [float(feeders.sum()) + (3.0 if self.alive else 0.0), *feeders.tolist()]
        for meter, kw in zip(self.meters, self.feeder_kw, strict=True):
            meter.step(dt, kw, slot, 0.99)

    def _written(self, code: str, point: str, value: float) -> None:
        if point == "room_temp_setpoint":
            self.remote.pop((code, point), None)
            k = self._place[code]
            if self.has_sensor[k]:
                self.heaters.setpoint[k] = value

    def _meter_reset(self, code: str) -> None:
        if code not in self.meter_codes:
            super()._meter_reset(code)
        else:
            self.meters[self.meter_codes.index(code)].registers.reset()

    def _delay_zero(self, *, on: bool) -> None:
        self.heaters.lock_s = 0.0 if on else 120.0

    def _publish(self) -> None:
        h, zero = self.heaters, np.zeros(ROOMS)
        columns: dict[str, Array] = {
            "active_power": self.power, "energy_import": np.floor(h.energy_kwh * 100) / 100, "room_temp": self.rooms.t_air + self.bias,
            "element_temp": self.rooms.t_air + 22 * h.on, "run_state": h.on, "overheat_alarm": zero, "leakage_alarm": zero, "room_temp_setpoint": h.setpoint, "enable_command": h.enable}
        for point, values in columns.items():
            if point in self._columns:
                self.image.put_column(self._columns[point], values)
        for code, meter, kw in zip(self.meter_codes, self.meters, self.feeder_kw, strict=True):
            publish_meters(self.image, code, meter, three_phase(kw, self.alive, 0.99))

    def truth(self) -> dict[str, Any]:
        """All 200 rooms, and the power of main and feeders."""
        t = self.rooms.t_air
        return {"now_s": self.now_s, "outdoor_temp": self.weather.temperature, "room_temp": dict(zip(self.codes, t.tolist(), strict=True)), "coldest": self.codes[int(np.argmin(t))],
                "sensors": int(self.has_sensor.sum()), "rooms": ROOMS, "power_kw": self.feeder_kw[0], "feeder_kw": self.feeder_kw[1:],
                "energy_kwh": float(self.meters[0].registers.total[0] * 60.0)}
