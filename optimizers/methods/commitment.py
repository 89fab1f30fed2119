"""On/off statuses near a relaxed solution by dynamic programming over a unit's age: shortest times on and off are met exactly.

Cost of a path: sum |p_t - u_t| weighted by what a step matters, plus starts. Must not know: solvers, buildings.
"""

from __future__ import annotations

import numpy as np

from optimizers.formulations.units import Unit
from optimizers.specification import Array


def nearest_status(wish: Array, unit: Unit, *, weight: Array | float = 1.0, start: float = 0.3) -> Array:
    """The cheapest feasible path of statuses.

    Args:
        wish: (steps,) status wanted, in [0, 1].
        unit: its shortest times, its status before the horizon and for how long that must hold.
        weight: price of missing the wish in a step.
        start: price of a start, in the same measure.

    Returns:
        (steps,) zeros and ones.
    """
    steps, up, down = len(wish), unit.up, unit.down
    total = up + down
    weights = np.broadcast_to(np.asarray(weight, np.float64), (steps,))
    on_cost, off_cost = weights * (1 - wish), weights * wish
    # States: on for 1..up steps (the last: "up or more"), then off for 1..down steps.
    cost = np.full(total, np.inf)
    cost[(up - 1) if unit.on else (total - 1)] = 0.0
    came = np.zeros((steps, total), np.int32)
    ages = np.arange(total)
    step_on = ages < up
    for t in range(steps):
        stay_last_on, stay_last_off = cost[up - 1], cost[total - 1]
        new = np.empty(total)
        new[1:] = cost[:-1]
        came[t, 1:] = ages[:-1]
        # First steps of a run come from the other side's last state, unless the history still binds.
        free = t >= unit.bound
        new[0] = stay_last_off + start if free else np.inf
        came[t, 0] = total - 1
        first_off = stay_last_on if free else np.inf
        new[up] = first_off
        came[t, up] = up - 1
        for last, stay in ((up - 1, stay_last_on), (total - 1, stay_last_off)):
            if stay < new[last] or (last in (0, up) and stay <= new[last]):
                new[last] = stay
                came[t, last] = last
        new += np.where(step_on, on_cost[t], off_cost[t])
        cost = new
    state = int(np.argmin(cost))
    found = np.empty(steps)
    for t in range(steps - 1, -1, -1):
        found[t] = 1.0 if state < up else 0.0
        state = int(came[t, state])
    return found
