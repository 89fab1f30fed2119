"""Re-simulates a plan from the specification alone and names every limit it breaks. It shares nothing with the formulation: no rows, no duals, its own physics.

Buildings are integrated in small implicit steps, stores by their definition, statuses by counting. Must not know: formulations, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizers.plan import Plan
from optimizers.specification import Array, Building, Community, ElectricBoiler, HeatPump, series

_SUB = 400


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
    """Every limit the plan breaks (empty: none), and every figure in it that is not what the physics gives.

    Args:
        plan: what is judged.
        community: plannable, the one the plan was made for.
        tolerance: kW, kWh; temperatures are compared within 100 times that (the checker integrates, it does not copy).
    """
    found: list[Breach] = []
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
        beyond(f"{source.name}.status", np.abs(on - np.round(on)), "")
        for what, short in (("up_h", _runs(source, on, dt, 1.0)), ("down_h", _runs(source, on, dt, 0.0))):
            beyond(f"{source.name}.{what}", short, "steps", 0.5)
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
        room_c = _simulate(building, community, brought + direct)
        beyond(f"{building.name}.room_c", np.abs(room_c - plan.room_c[building.name]), "K", tolerance * 100)
        for kind, missing in (("floor", series(building.floor_c, steps) - room_c), ("cold", series(building.low_c, steps) - room_c), ("hot", room_c - series(building.high_c, steps))):
            told = plan.slacks.get(f"{kind}:{building.name}", np.zeros(steps))
            beyond(f"{building.name}.{kind} not told", missing - told, "K", tolerance * 100)
    beyond("heat balance", np.abs(heat), "kW")
    base, pv = series(community.base_kw, steps), series(community.pv_kw, steps)
    beyond("power balance", np.abs(plan.grid_kw - plan.sold_kw - (base - plan.shed_kw - pv + plan.spilled_kw + electricity)), "kW")
    beyond("transformer_kw", plan.grid_kw - community.transformer_kw, "kW")
    beyond("export_kw", np.maximum(plan.sold_kw - community.export_kw, -plan.sold_kw), "kW")
    beyond("spilled_kw", np.maximum(plan.spilled_kw - pv, -plan.spilled_kw), "kW")
    beyond("shed_kw", np.maximum(plan.shed_kw - base, -plan.shed_kw), "kW")
    energy_yuan = float(dt * (community.prices.energy @ plan.grid_kw - series(community.prices.export, steps) @ plan.sold_kw))
    beyond("cost.energy", np.array([abs(energy_yuan - plan.cost["energy"] - plan.cost["export"])]), "yuan", 1e-3 + 1e-6 * abs(energy_yuan))
    peak = max(float(plan.grid_kw.max(initial=0.0)), community.prices.peak_so_far_kw)
    beyond("cost.demand", np.array([community.prices.demand * (peak - community.prices.peak_so_far_kw) - plan.cost.get("demand", 0.0)]), "yuan", 1e-3)
    return found


def _source(source: ElectricBoiler | HeatPump, community: Community, q: Array, on: Array) -> tuple[Array, Array, float]:
    """(heat at full load, electricity drawn, least share)."""
    available = np.clip(np.nan_to_num(series(source.available, community.steps)), 0, 1)
    if isinstance(source, HeatPump):
        cop, share = source.performance.at(community.outdoor_c if source.source_c is None else source.source_c, series(community.supply_c, community.steps))
        return source.rated_heat_kw * share * available, q / cop + source.standby_kw * on, source.minimum_load
    return source.rated_kw * source.efficiency * available, q / source.efficiency, max(source.minimum_load, 1 / source.stages if source.stages else 0.0)


def _runs(source: ElectricBoiler | HeatPump, on: Array, dt: float, value: float) -> Array:
    """Steps missing from each finished run of `value`, at the step where it ends; a run begun before the horizon brings its past."""
    least = max(1, round((source.up_h if value else source.down_h) / dt))
    short, length = np.zeros(len(on)), float(round(source.since_h / dt)) if float(source.on) == value else 0.0
    previous = float(source.on)
    for t, now in enumerate(np.round(on)):
        if now == value:
            length = length + 1 if previous == value else 1
        elif previous == value:
            short[t] = least - length
        previous = now
    return short


def _simulate(building: Building, community: Community, heat: Array) -> Array:
    """Room temperature at the end of each step, by small trapezoidal steps."""
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
    h = community.step_h / _SUB
    solve = np.linalg.inv(np.eye(2) - h / 2 * flow)
    forward, gain = solve @ (np.eye(2) + h / 2 * flow), solve * h
    # One step of the horizon is a power of the small one.
    total, summed = np.eye(2), np.zeros((2, 2))
    for _ in range(_SUB):
        summed = summed + total
        total = forward @ total
    state, out = np.array([building.room_c, mass]), np.empty(steps)
    for t in range(steps):
        push = gain @ (np.array([(heat[t] + gains[t]) / capacity[0], 0.0]) + outdoor * community.outdoor_c[t])
        state = total @ state + summed @ push
        out[t] = state[0]
    return out
