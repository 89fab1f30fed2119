"""The dispatch of one community as arrays: columns, rows and where each symbol stands. The same model as `reference`, which says it in PuLP.

    minimise  sum_t dt (p_t g_t - f_t x_t) + D (d - d0) + starts + priced slacks                                   (1)
    u_t - u_{t-1} = v_t - w_t;  sum_{k=t-UT+1..t} v_k <= u_t;  sum_{k=t-DT+1..t} w_k <= 1 - u_t                    (2)  Rajan & Takriti 2005
    m cap_t u_t <= q_t <= cap_t u_t                                                                                (3)
    sum q_t + sum (r_t - c_t) = sum h_t                                                                            (4)
    E_{t+1} = (1-l)^dt E_t + dt (eta_c c_t - r_t / eta_r);  E_{t+1} + z_t >= reserve                               (5)
    x_{t+1} = a x_t + b (h_t + rooms_t) + d_t;  T + s1 >= floor, T + s2 >= low, T - s3 <= high                     (6)
    g_t - x_t = base_t - y_t - (pv_t - k_t) + sum (alpha u_t + beta_t q_t) + rooms_t                               (7)
    g_t <= G_t (1 - z_t), x_t <= X_t z_t where selling pays no less than buying costs (`meter`)                    (7')
    g_t <= contract + s4;  g_t <= limit_t + s5;  g_t <= d;  g_t <= transformer (hard)                              (8)
    E_T + z >= target;  T_T + z >= target                                                                          (9)

Every limit that reality can break is a priced slack, so there is always a plan. Must not know: solvers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from optimizers.formulations.building import Thermal, thermal
from optimizers.formulations.meter import Meter, meter
from optimizers.formulations.units import Unit, units
from optimizers.specification import Array, Building, Community, Storage, series

Index = NDArray[np.int64]


@dataclass(slots=True)
class Program:
    """A linear program with some columns that should be whole.

    Attributes:
        cost, lower, upper: per column.
        matrix: rows by columns, compressed by row.
        row_lower, row_upper: per row.
        whole: columns that must be integers.
        columns, rows: name -> indices, one a step (or fewer).
        constant: yuan added to the objective.
        units, thermals, community: what it was made of.
        choice: steps of the columns "sells", 1 where power is sold and not bought; they follow the statuses in `whole`.
    """

    cost: Array
    lower: Array
    upper: Array
    matrix: sparse.csr_matrix
    row_lower: Array
    row_upper: Array
    whole: Index
    columns: dict[str, Index]
    rows: dict[str, Index]
    constant: float
    units: list[Unit]
    thermals: list[Thermal]
    community: Community
    choice: Index = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(slots=True)
class _Builder:
    steps: int
    cost: list[Array] = field(default_factory=list)
    lower: list[Array] = field(default_factory=list)
    upper: list[Array] = field(default_factory=list)
    row_lower: list[Array] = field(default_factory=list)
    row_upper: list[Array] = field(default_factory=list)
    entries: list[tuple[Index, Index, Array]] = field(default_factory=list)
    columns: dict[str, Index] = field(default_factory=dict)
    rows: dict[str, Index] = field(default_factory=dict)
    width: int = 0
    height: int = 0

    def column(self, name: str, cost: float | Array = 0.0, lower: float | Array = 0.0, upper: float | Array = np.inf, *, count: int | None = None) -> Index:
        """A variable a step."""
        n = self.steps if count is None else count
        for store, value in ((self.cost, cost), (self.lower, lower), (self.upper, upper)):
            store.append(_each(value, n))
        found = np.arange(self.width, self.width + n)
        self.columns[name] = found
        self.width += n
        return found

    def row(self, name: str, lower: float | Array, upper: float | Array, *terms: tuple[Index, float | Array], count: int | None = None) -> Index:
        """A row a step: sum of coefficient * column; a term with fewer columns belongs to the last rows, one with an index of -1 to none."""
        n = self.steps if count is None else count
        found = np.arange(self.height, self.height + n)
        self.rows[name] = found
        self.height += n
        self.row_lower.append(_each(lower, n))
        self.row_upper.append(_each(upper, n))
        for columns, factor in terms:
            self.add(found[n - len(columns):] if len(columns) < n else found, columns, factor)
        return found

    def add(self, rows: Index, columns: Index, factor: float | Array) -> None:
        """More entries of rows already there."""
        self.entries.append((rows, columns, _each(factor, len(columns))))


def _each(value: float | Array, count: int) -> Array:
    return value if isinstance(value, np.ndarray) and value.shape == (count,) else np.full(count, value, np.float64)


#: Where entries stand once compressed, by their places: the same topology has them in the same places, however often it is planned.
_PATTERNS: OrderedDict[bytes, tuple[Index, NDArray[np.int32], NDArray[np.int32]]] = OrderedDict()
_KEPT_PATTERNS = 64


def _compressed(rows: Index, columns: Index, values: Array, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Entries compressed by row; sorting them is done once a topology."""
    key = hashlib.blake2b(rows.tobytes() + columns.tobytes(), digest_size=16, salt=str(shape).encode()[:16]).digest()
    found = _PATTERNS.get(key)
    if found is None:
        order = np.lexsort((columns, rows))
        r, c = rows[order], columns[order]
        if ((np.diff(r) == 0) & (np.diff(c) == 0)).any():
            raise AssertionError("a place is written twice")
        found = (order, np.searchsorted(r, np.arange(shape[0] + 1)).astype(np.int32), c.astype(np.int32))
        _PATTERNS[key] = found
        while len(_PATTERNS) > _KEPT_PATTERNS:
            _PATTERNS.popitem(last=False)
    return sparse.csr_matrix((values[found[0]], found[2], found[1]), shape=shape)


def program(community: Community, *, choice: NDArray[np.bool_] | None = None) -> Program:
    """Write a plannable community (see `validation.plannable`) as arrays.

    Args:
        community: plannable.
        choice: (steps,) where the meter gets a binary; None: where it needs one.
    """
    steps, dt, prices = community.steps, community.step_h, community.prices
    b = _Builder(steps)
    made = units(community)
    statuses: list[Index] = []
    grid = b.column("grid", dt * prices.energy, 0.0, community.transformer_kw)
    power: list[tuple[Index, float | Array]] = [(grid, 1.0)]
    loop: list[tuple[Index, float | Array]] = []
    for unit in made:
        on, heat = _unit(b, unit, statuses)
        loop.append((heat, 1.0))
        power += [(heat, -unit.beta), *([(on, -unit.alpha)] if unit.alpha and on is not None else [])]
    for store in community.stores:
        charge, discharge = _store(b, store, community)
        loop += [(charge, -1.0), (discharge, 1.0)]
    room_heat: dict[str, list[tuple[Index, float]]] = {}
    for room in community.rooms:
        full = room.count * room.each_kw
        available = np.clip(np.nan_to_num(series(room.available, steps)), 0, 1)
        used = b.column(f"rooms:{room.name}", 0.0, full * np.minimum(np.clip(np.nan_to_num(series(room.least, steps)), 0, 1), available), full * available)
        power.append((used, -1.0))
        room_heat.setdefault(room.building, []).append((used, 1.0))
    thermals = []
    for building in community.buildings:
        state = thermal(building, community)
        thermals.append(state)
        heat = b.column(f"heat:{building.name}", 0.0, 0.0, building.emitter_kw if (community.sources or community.stores) else 0.0)
        loop.append((heat, -1.0))
        _building(b, building, state, [(heat, 1.0), *room_heat.get(building.name, [])], community)
    if loop:
        b.row("loop", 0.0, 0.0, *loop)
    way = meter(community, made, choice)
    _grid(b, community, power, way, statuses)
    rows, columns, values = (np.concatenate([e[k] for e in b.entries]) for k in range(3))
    matrix = _compressed(rows, columns, values, (b.height, b.width))
    return Program(np.concatenate(b.cost), np.concatenate(b.lower), np.concatenate(b.upper), matrix, np.concatenate(b.row_lower), np.concatenate(b.row_upper),
                   np.concatenate(statuses) if statuses else np.empty(0, np.int64), b.columns, b.rows, -prices.demand * prices.peak_so_far_kw, made, thermals, community, way.choice)


def _unit(b: _Builder, unit: Unit, statuses: list[Index]) -> tuple[Index | None, Index]:
    heat = b.column(f"q:{unit.name}", 0.0, 0.0, unit.cap)
    if unit.free:
        return None, heat
    steps = b.steps
    held = np.arange(steps) < unit.bound
    on = b.column(f"u:{unit.name}", 0.0, np.where(held & unit.on, 1.0, 0.0), np.where((held & (not unit.on)) | unit.locked, 0.0, 1.0))
    start = b.column(f"v:{unit.name}", unit.start_yuan, 0.0, 1.0)
    stop = b.column(f"w:{unit.name}", 0.0, 0.0, 1.0)
    statuses.append(on)
    before = np.zeros(steps)
    before[0] = float(unit.on)
    row = b.row(f"switch:{unit.name}", before, before, (on, 1.0), (start, -1.0), (stop, 1.0))
    b.add(row[1:], on[:-1], -1.0)
    b.row(f"most:{unit.name}", -np.inf, 0.0, (heat, 1.0), (on, -unit.cap))
    if unit.least > 0:
        b.row(f"least:{unit.name}", 0.0, np.inf, (heat, 1.0), (on, -unit.least * unit.cap))
    for name, window, events, sign, upper in (("up", unit.up, start, -1.0, 0.0), ("down", unit.down, stop, 1.0, 1.0)):
        if window > 1:
            row = b.row(f"{name}:{unit.name}", -np.inf, upper, (on, sign))
            for back in range(min(window, steps)):
                b.add(row[back:], events[:steps - back], 1.0)
    return on, heat


def _store(b: _Builder, store: Storage, community: Community) -> tuple[Index, Index]:
    dt, prices = community.step_h, community.prices
    keep = (1 - store.loss_per_h) ** dt
    charge = b.column(f"c:{store.name}", 0.0, 0.0, store.charge_kw)
    discharge = b.column(f"r:{store.name}", 0.0, 0.0, store.discharge_kw)
    energy = b.column(f"E:{store.name}", 0.0, 0.0, store.capacity_kwh)
    first = np.zeros(b.steps)
    first[0] = keep * store.energy_kwh
    row = b.row(f"store:{store.name}", first, first, (energy, 1.0), (charge, -dt * store.charge_efficiency), (discharge, dt / store.discharge_efficiency))
    b.add(row[1:], energy[:-1], -keep)
    if store.reserve_kwh > 0:
        below = b.column(f"reserve:{store.name}", dt * prices.reserve)
        b.row(f"reserve:{store.name}", min(store.reserve_kwh, store.capacity_kwh), np.inf, (energy, 1.0), (below, 1.0))
    short = b.column(f"short:{store.name}", prices.terminal, count=1)
    b.row(f"end:{store.name}", store.energy_kwh if store.target_kwh is None else store.target_kwh, np.inf, (energy[-1:], 1.0), (short, 1.0), count=1)
    return charge, discharge


def _building(b: _Builder, building: Building, state: Thermal, heats: list[tuple[Index, float]], community: Community) -> None:
    dt, prices, steps = community.step_h, community.prices, community.steps
    parts = [b.column(f"{'T' if k == 0 else 'M'}:{building.name}", 0.0, -np.inf, np.inf) for k in range(len(state.start))]
    for k, part in enumerate(parts):
        fixed = state.d[:, k].copy()
        fixed[0] += state.a[k] @ state.start
        row = b.row(f"{'T' if k == 0 else 'M'}:{building.name}", fixed, fixed, (part, 1.0), *((heat, -factor * state.b[k]) for heat, factor in heats))
        for other, column in enumerate(parts):
            b.add(row[1:], column[:-1], -state.a[k, other])
    room = parts[0]
    floor, low, high = (series(v, steps) for v in (building.floor_c, building.low_c, building.high_c))
    for name, price, limit, sign in (("floor", prices.floor, floor, 1.0), ("cold", prices.comfort, low, 1.0), ("hot", prices.comfort, high, -1.0)):
        if np.isfinite(limit).any():
            slack = b.column(f"{name}:{building.name}", dt * price)
            b.row(f"{name}:{building.name}", limit if sign > 0 else -np.inf, np.inf if sign > 0 else limit, (room, 1.0), (slack, sign))
    target = max(float(floor[-1]), min(building.room_c, float(high[-1]))) if building.target_c is None else building.target_c
    short = b.column(f"short:{building.name}", prices.terminal * float(state.weight.sum()), count=1)
    b.row(f"end:{building.name}", target, np.inf, (room[-1:], 1.0), (short, 1.0), count=1)


def _grid(b: _Builder, community: Community, power: list[tuple[Index, float | Array]], way: Meter, statuses: list[Index]) -> None:
    steps, dt, prices = community.steps, community.step_h, community.prices
    grid = power[0][0]
    base, pv = series(community.base_kw, steps), series(community.pv_kw, steps)
    shed = b.column("shed", dt * prices.shed, 0.0, base)
    spilled = b.column("spilled", 0.0, 0.0, pv)
    sold = b.column("sold", -dt * series(prices.export, steps), 0.0, way.sold)
    if len(way.choice):
        sells, at = b.column("sells", 0.0, 0.0, 1.0, count=len(way.choice)), way.choice
        statuses.append(sells)
        b.row("buys or", -np.inf, way.bought[at], (grid[at], 1.0), (sells, way.bought[at]), count=len(at))
        b.row("sells", -np.inf, 0.0, (sold[at], 1.0), (sells, -way.sold[at]), count=len(at))
    b.row("power", base - pv, base - pv, *power, (sold, -1.0), (shed, 1.0), (spilled, -1.0))
    if np.isfinite(community.contract_kw):
        over = b.column("over", dt * prices.contract)
        b.row("contract", -np.inf, community.contract_kw, (grid, 1.0), (over, -1.0))
    if community.limit_kw is not None and np.isfinite(community.limit_kw).any():
        over = b.column("above", np.where(np.isfinite(community.limit_kw), dt * prices.limit, 0.0))
        b.row("limit", -np.inf, community.limit_kw, (grid, 1.0), (over, -1.0))
    if prices.demand > 0:
        peak = b.column("peak", prices.demand, prices.peak_so_far_kw, count=1)
        b.row("peak", -np.inf, 0.0, (grid, 1.0), (np.repeat(peak, steps), -1.0))
