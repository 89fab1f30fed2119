"""Who runs a portfolio's projects: each keeps its program and its basis, and gives the best plan at a price. In process, or over worker processes.

The Ray one is `cloud.runtime.portfolio`. Must not know: Ray, how columns are mixed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from optimizers.compare import ByValue
from optimizers.errors import InputError, OptimizerError, UnsolvedError, Words
from optimizers.formulations.dispatch import Index, Program, program
from optimizers.methods.dispatch import LEANS, rounded, usable
from optimizers.methods.highs import Answer, Solver
from optimizers.rules import Number, Things, number, numbers
from optimizers.specification import Array, Community
from optimizers.validation import plannable

Steps = NDArray[np.int64]
#: A rounding this near to the relaxed cost is taken without trying others.
_NEAR = 0.003
#: Roundings tried: more brought a thousandth of the cost and took twice the time.
_LEANS = LEANS[:2]


@dataclass(frozen=True, slots=True, eq=False)
class Column(ByValue):
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
    """Projects in this process, each with a solver that keeps its basis. Threads that share one wait for each other.

    Args:
        communities: the projects.
        steps: indices of the event's steps.
        first, stride: numbers of the projects: first, first + stride, ...

    Raises:
        SpecificationError: a project contradicts itself.
        InputError: steps outside a project's horizon, or twice; projects whose steps are not equally long; numbers that are none.
    """

    def __init__(self, communities: Sequence[Community], steps: Steps, *, first: int = 0, stride: int = 1) -> None:
        refuse_unless_communities(communities)
        self._first, self._stride = (int(number("pool", field, value, Number(least, whole=True))) for field, value, least in (("first", first, 0), ("stride", stride, 1)))
        self._programs = [program(plannable(c)) for c in communities]
        self.step_h = step_of(communities)
        shortest = min((p.community.steps for p in self._programs), default=1)
        self._steps = numbers("pool", "steps", steps, rule=Number(0, shortest - 1, whole=True)).astype(np.int64)
        if len(set(self._steps.tolist())) != len(self._steps) or not len(self._steps):
            raise InputError(name="pool", field="steps", problem=Words("a step is given twice, or none", "时段重复或为空"))
        self._solvers = [Solver() for _ in communities]
        self._begun = [False] * len(self._programs)
        self._lock = threading.Lock()
        # Projects of one topology differ in numbers only: the first one's basis spares the next one most of its pivots (measured: 1,100 -> 250).
        self._topologies: dict[tuple[object, ...], Any] = {}

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """See `Pool.price`.

        Raises:
            InputError: another number of prices than steps.
            UnsolvedError: a project's hard limits leave no plan.
        """
        price = numbers("pool", "price", price, (len(self._steps),))
        with self._lock:
            return self._priced(price, whole=whole)

    def _priced(self, price: Array, *, whole: bool) -> list[Column]:
        found = []
        for k, (p, solver) in enumerate(zip(self._programs, self._solvers, strict=True)):
            columns = p.columns["grid"][self._steps]
            answer = solver.recosted(p, columns, p.cost[columns] + price) if self._begun[k] else self._first_of(p, solver, columns, p.cost[columns] + price)
            if not answer.usable:  # an unlucky basis is no reason to fail: once more from nothing
                self._solvers[k] = Solver()
                answer = usable(p, self._solvers[k].priced(p, columns, p.cost[columns] + price))
            self._begun[k] = True
            values, is_whole = answer.values, len(p.whole) == 0
            if whole and len(p.whole):
                values, is_whole = _whole(p, self._solvers[k], values, p.cost[columns] + price, columns), True
            found.append(Column(self._first + k * self._stride, float(p.cost @ values) + p.constant, values[columns].copy(), is_whole))
        return found

    def _first_of(self, p: Program, solver: Solver, columns: Index, cost: Array) -> Answer:
        topology = (*((name, len(index)) for group in (p.columns, p.rows) for name, index in group.items()),)
        answer = solver.priced(p, columns, cost, basis=self._topologies.get(topology))
        self._topologies[topology] = solver.basis()
        return answer


def _whole(p: Program, solver: Solver, relaxed: Array, cost: Array, columns: Index) -> Array:
    """The best of a few roundings at these prices; the solver is left relaxed again."""
    best, values, before = np.inf, relaxed, solver.basis()
    priced = p.cost.copy()
    priced[columns] = cost
    tries = [(lean, False) for lean in _LEANS] + [(_LEANS[0], True)] * bool(len(p.choice))
    for lean, bought in tries:
        found = solver.refixed(p, rounded(p, relaxed, lean, bought=bought), duals=False)
        if found.status == "optimal" and priced @ found.values < best:
            best, values = float(priced @ found.values), found.values
        if best - priced @ relaxed <= _NEAR * abs(best):
            break
    solver.loosened(p, before)
    return values


class ProcessPool:
    """Projects over worker processes, each a `LocalPool` of its share. A context manager.

    Args:
        communities: the projects.
        steps: indices of the event's steps.
        workers: processes.

    Raises:
        InputError: see `shares_of`.
    """

    def __init__(self, communities: Sequence[Community], steps: Steps, *, workers: int = 2) -> None:
        workers = int(number("pool", "workers", workers, Number(1, 10_000, whole=True)))
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes = []
        self.step_h = step_of(shares_of(communities, 1)[0])
        for first, share in enumerate(shares_of(communities, workers)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, share, steps, first, workers), daemon=True)
            process.start()
            self._links.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            with contextlib.suppress(OSError):  # that worker is gone already
                link.send(None)
        for process in self._processes:
            process.join(5)
        for link in self._links:
            link.close()

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """See `Pool.price`.

        Raises:
            InputError: prices that are no numbers.
            UnsolvedError: a project's hard limits leave no plan, or a worker process is gone: the pool is of no more use.
        """
        price = numbers("pool", "price", price)
        try:
            for link in self._links:
                link.send((price, whole))
            answers = [link.recv() for link in self._links]
        except (OSError, EOFError) as error:  # a lost worker leaves the others' answers unread
            for link in self._links:
                link.close()
            raise UnsolvedError(name="portfolio", status=type(error).__name__, problem=Words("a worker process is gone. Make a new pool, with fewer workers if memory is short", "有工作进程已退出。请重建进程池；内存不足时减少工作进程数")) from error
        for answer in answers:
            if isinstance(answer, OptimizerError):
                raise answer
        return together(answers)


def refuse_unless_communities(communities: object) -> None:
    """Refuse what is no list of communities.

    Raises:
        InputError: it is none.
    """
    said = Things((Community,), many=True).problem(communities)
    if said is not None:
        raise InputError(name="pool", field="communities", problem=said)


def step_of(communities: Sequence[Community]) -> float | None:
    """Hours of a step, the same in all; None: no projects.

    Raises:
        InputError: the projects' steps are not equally long.
    """
    known = [float(c.step_h) for c in communities if isinstance(c, Community) and Number().problem(c.step_h) is None]
    if known and max(known) - min(known) > 1e-9:
        raise InputError(name="pool", field="communities", problem=Words(f"steps of {min(known):g} and of {max(known):g} h", f"时段长度不一：{min(known):g} 与 {max(known):g} h"))
    return known[0] if known else None


def shares_of(communities: Sequence[Community], workers: int) -> list[list[Community]]:
    """Every worker's projects: worker k has k, k + workers, ..., so that a region of large ones falls on all.

    Raises:
        InputError: no list of communities with steps of one length, or no number of workers.
    """
    refuse_unless_communities(communities)
    workers = int(number("pool", "workers", workers, Number(1, 10_000, whole=True)))
    step_of(communities)
    return [list(communities[k::workers]) for k in range(workers)]


def together(parts: Sequence[Sequence[Column]]) -> list[Column]:
    """The workers' columns in the order of the projects."""
    return sorted((column for part in parts for column in part), key=lambda c: c.project)


def _work(link: Connection, communities: list[Community], steps: Steps, first: int, stride: int) -> None:
    pool: LocalPool | OptimizerError
    try:
        pool = LocalPool(communities, steps, first=first, stride=stride)
    except OptimizerError as error:
        pool = error
    while (asked := _next(link)) is not None:
        try:
            link.send(pool if isinstance(pool, OptimizerError) else pool.price(asked[0], whole=asked[1]))
        except OptimizerError as error:  # told where the question came from
            link.send(error)


def _next(link: Connection) -> tuple[Array, bool] | None:
    """What is asked next; None: nothing more, or nobody is there to ask."""
    try:
        asked: tuple[Array, bool] | None = link.recv()
    except EOFError:
        return None
    return asked
