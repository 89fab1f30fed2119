"""What a community can do for the grid (柔性): how many kW up or down, for how long, while people stay within their comfort.

The envelope is found by planning: for each duration the lowest (highest) level the connection can be held at from a given step on, without any
more of what is owed to people than the plan without an event. Must not know: events' prices, the cloud.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from optimizers.errors import InputError, Words
from optimizers.formulations.dispatch import Index, Program, program
from optimizers.methods.dispatch import usable
from optimizers.methods.highs import Solver
from optimizers.rules import Number, number, numbers
from optimizers.specification import Array, Community
from optimizers.validation import plannable

DURATIONS_H = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Flexibility:
    """Sustained change from the plan without an event.

    Attributes:
        duration_h: length.
        down_kw: by how much the mean draw can be lowered throughout.
        up_kw: by how much it can be raised throughout.
        down_yuan, up_yuan: what each costs (energy, wear, comfort), without any pay.
        base_kw: mean draw of the plan without an event.
    """

    duration_h: float
    down_kw: float
    up_kw: float
    down_yuan: float
    up_yuan: float
    base_kw: float


def envelope(community: Community, start: int, *, durations_h: tuple[float, ...] = DURATIONS_H) -> list[Flexibility]:
    """Up and down flexibility from step `start` on, by duration.

    Args:
        community: as now; statuses are relaxed (an aggregate of many switches is near that; a single unit is judged by a whole plan).
        start: first step of the event.
        durations_h: lengths asked for; each is held for whole steps that cover it, so a length within a step is as a whole one.

    Raises:
        SpecificationError: the community contradicts itself.
        InputError: a step outside the horizon, or a duration that is none or reaches beyond it.
        UnsolvedError: hard limits leave no plan.
    """
    community = plannable(community)
    start = int(number("envelope", "start", start, Number(0, community.steps - 1, whole=True)))
    durations = numbers("envelope", "durations_h", durations_h, rule=Number(0, 1e4, above=True)).tolist()
    left = (community.steps - start) * community.step_h
    for duration in durations:
        if duration > left + 1e-9:
            raise InputError(name="envelope", field="durations_h", problem=Words(f"{duration:g} h, but only {left:g} h are left of the horizon from step {start} on", f"{duration:g} 小时，而自第 {start} 步起仅剩 {left:g} 小时"))
    p, solver = program(community), Solver()
    base = usable(p, solver.relaxed(p))
    grid = p.columns["grid"]
    owed = _owed(p, base.values)
    found = []
    for duration in durations:
        steps = grid[start:start + max(1, math.ceil(duration / community.step_h - 1e-9))]
        mean = float(base.values[steps].mean())
        down = _level(p, steps, base.values[steps], owed, -1.0)
        up = _level(p, steps, base.values[steps], owed, 1.0)
        found.append(Flexibility(duration, down[0], up[0], down[1] - base.objective, up[1] - base.objective, mean))
    return found


def _owed(p: Program, values: Array) -> dict[str, float]:
    """K*h below the floor and outside comfort, and kW above what is contracted or limited, in the plan without an event: an event may not add to it."""
    return {name: float(values[index].sum()) for name, index in p.columns.items() if name.split(":")[0] in ("floor", "cold", "hot", "shed", "over", "above")}


def _level(p: Program, steps: Index, base: Array, owed: dict[str, float], sign: float) -> tuple[float, float]:
    """(kW by which all of these steps can move, objective then): maximise the move, then the cheapest plan at nine tenths of it is priced at it."""
    from scipy import sparse

    width, height = len(p.cost), len(p.row_lower)
    held = len(steps)
    rows = sparse.lil_matrix((held + len(owed), width + 1))
    low, high = np.full(held + len(owed), -np.inf), np.full(held + len(owed), np.inf)
    for k, column in enumerate(steps):
        # draw - sign * move >= base (up), <= base (down)
        rows[k, column], rows[k, width] = 1.0, -sign
        low[k], high[k] = (base[k], np.inf) if sign > 0 else (-np.inf, base[k])
    for k, (name, amount) in enumerate(owed.items()):
        rows[held + k, p.columns[name]] = 1.0
        high[held + k] = amount + 1e-6
    matrix = sparse.vstack([sparse.hstack([p.matrix, sparse.csr_matrix((height, 1))]), rows]).tocsr()

    def solved(cost: Array, least: float) -> tuple[Array, float]:
        q = dataclasses.replace(p, cost=cost, lower=np.r_[p.lower, least], upper=np.r_[p.upper, np.inf], matrix=matrix, row_lower=np.r_[p.row_lower, low], row_upper=np.r_[p.row_upper, high])
        answer = usable(p, Solver().relaxed(q))
        return answer.values, answer.objective

    values, _ = solved(np.r_[np.zeros(width), -1.0], 0.0)
    move = max(0.0, float(values[width]))
    _, objective = solved(np.r_[p.cost, 0.0], move * (1 - 1e-6))
    return move, objective
