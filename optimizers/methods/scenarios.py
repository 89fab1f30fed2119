"""One plan against several futures: the same dispatch once a scenario, the first steps the same in all of them (non-anticipative), expected cost least.

    min  sum_s p_s c_s z_s   s.t.  every scenario's rows;   for t < tied:  u, v, w, charge, discharge, room heaters equal, and q_s,t = x_t cap_s,t

What a plant can be told before it knows which future comes is a status, a share of full load, a rate of store and room heaters; connection, heat taken by
buildings and slacks follow the scenario. Tied columns are written once (substitution z = P y), so the program is smaller than the sum of its parts.
Way of solving as in `methods.dispatch`: LP -> statuses -> LP with them fixed -> MILP from there when the certified gap is too wide. The decision of the
mean future is one of the candidates, so the plan is never worse than it in expectation; the difference is the value of planning against scenarios
(Birge & Louveaux 1997). Must not know: where forecasts come from.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from optimizers.errors import InputError, SpecificationError, Words
from optimizers.formulations.dispatch import Index, Program, program
from optimizers.formulations.meter import choices
from optimizers.formulations.units import Unit
from optimizers.methods.commitment import nearest_status
from optimizers.methods.dispatch import GAP, LEANS, SECONDS, asked, committed, plan_of, rounded, sells, start_weight, usable, wishes
from optimizers.methods.highs import Answer, Solver
from optimizers.plan import Plan
from optimizers.rules import UNJUDGED, Number, number, numbers, one_of
from optimizers.specification import Array, Community, series
from optimizers.validation import plannable

#: Weights of the 10, 50 and 90 % quantiles that keep mean and variance of most distributions (Swanson's rule; Keefer & Bodily 1983).
SWANSON = (0.3, 0.4, 0.3)
#: Weight of a status that is already decided.
_DECIDED = 1e6


@dataclass(frozen=True, slots=True)
class ScenarioPlan:
    """A plan against scenarios.

    Attributes:
        tied: steps in which all plans tell the plant the same.
        plans: one a scenario; each obeys its own community by the checker.
        shares: probability of each.
        expected: yuan, mean cost.
        bound: yuan; no plan with the same tied steps can cost less in expectation.
        gap: (expected - bound) / max(1, |expected|).
        how: dp, mean (the mean future's decision was best) or milp.
        sol_status: optimal (within the gap asked) or incumbent.
        of_mean: yuan expected when the tied statuses and loads are those of the mean future's plan; inf when that cannot be done in some scenario.
        seconds: solver time.
    """

    tied: int
    plans: tuple[Plan, ...]
    shares: tuple[float, ...]
    expected: float
    bound: float
    gap: float
    how: str
    sol_status: str
    of_mean: float
    seconds: float

    @property
    def now(self) -> Plan:
        """The plan to follow in the tied steps (any scenario's: they agree there)."""
        return self.plans[int(np.argmax(self.shares))]


def from_quantiles(community: Community, quantiles: Mapping[str, Array]) -> list[Community]:
    """One community a quantile: scenario k takes row k of every series given, so all move together (the hard case: cold, dear and without sun at once).

    Args:
        community: what is common.
        quantiles: field of `Community` (outdoor_c, sun_kw_m2, base_kw, pv_kw) or "energy" (price) -> (scenarios, steps).

    Raises:
        SpecificationError: rows of another number or length, or a field that is no forecast.
        InputError: no mapping of fields to rows of numbers.
    """
    one_of("from_quantiles", "quantiles", quantiles, (Mapping,))
    allowed = ("outdoor_c", "sun_kw_m2", "base_kw", "pv_kw", "energy")
    plannable(community)
    quantiles = {field: numbers("from_quantiles", str(field), rows, (None, None), UNJUDGED) for field, rows in quantiles.items()}
    counts = {len(rows) for rows in quantiles.values()}
    for field, rows in quantiles.items():
        if field not in allowed:
            raise SpecificationError(name=community.name, field=field, problem=f"no forecast; there are {', '.join(allowed)}")
        if len(counts) != 1 or np.shape(rows)[1:] != (community.steps,):
            raise SpecificationError(name=community.name, field=field, problem=f"{np.shape(rows)} quantiles for {community.steps} steps, every series needs as many")
    found = []
    for k in range(counts.pop() if counts else 1):
        fields = {field: np.asarray(rows[k], np.float64) for field, rows in quantiles.items() if field != "energy"}
        prices = dataclasses.replace(community.prices, energy=np.asarray(quantiles["energy"][k], np.float64)) if "energy" in quantiles else community.prices
        found.append(dataclasses.replace(community, name=f"{community.name} / {k + 1}", prices=prices, **fields))  # type: ignore[arg-type]
    return found


def mean_of(scenarios: Sequence[Community], shares: Sequence[float]) -> Community:
    """The community of mean forecasts.

    Args:
        scenarios: of one horizon.
        shares: their probabilities.

    Raises:
        SpecificationError: a scenario that contradicts itself, another horizon, shares that are not one above zero each, together one.
        InputError: no scenarios, or shares that are no numbers.
    """
    scenarios, shares = _judged("mean_of", scenarios, shares)
    first, steps = scenarios[0], scenarios[0].steps

    def mean(field: str) -> Array:
        return np.asarray(sum(p * series(getattr(c, field), steps) for p, c in zip(shares, scenarios, strict=True)), np.float64)

    energy = np.asarray(sum(p * c.prices.energy for p, c in zip(shares, scenarios, strict=True)), np.float64)
    return dataclasses.replace(first, prices=dataclasses.replace(first.prices, energy=energy), outdoor_c=mean("outdoor_c"), sun_kw_m2=mean("sun_kw_m2"), base_kw=mean("base_kw"), pv_kw=mean("pv_kw"))


def _judged(name: str, scenarios: Sequence[Community], shares: Sequence[float] | None) -> tuple[list[Community], list[float]]:
    """(plannable scenarios of one horizon, their probabilities)."""
    if not isinstance(scenarios, Sequence) or not len(scenarios):
        raise InputError(name=name, field="scenarios", problem=Words("no scenarios", "没有情景"))
    weights = [1 / len(scenarios)] * len(scenarios) if shares is None else numbers(name, "shares", shares, rule=Number(0, 1)).tolist()
    fit = [plannable(c) for c in scenarios]
    if len(weights) != len(fit) or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
        raise SpecificationError(name=fit[0].name, field="shares", problem=Words(f"{weights} for {len(fit)} scenarios: one above zero each, together one", f"{len(fit)} 个情景的概率为 {weights}：每个应大于零，合计为一"))
    for c in fit:
        if (c.steps, c.step_h) != (fit[0].steps, fit[0].step_h):
            raise SpecificationError(name=c.name, field="scenarios", problem=Words("another horizon than the first scenario", "时段与首个情景不同"))
    return fit, weights


def plan_scenarios(scenarios: Sequence[Community], shares: Sequence[float] | None = None, *, tied: int = 4, gap: float = GAP, seconds: float = SECONDS) -> ScenarioPlan:
    """Plan against scenarios of one community: same devices, other forecasts.

    Args:
        scenarios: of one topology and horizon.
        shares: their probabilities; None = equal.
        tied: first steps in which the plant is told the same in all.
        gap: certified relative gap that is good enough.
        seconds: the most an escalation to MILP may take.

    Raises:
        SpecificationError: another topology, horizon or number of shares; shares that do not sum to one; a scenario that contradicts itself.
        InputError: no scenarios, or `tied`, `gap`, `seconds` that cannot be.
        UnsolvedError: hard limits leave no plan.
    """
    began = time.perf_counter()
    gap, seconds = asked(gap, seconds)
    tied = int(number("plan_scenarios", "tied", tied, Number(whole=True)))
    fit, weights = _judged("plan_scenarios", scenarios, shares)
    both = np.logical_or.reduce([choices(c) for c in fit])
    stack = _Stack([program(c, choice=both) for c in fit], weights, min(max(0, tied), fit[0].steps))
    solver = Solver()
    relaxed = usable(stack.joint, solver.relaxed(stack.joint))
    bound, best, how = relaxed.objective, relaxed, "lp"
    of_mean = _of_mean(stack, fit, weights)
    if len(stack.joint.whole):
        best, how = of_mean, "mean"
        for lean, bought in ((LEANS[0], False), *((LEANS[0], True) for _ in range(bool(both.any()))), *((lean, False) for lean in LEANS[1:])):
            found = solver.refixed(stack.joint, stack.rounded(relaxed.values, lean, bought=bought))
            if found.objective < best.objective:
                best, how = found, "dp"
            if _gap(best.objective, bound) <= gap / 2:
                break
        if _gap(best.objective, bound) > gap:
            left = max(0.1, seconds - (time.perf_counter() - began))
            searched = Solver().whole(stack.joint, gap=gap * 0.8, seconds=left, start=best.values if np.isfinite(best.objective) else None)
            bound = max(bound, searched.bound) if np.isfinite(searched.bound) else bound
            if searched.objective < best.objective:
                again = solver.refixed(stack.joint, np.round(searched.values[stack.joint.whole]))
                best, how = (again, "milp") if again.objective < best.objective else (best, how)
            elif not best.usable:
                best = searched
    took = time.perf_counter() - began
    usable(stack.joint, best)
    plans = tuple(plan_of(p, answer, answer.objective, how, gap, took) for p, answer in zip(stack.programs, stack.apart(best), strict=True))
    expected = float(sum(w * p.objective for w, p in zip(weights, plans, strict=True)))
    certified = max(0.0, _gap(expected, bound))
    return ScenarioPlan(stack.tied, plans, tuple(weights), expected, bound, certified, how, "optimal" if certified <= gap + 1e-9 else "incumbent", of_mean.objective, took)


class _Stack:
    """Programs of one shape as one, their tied columns written once.

    Attributes:
        joint: the program in y.
        programs, weights, tied: what it was made of.
    """

    def __init__(self, programs: list[Program], weights: list[float], tied: int) -> None:
        first = programs[0]
        for p in programs[1:]:
            if list(p.columns) != list(first.columns) or len(p.cost) != len(first.cost) or len(p.row_lower) != len(first.row_lower):
                raise SpecificationError(name=p.community.name, field="scenarios", problem="other devices, limits or horizon than the first scenario")
        self.programs, self.weights, self.tied = programs, weights, tied
        width, count = len(first.cost), len(programs)
        common, loads = _tied_columns(first, tied)
        place = np.empty((count, width), np.int64)
        factor = np.ones((count, width))
        place[0] = np.arange(width)
        free = np.setdiff1d(np.arange(width), common)
        for s in range(1, count):
            place[s] = np.arange(width)
            place[s, free] = width + (s - 1) * len(free) + np.arange(len(free))
        total = width + (count - 1) * len(free)
        lower, upper, cost = np.full(total, -np.inf), np.full(total, np.inf), np.zeros(total)
        for s, p in enumerate(programs):
            for columns, unit in loads:
                factor[s, columns] = p.units[unit].cap[:len(columns)]
            scaled = np.isin(np.arange(width), np.concatenate([c for c, _ in loads]) if loads else [])
            # A load is a share of full load: between none and all, whatever that is in this scenario.
            np.maximum.at(lower, place[s], np.where(scaled, 0.0, p.lower))
            np.minimum.at(upper, place[s], np.where(scaled, 1.0, p.upper))
            np.add.at(cost, place[s], weights[s] * p.cost * factor[s])
        parts = [p.matrix @ sparse.csr_matrix((factor[s], (np.arange(width), place[s])), shape=(width, total)) for s, p in enumerate(programs)]
        matrix = sparse.csr_matrix(sparse.vstack(parts))
        matrix.sort_indices()
        self._place, self._factor = place, factor
        whole = np.unique(np.concatenate([place[s, p.whole] for s, p in enumerate(programs)])) if len(first.whole) else np.empty(0, np.int64)
        self.joint = Program(
            cost, lower, upper, matrix, np.concatenate([p.row_lower for p in programs]), np.concatenate([p.row_upper for p in programs]), whole, {}, {},
            float(sum(w * p.constant for w, p in zip(weights, programs, strict=True))), first.units, first.thermals, first.community)

    def values(self, y: Array) -> list[Array]:
        """Each scenario's own columns."""
        return [y[self._place[s]] * self._factor[s] for s in range(len(self.programs))]

    def apart(self, answer: Answer) -> list[Answer]:
        """Each scenario's answer; marginal prices are those of the scenario when it happens."""
        height = len(self.programs[0].row_lower)
        return [Answer(float(p.cost @ z) + p.constant, -np.inf, z, answer.row_duals[s * height:(s + 1) * height] / self.weights[s], answer.status)
                for s, (p, z) in enumerate(zip(self.programs, self.values(answer.values), strict=True))]

    def rounded(self, y: Array, lean: float, *, common: list[Array] | None = None, bought: bool = False) -> Array:
        """Statuses near the relaxed ones: the tied steps by the mean wish (or as given), then each scenario's own from there; `bought` as of `dispatch.rounded`."""
        wished, units = [wishes(p, z, lean) for p, z in zip(self.programs, self.values(y), strict=True)], committed(self.programs[0])
        if common is None:
            locked = [np.logical_or.reduce([c[j].locked for c in map(committed, self.programs)]) for j in range(len(units))]
            units = [dataclasses.replace(u, locked=shut) for u, shut in zip(units, locked, strict=True)]
            common = [nearest_status(np.asarray(sum(w * mine[j] for w, mine in zip(self.weights, wished, strict=True))), u, start=start_weight(u)) for j, u in enumerate(units)]
        points = self.values(y)
        return self.placed([np.concatenate([*(self._own(u, *pair) for u, *pair in zip(committed(p), common, mine, strict=True)), np.zeros(len(p.choice)) if bought else sells(p, z)])
                            for p, mine, z in zip(self.programs, wished, points, strict=True)])

    def _own(self, unit: Unit, common: Array, wish: Array) -> Array:
        mine, weight = wish.copy(), np.ones(len(wish))
        mine[:self.tied], weight[:self.tied] = common[:self.tied], _DECIDED
        return nearest_status(mine, unit, weight=weight, start=start_weight(unit))

    def placed(self, statuses: list[Array]) -> Array:
        """Values of `joint.whole` from each scenario's statuses."""
        y = np.zeros(len(self.joint.cost))
        for s, p in enumerate(self.programs):
            y[self._place[s, p.whole]] = statuses[s]
        return y[self.joint.whole]

    def decided(self, p: Program, values: Array) -> Program:
        """The joint program with the tied statuses and shares of full load of another program's point."""
        lower, upper, mine = self.joint.lower.copy(), self.joint.upper.copy(), self.programs[0]
        for unit, twin in zip(mine.units, p.units, strict=True):
            columns, heat = mine.columns[f"q:{unit.name}"][:self.tied], values[p.columns[f"q:{unit.name}"]][:self.tied]
            lower[columns] = upper[columns] = np.clip(np.divide(heat, twin.cap[:self.tied], out=np.zeros(len(heat)), where=twin.cap[:self.tied] > 1e-9), 0, 1)
            if not unit.free:
                columns = mine.columns[f"u:{unit.name}"][:self.tied]
                lower[columns] = upper[columns] = np.round(values[p.columns[f"u:{unit.name}"]][:self.tied])
        return dataclasses.replace(self.joint, lower=lower, upper=upper)


def _tied_columns(p: Program, tied: int) -> tuple[Index, list[tuple[Index, int]]]:
    """(columns written once, [(columns that are a share of full load, their unit)])."""
    common, loads = list[NDArray[np.int64]](), list[tuple[Index, int]]()
    for name, index in p.columns.items():
        if name.partition(":")[0] in ("u", "v", "w", "q", "c", "r", "rooms"):
            common.append(index[:tied])
    for k, unit in enumerate(p.units):
        loads.append((p.columns[f"q:{unit.name}"][:tied], k))
    return np.concatenate(common) if common else np.empty(0, np.int64), loads if tied else []


def _of_mean(stack: _Stack, scenarios: Sequence[Community], weights: Sequence[float]) -> Answer:
    """What follows when the tied statuses and loads are those of the plan for the mean future, and everything after is as good as roundings find it."""
    p, solver = program(plannable(mean_of(scenarios, weights))), Solver()
    relaxed = solver.relaxed(p)
    best = min((solver.refixed(p, rounded(p, relaxed.values, lean)) for lean in LEANS), key=lambda a: a.objective) if len(p.whole) else relaxed
    if not np.isfinite(best.objective):
        return best
    fixed, then = stack.decided(p, best.values), Solver()
    loose = then.relaxed(fixed)
    if not len(p.whole) or not np.isfinite(loose.objective):
        return loose
    common = [best.values[p.columns[f"u:{u.name}"]] for u in committed(p)]
    return min((then.refixed(fixed, stack.rounded(loose.values, lean, common=common)) for lean in LEANS), key=lambda a: a.objective)


def _gap(objective: float, bound: float) -> float:
    return (objective - bound) / max(1.0, abs(objective)) if np.isfinite(objective) else np.inf
