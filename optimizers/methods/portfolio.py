"""Split a portfolio's reduction over projects by Dantzig-Wolfe columns, with a Lagrangian bound that certifies the split.

    min  sum_i c_i(x_i) + rho sum_t dt s_t     s.t.  sum_i P_i,t <= target_t + s_t  on the event's steps

Each project prices its own columns (plans it can execute); the master mixes them. At most K projects are mixed at the end (K event steps), which the
integer master then rounds. Whoever runs the projects is a `Pool`: in process, in worker processes, or on Ray (cloud/runtime).
Must not know: Ray, the cloud.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizers.compare import ByValue
from optimizers.errors import InputError, UnsolvedError, Words
from optimizers.methods.highs import silenced
from optimizers.methods.pools import Column, LocalPool, Pool, ProcessPool
from optimizers.rules import Number, as_numbers, number, numbers, one_of
from optimizers.specification import Array

__all__ = ["Column", "LocalPool", "Master", "Pool", "ProcessPool", "Split", "master", "split", "whole_split"]

#: HiGHS's own numbers of simplex strategies.
_DUAL, _PRIMAL, _FEASIBLE = 1, 4, 2
#: Whole plans are asked for at so many times the relaxed prices: a choice on both sides of them.
_AROUND = (1.0, 0.7, 1.3)
_MORE = (0.85, 1.15, 0.4, 0.0, 1.7)
_MOST = (0.93, 1.07, 0.55, 1.5, 2.5)


@dataclass(slots=True, eq=False)
class Split(ByValue):
    """A certified split.

    Attributes:
        chosen: project -> [(share, column)]; shares sum to one; one entry each when whole.
        shortfall_kw: (K,) what could not be reached.
        cost: yuan, shortfall included.
        bound: yuan; no split of these projects (statuses relaxed) can cost less.
        gap: (cost - bound) / max(1, |cost|).
        prices: (K,) marginal yuan/kW of the target.
        columns: every column found, to be stored for a new order.
        rounds, seconds: effort.
        pricing_s: seconds of them in the projects, which workers share; the rest is the master, which one does alone.
        target_kw: (K,) what was to be kept, and `rho` the price of shortfall in yuan/kW: bound and prices hold for these only.
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
    pricing_s: float = 0.0
    target_kw: Array = field(default_factory=lambda: np.empty(0))
    rho: float = 0.0

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
        stored: columns of an earlier split, to start from: at least one of every project.

    Raises:
        InputError: a target, step, price or effort that cannot be, columns of another event.
        UnsolvedError: a project's hard limits leave no plan.
    """
    target_kw, step_h, shortfall_yuan_kwh, gap = _order("split", pool, target_kw, step_h, shortfall_yuan_kwh, gap)
    rounds = int(number("split", "rounds", rounds, Number(1, whole=True)))
    began, clocked = time.perf_counter(), _Clocked(pool)
    rho = shortfall_yuan_kwh * step_h
    count = len(target_kw)
    one_of("split", "stored", stored, (list, tuple))
    columns = list(stored) or [*clocked.price(np.zeros(count)), *clocked.price(np.full(count, rho))]
    best_bound, best_price = -np.inf, np.zeros(count)
    mix = Master(_projects("split", columns), target_kw, rho)
    mix.add(columns)
    answer = mix.mixed()
    done, missed = 0, False
    while done < rounds:
        done += 1
        # Stabilised (Wentges 1997): between the best dual point known and the master's newest, which prices wildly at first. When that brings no column
        # the master can use, the next round asks at the master's own prices: then none, too, would be the proof.
        at = answer.prices if missed or not np.isfinite(best_bound) else 0.4 * answer.prices + 0.6 * best_price
        new = clocked.price(at)
        bound = float(sum(c.cost + at @ c.profile for c in new) - at @ target_kw)
        columns += new
        mix.add(new)
        if bound > best_bound:
            best_bound, best_price = bound, at
        before, answer = answer.cost, mix.mixed()
        missed = answer.cost > before - 1e-7 * abs(before)
        if _gap(answer.cost, best_bound) <= gap:
            break
    answer.bound, answer.gap, answer.columns, answer.rounds = best_bound, _gap(answer.cost, best_bound), columns, done
    answer.seconds, answer.pricing_s = time.perf_counter() - began, clocked.seconds
    return answer


def whole_split(pool: Pool, relaxed: Split, target_kw: Array, step_h: float, *, shortfall_yuan_kwh: float = 10.0, gap: float = 0.01, seconds: float = 10.0, deep: bool = False) -> Split:
    """One executable column for every project, statuses whole, near a relaxed split; the gap is against the relaxed bound.

    Args:
        pool: the projects.
        relaxed: what `split` gave for the same projects, target and price of shortfall; its bound proves nothing about others.
        target_kw: (K,) as of `split`.
        step_h: length of a step.
        shortfall_yuan_kwh: price of what is not reached.
        gap: relative gap above which more plans are asked for (few projects have little to choose from).
        seconds: the most one integer master may take.
        deep: every project gives its deepest plan too (at the price of shortfall): for columns kept for a later, larger order. Asked for in any case when the gap is too wide.

    Raises:
        InputError: a target, step, price or effort that cannot be, `relaxed` of another target, price or other projects.
        UnsolvedError: a project's hard limits leave no plan.
    """
    target_kw, step_h, shortfall_yuan_kwh, gap = _order("whole_split", pool, target_kw, step_h, shortfall_yuan_kwh, gap)
    one_of("whole_split", "relaxed", relaxed, (Split,))
    seconds = number("whole_split", "seconds", seconds, Number(above=True))
    began, clocked = time.perf_counter(), _Clocked(pool)
    rho = shortfall_yuan_kwh * step_h
    if relaxed.target_kw.shape != target_kw.shape or not np.allclose(relaxed.target_kw, target_kw, rtol=1e-9, atol=1e-9) or abs(relaxed.rho - rho) > 1e-9 * max(1.0, rho):
        raise InputError(name="whole_split", field="relaxed", problem=Words("it was made for another target or price of shortfall: its bound proves nothing here", "它是为另一目标或另一缺额价格求得的，其下界在此不成立"))
    columns = list[Column]()
    at_once = deep or not relaxed.prices.any()  # prices of nothing do not tell what could be given
    for factors, least in ((_AROUND, at_once), (_MORE, not at_once), (_MOST, False)):
        for factor in factors:
            columns += clocked.price(relaxed.prices * factor, whole=True)
            if {c.project for c in columns} != set(relaxed.chosen):
                raise InputError(name="whole_split", field="relaxed", problem=Words("it was made for other projects", "它是为另一组项目求得的"))
        if least:
            columns += clocked.price(np.full(len(target_kw), rho), whole=True)
        found = master([c for c in columns if c.whole], target_kw, rho, whole=True, seconds=seconds)
        found.bound, found.gap, found.columns, found.rounds = relaxed.bound, _gap(found.cost, relaxed.bound), columns, relaxed.rounds
        if found.gap <= gap:
            break
    found.seconds, found.pricing_s = time.perf_counter() - began, clocked.seconds
    return found


def _order(name: str, pool: Pool, target_kw: Array, step_h: float, shortfall_yuan_kwh: float, gap: float) -> tuple[Array, float, float, float]:
    if not callable(getattr(pool, "price", None)):
        raise InputError(name=name, field="pool", problem=Words(f"{type(pool).__name__} runs no projects", f"{type(pool).__name__} 不是项目池"))
    target = numbers(name, "target_kw", target_kw)
    if not len(target):
        raise InputError(name=name, field="target_kw", problem=Words("no step", "没有时段"))
    step_h, theirs = number(name, "step_h", step_h, Number(0, 24, above=True)), getattr(pool, "step_h", None)
    if theirs is not None and abs(theirs - step_h) > 1e-9:
        raise InputError(name=name, field="step_h", problem=Words(f"{step_h:g} h, the projects' steps are {theirs:g} h", f"{step_h:g} h，而项目的时段为 {theirs:g} h"))
    return target, step_h, number(name, "shortfall_yuan_kwh", shortfall_yuan_kwh, Number()), number(name, "gap", gap, Number(0, 1))


class _Clocked:
    """A pool and the seconds spent in it."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self.seconds = pool, 0.0

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """See `Pool.price`."""
        began = time.perf_counter()
        found = self._pool.price(price, whole=whole)
        self.seconds += time.perf_counter() - began
        return found


def _projects(name: str, columns: Sequence[Column]) -> list[int]:
    """Numbers of the projects of some columns.

    Raises:
        InputError: something that is no column of a project with a number.
    """
    for column in columns:
        if not isinstance(column, Column) or Number(whole=True).problem(column.project) is not None:
            raise InputError(name=name, field="columns", problem=Words(f"{column!r:.80} is no column of a project", f"{column!r:.80} 不是某项目的方案列"))
    return sorted({int(column.project) for column in columns})


class Master:
    """The cheapest mix of columns that keeps the target, shortfall priced at rho yuan/kW; columns can be added, the basis stays.

    Args:
        projects: their numbers; a share of one of each is given.
        target_kw: (K,) the most at each step.
        rho: yuan/kW of shortfall.

    Raises:
        InputError: a target or price that is none.
    """

    def __init__(self, projects: Sequence[int], target_kw: Array, rho: float) -> None:
        target_kw, rho = numbers("master", "target_kw", target_kw), number("master", "rho", rho, Number())
        count, rows = len(target_kw), len(projects)
        self._row = {project: count + k for k, project in enumerate(projects)}
        self._count, self._columns, self._target, self._rho = count, list[Column](), target_kw.copy(), rho
        self._highs = silenced()
        for lower, upper in ((np.full(count, -np.inf), np.asarray(target_kw, np.float64)), (np.ones(rows), np.ones(rows))):
            self._highs.addRows(len(lower), lower, upper, 0, np.zeros(len(lower), np.int32), np.zeros(0, np.int32), np.zeros(0))
        steps = np.arange(count, dtype=np.int32)
        self._highs.addCols(count, np.full(count, rho), np.zeros(count), np.full(count, np.inf), count, steps, steps, np.full(count, -1.0))

    def add(self, columns: Sequence[Column]) -> None:
        """More columns of the same projects.

        Raises:
            InputError: a column of an unknown project, of another event, or with numbers that are none.
        """
        if not columns:
            return
        _projects("master", columns)
        for column in columns:
            row = as_numbers(column.profile)
            if column.project not in self._row or row is None or row.shape != (self._count,):
                raise InputError(name="master", field="columns", problem=Words(f"{column!r:.80} does not belong to these projects and {self._count} steps", f"{column!r:.80} 不属于这些项目及 {self._count} 个时段"))
        costs, profiles = as_numbers([c.cost for c in columns]), as_numbers([c.profile for c in columns])
        if costs is None or profiles is None or not (np.isfinite(costs).all() and np.isfinite(profiles).all()):
            raise InputError(name="master", field="columns", problem=Words("a cost or profile is not a number", "成本或曲线不是数"))
        n, count = len(columns), self._count
        index = np.concatenate([np.broadcast_to(np.arange(count), (n, count)), np.array([self._row[c.project] for c in columns])[:, None]], axis=1).astype(np.int32)
        value = np.concatenate([np.array([c.profile for c in columns]), np.ones((n, 1))], axis=1)
        self._highs.addCols(n, np.array([c.cost for c in columns]), np.zeros(n), np.full(n, np.inf), n * (count + 1), np.arange(n, dtype=np.int32) * (count + 1), index.ravel(), value.ravel())
        self._columns += columns

    def mixed(self) -> Split:
        """Shares may be parts of one. After new columns the old basis is still feasible: primal simplex goes on from it (measured 2 to 5 times faster than anew)."""
        warm = self._highs.getBasis().valid
        self._highs.setOptionValue("presolve", "off" if warm else "choose")
        self._highs.setOptionValue("simplex_strategy", _PRIMAL if warm else _DUAL)
        self._highs.run()
        return self._read(np.maximum(0.0, -np.array(self._highs.getSolution().row_dual)[:self._count]))

    def whole(self, *, seconds: float = 10.0, gap: float = 1e-4) -> Split:
        """One column a project; the incumbent when time runs out."""
        n = len(self._columns)
        self._highs.setOptionValue("presolve", "choose")
        self._highs.setOptionValue("simplex_strategy", _DUAL)
        self._highs.setOptionValue("time_limit", seconds)
        self._highs.setOptionValue("mip_rel_gap", gap)
        self._highs.changeColsIntegrality(n, np.arange(self._count, self._count + n, dtype=np.int32), np.ones(n, np.uint8))
        self._highs.run()
        return self._read(np.zeros(self._count))

    def _read(self, prices: Array) -> Split:
        values = np.array(self._highs.getSolution().col_value)
        if len(values) != self._count + len(self._columns) or self._highs.getInfo().primal_solution_status != _FEASIBLE:
            raise UnsolvedError(name="portfolio", status=str(self._highs.getModelStatus().name), problem=Words("a project has no column, or time ran out. Give every project one, and more 'seconds'", "某项目没有方案列，或限时已到。请为每个项目提供方案列，或加大“seconds”"))
        shares, chosen = values[self._count:], dict[int, list[tuple[float, Column]]]()
        for k in np.flatnonzero(shares > 1e-7):
            chosen.setdefault(self._columns[int(k)].project, []).append((float(shares[k]), self._columns[int(k)]))
        return Split(chosen, values[:self._count], self._highs.getInfo().objective_function_value, -np.inf, np.inf, prices, target_kw=self._target, rho=self._rho)


def master(columns: Sequence[Column], target_kw: Array, rho: float, *, whole: bool = False, seconds: float = 10.0) -> Split:
    """One mix of columns, from nothing (see `Master`).

    Raises:
        InputError: no columns, or see `Master`.
        UnsolvedError: time ran out.
    """
    one_of("master", "columns", columns, (list, tuple))
    if not columns or not all(isinstance(c, Column) for c in columns):
        raise InputError(name="master", field="columns", problem=Words("no columns", "没有方案列"))
    seconds = number("master", "seconds", seconds, Number(above=True))
    made = Master(_projects("master", columns), target_kw, rho)
    made.add(columns)
    return made.whole(seconds=seconds) if whole else made.mixed()


def _gap(cost: float, bound: float) -> float:
    return (cost - bound) / max(1.0, abs(cost))
