"""Valve households: their controllers (thermostat where there is a sensor, duty cycle where there is none) and how they are registered.

Must not know: sources, sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.plants.device import Device
from benchmarks.plants.template import load

Array = npt.NDArray[np.float64]
BAND = 0.3


class Thermostats:
    """n household controllers with set-points (20 degC), hysteresis 0.3 K, sensor errors; without sensor a staggered hourly duty cycle."""

    STATE = ("setpoint", "wish", "average", "last_s")

    def __init__(self, n: int, duty: float, rng: np.random.Generator) -> None:
        self.setpoint: Array = np.full(n, 20.0)
        self.wish: Array = np.ones(n)
        self.average: Array = np.full(n, duty)
        self.last_s = 0.0
        self.duty = duty
        self.bias: Array = np.round(rng.normal(0.0, 0.15, n), 2)
        self.first_s: Array = np.floor(rng.uniform(2e6, 6e6, n))
        self._phase: Array = rng.permutation(n) / n

    def decide(self, seen: Array, now_s: float, held: Mapping[int, float]) -> Array:
        """Valve commands, (n,).

        Args:
            seen: measured room temperatures, NaN without a sensor.
            now_s: s.
            held: remote commands by household.
        """
        with np.errstate(invalid="ignore"):
            wish = np.where(seen < self.setpoint - BAND, 1.0, np.where(seen > self.setpoint + BAND, 0.0, self.wish))
        duty = np.clip(self.duty + 0.12 * (self.setpoint - 20.0), 0.0, 1.0)
        cycle = np.where(np.mod(now_s / 3600 + self._phase, 1.0) < duty, 1.0, 0.0)
        self.wish = np.where(np.isnan(seen), cycle, wish)
        for k, value in held.items():
            self.wish[k] = value
        elapsed = max(0.0, now_s - self.last_s)
        self.average = self.average + (self.wish - self.average) * min(1.0, elapsed / 1800)
        self.last_s = now_s
        return self.wish.copy()

    def ratio(self, position: Array) -> Array:
        """Share of the running cycle with the valve open, smoothed over half an hour, (n,)."""
        return np.clip(np.where(position >= 0.999, self.average, np.minimum(self.average, 1.0)), 0.0, 1.0)


class Totals:
    """Counters inside devices that are not meters: kWh per device, and make-up water."""

    STATE = ("kwh", "makeup_m3")

    def __init__(self, codes: Sequence[str], rng: np.random.Generator) -> None:
        self.index = {c: k for k, c in enumerate(codes)}
        self.kwh: Array = np.floor(rng.uniform(2e3, 9e4, len(codes)))
        self.makeup_m3 = 12.5
        self.makeup_m3h = 0.0

    def add(self, code: str, kwh: float) -> None:
        """Count energy of one device."""
        self.kwh[self.index[code]] += kwh

    def __getitem__(self, code: str) -> float:
        return float(self.kwh[self.index[code]])

    def makeup(self, dt: float, leaking: bool) -> None:
        """Water that replaces what leaks: a little always, much when the loop runs dry."""
        self.makeup_m3h = 1.8 if leaking else 0.006
        self.makeup_m3 += self.makeup_m3h * dt / 3600


def household_devices(prefix: str, block_zh: str, block_en: str, floors: int, units: int, area: Array, corner: npt.NDArray[np.bool_], top: npt.NDArray[np.bool_],
                      sensors: npt.NDArray[np.bool_]) -> list[Device]:
    """The valve controllers as devices: room number floor * 100 + unit; the last tenth of the line is flagged `end_of_line`."""
    points = tuple(load("onoff_valve_modbus").places)
    n = floors * units
    devices = []
    for k in range(n):
        floor, unit = k // units + 1, k % units + 1
        room = f"{floor}{unit:02d}"
        devices.append(Device(
            code=f"{prefix}-H{room}", name_zh=f"{block_zh}{room}室户阀", name_en=f"{block_en} flat {room}", template="onoff_valve_modbus", channel="field", address=101 + k,
            points=points, location=f"{block_zh}/{floor}层/{room}室", parent=f"{prefix}-LOOP", absent=frozenset() if sensors[k] else frozenset({"room_temp"}),
            attributes={"heated_area_m2": float(area[k]), "building": block_zh, "floor": floor, "unit": room, "corner": bool(corner[k]), "top": bool(top[k]),
                        "bottom": floor == 1, "end_of_line": k >= 0.9 * n, "has_sensor": bool(sensors[k])}))
    return devices
