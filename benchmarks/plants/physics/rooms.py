"""Heated rooms (households): two nodes each (air, building mass), coupled to neighbours, stepped by Crank-Nicolson.

2R2C with neighbour coupling after Bacher and Madsen (2011), Energy and Buildings 43(7). Must not know: what heats them, who controls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.plants.physics.ledger import Ledger

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Constants of n rooms, arrays of shape (n,).

    Attributes:
        c_air: heat capacity of air and furniture, kJ/K.
        c_mass: heat capacity of walls and slabs, kJ/K.
        g_inner: air to mass, kW/K.
        g_outer: mass to outdoor air, kW/K.
        g_direct: windows and base infiltration, air to outdoor air, kW/K.
        g_wind: additional infiltration per m/s of wind, kW/K/(m/s).
        neighbours: (i, j, kW/K) between the masses of two rooms.
    """

    c_air: Array
    c_mass: Array
    g_inner: Array
    g_outer: Array
    g_direct: Array
    g_wind: Array
    neighbours: Sequence[tuple[int, int, float]] = ()


class Rooms:
    """Temperatures of n rooms. Trapezoidal in time: unconditionally stable, and fluxes taken at the mean of both ends close the balance exactly."""

    STATE = ("x",)

    def __init__(self, envelope: Envelope, t_air: float | Array = 20.0) -> None:
        self.envelope = e = envelope
        self.n = n = len(e.c_air)
        self.ledger = Ledger()
        self.x: Array = np.concatenate([np.full(n, 1.0) * t_air, np.full(n, 1.0) * t_air - 1.5])
        flow = np.zeros((2 * n, 2 * n))  # kW per K between nodes
        a, m = np.arange(n), np.arange(n) + n
        flow[a, a] -= e.g_inner + e.g_direct
        flow[a, m] += e.g_inner
        flow[m, m] -= e.g_inner + e.g_outer
        flow[m, a] += e.g_inner
        for i, j, g in e.neighbours:
            flow[n + i, n + i] -= g
            flow[n + j, n + j] -= g
            flow[n + i, n + j] += g
            flow[n + j, n + i] += g
        self._capacity: Array = np.concatenate([e.c_air, e.c_mass])
        self._outer: Array = np.concatenate([e.g_direct, e.g_outer])
        self._a: Array = flow / self._capacity[:, None]
        self._matrices: dict[float, tuple[Array, Array]] = {}

    @property
    def t_air(self) -> Array:
        """Air temperatures, degC, shape (n,)."""
        return self.x[: self.n]

    @property
    def t_mass(self) -> Array:
        """Mass temperatures, degC, shape (n,)."""
        return self.x[self.n:]

    def stored(self) -> float:
        """Heat stored above 0 degC, kJ."""
        return float(self._capacity @ self.x)

    def _step_matrices(self, dt: float) -> tuple[Array, Array]:
        found = self._matrices.get(dt)
        if found is None:
            eye = np.eye(2 * self.n)
            inverse = np.linalg.inv(eye - dt / 2 * self._a)
            found = (inverse @ (eye + dt / 2 * self._a), inverse * dt / self._capacity[None, :])
            self._matrices[dt] = found
        return found

    def step(self, dt: float, t_out: float, wind: float, q_air: Array, q_mass: Array) -> None:
        """Advance by `dt` seconds.

        Args:
            dt: s.
            t_out: outdoor temperature, degC.
            wind: m/s.
            q_air: heat given to the air nodes (heaters, people, sun), kW, shape (n,).
            q_mass: heat given to the masses, kW, shape (n,).
        """
        matrix, gain = self._step_matrices(dt)
        draught = self.envelope.g_wind * wind * (self.t_air - t_out)  # explicit: depends on the wind of this step
        power = np.concatenate([q_air - draught, q_mass]) + self._outer * t_out
        before = self.x
        self.x = matrix @ before + gain @ power
        lost = dt * (float(self._outer @ ((before + self.x) / 2 - t_out)) + float(draught.sum()))
        self.ledger.add(entered=dt * float(q_air.sum() + q_mass.sum()), left=lost)


def apartment_block(rng: np.random.Generator, floors: int, units: int, area_m2: float, w_per_m2: float, t_design: float = -9.0) -> tuple[Envelope, Array, Flags, Flags]:
    """A slab block of `floors` x `units` households; corner, top and bottom ones lose more.

    Args:
        rng: seeded.
        floors: storeys.
        units: households per storey, in one row.
        area_m2: mean heated area of a household.
        w_per_m2: design heat loss of the average household at 18 degC inside and `t_design` outside.
        t_design: degC.

    Returns:
        Envelope, heated areas (n,), corner flags (n,), top flags (n,); index = floor * units + unit, floors from 0.
    """
    n = floors * units
    area = np.round(area_m2 * rng.uniform(0.85, 1.15, n), 1)
    floor, unit = np.arange(n) // units, np.arange(n) % units
    corner, top = (unit == 0) | (unit == units - 1), floor == floors - 1
    loss = area * w_per_m2 / 1000 / (18 - t_design)  # kW/K
    exposed = loss * (1 + 0.35 * corner + 0.40 * top + 0.25 * (floor == 0)) * rng.uniform(0.92, 1.08, n)
    neighbours = [(i, i + 1, 0.045) for i in range(n) if unit[i] < units - 1] + [(i, i + units, 0.09) for i in range(n - units)]
    envelope = Envelope(c_air=area * 2.7 * 1.2 * 1.005 * 6, c_mass=area * 260.0, g_inner=area * 0.0075, g_outer=exposed * 0.55,
                        g_direct=exposed * 0.45, g_wind=exposed * 0.02, neighbours=neighbours)
    return envelope, area, corner, top
