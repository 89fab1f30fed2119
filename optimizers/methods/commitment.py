"""On/off statuses near a relaxed solution by dynamic programming over runs: shortest times on and off are met exactly.

Cost of a path: sum |p_t - u_t| weighted by what a step matters, plus starts. Must not know: solvers, buildings.
"""

from __future__ import annotations

import numpy as np

from optimizers.formulations.units import Unit
from optimizers.specification import Array

#: Weight of a step in which nothing is available: off, whatever that costs elsewhere.
LOCKED = 1e9


def nearest_status(wish: Array, unit: Unit, *, weight: Array | float = 1.0, start: float = 0.3) -> Array:
    """The cheapest feasible path of statuses.

    Two numbers a step suffice: the cheapest path that ends on (off) and has been so for its shortest time. A run may be cut by the end of the horizon.

    Args:
        wish: (steps,) status wanted, in [0, 1].
        unit: its shortest times, its status before the horizon and for how long that must hold, and where it is locked out.
        weight: price of missing the wish in a step.
        start: price of a start, in the same measure.

    Returns:
        (steps,) zeros and ones.
    """
    steps = len(wish)
    wish = np.where(unit.locked, 0.0, wish)
    weights = np.where(unit.locked, LOCKED, np.broadcast_to(np.asarray(weight, np.float64), (steps,)))
    # Cost of being on (off) during [0, t).
    sums = (np.r_[0.0, np.cumsum(weights * wish)].tolist(), np.r_[0.0, np.cumsum(weights * (1 - wish))].tolist())
    shortest, price = (max(1, unit.down), max(1, unit.up)), (0.0, start)
    ripe: tuple[list[float], list[float]] = ([np.inf] * (steps + 1), [np.inf] * (steps + 1))
    since: tuple[list[int], list[int]] = ([-1] * (steps + 1), [-1] * (steps + 1))  # where the run began, -1: before the horizon
    ripe[int(unit.on)][0] = 0.0
    for t in range(1, steps + 1):
        for side in (0, 1):
            mine, cost = ripe[side], sums[side]
            stay = mine[t - 1] + cost[t] - cost[t - 1]
            first = t - shortest[side]
            turned = ripe[1 - side][first] + price[side] + cost[t] - cost[first] if first >= unit.bound else np.inf
            if turned < stay:
                mine[t], since[side][t] = turned, first
            else:
                mine[t], since[side][t] = stay, since[side][t - 1]
    best, side, first = min((ripe[k][steps], k, since[k][steps]) for k in (0, 1))
    for k in (0, 1):
        for begin in range(max(unit.bound, steps - shortest[k] + 1), steps):
            cut = ripe[1 - k][begin] + price[k] + sums[k][steps] - sums[k][begin]
            if cut < best:
                best, side, first = cut, k, begin
    found = np.empty(steps)
    end = steps
    while end > 0:
        begin = max(first, 0)
        found[begin:end] = float(side)
        end, side = begin, 1 - side
        first = since[side][end]
    return found
