"""The same model in PuLP, to be read and to audit: a test holds both objectives equal on random communities.

Symbols as in `formulations.dispatch`. Slow on purpose: readable first. PuLP stands in this module only (pinned below 4).
Trap kept in mind: PuLP reports a time-limited answer as Optimal; only `sol_status` tells (see `solve`). Must not know: the arrays.
"""

from __future__ import annotations

import pulp

from optimizers.formulations.building import thermal
from optimizers.formulations.meter import meter
from optimizers.formulations.units import Unit, units
from optimizers.specification import Building, Community, Storage, series

INF = float("inf")


class Model:
    """The dispatch of a plannable community; `problem` is the PuLP problem.

    Args:
        community: see `validation.plannable`.
        relaxed: statuses continuous.
    """

    def __init__(self, community: Community, *, relaxed: bool = False) -> None:
        self.problem = pulp.LpProblem("dispatch", pulp.LpMinimize)
        self._c, self._n, self._dt, self._relaxed = community, community.steps, community.step_h, relaxed
        self._count = 0
        self._cost: list[pulp.LpAffineExpression] = []
        self._loop: list[list[pulp.LpAffineExpression]] = [[] for _ in range(self._n)]
        self._power: list[list[pulp.LpAffineExpression]] = [[] for _ in range(self._n)]
        self._direct: dict[tuple[str, int], list[pulp.LpVariable]] = {}
        for unit in units(community):
            self._unit(unit)
        for store in community.stores:
            self._store(store)
        self._rooms()
        for building in community.buildings:
            self._building(building)
        self._grid()
        self.problem += pulp.lpSum(self._cost)

    def _var(self, lower: float | None = 0.0, upper: float = INF, *, whole: bool = False) -> pulp.LpVariable:
        self._count += 1
        return self.problem.add_variable(f"x{self._count}", lower, None if upper == INF else upper, pulp.LpInteger if whole else pulp.LpContinuous)

    def _unit(self, unit: Unit) -> None:
        """(2), (3), and its part of (4), (7)."""
        n, p = self._n, self.problem
        q = [self._var(0, float(cap)) for cap in unit.cap]
        for t in range(n):
            self._loop[t].append(1 * q[t])
            self._power[t].append(float(unit.beta[t]) * q[t])
        if unit.free:
            return
        u = [self._var(0, 1, whole=not self._relaxed) for _ in range(n)]
        v, w = ([self._var(0, 1) for _ in range(n)] for _ in range(2))
        for t in range(n):
            cap = float(unit.cap[t])
            p += u[t] - (float(unit.on) if t == 0 else u[t - 1]) == v[t] - w[t]
            p += q[t] <= cap * u[t]
            p += q[t] >= unit.least * cap * u[t]
            p += pulp.lpSum(v[max(0, t - unit.up + 1):t + 1]) <= u[t]
            p += pulp.lpSum(w[max(0, t - unit.down + 1):t + 1]) <= 1 - u[t]
            if t < unit.bound:
                p += u[t] == float(unit.on)
            if unit.locked[t]:
                p += u[t] == 0
            self._power[t].append(unit.alpha * u[t])
        self._cost.append(unit.start_yuan * pulp.lpSum(v))

    def _store(self, store: Storage) -> None:
        """(5) and its end (9)."""
        prices, dt = self._c.prices, self._dt
        energy: pulp.LpVariable | float = store.energy_kwh
        for t in range(self._n):
            c, r, after = self._var(0, store.charge_kw), self._var(0, store.discharge_kw), self._var(0, store.capacity_kwh)
            self.problem += after == (1 - store.loss_per_h) ** dt * energy + dt * store.charge_efficiency * c - dt / store.discharge_efficiency * r
            self._loop[t].append(r - c)
            if store.reserve_kwh > 0:
                self._soft(after, min(store.reserve_kwh, store.capacity_kwh), dt * prices.reserve)
            energy = after
        self._soft(energy, store.energy_kwh if store.target_kwh is None else store.target_kwh, prices.terminal)

    def _rooms(self) -> None:
        for room in self._c.rooms:
            full, share, least = room.count * room.each_kw, series(room.available, self._n), series(room.least, self._n)
            for t in range(self._n):
                there = min(1.0, max(0.0, float(share[t])))
                x = self._var(full * min(there, max(0.0, float(least[t]))), full * there)
                self._direct.setdefault((room.building, t), []).append(x)
                self._power[t].append(1 * x)

    def _building(self, building: Building) -> None:
        """(6) and its end (9)."""
        prices, dt, n = self._c.prices, self._dt, self._n
        state = thermal(building, self._c)
        now: list[pulp.LpVariable | float] = state.start.tolist()
        floor, low, high = (series(v, n).tolist() for v in (building.floor_c, building.low_c, building.high_c))
        for t in range(n):
            h = self._var(0, building.emitter_kw if (self._c.sources or self._c.stores) else 0.0)
            self._loop[t].append(-1 * h)
            heat = h + pulp.lpSum(self._direct.get((building.name, t), []))
            after = [self._var(None) for _ in now]
            for k, x in enumerate(after):
                self.problem += x == pulp.lpSum(float(state.a[k, j]) * now[j] for j in range(len(now))) + float(state.b[k]) * heat + float(state.d[t, k])
            self._soft(after[0], floor[t], dt * prices.floor)
            self._soft(after[0], low[t], dt * prices.comfort)
            if high[t] < INF:
                self._soft(-1 * after[0], -high[t], dt * prices.comfort)
            now = list(after)
        self._soft(now[0], max(floor[-1], min(building.room_c, high[-1])) if building.target_c is None else building.target_c, prices.terminal * float(state.weight.sum()))

    def _grid(self) -> None:
        """(4), (7), (8)."""
        c, prices, dt, n, p = self._c, self._c.prices, self._dt, self._n, self.problem
        base, pv, export = (series(v, n).tolist() for v in (c.base_kw, c.pv_kw, prices.export))
        peak = self._var(prices.peak_so_far_kw) if prices.demand > 0 else None
        way = meter(c, units(c))
        for t in range(n):
            g, sold, shed, spilled = self._var(0, c.transformer_kw), self._var(0, float(way.sold[t])), self._var(0, base[t]), self._var(0, pv[t])
            p += pulp.lpSum(self._loop[t]) == 0
            p += g - sold == base[t] - shed - pv[t] + spilled + pulp.lpSum(self._power[t])
            if t in way.choice:
                z = self._var(0, 1, whole=not self._relaxed)
                p += g <= float(way.bought[t]) * (1 - z)
                p += sold <= float(way.sold[t]) * z
            self._cost.append(dt * float(prices.energy[t]) * g - dt * export[t] * sold + dt * prices.shed * shed)
            if c.contract_kw < INF:
                self._soft(-1 * g, -c.contract_kw, dt * prices.contract)
            if c.limit_kw is not None and c.limit_kw[t] < INF:
                self._soft(-1 * g, -float(c.limit_kw[t]), dt * prices.limit)
            if peak is not None:
                p += g <= peak
        if peak is not None:
            self._cost.append(prices.demand * peak - prices.demand * prices.peak_so_far_kw)

    def _soft(self, what: pulp.LpVariable | pulp.LpAffineExpression | float, least: float, price: float) -> None:
        """Priced slack: what + slack >= least."""
        z = self._var()
        self.problem += what + z >= least
        self._cost.append(price * z)


def solve(problem: pulp.LpProblem, *, gap: float = 1e-6, seconds: float = 60.0) -> tuple[float, bool]:
    """Solve with HiGHS.

    Returns:
        (objective in yuan, proven optimal within the gap). A time-limited answer has sol_status IntegerFeasible whatever `status` says.
    """
    problem.solve(pulp.HiGHS(msg=False, gapRel=gap, timeLimit=seconds, threads=1))
    return float(pulp.value(problem.objective)), problem.sol_status == pulp.LpSolutionOptimal
