"""Solve a community: LP -> statuses by dynamic programming -> LP with them fixed -> MILP from that point only if the certified gap is too wide.

The incumbent is always returned with its gap. `Dispatcher` keeps the basis between calls, so a rolling re-plan costs a few pivots. A solve that gave no
usable point is an error, never a plan.
Must not know: where forecasts come from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

from optimizers.errors import UnsolvedError, Words
from optimizers.formulations.dispatch import Program, program
from optimizers.formulations.units import Unit
from optimizers.methods.commitment import nearest_status
from optimizers.methods.highs import Answer, Solver
from optimizers.plan import Plan
from optimizers.rules import Number, number
from optimizers.specification import Array, Community
from optimizers.validation import plannable

GAP = 0.005
SECONDS = 5.0
#: Roundings tried: how much a status that the relaxation half wants is leant towards on.
LEANS = (0.0, 0.25, 0.5, -0.2)
_TRIES = 3


class Dispatcher:
    """Plans one topology again and again. Threads may share one: it plans for one at a time, the others wait; for plans at the same time give each its own.

    Args:
        gap: certified relative gap that is good enough.
        seconds: the most an escalation to MILP may take.

    Raises:
        InputError: a gap outside [0, 1] or a time that is no time.
    """

    def __init__(self, *, gap: float = GAP, seconds: float = SECONDS) -> None:
        self._gap, self._seconds = asked(gap, seconds)
        self._relaxed = Solver()
        self._lock = threading.Lock()  # the solver's memory is one thread's at a time
        self._last: Array | None = None  # statuses of the last plan, a row a unit

    def plan(self, community: Community) -> Plan:
        """The plan.

        Raises:
            SpecificationError: the specification contradicts itself.
            UnsolvedError: its hard limits leave no plan at all, or the solver failed.
        """
        began = time.perf_counter()
        p = program(plannable(community))
        with self._lock:
            return self._planned(p, began)

    def _planned(self, p: Program, began: float) -> Plan:
        relaxed = self._relaxed.relaxed(p)
        if not relaxed.usable:  # an unlucky basis is no reason to fail: once more from nothing
            self._relaxed = Solver()
            relaxed = usable(p, self._relaxed.relaxed(p))
        best, how = relaxed, "lp"
        if len(p.whole):
            best, how = self._statuses(p, relaxed), "dp"
            if _gap(best.objective, relaxed.objective) > self._gap:
                left = max(0.1, self._seconds - (time.perf_counter() - began))
                found = Solver().whole(p, gap=self._gap * 0.8, seconds=left, start=best.values if np.isfinite(best.objective) else None)
                bound = max(relaxed.objective, found.bound) if np.isfinite(found.bound) else relaxed.objective
                if found.objective < best.objective:
                    again = self._relaxed.refixed(p, np.round(found.values[p.whole]))
                    best, how = (again, "milp") if again.objective < best.objective else (best, how)
                elif not best.usable:
                    best = found  # the search's word is why there is none
                self._remember(p, best)
                return plan_of(p, best, bound, how, self._gap, time.perf_counter() - began)
            self._remember(p, best)
        return plan_of(p, best, relaxed.objective, how, self._gap, time.perf_counter() - began)

    def _remember(self, p: Program, answer: Answer) -> None:
        if np.isfinite(answer.objective):
            self._last = np.round(answer.values[p.whole[:len(p.whole) - len(p.choice)]]).reshape(-1, p.community.steps)

    def _candidates(self, p: Program, relaxed: Answer) -> Iterator[Array]:
        """Statuses worth trying: roundings of the relaxation, and after the first what was planned before, a step on (a re-plan seldom wants anything else)."""
        last, units = self._last, committed(p)
        yield rounded(p, relaxed.values, LEANS[0])
        if last is not None and last.shape == (len(units), p.community.steps):
            moved = np.c_[last[:, 1:], last[:, -1:]]
            yield np.concatenate([*(nearest_status(wish, unit, start=start_weight(unit)) for wish, unit in zip(moved, units, strict=True)), sells(p, relaxed.values)])
        if len(p.choice):  # to buy is always possible: power generated beyond what is drawn is spilled
            yield rounded(p, relaxed.values, LEANS[0], bought=True)
        for lean in LEANS[1:]:
            yield rounded(p, relaxed.values, lean)

    def _statuses(self, p: Program, relaxed: Answer) -> Answer:
        """The best of a few statuses, each feasible for shortest times."""
        best = Answer(np.inf, -np.inf, relaxed.values, relaxed.row_duals, "none")
        tried: list[bytes] = []
        for statuses in self._candidates(p, relaxed):
            if statuses.tobytes() in tried:
                continue
            tried.append(statuses.tobytes())
            # From the relaxed optimum only bounds move: a few dual pivots.
            found = self._relaxed.refixed(p, statuses)
            if found.objective < best.objective:
                best = found
            # Good is half of what is asked; after a few tries what is asked will do.
            if _gap(best.objective, relaxed.objective) <= (self._gap / 2 if len(tried) < _TRIES else self._gap):
                break
        return best


def asked(gap: float, seconds: float) -> tuple[float, float]:
    """The effort asked for.

    Raises:
        InputError: a gap outside [0, 1] or a time that is no time.
    """
    return number("plan", "gap", gap, Number(0, 1)), number("plan", "seconds", seconds, Number(above=True))


def usable(p: Program, answer: Answer) -> Answer:
    """The same answer, if there is a point in it.

    Raises:
        UnsolvedError: there is none; which hard limits may contradict each other is told.
    """
    if answer.usable:
        return answer
    if answer.status == "unbounded":
        said = Words("power can be bought and sold again at a gain without end. Give 'export_kw' or 'transformer_kw' a limit", "购电再售电可无限获利。请给“export_kw”或“transformer_kw”设上限")
    elif answer.status == "infeasible":
        said = Words("what may not be off (sources within their shortest run, 'least' of room heaters) does not fit 'transformer_kw', 'emitter_kw' or the stores. Change one of them",
                     "不能停的设备（最短运行时间内的热源、室内设备下限）超出“transformer_kw”“emitter_kw”或蓄热能力。请更改其一")
    elif answer.status == "time_limit":
        said = Words("no plan was found in time. Give more 'seconds'", "限时内未找到可行计划。请加大“seconds”")
    else:
        said = Words("the numbers are too far apart for the solver. Check units", "数值相差过大，请检查单位")
    raise UnsolvedError(name=p.community.name, status=answer.status, problem=said)


def rounded(p: Program, values: Array, lean: float, *, bought: bool = False) -> Array:
    """Statuses near the relaxed ones, then which way the meter runs; `lean` > 0 prefers on, `bought` never sells where both would pay."""
    statuses = [nearest_status(wish, unit, start=start_weight(unit)) for wish, unit in zip(wishes(p, values, lean), committed(p), strict=True)]
    return np.concatenate([*statuses, np.zeros(len(p.choice)) if bought else sells(p, values)])


def sells(p: Program, values: Array) -> Array:
    """Which way the meter runs in the steps of `p.choice`: 1 where the relaxed point gives more than it draws."""
    return np.asarray(values[p.columns["sold"][p.choice]] > values[p.columns["grid"][p.choice]], np.float64)


def committed(p: Program) -> list[Unit]:
    """Units whose status is decided, in the order of `p.whole`."""
    return [u for u in p.units if not u.free]


def wishes(p: Program, values: Array, lean: float) -> list[Array]:
    """(steps,) status wanted of each committed unit, in [0, 1]."""
    shares = [_share(p, u, values) for u in committed(p)]
    return [np.asarray(np.clip(share + lean * (share > 0.02), 0, 1), np.float64) for share in shares]


def start_weight(unit: Unit) -> float:
    """What a start counts against missing a wish for a step."""
    return 0.3 if unit.start_yuan else 0.05


def _share(p: Program, unit: Unit, values: Array) -> Array:
    """What the relaxation wants of a unit: its status, or the load it would have at a status of one."""
    on, heat = values[p.columns[f"u:{unit.name}"]], values[p.columns[f"q:{unit.name}"]]
    load = np.divide(heat, unit.cap, out=np.zeros_like(heat), where=unit.cap > 1e-9)
    return np.asarray(np.clip(np.maximum(load, 0.5 * (on + load)) / max(0.5, unit.least), 0, 1), np.float64)


def _gap(objective: float, bound: float) -> float:
    return (objective - bound) / max(1.0, abs(objective)) if np.isfinite(objective) else np.inf


def plan_of(p: Program, answer: Answer, bound: float, how: str, gap_asked: float, seconds: float) -> Plan:
    """The plan that a program's answer says.

    Args:
        p: the program.
        answer: a point of it and its duals.
        bound: yuan, nothing can cost less.
        how: which step of the tier gave it.
        gap_asked: gap up to which it is called optimal.
        seconds: effort.

    Raises:
        UnsolvedError: the answer holds no point, or there is no bound.
    """
    usable(p, answer)
    community, x = p.community, answer.values
    steps, dt = community.steps, community.step_h

    def col(name: str) -> Array:
        return np.asarray(x[p.columns[name]]) if name in p.columns else np.zeros(steps)

    on, heat, power = dict[str, Array](), dict[str, Array](), dict[str, Array]()
    starts = 0.0
    for unit in p.units:
        name = community.sources[unit.source].name
        q = col(f"q:{unit.name}")
        status = np.round(col(f"u:{unit.name}")) if not unit.free else (q > 1e-6).astype(float)
        on[name] = on.get(name, np.zeros(steps)) + status
        heat[name] = heat.get(name, np.zeros(steps)) + q
        power[name] = power.get(name, np.zeros(steps)) + unit.beta * q + unit.alpha * status
        starts += unit.start_yuan * float(col(f"v:{unit.name}").sum()) if not unit.free else 0.0
    grid, sold = col("grid"), col("sold")
    cost = {"energy": float(dt * community.prices.energy @ grid), "export": float(p.cost[p.columns["sold"]] @ sold), "starts": starts}
    if "peak" in p.columns:
        cost["demand"] = float(community.prices.demand * (x[p.columns["peak"]][0] - community.prices.peak_so_far_kw))
    slacks = {}
    for name, index in p.columns.items():
        kind = name.split(":")[0]
        if kind in ("floor", "cold", "hot", "reserve", "short", "shed", "over", "above"):
            amount = np.asarray(x[index]) if p.cost[index].any() or kind == "shed" else _least(p, name, x)
            cost[name] = float(p.cost[index] @ amount)
            if amount.max(initial=0.0) > 1e-6:
                slacks[name] = amount
    objective = sum(cost.values())
    if not (np.isfinite(objective) and np.isfinite(bound)):
        usable(p, Answer(objective, bound, x, answer.row_duals, "no bound"))
    relative = max(0.0, _gap(objective, bound))
    return Plan(
        on, heat, power, {r.name: col(f"rooms:{r.name}") for r in community.rooms}, {s.name: col(f"c:{s.name}") for s in community.stores},
        {s.name: col(f"r:{s.name}") for s in community.stores}, {s.name: col(f"E:{s.name}") for s in community.stores},
        {b.name: col(f"heat:{b.name}") for b in community.buildings}, {b.name: col(f"T:{b.name}") for b in community.buildings},
        {b.name: col(f"M:{b.name}") for b in community.buildings if b.mass_kwh_k > 0}, grid, sold, col("spilled"), col("shed"), cost, objective, bound, relative, how,
        "optimal" if relative <= gap_asked + 1e-9 else "incumbent", _dual(p, answer, "loop") / dt, _dual(p, answer, "power") / dt, slacks, seconds, community.repaired)


#: Rows of slacks that are not named like them.
_ROWS = {"short": "end", "over": "contract", "above": "limit"}


def _least(p: Program, name: str, values: Array) -> Array:
    """A slack that costs nothing may stand anywhere: the least of it that the point needs."""
    kind, colon, thing = name.partition(":")
    rows, index = p.rows[f"{_ROWS.get(kind, kind)}{colon}{thing}"], p.columns[name]
    without = values.copy()
    without[index] = 0.0
    reached = p.matrix[rows] @ without
    short = np.maximum(p.row_lower[rows] - reached, reached - p.row_upper[rows])
    return np.asarray(np.maximum(0.0, short), np.float64)


def _dual(p: Program, answer: Answer, row: str) -> Array:
    return np.asarray(answer.row_duals[p.rows[row]]) if row in p.rows else np.zeros(p.community.steps)
