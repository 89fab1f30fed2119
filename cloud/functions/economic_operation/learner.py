"""What a project's history teaches about it: loss, capacity, mass, emitters, heat-pump performance; with a stated fallback while there is too little.

Must not know: where history comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cloud.functions.economic_operation.site import HOLD_KWH_K_M2, LOSS_W_M2_K, Site
from optimizers.identification import NotIdentifiedError, identify
from optimizers.specification import Array, Performance

LEAST_H: Final = 48
#: A low-temperature air-source unit until its own measurements tell more.
PERFORMANCE: Final = Performance()


@dataclass(frozen=True, slots=True)
class Learnt:
    """Parameters for a plan.

    Attributes:
        how: "register" (areas only), "balance" (loss from an energy balance) or "identified".
        rmse_k: error of the held-out room temperature, NaN unless identified.
        days: days of history used.
        Other fields: as of `optimizers.specification.Building`.
    """

    capacity_kwh_k: float
    loss_kw_k: float
    emitter_kw: float
    mass_kwh_k: float = 0.0
    coupling_kw_k: float = 0.0
    solar_m2: float = 0.0
    gains_kw: float = 0.0
    mass_c: float | None = None
    performance: Performance = PERFORMANCE
    how: str = "register"
    rmse_k: float = float("nan")
    days: float = 0.0


def from_register(site: Site, design_c: float = -9.0) -> Learnt:
    """Before anything was measured: by heated area."""
    loss = LOSS_W_M2_K * site.area_m2 / 1000
    return Learnt(HOLD_KWH_K_M2 * site.area_m2, loss, 1.5 * loss * (20 - design_c))


def learn(site: Site, room_c: Array, heat_kw: Array, outdoor_c: Array, sun_kw_m2: Array) -> Learnt:
    """From hourly history; each step up only where the data carry it.

    Args:
        site: for the fallback.
        room_c: (hours,) mean measured room at the end of each hour, NaN = missing.
        heat_kw: (hours,) heat brought into the building, NaN = missing.
        outdoor_c: (hours,).
        sun_kw_m2: (hours,).
    """
    base = from_register(site)
    usable = np.isfinite(room_c) & np.isfinite(heat_kw) & np.isfinite(outdoor_c)
    if usable.sum() < LEAST_H:
        return base
    lift = float(np.mean(room_c[usable] - outdoor_c[usable]))
    if lift < 3:
        return base
    loss = max(0.2 * base.loss_kw_k, float(np.mean(heat_kw[usable])) / lift)
    emitter = max(1.3 * float(np.max(heat_kw[usable])), loss * 25)
    balance = replace(base, loss_kw_k=loss, emitter_kw=emitter, how="balance", days=usable.sum() / 24)
    if not usable.all() or len(room_c) < 192:
        return balance
    try:
        found = identify(room_c, heat_kw, outdoor_c, sun_kw_m2, 1.0, order=2)
    except NotIdentifiedError:
        return balance
    v = found.values
    whole = v["loss_kw_k"]
    if not (found.rmse_k < 0.6 and 0.7 < whole / loss < 1.3):
        return balance  # a fit that contradicts the plain balance, or does not tell the rooms it was not shown
    mass, link = v.get("mass_kwh_k", 0.0), v.get("coupling_kw_k", 0.0)
    return replace(balance, capacity_kwh_k=v["capacity_kwh_k"], loss_kw_k=v["loss_kw_k"], solar_m2=v["solar_m2"], mass_kwh_k=mass, coupling_kw_k=link, how="identified", rmse_k=found.rmse_k)


def mass_now(learnt: Learnt, room_c: Array) -> Learnt:
    """The temperature of the building's mass, which nobody measures: followed from the rooms of the last hours, (hours,)."""
    if learnt.mass_kwh_k <= 0 or not len(room_c):
        return learnt
    keep = float(np.exp(-learnt.coupling_kw_k / learnt.mass_kwh_k))
    mass = float(np.nanmean(room_c))
    for t in np.nan_to_num(room_c, nan=mass):
        mass = keep * mass + (1 - keep) * float(t)
    return replace(learnt, mass_c=mass)
