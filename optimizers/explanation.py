"""Why a plan does what it does, interval by interval: binding limits, marginal prices, what could not be held, in Chinese and English.

Stretches with cause and way out: `shortfall`.
Must not know: pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizers.checker import belonging
from optimizers.plan import Plan
from optimizers.rules import Number, number
from optimizers.shortfall import KINDS, TOLERANCE
from optimizers.specification import Community, HeatPump, series

_TIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of one interval.

    Attributes:
        kind: stable word: short, full, least, empty, charged, floor, cold, hot, contract, limit, peak, transformer, shed, cheap, dear.
        zh, en: a sentence.
        amount: in `unit`.
    """

    kind: str
    zh: str
    en: str
    amount: float
    unit: str


def reasons(plan: Plan, community: Community) -> list[list[Reason]]:
    """Reasons per interval, what hurts first.

    Args:
        plan: the plan.
        community: the one it was made for.

    Raises:
        InputError: no plan of this community; SpecificationError: no community.
    """
    plan, community = belonging("reasons", plan, community)
    steps = community.steps
    out: list[list[Reason]] = [[] for _ in range(steps)]

    def add(where: np.ndarray[tuple[int], np.dtype[np.bool_]], kind: str, zh: str, en: str, amount: np.ndarray[tuple[int], np.dtype[np.float64]], unit: str) -> None:
        for t in np.flatnonzero(where):
            value = float(amount[t])
            out[t].append(Reason(kind, zh.format(value), en.format(value), value, unit))

    nothing = np.zeros(steps)
    for name, amount in plan.slacks.items():
        kind, _, thing = name.partition(":")
        if kind == "short" and amount[0] > TOLERANCE:
            unit, _, zh, en = KINDS["short_store" if any(s.name == thing for s in community.stores) else "short_building"]
            out[-1].append(Reason(kind, zh.format(thing=thing, worst=amount[0]), en.format(thing=thing, worst=amount[0]), float(amount[0]), unit))
        if len(amount) != steps or kind == "short":
            continue
        words = {
            "floor": (f"“{thing}”无法保持最低室温，差 {{:.1f}} K", f"{thing}: the floor cannot be held, {{:.1f}} K short", "K"),
            "cold": (f"“{thing}”低于舒适区 {{:.1f}} K", f"{thing}: {{:.1f}} K below the comfort band", "K"), "hot": (f"“{thing}”高于舒适区 {{:.1f}} K", f"{thing}: {{:.1f}} K above the comfort band", "K"),
            "over": ("超出合同容量 {:.0f} kW", "{:.0f} kW above the contracted capacity", "kW"), "above": ("超出需求响应限值 {:.0f} kW", "{:.0f} kW above the response's limit", "kW"),
            "shed": ("变压器不足，切除其他负荷 {:.0f} kW", "the transformer cannot carry it: {:.0f} kW of other load shed", "kW"),
            "reserve": (f"“{thing}”低于应急储量 {{:.0f}} kWh", f"{thing}: {{:.0f}} kWh below its reserve", "kWh")}
        if kind in words:
            add(amount > TOLERANCE, kind, *words[kind][:2], amount, words[kind][2])
    grid, prices = plan.grid_kw, community.prices
    add(np.isclose(grid, community.transformer_kw, atol=_TIGHT), "transformer", "变压器已满载 {:.0f} kW", "the transformer is full, {:.0f} kW", grid, "kW")
    add(np.isclose(grid, community.contract_kw, atol=_TIGHT), "contract", "用电恰好保持在合同容量 {:.0f} kW", "held at the contracted {:.0f} kW", grid, "kW")
    if community.limit_kw is not None:
        add(np.isclose(grid, community.limit_kw, atol=_TIGHT), "limit", "按需求响应限值 {:.0f} kW 运行", "held at the response's limit, {:.0f} kW", grid, "kW")
    if prices.demand > 0:
        peak = max(float(grid.max(initial=0.0)), prices.peak_so_far_kw)
        add(np.isclose(grid, peak, atol=_TIGHT), "peak", "不再抬高本月最大需量 {:.0f} kW", "kept from raising the month's demand, {:.0f} kW", grid, "kW")
    for source in community.sources:
        q = plan.heat_kw[source.name]
        if isinstance(source, HeatPump):
            share = source.performance.at(community.outdoor_c if source.source_c is None else source.source_c, series(community.supply_c, steps))[1]
            cap = source.rated_heat_kw * share
        else:
            cap = np.full(steps, source.rated_kw * source.efficiency)
        cap = cap * np.clip(np.nan_to_num(series(source.available, steps)), 0, 1)
        add((q > _TIGHT) & (q >= cap - _TIGHT), "full", f"“{source.name}”满负荷，供热 {{:.0f}} kW", f"{source.name} at full load, {{:.0f}} kW of heat", q, "kW")
    for store in community.stores:
        energy = plan.energy_kwh[store.name]
        add((plan.charge_kw[store.name] > _TIGHT) & (plan.power_price <= np.quantile(plan.power_price, 0.35) + 1e-9), "cheap", f"电价低，“{store.name}”蓄热 {{:.0f}} kW（热）", f"power is cheap: {store.name} is charged with {{:.0f}} kW of heat",
            plan.charge_kw[store.name], "kW")
        add(plan.discharge_kw[store.name] > _TIGHT, "dear", f"“{store.name}”放热 {{:.0f}} kW，少用高价电", f"{store.name} gives {{:.0f}} kW of heat instead of dearer power", plan.discharge_kw[store.name], "kW")
        add(energy >= store.capacity_kwh - _TIGHT, "charged", f"“{store.name}”已蓄满", f"{store.name} is full", nothing, "")
        add(energy <= _TIGHT, "empty", f"“{store.name}”已放空", f"{store.name} is empty", nothing, "")
    return out


def what_if(plan: Plan, community: Community, *, warmer_k: float = 1.0) -> float:
    """Yuan that rooms `warmer_k` warmer throughout would cost by the marginal prices (of one kWh more): a first estimate from below.

    Args:
        plan: with marginal prices.
        community: its community.
        warmer_k: by how much.

    Raises:
        InputError: no number of kelvin, or no plan of this community; SpecificationError: no community.
    """
    plan, community = belonging("what_if", plan, community)
    warmer_k = number("what_if", "warmer_k", warmer_k, Number(-50, 50))
    more_kw = sum((b.loss_kw_k + (b.mass_loss_kw_k if b.mass_kwh_k > 0 else 0.0)) for b in community.buildings) * warmer_k
    return float(np.sum(plan.heat_price) * community.step_h * more_kw)
