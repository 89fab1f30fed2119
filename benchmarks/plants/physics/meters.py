"""Electricity and heat meters: registers of finite width and resolution, tariffs, demand; they can be reset and they roll over.

Must not know: protocols, clocks (the tariff slot is an argument).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
REGISTER = 1_000_000.0
"""Registers are XXXXXX.XX: they begin again after 999999.99."""


class Registers:
    """Counters that never lose a fraction inside and show only what their digits can."""

    STATE = ("total", "base")

    def __init__(self, start: Array, width: float = REGISTER, resolution: float = 0.01) -> None:
        self.total: Array = np.asarray(start, dtype=float).copy()
        self.base: Array = np.zeros_like(self.total)
        self.width = width
        self.resolution = resolution

    def add(self, amount: Array) -> None:
        """Count `amount` (same unit), never negative."""
        self.total = self.total + np.maximum(amount, 0.0)

    def reset(self) -> None:
        """The meter is replaced or cleared: it shows zero from now on."""
        self.base = self.total.copy()

    def shown(self) -> Array:
        """What the display reads: cut (not rounded) to the resolution, modulo the width."""
        steps = np.floor((self.total - self.base) / self.resolution + 1e-6)
        return np.mod(steps * self.resolution, self.width)


class ElectricityMeter:
    """A three-phase meter behind current transformers of `ratio` (CT x PT); its registers are secondary-side.

    Registers in order: total, sharp, peak, flat, valley (T1..T4), reverse, reactive.
    """

    STATE = ("power", "demand", "demand_max", "window_kwh", "window_s")

    def __init__(self, ratio: float, start_kwh: float, rng: np.random.Generator) -> None:
        self.ratio = ratio
        share = rng.dirichlet((2.0, 8.0, 9.0, 14.0))
        first = start_kwh / ratio
        self.registers = Registers(np.array([first, *(first * share), 0.0, first * 0.12]))
        self.power = 0.0       # primary kW
        self.demand = 0.0      # primary kW, sliding 15 min block
        self.demand_max = 0.0
        self.window_kwh = 0.0
        self.window_s = 0.0

    def step(self, dt: float, power_kw: float, tariff: int, power_factor: float) -> None:
        """Count `power_kw` (primary) for `dt` seconds into total and tariff register `tariff` (1..4)."""
        self.power = power_kw
        energy = power_kw * dt / 3600
        amount = np.zeros(7)
        amount[0] = amount[tariff] = energy / self.ratio
        amount[6] = amount[0] * float(np.tan(np.arccos(power_factor)))
        self.registers.add(amount)
        self.window_kwh += energy
        self.window_s += dt
        if self.window_s >= 900.0:
            self.demand = self.window_kwh / (self.window_s / 3600)
            self.demand_max = max(self.demand_max, self.demand)
            self.window_kwh, self.window_s = 0.0, 0.0


class HeatMeter:
    """A heat meter (热量表) in a pipe; registers in order: heat kWh, volume m3, working hours."""

    STATE = ("power", "flow", "supply", "back")

    def __init__(self, start_kwh: float, start_m3: float, start_h: float = 3000.0) -> None:
        self.registers = Registers(np.array([start_kwh, start_m3, start_h]))
        self.power = 0.0
        self.flow = 0.0
        self.supply = 0.0
        self.back = 0.0

    def step(self, dt: float, power_kw: float, flow_m3h: float, supply: float, back: float) -> None:
        """Count heat and water for `dt` seconds; reverse flow is not counted."""
        self.power, self.flow, self.supply, self.back = power_kw, flow_m3h, supply, back
        self.registers.add(np.array([power_kw, flow_m3h, 1.0]) * dt / 3600)
