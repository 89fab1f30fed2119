"""Makes a specification plannable: what cannot be is refused by name, what reality does to forecasts and sensors is repaired and told.

`RULES` says for every field of every part what it may hold. Must not know: solvers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from optimizers.errors import SpecificationError, Words
from optimizers.rules import FLAG, TEXT, Number, Rule, Things, as_numbers, plain, refuse
from optimizers.specification import Array, Building, Community, ElectricBoiler, HeatPump, Performance, Prices, RoomHeaters, Storage, series

#: Hours of a second: nobody plans by less.
_SECOND = 1 / 3600
#: kWh/K of a few cubic metres of air: less is a slip of a unit.
_LEAST = 1e-3
_SIZE, _LIMIT, _SHARE, _EFFICIENCY = Number(), Number(endless=True), Number(0, 1), Number(1e-3, 1)
#: Forecasts and what sensors say: kind and length are judged, values are repaired and told.
_FORECAST, _SENSOR = Number(series=True, loose=True), Number(loose=True)
_AVAILABLE = Number(0, 1, series=True, missing=True)
_STATE: dict[str, Rule] = {"up_h": _SIZE, "down_h": _SIZE, "start_yuan": _SIZE, "on": FLAG, "since_h": _SIZE, "available": _AVAILABLE, "minimum_load": _SHARE}
_THREE = Things((int, float, np.integer, np.floating), each=Number(-1e3, 1e3), count=3)

RULES: Mapping[type, Mapping[str, Rule]] = {
    ElectricBoiler: {"name": TEXT, "rated_kw": _SIZE, "efficiency": _EFFICIENCY, "stages": Number(0, 1000, whole=True), **_STATE},
    HeatPump: {"name": TEXT, "rated_heat_kw": _SIZE, "performance": Things((Performance,)), "source_c": Number(series=True, loose=True, optional=True), "standby_kw": _SIZE, **_STATE},
    Performance: {"cop": _THREE, "capacity": _THREE, "cop_range": Things((int, float), each=Number(0.1, 20), count=2), "capacity_range": Things((int, float), each=Number(0, 5), count=2),
                  "defrost": Number(0, 0.9)},
    Storage: {"name": TEXT, "capacity_kwh": _SIZE, "energy_kwh": _SENSOR, "charge_kw": _SIZE, "discharge_kw": _SIZE, "charge_efficiency": _EFFICIENCY, "discharge_efficiency": _EFFICIENCY,
              "loss_per_h": _SHARE, "reserve_kwh": _SIZE, "target_kwh": Number(-1e7, optional=True)},
    Building: {"name": TEXT, "capacity_kwh_k": Number(_LEAST), "loss_kw_k": Number(_LEAST / 1000), "room_c": _SENSOR, "mass_kwh_k": _SIZE, "coupling_kw_k": _SIZE, "mass_loss_kw_k": _SIZE,
               "mass_c": Number(optional=True, loose=True), "solar_m2": _SIZE, "gains_kw": _FORECAST, "emitter_kw": _LIMIT, "floor_c": Number(-60, 60, series=True, missing=True, bottomless=True),
               "low_c": Number(-60, 60, series=True, missing=True, bottomless=True), "high_c": Number(-60, 90, series=True, missing=True, endless=True), "target_c": Number(-60, 60, optional=True)},
    RoomHeaters: {"name": TEXT, "count": Number(0, 1e6, whole=True), "each_kw": _SIZE, "building": TEXT, "least": _AVAILABLE, "available": _AVAILABLE},
    Prices: {"energy": _FORECAST, "export": _FORECAST, **dict.fromkeys(("demand", "peak_so_far_kw", "contract", "floor", "comfort", "shed", "limit", "reserve", "terminal"), _SIZE)},
    Community: {"name": TEXT, "step_h": Number(_SECOND, 24), "prices": Things((Prices,)), "outdoor_c": _FORECAST, "buildings": Things((Building,), many=True),
                "sources": Things((ElectricBoiler, HeatPump), many=True), "stores": Things((Storage,), many=True), "rooms": Things((RoomHeaters,), many=True),
                "sun_kw_m2": Number(series=True, loose=True, optional=True), "supply_c": _FORECAST, "base_kw": _FORECAST, "pv_kw": _FORECAST, "contract_kw": _LIMIT, "transformer_kw": _LIMIT,
                "export_kw": _LIMIT, "limit_kw": Number(series=True, missing=True, endless=True, optional=True), "repaired": Things((str,), many=True)},
}
#: Where a heat pump is rated: air at 7, water at 35 degC.
_RATED = (1.0, 7.0, 35.0)


def plannable(community: Community) -> Community:
    """The same community, fit to plan.

    Repaired and named in `repaired`: holes in forecasts (filled from their neighbours), a state outside its physical range (clipped), a comfort band
    that contradicts itself or the floor (the floor is kept), an end above the band, a reserve above the store, room heaters that must give more than they can. Refused: what `RULES` forbids, arrays of another length, a forecast of weather or price without a single
    usable value, names given twice, room heaters without a building, a heat pump without a COP.

    Raises:
        SpecificationError: with the field's name and what was wrong with its value.
    """
    if not isinstance(community, Community):
        raise SpecificationError(name="plan", field="community", problem=Words(f"{type(community).__name__} is no Community", f"{type(community).__name__} 不是 Community"))
    steps, notes = _horizon(community), list[str]()
    refuse(community.name, community, RULES[Community], steps)
    refuse(f"{community.name}.prices", community.prices, RULES[Prices], steps)
    names = [thing.name for group in (community.buildings, community.sources, community.stores, community.rooms) for thing in group]
    for group in (community.buildings, community.sources, community.stores, community.rooms):
        for thing in group:
            refuse(thing.name, thing, _rules(thing), steps)
            if isinstance(thing, HeatPump):
                refuse(f"{thing.name}.performance", thing.performance, RULES[Performance])
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise SpecificationError(name=community.name, field="name", problem=Words(f"a name is given twice: '{twice}'", f"名称重复：“{twice}”"))
    community = _plain(community)
    buildings = tuple(_building(b, steps, notes) for b in community.buildings)
    known = {b.name for b in buildings}
    for room in community.rooms:
        if room.building not in known:
            raise SpecificationError(name=room.name, field="building", problem=Words(f"there is no building '{room.building}'", f"没有名为“{room.building}”的建筑"))
    prices = dataclasses.replace(
        community.prices, energy=_whole(community.prices.energy, steps, f"{community.name}.prices.energy", notes, must=True),
        export=_whole(community.prices.export, steps, f"{community.name}.prices.export", notes))
    return dataclasses.replace(
        community, prices=prices, buildings=buildings, stores=tuple(_store(s, notes) for s in community.stores), sources=tuple(_source(s, steps, notes) for s in community.sources),
        rooms=tuple(_rooms(r, steps, notes) for r in community.rooms),
        limit_kw=None if community.limit_kw is None else _told(community.limit_kw, steps, np.inf, f"{community.name}.limit_kw", notes),
        outdoor_c=_whole(community.outdoor_c, steps, f"{community.name}.outdoor_c", notes, low=-60, high=50, must=True),
        sun_kw_m2=None if community.sun_kw_m2 is None else _whole(community.sun_kw_m2, steps, f"{community.name}.sun_kw_m2", notes, low=0, high=1.5),
        supply_c=_whole(community.supply_c, steps, f"{community.name}.supply_c", notes, low=5, high=120, otherwise=45.0),
        base_kw=_whole(community.base_kw, steps, f"{community.name}.base_kw", notes, low=0),
        pv_kw=_whole(community.pv_kw, steps, f"{community.name}.pv_kw", notes, low=0), repaired=(*community.repaired, *(n for n in notes if n not in community.repaired)))


def _horizon(community: Community) -> int:
    """Number of steps, which every series is judged by."""
    name = community.name if isinstance(community.name, str) else "community"
    if not isinstance(community.prices, Prices):
        refuse(name, community, {"prices": Things((Prices,))})
    energy = as_numbers(community.prices.energy)
    if energy is None or energy.ndim != 1 or not len(energy):
        raise SpecificationError(name=name, field="prices.energy", problem=Words("not a row of numbers, one a step", "不是每时段一个值的数列"))
    said = RULES[Community]["step_h"].problem(community.step_h)
    if said is not None:
        raise SpecificationError(name=name, field="step_h", problem=Words(f"a step of {said} h", f"时段长度 {said.zh}"))
    return len(energy)


def _rules(thing: Any) -> Mapping[str, Rule]:
    """Rules of a part, or of the part its class extends."""
    return next(rules for kind, rules in RULES.items() if isinstance(thing, kind))


def _plain(community: Community) -> Community:
    groups: dict[str, Any] = {field: tuple(plain(thing, _rules(thing)) for thing in getattr(community, field)) for field in ("buildings", "sources", "stores", "rooms")}
    groups["sources"] = tuple(dataclasses.replace(s, performance=plain(s.performance, RULES[Performance])) if isinstance(s, HeatPump) else s for s in groups["sources"])
    return plain(dataclasses.replace(community, prices=plain(community.prices, RULES[Prices]), **groups), RULES[Community])


def _source(source: ElectricBoiler | HeatPump, steps: int, notes: list[str]) -> ElectricBoiler | HeatPump:
    available = _told(source.available, steps, 0.0, f"{source.name}.available", notes)
    if not isinstance(source, HeatPump):
        return dataclasses.replace(source, available=available)
    p, name = source.performance, f"{source.name}.performance"
    for field, (low, high) in (("cop_range", p.cop_range), ("capacity_range", p.capacity_range)):
        if low > high:
            raise SpecificationError(name=name, field=field, problem=Words(f"{low:g} is above {high:g}", f"{low:g} 大于 {high:g}"))
    for field, row in (("cop", p.cop), ("capacity", p.capacity)):
        rated = sum(a * b for a, b in zip(row, _RATED, strict=True))
        if not rated > 0:
            raise SpecificationError(name=name, field=field, problem=Words(f"{row} gives {rated:g} at 7 degC of air and 35 degC of water", f"{row} 在空气 7 ℃、水 35 ℃ 时为 {rated:g}"))
    return dataclasses.replace(source, available=available, source_c=None if source.source_c is None else _whole(source.source_c, steps, f"{source.name}.source_c", notes, low=-60, high=60, must=True))


def _store(store: Storage, notes: list[str]) -> Storage:
    energy = store.energy_kwh if np.isfinite(store.energy_kwh) else store.capacity_kwh / 2
    clipped = float(np.clip(energy, 0, store.capacity_kwh))
    if clipped != store.energy_kwh:
        notes.append(f"{store.name}.energy_kwh {store.energy_kwh:g} -> {clipped:g}")
    target = None if store.target_kwh is None else float(np.clip(store.target_kwh, 0, store.capacity_kwh))
    if target is not None and target != store.target_kwh:
        notes.append(f"{store.name}.target_kwh {store.target_kwh:g} -> {target:g}")
    reserve = min(store.reserve_kwh, store.capacity_kwh)
    if reserve != store.reserve_kwh:
        notes.append(f"{store.name}.reserve_kwh {store.reserve_kwh:g} -> {reserve:g}")
    return dataclasses.replace(store, energy_kwh=clipped, target_kwh=target, reserve_kwh=reserve)


def _rooms(room: RoomHeaters, steps: int, notes: list[str]) -> RoomHeaters:
    least, available = (_told(values, steps, 0.0, f"{room.name}.{field}", notes) for field, values in (("least", room.least), ("available", room.available)))
    beyond = least > available
    if beyond.any():
        notes.append(f"{room.name}.least: above what is available in {int(beyond.sum())} steps, what is available is taken")
        least = np.minimum(least, available)
    return dataclasses.replace(room, least=least, available=available)


def _building(b: Building, steps: int, notes: list[str]) -> Building:
    if b.mass_kwh_k > 0 and b.coupling_kw_k <= 0:
        raise SpecificationError(name=b.name, field="coupling_kw_k", problem=Words("a mass that nothing couples to the room", "蓄热体与室内之间没有耦合"))
    if 0 < b.mass_kwh_k < _LEAST:
        raise SpecificationError(name=b.name, field="mass_kwh_k", problem=Words(f"{b.mass_kwh_k:g} is neither 0 nor {_LEAST:g} and more", f"{b.mass_kwh_k:g} 既不是 0，又小于 {_LEAST:g}"))
    floor = _told(b.floor_c, steps, 18.0, f"{b.name}.floor_c", notes)
    low, high = _told(b.low_c, steps, floor, f"{b.name}.low_c", notes), _told(b.high_c, steps, np.inf, f"{b.name}.high_c", notes)
    below = low < floor
    if below.any():
        notes.append(f"{b.name}.low_c: below the floor in {int(below.sum())} steps, the floor is taken")
        low = np.maximum(low, floor)
    crossed = low > high
    if crossed.any():
        notes.append(f"{b.name}: comfort band crosses itself in {int(crossed.sum())} steps; the floor is kept")
        high = np.where(crossed, low, high)
    room = _state(b.room_c, float(low[0]) if np.isfinite(low[0]) else 18.0, -40, 60, f"{b.name}.room_c", notes)
    mass = b.mass_c
    if mass is not None and not np.isfinite(mass):
        notes.append(f"{b.name}.mass_c {mass:g} -> in balance with the room")
        mass = None
    elif mass is not None:
        mass = _state(mass, 0.0, -40, 90, f"{b.name}.mass_c", notes)
    target = b.target_c
    if target is not None and target > high[-1]:
        target = float(high[-1])
        notes.append(f"{b.name}.target_c {b.target_c:g} -> {target:g}, the top of the comfort band")
    return dataclasses.replace(b, floor_c=floor, low_c=low, high_c=high, room_c=room, mass_c=mass, target_c=target, gains_kw=_whole(b.gains_kw, steps, f"{b.name}.gains_kw", notes))


def _state(value: float, unknown: float, low: float, high: float, what: str, notes: list[str]) -> float:
    """A measured state within its physical range."""
    if np.isfinite(value) and low <= value <= high:
        return float(value)
    kept = float(np.clip(np.nan_to_num(value, nan=unknown, posinf=high, neginf=low), low, high))
    notes.append(f"{what} {value:g} -> {kept:g}")
    return kept


def _told(values: Any, steps: int, unknown: float | Array, what: str, notes: list[str]) -> Array:
    """One value a step; where nobody knows (NaN), what is taken instead is told."""
    found = series(as_numbers(values), steps)
    missing = np.isnan(found)
    if not missing.any():
        return found
    notes.append(f"{what}: {int(missing.sum())} of {steps} values missing, {'the floor' if isinstance(unknown, np.ndarray) else format(unknown, 'g')} is taken")
    return np.asarray(np.where(missing, unknown, found), np.float64)


def _whole(values: Any, steps: int, what: str, notes: list[str], *, low: float = -1e7, high: float = 1e7, must: bool = False, otherwise: float = 0.0) -> Array:
    """Finite values within bounds; holes are filled from their neighbours. With not one usable value: refused when `must`, else `otherwise` is taken."""
    found = series(as_numbers(values), steps)
    odd = ~((found >= low) & (found <= high))
    if not odd.any():
        return found
    if odd.all():
        if must:
            name, _, field = what.rpartition(".")
            raise SpecificationError(name=name, field=field, problem=Words(f"not one of {steps} values is usable (the first is {found[0]:g})", f"{steps} 个值均不可用（首个为 {found[0]:g}）"))
        notes.append(f"{what}: none of {steps} values usable, {otherwise:g} is taken")
        return np.full(steps, otherwise)
    notes.append(f"{what}: {int(odd.sum())} of {steps} values unusable, filled from their neighbours")
    where = np.arange(steps)
    return np.asarray(np.interp(where, where[~odd], found[~odd]), np.float64)
