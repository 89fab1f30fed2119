"""The loop: circulation pump, supply and return pipe, branches with unequal resistance (水力失调), radiators.

Flow shares follow the quadratic law of turbulent branches in parallel; radiators are heat exchangers with a constant UA (effectiveness, NTU).
Must not know: who opens a valve.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmarks.plants.physics.ledger import CP, Ledger

Array = npt.NDArray[np.float64]


class Pump:
    """A circulation pump (循环泵): head = head0 * speed^2 - drop * flow^2 (kPa, m3/h), efficiency constant."""

    STATE = ("running", "speed", "run_s", "power_kw", "head", "flow")

    def __init__(self, rated_kw: float, head0: float, drop: float, efficiency: float = 0.6) -> None:
        self.rated_kw = rated_kw
        self.head0 = head0
        self.drop = drop
        self.efficiency = efficiency
        self.running = True
        self.speed = 0.8
        self.run_s = 0.0
        self.power_kw = 0.0
        self.head = 0.0
        self.flow = 0.0

    def operate(self, dt: float, conductance: float, *, alive: bool = True) -> float:
        """Return the flow in kg/s through branches of total `conductance` (m3/h per sqrt kPa); sets head (kPa), flow (m3/h), power (kW)."""
        on = self.running and alive and self.speed > 0.01
        self.run_s += dt if on else 0.0
        if not on or conductance <= 0:
            self.head, self.flow, self.power_kw = (self.head0 * self.speed**2 if on else 0.0), 0.0, (0.25 * self.rated_kw * self.speed**3 if on else 0.0)
            return 0.0
        self.head = self.head0 * self.speed**2 / (1 + self.drop * conductance**2)
        self.flow = conductance * math.sqrt(self.head)
        self.power_kw = max(0.15 * self.rated_kw * self.speed**3, self.flow * self.head / 3600 / self.efficiency)
        return self.flow / 3.6


class Loop:
    """Supply and return pipe as two mixed volumes, and n radiators between them."""

    STATE = ("supply", "back")

    def __init__(self, conductance: Array, radiator_ua: Array, volume: float, ua_ground: float, t0: float = 45.0) -> None:
        """Args: branch conductances m3/h per sqrt kPa (n,), radiator UA kW/K (n,), water of each pipe m3, loss of each pipe kW/K."""
        self.conductance = conductance
        self.radiator_ua = radiator_ua
        self.mass = volume * 1000.0
        self.ua_ground = ua_ground
        self.supply = t0
        self.back = t0 - 8
        self.ledger = Ledger()

    def stored(self) -> float:
        """Heat above 0 degC, kJ."""
        return self.mass * CP * (self.supply + self.back)

    def step(self, dt: float, flow: float, t_in: float, opening: Array, t_air: Array, t_ground: float = 4.0, heat_in: float = 0.0) -> Array:
        """Advance by `dt` seconds.

        Args:
            dt: s.
            flow: kg/s through the loop; the water leaves at the return temperature `back` of the step's beginning.
            t_in: temperature of the water coming in, degC.
            opening: valve positions 0..1, (n,).
            t_air: room temperatures, (n,).
            t_ground: degC.
            heat_in: shaft power of the pump turned into heat, kW.

        Returns:
            Heat to each room, kW, (n,).
        """
        c = self.mass * CP
        moved, loss_g = flow * CP * dt, self.ua_ground * dt
        out_back = self.back
        self.supply = (c * self.supply + moved * t_in + loss_g * t_ground + heat_in * dt) / (c + moved + loss_g)  # implicit
        share = self.conductance * opening
        total = float(share.sum())
        if flow > 0 and total > 0:
            m = flow * share / total
            with np.errstate(divide="ignore"):
                effect = np.where(m > 1e-9, 1 - np.exp(-self.radiator_ua / (np.maximum(m, 1e-9) * CP)), 0.0)
            q = m * CP * effect * (self.supply - t_air)
            t_mix = self.supply - float(q.sum()) / (flow * CP)
        else:
            q, t_mix = np.zeros_like(t_air), self.supply
        lost_back = loss_g * (self.back - t_ground)
        entered_back = flow * CP * dt * (t_mix - self.back)
        self.back += (entered_back - lost_back) / c
        self.ledger.add(entered=moved * (t_in - out_back) + heat_in * dt, left=float(q.sum()) * dt + loss_g * (self.supply - t_ground) + lost_back)
        return q
