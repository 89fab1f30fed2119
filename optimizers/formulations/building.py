"""Buildings as exact zero-order-hold recursions: x[t+1] = a x[t] + b heat[t] + d[t], heat and disturbances constant within a step.

1R1C and 2R2C, discretised by the matrix exponential: stable and exact at any step. Must not know: solvers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optimizers.specification import Array, Building, Community, series


@dataclass(frozen=True, slots=True)
class Thermal:
    """A building over the horizon.

    Attributes:
        a: (n, n) state transition of a step.
        b: (n,) kelvin per kW of heat over a step.
        d: (steps, n) what weather, sun and gains add, kelvin.
        start: (n,) state now, degC: room, then mass.
        weight: (n,) heat capacity kWh/K of each state.
    """

    a: Array
    b: Array
    d: Array
    start: Array
    weight: Array


def _exponential(m: Array) -> Array:
    """exp(m) of a 1x1 or 2x2 matrix with real eigenvalues, none above zero (Sylvester's formula): a general routine costs more than the rest of the model.

    Exponentials of what is not above zero only: no step or coupling is too large for them.
    """
    if len(m) == 1:
        return np.exp(m)
    half, apart = (m[0, 0] + m[1, 1]) / 2, math.sqrt(((m[0, 0] - m[1, 1]) / 2) ** 2 + m[0, 1] * m[1, 0])
    fast = half - apart
    slow = min(0.0, (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) / fast)  # by the determinant: half + apart would cancel
    even, odd = (math.exp(slow) + math.exp(fast)) / 2, -math.exp(slow) * math.expm1(-2 * apart) / (2 * apart) if apart > 0 else math.exp(fast)
    turned = np.array([[(m[0, 0] - m[1, 1]) / 2, m[0, 1]], [m[1, 0], (m[1, 1] - m[0, 0]) / 2]])
    return np.asarray(even * np.eye(2) + odd * turned, np.float64)


def thermal(building: Building, community: Community) -> Thermal:
    """Discretise a building for a community's step and weather."""
    steps = community.steps
    gains = series(building.gains_kw, steps) + building.solar_m2 * series(community.sun_kw_m2, steps)
    outdoor = community.outdoor_c
    if building.mass_kwh_k <= 0:
        rates = np.array([[-building.loss_kw_k / building.capacity_kwh_k]])
        inputs = np.array([[1 / building.capacity_kwh_k, building.loss_kw_k / building.capacity_kwh_k]])
        start = np.array([building.room_c])
        weight = np.array([building.capacity_kwh_k])
    else:
        air, mass, link = building.capacity_kwh_k, building.mass_kwh_k, building.coupling_kw_k
        rates = np.array([[-(building.loss_kw_k + link) / air, link / air], [link / mass, -(link + building.mass_loss_kw_k) / mass]])
        inputs = np.array([[1 / air, building.loss_kw_k / air], [0.0, building.mass_loss_kw_k / mass]])
        balance = (link * building.room_c + building.mass_loss_kw_k * float(outdoor[0])) / (link + building.mass_loss_kw_k)
        start = np.array([building.room_c, balance if building.mass_c is None else building.mass_c])
        weight = np.array([air, mass])
    a = _exponential(rates * community.step_h)
    # The integral of the exponential over a step: rates^-1 (a - 1); rates are never singular, for a building loses heat.
    by_heat, by_outdoor = np.linalg.solve(rates, (a - np.eye(len(start))) @ inputs).T
    return Thermal(a, by_heat, np.outer(gains, by_heat) + np.outer(outdoor, by_outdoor), start, weight)
