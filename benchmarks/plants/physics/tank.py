"""A stratified hot-water storage tank (蓄热水箱): N equal layers, upwind advection, buoyant mixing, conduction, losses.

One-dimensional multi-node model after Duffie and Beckman (2013), 8.4. Layer 0 is the top. Must not know: what charges or empties it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmarks.plants.physics.ledger import CP, KJ_PER_KWH, Ledger

Array = npt.NDArray[np.float64]


class Tank:
    """A tank of `volume` m3 with `layers` layers; temperatures in degC."""

    STATE = ("t",)

    def __init__(self, volume: float, layers: int, ua: float, t0: float = 60.0, conduction: float = 0.02) -> None:
        """Args: volume m3, ua kW/K to the plant room, conduction kW/K between neighbouring layers."""
        self.volume = volume
        self.mass = volume * 1000.0 / layers
        self.ua = ua
        self.conduction = conduction
        self.t: Array = np.full(layers, float(t0)) - np.linspace(0, 5, layers)
        self.ledger = Ledger()

    @property
    def top(self) -> float:
        """Temperature drawn by the load, degC."""
        return float(self.t[0])

    @property
    def bottom(self) -> float:
        """Temperature drawn by the sources, degC."""
        return float(self.t[-1])

    def stored(self) -> float:
        """Heat above 0 degC, kJ."""
        return float(self.t.sum()) * self.mass * CP

    def energy_above(self, t_base: float) -> float:
        """Usable heat above `t_base`, kWh."""
        return float((self.t - t_base).sum()) * self.mass * CP / KJ_PER_KWH

    def step(self, dt: float, m_charge: float, q_charge: float, m_load: float, t_return: float, t_room: float = 10.0) -> float:
        """Advance by `dt` seconds.

        Args:
            dt: s.
            m_charge: flow through the sources, bottom -> source -> top, kg/s.
            q_charge: heat the sources add to that flow, kW (negative while a heat pump defrosts); needs m_charge > 0.
            m_load: flow to the loop, taken at the top and returned at the bottom, kg/s.
            t_return: temperature of the water coming back from the loop, degC.
            t_room: plant room, degC.

        Returns:
            Mean temperature of the water given to the loop, degC.
        """
        through = max(m_charge, m_load, 1e-9)
        pieces = max(1, math.ceil(through * dt / (0.5 * self.mass)))
        h = dt / pieces
        drawn = 0.0
        t, n = self.t.copy(), len(self.t)
        for _ in range(pieces):
            top, bottom = t[0], t[-1]
            drawn += top
            net = m_charge - m_load  # kg/s downwards inside the tank
            heat = np.zeros(n)       # kJ per piece
            upwind = t[:-1] if net >= 0 else t[1:]
            edge = CP * net * h * upwind + self.conduction * h * (t[:-1] - t[1:])
            heat[:-1] -= edge
            heat[1:] += edge
            heat[0] += h * (CP * m_charge * bottom + q_charge - CP * m_load * top)
            heat[-1] += h * (CP * m_load * t_return - CP * m_charge * bottom)
            loss = self.ua / n * h * (t - t_room)
            t = _mix(t + (heat - loss) / (self.mass * CP))
            self.ledger.add(entered=h * (q_charge + CP * m_load * (t_return - top)), left=float(loss.sum()))
        self.t = t
        return drawn / pieces


def _mix(t: Array) -> Array:
    """Average neighbouring layers until none is warmer than the one above (pool adjacent violators: conserves heat)."""
    if bool(np.all(t[:-1] >= t[1:])):
        return t
    blocks: list[list[float]] = []
    for value in t:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            value2, count2 = blocks.pop()
            value1, count1 = blocks.pop()
            blocks.append([(value1 * count1 + value2 * count2) / (count1 + count2), count1 + count2])
    return np.concatenate([np.full(int(count), value) for value, count in blocks])
