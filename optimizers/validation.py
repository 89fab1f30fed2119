"""Makes a specification plannable: what cannot be is refused by name, what reality does to forecasts and sensors is repaired and told.

Must not know: solvers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from optimizers.errors import SpecificationError
from optimizers.specification import Array, Building, Community, HeatPump, series

_LIMIT = 1e7


def plannable(community: Community) -> Community:
    """The same community, fit to plan.

    Repaired and named in `repaired`: holes in forecasts (filled from their neighbours), a state outside its physical range (clipped), a comfort band
    that contradicts itself (its middle taken). Refused: sizes that are not positive numbers, arrays of another length, names given twice, room
    heaters without a building.

    Raises:
        SpecificationError: with the field's name.
    """
    steps = community.steps
    notes: list[str] = []
    if steps < 1 or not 0 < community.step_h <= 24:
        raise SpecificationError(name=community.name, field="prices.energy", problem="no steps, or a step outside (0, 24] h")
    names = [thing.name for group in (community.buildings, community.sources, community.stores, community.rooms) for thing in group]
    if len(set(names)) != len(names):
        raise SpecificationError(name=community.name, field="name", problem="a name is given twice")
    buildings = tuple(_building(b, steps, notes) for b in community.buildings)
    known = {b.name for b in buildings}
    for group in (community.sources, community.stores, community.rooms):
        for thing in group:
            _sizes(thing)
    for room in community.rooms:
        if room.building not in known:
            raise SpecificationError(name=room.name, field="building", problem=f"there is no building '{room.building}'")
    stores = []
    for store in community.stores:
        energy = store.energy_kwh if np.isfinite(store.energy_kwh) else store.capacity_kwh / 2
        clipped = float(np.clip(energy, 0, store.capacity_kwh))
        if clipped != store.energy_kwh:
            notes.append(f"{store.name}.energy_kwh {store.energy_kwh:g} -> {clipped:g}")
        target = None if store.target_kwh is None else float(np.clip(np.nan_to_num(store.target_kwh), 0, store.capacity_kwh))
        stores.append(dataclasses.replace(store, energy_kwh=clipped, target_kwh=target))
    prices = dataclasses.replace(
        community.prices, energy=_whole(community.prices.energy, steps, f"{community.name}.prices.energy", notes),
        export=_whole(community.prices.export, steps, f"{community.name}.prices.export", notes))
    limit = None if community.limit_kw is None else np.where(np.isnan(_sized(community.limit_kw, steps, community.name, "limit_kw")), np.inf, community.limit_kw)
    sources = tuple(dataclasses.replace(s, source_c=_whole(s.source_c, steps, f"{s.name}.source_c", notes)) if isinstance(s, HeatPump) and s.source_c is not None else s
                    for s in community.sources)
    return dataclasses.replace(
        community, prices=prices, buildings=buildings, stores=tuple(stores), sources=sources, limit_kw=limit,
        outdoor_c=_whole(community.outdoor_c, steps, f"{community.name}.outdoor_c", notes, low=-60, high=50),
        sun_kw_m2=None if community.sun_kw_m2 is None else _whole(community.sun_kw_m2, steps, f"{community.name}.sun_kw_m2", notes, low=0, high=1.5),
        supply_c=_whole(community.supply_c, steps, f"{community.name}.supply_c", notes, low=5, high=120),
        base_kw=_whole(community.base_kw, steps, f"{community.name}.base_kw", notes, low=0),
        pv_kw=_whole(community.pv_kw, steps, f"{community.name}.pv_kw", notes, low=0), repaired=tuple(notes))


def _building(b: Building, steps: int, notes: list[str]) -> Building:
    for field in ("capacity_kwh_k", "loss_kw_k"):
        if not 0 < getattr(b, field) < _LIMIT:
            raise SpecificationError(name=b.name, field=field, problem="not a positive number")
    for field in ("mass_kwh_k", "coupling_kw_k", "mass_loss_kw_k", "solar_m2", "emitter_kw"):
        if not getattr(b, field) >= 0:
            raise SpecificationError(name=b.name, field=field, problem="negative, or not a number")
    if b.mass_kwh_k > 0 and b.coupling_kw_k <= 0:
        raise SpecificationError(name=b.name, field="coupling_kw_k", problem="a mass that nothing couples to the room")
    floor, low, high = (series(v, steps) if np.ndim(v) == 0 else _sized(v, steps, b.name, f) for v, f in ((b.floor_c, "floor_c"), (b.low_c, "low_c"), (b.high_c, "high_c")))
    floor, low, high = np.nan_to_num(floor, nan=18.0), np.where(np.isnan(low), floor, low), np.where(np.isnan(high), np.inf, high)
    low = np.maximum(low, floor)
    crossed = low > high
    if crossed.any():
        notes.append(f"{b.name}: comfort band crosses itself in {int(crossed.sum())} steps; the floor is kept")
        high = np.where(crossed, low, high)
    room = b.room_c
    if not np.isfinite(room) or not -40 <= room <= 60:
        room = float(np.clip(np.nan_to_num(room, nan=float(low[0])), -40, 60))
        notes.append(f"{b.name}.room_c {b.room_c:g} -> {room:g}")
    mass = b.mass_c if b.mass_c is None or np.isfinite(b.mass_c) else None
    return dataclasses.replace(b, floor_c=floor, low_c=low, high_c=high, room_c=room, mass_c=mass, gains_kw=_whole(b.gains_kw, steps, f"{b.name}.gains_kw", notes))


def _sizes(thing: Any) -> None:
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and field.name not in ("energy_kwh", "target_kwh", "since_h", "room_c") and not 0 <= value < _LIMIT:
            raise SpecificationError(name=thing.name, field=field.name, problem="negative, too large or not a number")
    for field_name in ("efficiency", "charge_efficiency", "discharge_efficiency"):
        if hasattr(thing, field_name) and not 0 < getattr(thing, field_name) <= 1:
            raise SpecificationError(name=thing.name, field=field_name, problem="outside (0, 1]")
    for field_name in ("minimum_load", "loss_per_h"):
        if hasattr(thing, field_name) and not 0 <= getattr(thing, field_name) <= 1:
            raise SpecificationError(name=thing.name, field=field_name, problem="outside [0, 1]")


def _sized(values: Any, steps: int, name: str, field: str) -> Array:
    found = np.asarray(values, np.float64)
    if found.ndim == 0:
        return np.full(steps, float(found))
    if found.shape != (steps,):
        raise SpecificationError(name=name, field=field, problem=f"{found.shape} values for {steps} steps")
    return found


def _whole(values: Any, steps: int, what: str, notes: list[str], *, low: float = -np.inf, high: float = np.inf) -> Array:
    """Finite values within bounds; holes are filled from their neighbours, wholly missing ones by zero."""
    name, _, field = what.rpartition(".")
    found = _sized(values, steps, name, field)
    odd = ~np.isfinite(found) | (found < low) | (found > high)
    if not odd.any():
        return found
    notes.append(f"{what}: {int(odd.sum())} of {steps} values unusable, filled from their neighbours")
    if odd.all():
        return np.full(steps, float(np.clip(0.0, low, high)))
    where = np.arange(steps)
    return np.asarray(np.interp(where, where[~odd], found[~odd]), np.float64)
