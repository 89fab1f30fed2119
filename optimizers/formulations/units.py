"""Heat sources as units with one on/off status each: heat between m*cap and cap while on, electricity = alpha*on + beta*heat.

Between its stages a boiler switches within a step: its lowest stage is its minimum load. Must not know: solvers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.specification import Array, Community, HeatPump, series


@dataclass(frozen=True, slots=True)
class Unit:
    """A heat source over the horizon.

    Attributes:
        cap: (steps,) kW heat at full load.
        least: share of cap while on.
        alpha: kW electricity while on, whatever the load.
        beta: (steps,) kW electricity per kW heat.
        up, down: fewest steps on and off.
        start_yuan: cost of a start.
        on: status before the horizon.
        bound: steps for which that status must still hold; a lockout ends it.
        locked: (steps,) nothing is available: off, standby too.
        source: index of the source it belongs to.
    """

    name: str
    cap: Array
    least: float
    alpha: float
    beta: Array
    up: int
    down: int
    start_yuan: float
    on: bool
    bound: int
    locked: NDArray[np.bool_]
    source: int

    @property
    def free(self) -> bool:
        """True when its status costs and forbids nothing: no minimum load, no start cost, no shortest times, none still running, no standby."""
        return self.least == 0 and self.start_yuan == 0 and self.alpha == 0 and self.up <= 1 and self.down <= 1 and self.bound == 0


def whole_steps(hours: float, step_h: float) -> int:
    """The fewest steps that last so many hours."""
    return math.ceil(hours / step_h - 1e-9)


def units(community: Community) -> list[Unit]:
    """Every source as one or more units."""
    steps, found = community.steps, list[Unit]()
    supply = series(community.supply_c, steps)
    for k, source in enumerate(community.sources):
        available = np.clip(np.nan_to_num(series(source.available, steps)), 0, 1)
        locked = available <= 0
        up, down = (max(1, whole_steps(h, community.step_h)) for h in (source.up_h, source.down_h))
        bound = min(steps, max(0, whole_steps((source.up_h if source.on else source.down_h) - source.since_h, community.step_h)))
        if source.on and locked.any():
            bound = min(bound, int(np.argmax(locked)))
        if isinstance(source, HeatPump):
            cop, share = source.performance.at(community.outdoor_c if source.source_c is None else source.source_c, supply)
            found.append(Unit(source.name, source.rated_heat_kw * share * available, source.minimum_load, source.standby_kw, 1 / cop, up, down, source.start_yuan, source.on, bound, locked, k))
        else:
            least = max(source.minimum_load, 1 / source.stages if source.stages else 0.0)
            found.append(Unit(source.name, source.rated_kw * source.efficiency * available, least, 0.0, np.full(steps, 1 / source.efficiency), up, down, source.start_yuan, source.on, bound, locked, k))
    return found
