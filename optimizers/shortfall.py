"""What a plan could not hold, in sentences: which limit, when, how much, what it cost, which capacity is behind it, and the way out. Chinese and English.

Every priced slack of a plan is told, the end of the horizon and shed load included. Must not know: solvers, pages, clocks (times are hours from the start).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.checker import belonging
from optimizers.errors import InputError, Words
from optimizers.formulations.units import Unit, units
from optimizers.plan import Plan
from optimizers.rules import Number, number
from optimizers.specification import Array, Building, Community, Storage, series

#: Less than this (K, kW, kWh) is a solver's rounding.
TOLERANCE = 1e-4
#: Hours before a shortfall of heat in which its cause is looked for: rooms and stores remember.
LEAD_H = 4.0
_TIGHT = 1e-3
#: A capacity is behind a shortfall when it binds in this share of the steps looked at.
_OFTEN = 0.25

#: Kind of slack -> (unit, unit of its sum over time, zh, en); fields: thing, when, worst.
KINDS: dict[str, tuple[str, str, str, str]] = {
    "floor": ("K", "K·h", "{when}“{thing}”低于最低室温，最多差 {worst:.2f} K", "{thing} is below its floor {when}, by up to {worst:.2f} K"),
    "cold": ("K", "K·h", "{when}“{thing}”低于舒适区，最多差 {worst:.2f} K", "{thing} is below the comfort band {when}, by up to {worst:.2f} K"),
    "hot": ("K", "K·h", "{when}“{thing}”高于舒适区，最多高 {worst:.2f} K", "{thing} is above the comfort band {when}, by up to {worst:.2f} K"),
    "over": ("kW", "kWh", "{when}用电超出合同容量，最多 {worst:.1f} kW", "power is above the contracted capacity {when}, by up to {worst:.1f} kW"),
    "above": ("kW", "kWh", "{when}用电超出需求响应限值，最多 {worst:.1f} kW", "power is above the demand-response limit {when}, by up to {worst:.1f} kW"),
    "shed": ("kW", "kWh", "{when}为不超变压器额定容量，切除其他负荷最多 {worst:.1f} kW", "up to {worst:.1f} kW of other load is shed {when} to stay within the transformer's rating"),
    "reserve": ("kWh", "kWh·h", "{when}“{thing}”低于应急储量，最多差 {worst:.1f} kWh", "{thing} is below its emergency reserve {when}, by up to {worst:.1f} kWh"),
    "short_store": ("kWh", "kWh", "时段结束时“{thing}”比目标少 {worst:.1f} kWh", "{thing} ends the horizon {worst:.1f} kWh below its target"),
    "short_building": ("K", "K", "时段结束时“{thing}”室温比目标低 {worst:.2f} K", "{thing} ends the horizon {worst:.2f} K below its target"),
}

#: Cause -> (why zh, why en, way out zh, way out en).
CAUSES: dict[str, tuple[str, str, str, str]] = {
    "started": ("开始时已在限值之外", "it was already beyond the limit when the horizon began", "等待恢复，或查明此前原因", "let it recover, or find out what happened before"),
    "no_source": ("没有可用热源", "no heat source is available", "恢复或解除闭锁热源", "repair a source or release its lockout"),
    "reduced": ("热源出力受限并已满负荷", "the sources are limited and already at what is left of their full load", "尽快恢复受限热源，或启用备用热源", "restore the limited sources, or start a spare one"),
    "sources": ("热源已满负荷", "the sources are at full load", "增加热源，提前蓄热，或降低温度要求", "add a source, store heat earlier, or ask for less warmth"),
    "emitter": ("散热器已达最大散热量", "the radiators give all they can", "提高供水温度或增加散热器", "raise the supply temperature or add radiators"),
    "discharge": ("蓄热装置已达最大放热功率", "the store discharges at its greatest rate", "提前供热，或提高放热功率", "heat earlier, or raise the discharge rate"),
    "transformer": ("变压器已满载", "the transformer is full", "错峰，或增容", "move other load, or enlarge the transformer"),
    "limit": ("受需求响应限值约束", "the demand-response limit holds the power down", "减少申报容量，或提前预热", "offer less, or pre-heat earlier"),
    "contract": ("受合同容量约束", "the contracted capacity holds the power down", "提高合同容量，或错峰", "contract more, or move other load"),
    "base": ("仅其他负荷就已超出", "other load alone exceeds it", "转移或削减其他负荷", "move or cut other load"),
    "owed": ("按规定不能停的设备仍在用电", "devices that may not be off take the rest", "缩短最短运行时间，或放宽室内设备下限", "shorten least run times, or lower the share of room heaters that must stay on"),
    "heat": ("供热所需：违反室温要求代价更高", "the heat is needed: breaking the room temperatures would cost more", "提前预热，或放宽舒适区", "pre-heat earlier, or widen the comfort band"),
    "gains": ("未供热，太阳与人员得热使其升温", "no heat is brought: sun and people warm it", "遮阳或通风", "shade or ventilate"),
    "cheap": ("电价不高于零，多用电有收益", "power costs nothing or less, so heating pays", "提高舒适区的价格", "raise the price of comfort if this is not wanted"),
    "price": ("按给定价格，违反比保持更便宜", "at the prices given it is cheaper to break it than to hold it", "提高该限值的价格", "raise the price of this limit if it must hold"),
}


@dataclass(frozen=True, slots=True)
class Shortfall:
    """One limit that one stretch of the plan could not hold.

    Attributes:
        name: of the slack, as in `Plan.slacks`.
        kind: one of `KINDS`.
        first, last: steps, both included.
        worst: greatest amount, in `unit`.
        total: sum over time, in `total_unit`.
        yuan: what the plan paid for it.
        causes: one or two of `CAUSES`, the stronger first.
        zh, en: the whole sentence with the way out.
    """

    name: str
    kind: str
    first: int
    last: int
    worst: float
    unit: str
    total: float
    total_unit: str
    yuan: float
    causes: tuple[str, ...]
    zh: str
    en: str


def hours(h: float) -> str:
    """Hours from the start as +H:MM."""
    minutes = round(h * 60)
    return f"+{minutes // 60}:{minutes % 60:02d}"


def shortfalls(plan: Plan, community: Community, *, clock: Callable[[float], str] = hours, tolerance: float = TOLERANCE) -> list[Shortfall]:
    """Everything the plan could not hold, dearest first.

    Args:
        plan: the plan.
        community: the one it was made for.
        clock: how a reader names a time given in hours from the start.
        tolerance: amounts up to this are not told.

    Raises:
        InputError: no plan of this community, a clock that cannot be called or a tolerance that is none; SpecificationError: no community.
    """
    plan, community = belonging("shortfalls", plan, community)
    tolerance = number("shortfalls", "tolerance", tolerance, Number())
    if not callable(clock):
        raise InputError(name="shortfalls", field="clock", problem=Words(f"{type(clock).__name__} cannot be called", f"{type(clock).__name__} 不可调用"))
    judge, dt, found = _Judge(plan, community), community.step_h, list[Shortfall]()
    stores = {s.name for s in community.stores}
    for name, amount in plan.slacks.items():
        kind, _, thing = name.partition(":")
        paid, weight = plan.cost.get(name, 0.0), float(amount.sum())
        if kind == "short":
            kind = "short_store" if thing in stores else "short_building"
        unit, total_unit, zh, en = KINDS[kind]
        for first, last in _runs(amount > tolerance):
            part = amount[first:last + 1]
            at_end = kind.startswith("short_")
            begin, end = (community.steps - 1, community.steps - 1) if at_end else (first, last)
            causes = judge.causes(kind, thing, begin, end)
            when = (clock(begin * dt), clock((end + 1) * dt))
            facts = {"thing": thing, "worst": float(part.max())}
            why = [CAUSES[c] for c in causes]
            found.append(Shortfall(
                name, kind, begin, end, float(part.max()), unit, float(part.sum()) * (1.0 if at_end else dt), total_unit, paid * float(part.sum()) / weight if weight > 0 else 0.0, causes,
                f"{zh.format(**facts, when=f'{when[0]} 至 {when[1]} ')}：{'；'.join(w[0] for w in why)}。可{why[0][2]}。",
                f"{en.format(**facts, when=f'from {when[0]} to {when[1]}')}: {'; '.join(w[1] for w in why)}. Way out: {why[0][3]}."))
    return sorted(found, key=lambda s: -s.yuan)


def _runs(where: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.r_[False, where, False]))
    yield from ((int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True))


class _Judge:
    """Which capacity is behind a shortfall."""

    def __init__(self, plan: Plan, community: Community) -> None:
        self._plan, self._c, self._n = plan, community, community.steps
        self._units = units(community)
        self._base = series(community.base_kw, self._n) - series(community.pv_kw, self._n)
        self._owed = self._must_draw()

    def causes(self, kind: str, thing: str, first: int, last: int) -> tuple[str, ...]:
        """One or two causes of a run of steps."""
        if kind in ("over", "above", "shed"):
            found = self._of_power(kind, first, last)
        elif kind == "hot":
            found = self._of_warmth(next(b for b in self._c.buildings if b.name == thing), first, last)
        else:
            found = self._of_cold(kind, thing, first, last)
        return tuple(found[:2]) or ("price",)

    def _of_cold(self, kind: str, thing: str, first: int, last: int) -> list[str]:
        c, plan = self._c, self._plan
        window = slice(max(0, first - round(LEAD_H / c.step_h)), last + 1)
        building = next((b for b in c.buildings if b.name == thing), None)
        store = next((s for s in c.stores if s.name == thing), None)
        found = ["started"] if first == 0 and _began_beyond(kind, building, store) else []
        cap, heat = self._total("cap"), self._heat()
        rooms_full = self._rooms_full(thing)
        binding: dict[str, NDArray[np.bool_]] = {}
        if not c.rooms or building is None or not any(r.building == thing for r in c.rooms):
            rooms_full = np.ones(self._n, bool)
        limited = self._total("full") > cap + _TIGHT
        full = (heat >= cap - _TIGHT - 1e-4 * cap) & rooms_full
        binding["no_source"] = (cap <= _TIGHT) & rooms_full
        binding["reduced"] = full & limited & (cap > _TIGHT)
        binding["sources"] = full & ~limited & (cap > _TIGHT)
        if building is not None and np.isfinite(building.emitter_kw):
            binding["emitter"] = plan.building_kw[thing] >= building.emitter_kw - _TIGHT
        if c.stores and building is not None:
            binding["discharge"] = np.any([plan.discharge_kw[s.name] >= s.discharge_kw - _TIGHT for s in c.stores], axis=0)
        binding["transformer"] = plan.grid_kw >= c.transformer_kw - _TIGHT
        if c.limit_kw is not None:
            binding["limit"] = plan.grid_kw >= c.limit_kw - _TIGHT
        binding["contract"] = plan.grid_kw >= c.contract_kw - _TIGHT
        shares = {cause: float(where[window].mean()) for cause, where in binding.items()}
        return found + sorted((k for k, share in shares.items() if share >= _OFTEN), key=lambda k: -shares[k])

    def _of_warmth(self, building: Building, first: int, last: int) -> list[str]:
        c, plan, window = self._c, self._plan, slice(first, last + 1)
        found = ["started"] if first == 0 and building.room_c > float(series(building.high_c, self._n)[0]) else []
        direct = sum((plan.rooms_kw[r.name] for r in c.rooms if r.building == building.name), np.zeros(self._n))
        brought = (plan.building_kw[building.name] + direct)[window]
        if float(np.mean(brought <= _TIGHT)) >= 0.5:
            found.append("gains")
        elif float(np.mean(brought <= self._owed_heat(building)[window] + _TIGHT)) >= _OFTEN:
            found.append("owed")
        before = slice(max(0, first - round(LEAD_H / c.step_h)), last + 1)
        if float(c.prices.energy[before].min()) <= 0:
            found.append("cheap")
        return found

    def _of_power(self, kind: str, first: int, last: int) -> list[str]:
        c, window = self._c, slice(first, last + 1)
        limit = c.transformer_kw if kind == "shed" else c.contract_kw if kind == "over" else np.zeros(self._n) if c.limit_kw is None else c.limit_kw
        limit = series(limit, self._n)[window]
        tests = {"base": self._base[window] > limit, "owed": (self._base + self._owed)[window] > limit, "heat": (self._draw() - self._owed)[window] > _TIGHT}
        found = [k for k, where in tests.items() if float(np.mean(where)) >= _OFTEN]
        if "base" in found and "owed" in found and not (self._owed[window] > _TIGHT).any():
            found.remove("owed")
        return found

    def _draw(self) -> Array:
        """Power of everything that heats, kW."""
        return np.asarray(sum(self._plan.power_kw.values(), np.zeros(self._n)) + sum(self._plan.rooms_kw.values(), np.zeros(self._n)))

    def _heat(self) -> Array:
        return np.asarray(sum(self._plan.heat_kw.values(), np.zeros(self._n)))

    def _total(self, what: str) -> Array:
        """Heat at full load, kW: what is available (cap), or what there would be of healthy sources (full)."""
        if what == "cap":
            return np.asarray(sum((u.cap for u in self._units), np.zeros(self._n)))
        shares = [np.clip(np.nan_to_num(series(self._c.sources[u.source].available, self._n)), 0, 1) for u in self._units]
        return np.asarray(sum((np.where(s > 0, u.cap / np.maximum(s, 1e-9), 1.0) for u, s in zip(self._units, shares, strict=True)), np.zeros(self._n)))

    def _rooms_full(self, building: str) -> NDArray[np.bool_]:
        full = np.ones(self._n, bool)
        for r in self._c.rooms:
            if r.building == building:
                full &= self._plan.rooms_kw[r.name] >= r.count * r.each_kw * np.clip(np.nan_to_num(series(r.available, self._n)), 0, 1) - _TIGHT
        return full

    def _must_draw(self) -> Array:
        """Power that may not be off, kW: room heaters' share, sources within their shortest run at their least load."""
        owed = np.zeros(self._n)
        for r in self._c.rooms:
            shares = np.minimum(*(np.clip(np.nan_to_num(series(v, self._n)), 0, 1) for v in (r.least, r.available)))
            owed = owed + r.count * r.each_kw * shares
        for u in self._units:
            owed = owed + np.where(self._held(u), u.alpha + u.least * u.cap * u.beta, 0.0)
        return owed

    def _owed_heat(self, building: Building) -> Array:
        """Heat in kW that cannot be kept out of a building: its room heaters' share, and running sources at their least load."""
        owed = np.zeros(self._n)
        for r in self._c.rooms:
            if r.building == building.name:
                owed = owed + r.count * r.each_kw * np.minimum(*(np.clip(np.nan_to_num(series(v, self._n)), 0, 1) for v in (r.least, r.available)))
        for u in self._units:
            owed = owed + u.least * u.cap * self._plan.on[u.name]
        return owed

    def _held(self, unit: Unit) -> NDArray[np.bool_]:
        return (np.arange(self._n) < unit.bound) & unit.on


def _began_beyond(kind: str, building: Building | None, store: Storage | None) -> bool:
    if building is not None and kind in ("floor", "cold"):
        return building.room_c < float(np.ravel(building.floor_c if kind == "floor" else building.low_c)[0])
    return store is not None and kind == "reserve" and store.energy_kwh < store.reserve_kwh
