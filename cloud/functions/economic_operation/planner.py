"""Plans one project from where it stands: community out of register, history, weather, tariff and commitments; plan; what every device shall do.

Pure: everything it looks at is an argument. Must not know: stores, transports, clocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from cloud.functions.economic_operation.learner import Learnt
from cloud.functions.economic_operation.site import Site
from cloud.functions.economic_operation.tracks import Track, tracks
from optimizers.methods.dispatch import Dispatcher
from optimizers.plan import Plan
from optimizers.specification import Array, Building, Community, ElectricBoiler, HeatPump, Prices, RoomHeaters, Storage

STEP_S: Final = 900
#: A tank gives usable heat down to a little above what the loop needs; full when its hottest layers reach this.
FULL_C: Final = 80.0
PUMP_FULL_K: Final = 7.0
SOONER_PER_H: Final = 0.005
#: How far above their set-point thermostats hold rooms on average, at most.
THERMOSTAT_K: Final = 0.4


@dataclass(frozen=True, slots=True)
class Comfort:
    """The comfort contract (舒适度约定), degC of the coldest room the planner can speak for.

    Attributes:
        floor_c: what is owed (18 degC by most regional rules).
        target_c: what residents set when nobody plans.
        down_k, up_k: how far a plan may let rooms fall and rise around it; falling is for those who agreed to it.
    """

    floor_c: float = 18.0
    target_c: float = 20.0
    down_k: float = 0.0
    up_k: float = 1.5


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a project stands.

    Attributes:
        start_ms: UTC milliseconds of the first interval, on a 15-minute edge.
        rooms_c: measured room temperatures, NaN where there is none; as `Site.rooms`.
        layers_c: tank layers, hottest first; empty = no tank.
        supply_c: supply set-point of the loop now; return_c: what comes back from it.
        running: sources running now: device -> hours in that state (negative = off for so long).
        outdoor_c, sun_kw_m2: forecast per interval.
        price: yuan/kWh per interval.
        base_kw: other load at the grid meter per interval or one number.
        demand_yuan_kw: price of the month's peak; 0 = none.
        month_left_h: hours of the billing month still to come: a peak raised now serves all of them.
        peak_so_far_kw: highest interval of the month.
        contract_kw: contracted demand.
        limit_kw: demand-response limit per interval, inf where none; None = no event.
        comfort_c: (floor, low, high) overriding the contract per interval; None = the contract's.
        own_c: set-point each resident chose, NaN = unknown; as `Site.rooms`.
        held_h: sources somebody stronger than the plan holds: device -> hours from the first interval until the hold ends; the plan has them again from then on.
    """

    start_ms: int
    rooms_c: Array
    layers_c: Sequence[float]
    supply_c: float
    return_c: float
    running: Mapping[int, float]
    outdoor_c: Array
    sun_kw_m2: Array
    price: Array
    base_kw: float | Array = 0.0
    demand_yuan_kw: float = 0.0
    month_left_h: float = 0.0
    peak_so_far_kw: float = 0.0
    contract_kw: float = math.inf
    limit_kw: Array | None = None
    comfort_c: tuple[Array, Array, Array] | None = None
    own_c: Sequence[float] = ()
    held_h: Mapping[int, float] = field(default_factory=dict)

    def available(self, device_id: int) -> float | Array:
        """Share of a source the plan may use per interval: none of it while somebody else holds it."""
        held = self.held_h.get(device_id, 0.0)
        return np.where(np.arange(len(self.price)) < math.ceil(held * 3600 / STEP_S - 1e-9), 0.0, 1.0) if held > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with the community it was made for and what devices shall do."""

    plan: Plan
    community: Community
    tracks: list[Track]


class Planner:
    """Plans one project again and again; keeps the solver's basis in between."""

    def __init__(self, site: Site, comfort: Comfort | None = None, *, seconds: float = 5.0) -> None:
        self.site, self.comfort = site, comfort or Comfort()
        self._dispatcher = Dispatcher(seconds=seconds)
        self._carried: dict[int, float] = {}

    def plan(self, moment: Moment, learnt: Learnt) -> Planned:
        """The plan from `moment` on.

        Raises:
            SpecificationError: what is known contradicts itself.
        """
        community = self.community(moment, learnt)
        plan = self._dispatcher.plan(community)
        return Planned(plan, community, tracks(self.site, plan, community, moment, self.comfort, self._carried))

    def community(self, m: Moment, learnt: Learnt) -> Community:
        """The community the plan is about."""
        site, comfort = self.site, self.comfort
        steps = len(m.price)
        room_c = room_now(site, m.rooms_c, comfort)
        target, up, down = comfort.target_c, comfort.up_k, comfort.down_k
        area = sum(r.area_m2 for r in site.rooms)
        share = sum(r.area_m2 for r in site.rooms if r.movable) / area if area > 0 else 0.0
        # Thermostats hold rooms a little above their set-point: what they hold is no store to draw from. Only movable rooms can be heated ahead.
        target += min(max(room_c - target, 0.0), THERMOSTAT_K)
        up, down = max(0.1, share * up), share * down
        floor, low, high = (np.full(steps, comfort.floor_c), np.full(steps, target - down), np.full(steps, target + up)) if m.comfort_c is None else m.comfort_c
        building = Building(
            "rooms", learnt.capacity_kwh_k, learnt.loss_kw_k, room_c, learnt.mass_kwh_k, learnt.coupling_kw_k, 0.0, learnt.mass_c if learnt.mass_kwh_k > 0 else None, learnt.solar_m2, learnt.gains_kw,
            learnt.emitter_kw if (site.boilers or site.pumps or site.tank) else math.inf, floor, low, high, target_c=min(max(target - 0.1, float(floor[-1])), float(high[-1])))
        sources: list[ElectricBoiler | HeatPump] = []
        for b in site.boilers:
            since = m.running.get(b.device_id, -24.0)
            sources.append(ElectricBoiler(b.name, b.rated_kw, 0.98, stages=0, up_h=0.25, down_h=0.25, on=since > 0 and b.device_id not in m.held_h, since_h=abs(since), available=m.available(b.device_id)))
        for p in site.pumps:
            since = m.running.get(p.device_id, -24.0)
            sources.append(HeatPump(p.name, p.rated_heat_kw, learnt.performance, standby_kw=0.1, minimum_load=0.3, up_h=0.5, down_h=0.5, start_yuan=0.2, on=since > 0 and p.device_id not in m.held_h, since_h=abs(since), available=m.available(p.device_id)))
        stores = [self._store(m, learnt)] if site.tank is not None and m.layers_c else []
        heaters = [RoomHeaters("heaters", 1, sum(r.heater_kw for r in site.heaters), "rooms")] if site.heaters else []
        # The horizon sees part of what a higher peak saves, so it is charged that part of its price.
        demand = m.demand_yuan_kw * min(1.0, steps * STEP_S / 3600 / m.month_left_h) if m.month_left_h > 0 else m.demand_yuan_kw
        # Among hours of one price the earlier is taken: what is put off meets the errors of later forecasts.
        soon = m.price + SOONER_PER_H * float(np.mean(m.price)) * np.minimum(np.arange(steps) * STEP_S / 3600, 12.0)
        # Cold rooms never pay: a kelvin less costs several times the dearest heat it saves, a kelvin below the floor many times.
        kelvin = 5.0 * learnt.loss_kw_k * float(np.max(m.price))
        prices = Prices(soon, demand=demand, peak_so_far_kw=m.peak_so_far_kw, terminal=float(np.mean(m.price)) / (2.5 if site.pumps else 1.0), floor=max(200.0, 20 * kelvin), comfort=max(5.0, kelvin))
        return Community(str(site.project_id), STEP_S / 3600, prices, m.outdoor_c, [building], sources, stores, heaters, m.sun_kw_m2, np.clip(supply_curve(m), 25, 90), m.base_kw, 0.0, m.contract_kw,
                         site.transformer_kw, limit_kw=m.limit_kw)

    def _store(self, m: Moment, learnt: Learnt) -> Storage:
        site = self.site
        assert site.tank is not None
        base = min(m.return_c, m.supply_c - 3.0)
        full = m.supply_c + PUMP_FULL_K if site.pumps else FULL_C
        capacity = site.tank.capacity_kwh(full, base)
        energy = min(capacity, site.tank.energy_kwh(m.layers_c, base, m.supply_c - 0.5))
        most = sum(b.rated_kw for b in site.boilers) + sum(p.rated_heat_kw * 1.3 for p in site.pumps)
        # Heat for an hour of the loop is never planned away: forecasts err.
        reserve = min(0.3 * capacity, max(learnt.loss_kw_k * max(0.0, self.comfort.target_c - float(m.outdoor_c[0])), 0.05 * capacity))
        return Storage("tank", capacity, energy, most, 1.5 * learnt.emitter_kw, 1.0, 1.0, 0.003, reserve, target_kwh=min(capacity, max(reserve, 0.3 * capacity)))


def room_now(site: Site, rooms_c: Array, comfort: Comfort) -> float:
    """The temperature planned with: mean of the measured rooms by area, the contract's target when nothing is measured."""
    seen = np.asarray(rooms_c, np.float64)
    area = np.array([r.area_m2 or 1.0 for r in site.rooms])
    usable = np.isfinite(seen) & (seen > 5) & (seen < 35)
    return float(np.average(seen[usable], weights=area[usable])) if usable.any() else comfort.target_c


def supply_curve(m: Moment) -> Array:
    """Supply temperature over the horizon: as now, moved with the weather by half a kelvin per kelvin."""
    return np.asarray(m.supply_c + 0.5 * (m.outdoor_c[0] - m.outdoor_c))
