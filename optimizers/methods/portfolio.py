"""Split a portfolio's reduction over projects by Dantzig-Wolfe columns, with a Lagrangian bound that certifies the split.

    min  sum_i c_i(x_i) + rho sum_t dt s_t     s.t.  sum_i P_i,t <= target_t + s_t  on the event's steps

Each project prices its own columns (plans it can execute); the master mixes them. At most K projects are mixed at the end (K event steps), which the
integer master then rounds. Whoever runs the projects is a `Pool`: in process, in worker processes, or on Ray (cloud/runtime).
Must not know: Ray, the cloud.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Protocol, Self

import highspy
import numpy as np
from numpy.typing import NDArray

from optimizers.formulations.dispatch import Index, Program, program
from optimizers.methods.dispatch import LEANS, rounded
from optimizers.methods.highs import Solver, silenced
from optimizers.specification import Array, Community
from optimizers.validation import plannable

Steps = NDArray[np.int64]
#: A rounding this near to the relaxed cost is taken without trying others.
_NEAR = 0.003


@dataclass(frozen=True, slots=True)
class Column:
    """A plan a project can execute.

    Attributes:
        project: its number.
        cost: yuan.
        profile: (K,) kW at the event's steps.
        whole: True when its statuses are whole.
    """

    project: int
    cost: float
    profile: Array
    whole: bool


class Pool(Protocol):
    """Runs the projects."""

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """The best column of every project when a kW at step k of the event costs price[k] yuan/kW more."""
        ...


class LocalPool:
    """Projects in this process, each with a solver that keeps its basis.

    Args:
        communities: the projects.
        steps: indices of the event's steps.
        first: number of the first project.
    """

    def __init__(self, communities: Sequence[Community], steps: Steps, *, first: int = 0) -> None:
        self._steps, self._first = steps, first
        self._programs = [program(plannable(c)) for c in communities]
        self._solvers = [Solver() for _ in communities]
        self._begun = [False] * len(self._programs)

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """See `Pool.price`."""
        found = []
        for k, (p, solver) in enumerate(zip(self._programs, self._solvers, strict=True)):
            columns = p.columns["grid"][self._steps]
            answer = solver.recosted(p, columns, p.cost[columns] + price) if self._begun[k] else solver.priced(p, columns, p.cost[columns] + price)
            self._begun[k] = True
            values, is_whole = answer.values, len(p.whole) == 0
            if whole and len(p.whole):
                values, is_whole = _whole(p, solver, values, p.cost[columns] + price, columns), True
            found.append(Column(self._first + k, float(p.cost @ values) + p.constant, values[columns].copy(), is_whole))
        return found


def _whole(p: Program, solver: Solver, relaxed: Array, cost: Array, columns: Index) -> Array:
    """The best of a few roundings at these prices; the solver is left relaxed again."""
    best, values = np.inf, relaxed
    priced = p.cost.copy()
    priced[columns] = cost
    for lean in LEANS:
        found = solver.refixed(p, rounded(p, relaxed, lean))
        if found.status == "optimal" and priced @ found.values < best:
            best, values = float(priced @ found.values), found.values
        if best - priced @ relaxed <= _NEAR * abs(best):
            break
    solver.loosened(p)
    return values


class ProcessPool:
    """Projects over worker processes, each a `LocalPool` of its share. A context manager."""

    def __init__(self, communities: Sequence[Community], steps: Steps, *, workers: int = 2) -> None:
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes = []
        edges = np.linspace(0, len(communities), workers + 1).round().astype(int)
        for low, high in itertools.pairwise(edges):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, list(communities[low:high]), steps, int(low)), daemon=True)
            process.start()
            self._links.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            link.send(None)
        for process in self._processes:
            process.join(5)

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """See `Pool.price`."""
        for link in self._links:
            link.send((price, whole))
        found: list[Column] = []
        for link in self._links:
            found += link.recv()
        return found


def _work(link: Connection, communities: list[Community], steps: Steps, first: int) -> None:
    pool = LocalPool(communities, steps, first=first)
    while (asked := link.recv()) is not None:
        link.send(pool.price(asked[0], whole=asked[1]))


@dataclass(slots=True)
class Split:
    """A certified split.

    Attributes:
        chosen: project -> [(share, column)]; shares sum to one; one entry each when whole.
        shortfall_kw: (K,) what could not be reached.
        cost: yuan, shortfall included.
        bound: yuan; no split of these projects (statuses relaxed) can cost less.
        gap: (cost - bound) / |cost|.
        prices: (K,) marginal yuan/kW of the target.
        columns: every column found, to be stored for a new order.
        rounds, seconds: effort.
    """

    chosen: dict[int, list[tuple[float, Column]]]
    shortfall_kw: Array
    cost: float
    bound: float
    gap: float
    prices: Array
    columns: list[Column] = field(default_factory=list)
    rounds: int = 0
    seconds: float = 0.0

    @property
    def total_kw(self) -> Array:
        """(K,) kW of the whole portfolio at the event's steps."""
        return np.asarray(sum(share * column.profile for mix in self.chosen.values() for share, column in mix))


def split(pool: Pool, target_kw: Array, step_h: float, *, shortfall_yuan_kwh: float = 10.0, gap: float = 1e-4, rounds: int = 60, stored: Sequence[Column] = ()) -> Split:
    """Split a target over a pool.

    Args:
        pool: the projects.
        target_kw: (K,) the most the portfolio may draw at each step of the event.
        step_h: length of a step.
        shortfall_yuan_kwh: price of what is not reached.
        gap: relative gap to stop at.
        rounds: most pricing rounds.
        stored: columns of an earlier split, to start from.
    """
    began = time.perf_counter()
    rho = shortfall_yuan_kwh * step_h
    count = len(target_kw)
    columns = [*stored, *pool.price(np.zeros(count)), *pool.price(np.full(count, rho))]
    best_bound, best_price = -np.inf, np.zeros(count)
    answer = master(columns, target_kw, rho)
    done = 0
    while done < rounds:
        done += 1
        # Stabilised: half way between the best dual point known and the master's newest.
        asked = 0.4 * answer.prices + 0.6 * best_price if np.isfinite(best_bound) else answer.prices
        for at in (asked, answer.prices):
            new = pool.price(at)
            bound = float(sum(c.cost + at @ c.profile for c in new) - at @ target_kw)
            columns += new
            if bound > best_bound:
                best_bound, best_price = bound, at
            answer = master(columns, target_kw, rho)
            if _gap(answer.cost, best_bound) <= gap:
                break
            if at is asked and np.allclose(asked, answer.prices):
                break
        if _gap(answer.cost, best_bound) <= gap:
            break
    answer.bound, answer.gap, answer.columns, answer.rounds = best_bound, _gap(answer.cost, best_bound), columns, done
    answer.seconds = time.perf_counter() - began
    return answer


def whole_split(pool: Pool, relaxed: Split, target_kw: Array, step_h: float, *, shortfall_yuan_kwh: float = 10.0, seconds: float = 10.0) -> Split:
    """One executable column for every project, statuses whole, near a relaxed split; the gap is against the relaxed bound."""
    began = time.perf_counter()
    rho = shortfall_yuan_kwh * step_h
    columns: list[Column] = []
    for factor in (0.0, 0.7, 1.0, 1.3):
        columns += pool.price(relaxed.prices * factor, whole=True)
    columns += pool.price(np.full(len(target_kw), rho), whole=True)
    found = master([c for c in columns if c.whole], target_kw, rho, whole=True, seconds=seconds)
    found.bound, found.gap, found.columns, found.rounds = relaxed.bound, _gap(found.cost, relaxed.bound), columns, relaxed.rounds
    found.seconds = time.perf_counter() - began
    return found


def master(columns: Sequence[Column], target_kw: Array, rho: float, *, whole: bool = False, seconds: float = 10.0) -> Split:
    """The cheapest mix of columns that keeps the target, shortfall priced at rho yuan/kW."""
    projects = np.array([c.project for c in columns])
    numbers, place = np.unique(projects, return_inverse=True)
    n, count, rows = len(columns), len(target_kw), len(numbers)
    profile = np.array([c.profile for c in columns])
    cost = np.r_[[c.cost for c in columns], np.full(count, rho)]
    # Rows: one a project (shares sum to one), then one a step.
    index = np.concatenate([place[:, None], rows + np.broadcast_to(np.arange(count), (n, count))], axis=1).astype(np.int32)
    value = np.concatenate([np.ones((n, 1)), profile], axis=1)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = n + count, rows + count
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, np.zeros(n + count), np.full(n + count, np.inf)
    model.row_lower_ = np.r_[np.ones(rows), np.full(count, -np.inf)]
    model.row_upper_ = np.r_[np.ones(rows), target_kw]
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = np.r_[np.arange(n + 1) * (count + 1), n * (count + 1) + np.arange(1, count + 1)].astype(np.int32)
    model.a_matrix_.index_ = np.r_[index.ravel(), rows + np.arange(count)].astype(np.int32)
    model.a_matrix_.value_ = np.r_[value.ravel(), np.full(count, -1.0)]
    if whole:
        model.integrality_ = [highspy.HighsVarType.kInteger] * n + [highspy.HighsVarType.kContinuous] * count
    highs = silenced()
    for name, option in (("time_limit", seconds if whole else 1e9), ("mip_rel_gap", 1e-4)):
        highs.setOptionValue(name, option)
    highs.passModel(model)
    highs.run()
    solution = highs.getSolution()
    shares = np.array(solution.col_value)
    prices = np.maximum(0.0, -np.array(solution.row_dual)[rows:]) if not whole else np.zeros(count)
    chosen: dict[int, list[tuple[float, Column]]] = {}
    for k in np.flatnonzero(shares[:n] > 1e-7):
        chosen.setdefault(int(projects[k]), []).append((float(shares[k]), columns[int(k)]))
    return Split(chosen, shares[n:], float(cost @ shares), -np.inf, np.inf, prices)


def _gap(cost: float, bound: float) -> float:
    return (cost - bound) / max(1.0, abs(cost))
