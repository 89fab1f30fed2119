"""Re-simulates a plan from the specification alone and names every limit it breaks. It shares nothing with the formulation: no rows, no duals, its own physics.

Buildings are integrated in small implicit steps, stores by their definition, statuses by counting. Every part of the cost is computed anew from prices. Must not know: formulations, solvers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizers.errors import InputError, Words
from optimizers.plan import HOW, SOL_STATUS, Plan
from optimizers.rules import ANY, Number, as_numbers, number, one_of
from optimizers.specification import Array, Building, Community, ElectricBoiler, HeatPump, series
from optimizers.validation import plannable

#: Each step is simulated in two to the power of at least so many; an exchange is slow in one when it moves less than this share.
_HALVINGS, _SLOW = 9, 0.05
#: Fields of a plan that are one row, and those that are a row a name.
_ROWS = ("grid_kw", "sold_kw", "spilled_kw", "shed_kw", "heat_price", "power_price")
_MAPS = ("on", "heat_kw", "power_kw", "rooms_kw", "charge_kw", "discharge_kw", "energy_kwh", "building_kw", "room_c", "mass_c", "slacks")


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit the plan breaks.

    Attributes:
        what: name of the limit, e.g. "boiler.minimum_load".
        step: first step where.
        amount: how far, in `unit`.
    """

    what: str
    step: int
    amount: float
    unit: str


def check(plan: Plan, community: Community, *, tolerance: float = 1e-4) -> list[Breach]:
    """Every limit the plan breaks (empty: none), and every figure in it that is not what the physics and the prices give: what is told of slacks, each part of the cost,
    their sum, the gap; and every name, word and type in it that does not belong there.

    What is not proven, for it would need a solver: that nothing cheaper exists (`bound` is held against objective and gap only) and the marginal prices (`heat_price`
    and `power_price` are only rows of finite numbers). `seconds` is only a time. Lists are as good as arrays: a plan may come from a file.

    Args:
        plan: what is judged. Rows of another length, missing or not of finite numbers are breaches too.
        community: plannable, the one the plan was made for.
        tolerance: kW, kWh; temperatures are compared within 100 times that (the checker integrates, it does not copy).

    Raises:
        InputError: what is judged is no plan.
        SpecificationError: the community contradicts itself.
    """
    one_of("check", "plan", plan, (Plan,))
    number("check", "tolerance", tolerance, Number(above=True))
    community = plannable(community)
    return _malformed(plan, community) or _broken(_as_arrays(plan), community, tolerance)


def belonging(name: str, plan: Plan, community: Community) -> tuple[Plan, Community]:
    """A plan with its rows as arrays, and its community plannable: for whatever reads both.

    Args:
        name: of the function they were given to.
        plan: of this community.
        community: the one the plan was made for.

    Raises:
        InputError: no plan, or its rows, names or words are not those of a plan of this community.
        SpecificationError: the community contradicts itself.
    """
    one_of(name, "plan", plan, (Plan,))
    community = plannable(community)
    found = _malformed(plan, community)
    if found:
        raise InputError(name=name, field="plan", problem=Words(f"{found[0].what}: it is no plan of this community", f"{found[0].what}：不是该对象的计划"))
    return _as_arrays(plan), community


def _broken(plan: Plan, community: Community, tolerance: float) -> list[Breach]:
    """Limits, balances, slacks and money of a well-formed plan."""
    found = list[Breach]()
    steps, dt = community.steps, community.step_h

    def beyond(what: str, amount: Array, unit: str, slack: float = tolerance) -> None:
        amount = np.asarray(amount, np.float64)
        odd = np.isnan(amount) | (amount > slack)  # minus infinity: there is no such limit
        if odd.any():
            where = int(np.argmax(odd))
            found.append(Breach(what, where, float(amount[where]), unit))

    electricity, heat = np.zeros(steps), np.zeros(steps)
    for source in community.sources:
        q, on = plan.heat_kw[source.name], plan.on[source.name]
        cap, power, least = _source(source, community, q, on)
        beyond(f"{source.name}.capacity", q - cap * on, "kW")
        beyond(f"{source.name}.minimum_load", least * cap * on - q, "kW")
        beyond(f"{source.name}.power", np.abs(power - plan.power_kw[source.name]), "kW")
        beyond(f"{source.name}.status", np.maximum.reduce([np.abs(on - np.round(on)), -on, on - 1.0]), "")
        beyond(f"{source.name}.available", np.where(_available(source, steps) <= 0, on, 0.0), "")
        for what, short in (("up_h", _runs(source, on, dt, 1.0)), ("down_h", _runs(source, on, dt, 0.0))):
            beyond(f"{source.name}.{what}", short, "h", 1e-6)
        electricity += power
        heat += q
    for store in community.stores:
        c, r = plan.charge_kw[store.name], plan.discharge_kw[store.name]
        energy = float(store.energy_kwh)
        heat += r - c
        beyond(f"{store.name}.charge_kw", np.maximum(c - store.charge_kw, -c), "kW")
        beyond(f"{store.name}.discharge_kw", np.maximum(r - store.discharge_kw, -r), "kW")
        content = np.empty(steps)
        for t in range(steps):
            energy = energy * float((1 - store.loss_per_h) ** dt) + dt * float(c[t] * store.charge_efficiency - r[t] / store.discharge_efficiency)
            content[t] = energy
        beyond(f"{store.name}.capacity_kwh", np.maximum(content - store.capacity_kwh, -content), "kWh", tolerance * 10)
        beyond(f"{store.name}.energy_kwh", np.abs(content - plan.energy_kwh[store.name]), "kWh", tolerance * 10)
    for room in community.rooms:
        used, full = plan.rooms_kw[room.name], room.count * room.each_kw
        available = full * np.clip(np.nan_to_num(series(room.available, steps)), 0, 1)
        owed = np.minimum(full * np.clip(np.nan_to_num(series(room.least, steps)), 0, 1), available)
        beyond(f"{room.name}.rating", np.maximum(used - available, owed - used), "kW")
        electricity += used
    for building in community.buildings:
        direct = sum((plan.rooms_kw[r.name] for r in community.rooms if r.building == building.name), np.zeros(steps))
        brought = plan.building_kw[building.name]
        heat -= brought
        beyond(f"{building.name}.emitter_kw", np.maximum(brought - building.emitter_kw, -brought), "kW")
        room_c, mass_c = _simulate(building, community, brought + direct)
        beyond(f"{building.name}.room_c", np.abs(room_c - plan.room_c[building.name]), "K", tolerance * 100)
        for kind, missing in (("floor", series(building.floor_c, steps) - room_c), ("cold", series(building.low_c, steps) - room_c), ("hot", room_c - series(building.high_c, steps))):
            told = plan.slacks.get(f"{kind}:{building.name}", np.zeros(steps))
            beyond(f"{building.name}.{kind} not told", missing - told, "K", tolerance * 100)
            beyond(f"{building.name}.{kind} overstated", told - np.maximum(0.0, missing), "K", tolerance * 100)
        if building.mass_kwh_k > 0:
            beyond(f"{building.name}.mass_c", np.abs(mass_c - plan.mass_c[building.name]), "K", tolerance * 100)
    beyond("heat balance", np.abs(heat), "kW")
    base, pv = series(community.base_kw, steps), series(community.pv_kw, steps)
    beyond("power balance", np.abs(plan.grid_kw - plan.sold_kw - (base - plan.shed_kw - pv + plan.spilled_kw + electricity)), "kW")
    beyond("buying and selling at once", np.minimum(plan.grid_kw, plan.sold_kw), "kW", 10 * tolerance)
    beyond("grid_kw", -plan.grid_kw, "kW")
    beyond("transformer_kw", plan.grid_kw - community.transformer_kw, "kW")
    beyond("export_kw", np.maximum(plan.sold_kw - community.export_kw, -plan.sold_kw), "kW")
    beyond("spilled_kw", np.maximum(plan.spilled_kw - pv, -plan.spilled_kw), "kW")
    beyond("shed_kw", np.maximum(plan.shed_kw - base, -plan.shed_kw), "kW")
    for what, amount, unit, slack in _money(plan, community):
        beyond(what, np.array([amount]), unit, slack)
    return found


def _malformed(plan: Plan, community: Community) -> list[Breach]:
    """Rows that are missing, of another length or not of finite numbers: such a plan is not looked at further."""
    steps, found = community.steps, list[Breach]()
    wanted: dict[str, Sequence[Any]] = {"on": community.sources, "heat_kw": community.sources, "power_kw": community.sources, "rooms_kw": community.rooms, "charge_kw": community.stores,
              "discharge_kw": community.stores, "energy_kwh": community.stores, "building_kw": community.buildings, "room_c": community.buildings,
              "mass_c": [b for b in community.buildings if b.mass_kwh_k > 0]}
    rows: list[tuple[str, Any]] = [(field, getattr(plan, field)) for field in _ROWS]
    for field, things in wanted.items():
        have = getattr(plan, field)
        rows += [(f"{thing.name}.{field}", have.get(thing.name) if isinstance(have, Mapping) else None) for thing in things]
    known = _slack_prices(community)
    slacks = plan.slacks if isinstance(plan.slacks, Mapping) else {"slacks": None}
    rows += [(f"slacks.{name}", amount) for name, amount in slacks.items()]
    for what, row in rows:
        values = as_numbers(row)
        length = 1 if what.startswith("slacks.short:") else steps
        if values is None or values.shape != (length,):
            found.append(Breach(f"{what} is no row", 0, float("nan") if values is None else float(values.size), "steps"))
        elif not np.isfinite(values).all():
            found.append(Breach(f"{what} is not finite", int(np.argmin(np.isfinite(values))), float("nan"), ""))
    found += [Breach(f"slacks.{name} is unknown", 0, float("nan"), "") for name in slacks if name not in known]
    costs = plan.cost if isinstance(plan.cost, Mapping) else {"cost": None}
    figures = {**{f"cost.{name}": yuan for name, yuan in costs.items()}, "objective": plan.objective, "bound": plan.bound, "gap": plan.gap}
    found += [Breach(f"{what} is not finite", 0, float("nan"), "yuan") for what, yuan in figures.items() if ANY.problem(yuan) is not None]
    return found + _foreign(plan, wanted)


def _foreign(plan: Plan, wanted: Mapping[str, Sequence[Any]]) -> list[Breach]:
    """Names the community does not have, words no plan says, values of another type."""
    found = list[Breach]()
    for field, things in wanted.items():
        have, names = getattr(plan, field), {thing.name for thing in things}
        if not isinstance(have, Mapping):
            found.append(Breach(f"{field} is no mapping", 0, float("nan"), ""))
        else:
            found += [Breach(f"{name}.{field} is unknown", 0, float("nan"), "") for name in have if name not in names]
    for field, words in (("how", HOW), ("sol_status", SOL_STATUS)):
        if not isinstance(getattr(plan, field), str) or getattr(plan, field) not in words:
            found.append(Breach(f"{field} is unknown", 0, float("nan"), ""))
    if Number(high=1e12).problem(plan.seconds) is not None:
        found.append(Breach("seconds is no time", 0, float("nan"), "s"))
    if not isinstance(plan.repaired, list | tuple) or not all(isinstance(note, str) for note in plan.repaired):
        found.append(Breach("repaired is no list of texts", 0, float("nan"), ""))
    return found


def _as_arrays(plan: Plan) -> Plan:
    """The same plan, its rows as arrays of floats."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(plan):
        value = getattr(plan, field.name)
        if field.name in _MAPS:
            changed[field.name] = {name: as_numbers(row) for name, row in value.items()}
        elif field.name in _ROWS:
            changed[field.name] = as_numbers(value)
    return dataclasses.replace(plan, **changed)


def _slack_prices(community: Community) -> dict[str, float]:
    """Yuan for one unit of each priced slack, a step."""
    dt, prices, found = community.step_h, community.prices, dict[str, float]()
    for b in community.buildings:
        capacity = b.capacity_kwh_k + (b.mass_kwh_k if b.mass_kwh_k > 0 else 0.0)
        found |= {f"floor:{b.name}": dt * prices.floor, f"cold:{b.name}": dt * prices.comfort, f"hot:{b.name}": dt * prices.comfort, f"short:{b.name}": prices.terminal * capacity}
    for s in community.stores:
        found |= {f"reserve:{s.name}": dt * prices.reserve, f"short:{s.name}": prices.terminal}
    return found | {"shed": dt * prices.shed, "over": dt * prices.contract, "above": dt * prices.limit}


def _money(plan: Plan, community: Community) -> Iterator[tuple[str, float, str, float]]:
    """(what, yuan or units apart, unit, how far apart it may be) of everything that is told in money."""
    dt, prices, steps = community.step_h, community.prices, community.steps
    cost, grid = plan.cost, plan.grid_kw
    peak = max(float(grid.max(initial=0.0)), prices.peak_so_far_kw)
    starts = sum(s.start_yuan * float(np.sum(np.diff(np.r_[float(s.on), np.round(plan.on[s.name])]) > 0)) for s in community.sources)
    parts = {"energy": float(dt * (prices.energy @ grid)), "export": -float(dt * (series(prices.export, steps) @ plan.sold_kw)), "demand": prices.demand * (peak - prices.peak_so_far_kw)}
    for name, price in _slack_prices(community).items():
        kind = name.partition(":")[0]
        told = plan.slacks.get(name, np.zeros(1))
        needed = _needed(name, plan, community)
        if needed is not None:
            yield f"{name} not told", float((needed - told).max()), "kW" if kind in ("over", "above", "shed") else "kWh", 1e-3 + 1e-6 * float(np.abs(needed).max())
            yield f"{name} overstated", float((told - needed).max()), "kW" if kind in ("over", "above", "shed") else "kWh", 1e-3 + 1e-6 * float(np.abs(needed).max())
        parts[name] = price * float(told.sum())
    # Sources without status columns cost nothing to start; with them a start counts as often as it happens.
    parts["starts"] = starts
    for name, yuan in parts.items():
        yield f"cost.{name}", abs(yuan - cost.get(name, 0.0)), "yuan", 2e-3 + 1e-6 * abs(yuan) + 1e-5 * _slack_prices(community).get(name, 0.0) * steps
    yield from ((f"cost.{name} is unknown", abs(yuan), "yuan", 0.0) for name, yuan in cost.items() if name not in parts)
    yield "objective", abs(sum(cost.values()) - plan.objective), "yuan", 1e-6 * (1 + abs(plan.objective))
    yield "bound", plan.bound - plan.objective, "yuan", 1e-4 + 1e-6 * abs(plan.objective)
    yield "gap", abs(max(0.0, (plan.objective - plan.bound) / max(1.0, abs(plan.objective))) - plan.gap), "", 1e-6


def _needed(name: str, plan: Plan, community: Community) -> Array | None:
    """What a slack of power or energy must be by the plan's own figures; None: not one of these (temperatures are simulated)."""
    kind, _, thing = name.partition(":")
    if kind == "over":
        return np.asarray(np.maximum(0.0, plan.grid_kw - community.contract_kw), np.float64)
    if kind == "above":
        return np.zeros(1) if community.limit_kw is None else np.asarray(np.maximum(0.0, plan.grid_kw - community.limit_kw), np.float64)
    if kind == "shed":
        return plan.shed_kw
    store = next((s for s in community.stores if s.name == thing), None)
    if store is not None:
        energy = plan.energy_kwh[thing]
        if kind == "reserve":
            return np.asarray(np.maximum(0.0, min(store.reserve_kwh, store.capacity_kwh) - energy), np.float64)
        return np.maximum(0.0, (store.energy_kwh if store.target_kwh is None else store.target_kwh) - energy[-1:])
    building = next(b for b in community.buildings if b.name == thing)
    if kind != "short":
        return None
    floor, high = series(building.floor_c, community.steps), series(building.high_c, community.steps)
    target = max(float(floor[-1]), min(building.room_c, float(high[-1]))) if building.target_c is None else building.target_c
    return np.maximum(0.0, target - plan.room_c[thing][-1:])


def _source(source: ElectricBoiler | HeatPump, community: Community, q: Array, on: Array) -> tuple[Array, Array, float]:
    """(heat at full load, electricity drawn, least share)."""
    available = _available(source, community.steps)
    if isinstance(source, HeatPump):
        cop, share = source.performance.at(community.outdoor_c if source.source_c is None else source.source_c, series(community.supply_c, community.steps))
        return source.rated_heat_kw * share * available, q / cop + source.standby_kw * on, source.minimum_load
    return source.rated_kw * source.efficiency * available, q / source.efficiency, max(source.minimum_load, 1 / source.stages if source.stages else 0.0)


def _runs(source: ElectricBoiler | HeatPump, on: Array, dt: float, value: float) -> Array:
    """Hours missing from each finished run of `value`, at the step where it ends; a run begun before the horizon brings its past, and a lockout may cut it."""
    least, locked = source.up_h if value else source.down_h, _available(source, len(on)) <= 0
    short, length = np.zeros(len(on)), source.since_h if float(source.on) == value else 0.0
    previous, before = float(source.on), True
    for t, now in enumerate(np.round(on)):
        if now == value:
            length = length + dt if previous == value else dt
        elif previous == value and not (before and value and locked[t]):
            short[t] = least - length
        before = before and now == previous
        previous = now
    return short


def _available(source: ElectricBoiler | HeatPump, steps: int) -> Array:
    """(steps,) share of full load there is."""
    return np.asarray(np.clip(np.nan_to_num(series(source.available, steps)), 0, 1), np.float64)


def _simulate(building: Building, community: Community, heat: Array) -> tuple[Array, Array]:
    """(room, mass) temperature at the end of each step, by small trapezoidal steps."""
    steps = community.steps
    gains = series(building.gains_kw, steps) + building.solar_m2 * series(community.sun_kw_m2, steps)
    two = building.mass_kwh_k > 0
    link = building.coupling_kw_k if two else 0.0
    capacity = np.array([building.capacity_kwh_k, building.mass_kwh_k if two else 1.0])
    flow = np.array([[-(building.loss_kw_k + link), link], [link, -(link + (building.mass_loss_kw_k if two else 0.0))]]) / capacity[:, None]
    outdoor = np.array([building.loss_kw_k, building.mass_loss_kw_k if two else 0.0]) / capacity
    mass = building.mass_c
    if mass is None:
        mass = (link * building.room_c + building.mass_loss_kw_k * float(community.outdoor_c[0])) / max(1e-12, link + building.mass_loss_kw_k) if two else 0.0
    # So many small steps, a power of two, that the fastest exchange is slow in each.
    halvings = max(_HALVINGS, math.ceil(math.log2(max(1.0, community.step_h * float(np.abs(flow).max()) / _SLOW))))
    h = community.step_h / 2.0 ** halvings
    solve = np.linalg.inv(np.eye(2) - h / 2 * flow)
    forward, gain = solve @ (np.eye(2) + h / 2 * flow), solve * h
    total, summed = forward, np.eye(2)
    for _ in range(halvings):
        total, summed = total @ total, summed + total @ summed
    state, out = np.array([building.room_c, mass]), np.empty((steps, 2))
    for t in range(steps):
        push = gain @ (np.array([(heat[t] + gains[t]) / capacity[0], 0.0]) + outdoor * community.outdoor_c[t])
        state = total @ state + summed @ push
        out[t] = state
    return out[:, 0], out[:, 1]
