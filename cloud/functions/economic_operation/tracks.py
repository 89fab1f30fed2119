"""From a plan to what every device shall do, interval by interval: stages, power limits, set-points; whole stages whose energy adds up to the plan's.

Must not know: how a plan was made, how it travels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cloud.functions.economic_operation.site import Site
from optimizers.plan import Plan
from optimizers.specification import Array, Community
from protos.arbitration import Authority
from protos.points import point

if TYPE_CHECKING:
    from cloud.functions.economic_operation.planner import Comfort, Moment

#: Room set-points move in steps a resident would not call nervous.
ROOM_STEP_K: Final = 0.25
#: So far below what was promised a room is called cold.
COLD_K: Final = 0.15


@dataclass(frozen=True, slots=True)
class Track:
    """What one actuator shall be; None = no wish."""

    device_id: int
    point_id: int
    value: Sequence[float | None]
    authority: int = int(Authority.PLAN)
    reason: str = ""
    high: Sequence[float | None] | None = None


def tracks(site: Site, plan: Plan, community: Community, moment: Moment, comfort: Comfort, carried: dict[int, float]) -> list[Track]:
    """Tracks of a plan.

    Args:
        site: the project.
        plan: its plan.
        community: that the plan was made for.
        moment: where it stood.
        comfort: the contract.
        carried: kWh that whole stages owe to the plan since the last one, by device; changed in place for the first interval.
    """
    out: list[Track] = []
    if site.boilers:
        out += _boilers(site, plan, community, carried)
    free = cold(plan, community, comfort)
    for pump in site.pumps:
        on = plan.on[pump.name] > 0.5
        kw = plan.power_kw[pump.name]
        limit = np.where(on, np.maximum(kw * 1.03, 0.15 * pump.power_kw), pump.power_kw)
        out += [_track(pump.device_id, "enable_command", np.where(on, 1.0, 0.0), free), _track(pump.device_id, "power_limit_setpoint", np.round(limit, 1), free),
                _track(pump.device_id, "leaving_temp_setpoint", np.where(on, np.round(np.minimum(55.0, community.supply_c + 6.0), 1), np.round(np.minimum(50.0, community.supply_c + 2.0), 1)), free)]
    rooms = plan.room_c.get("rooms")
    if rooms is not None:
        moved = np.clip(room_setpoints(plan, community, comfort) - comfort.target_c, -comfort.down_k, comfort.up_k)
        for k, room in enumerate(site.rooms):
            if room.movable:  # around what its resident chose
                own = float(moment.own_c[k]) if len(moment.own_c) and np.isfinite(moment.own_c[k]) else comfort.target_c
                out.append(_track(room.device_id, "room_temp_setpoint", np.round((own + moved) / ROOM_STEP_K) * ROOM_STEP_K))
    return out


def cold(plan: Plan, community: Community, comfort: Comfort) -> NDArray[np.bool_]:
    """Intervals in which rooms are below what was promised: the site's own controller, which heats all it can, is left alone with it."""
    rooms = plan.room_c.get("rooms")
    if rooms is None:
        return np.zeros(community.steps, np.bool_)
    wanted = comfort.target_c - comfort.down_k - COLD_K
    found = rooms < wanted
    found[0] |= any(b.room_c < wanted for b in community.buildings)
    return np.asarray(found)


def room_setpoints(plan: Plan, community: Community, comfort: Comfort) -> Array:
    """Set-points that make thermostats follow the plan: the planned temperature where heat is wanted, the least allowed where none is."""
    rooms = plan.room_c["rooms"]
    heat = plan.building_kw.get("rooms", np.zeros(community.steps)) + sum(plan.rooms_kw.values(), np.zeros(community.steps))
    most = float(np.max(heat, initial=0.0))
    wanted = np.where(heat > 0.9 * most, rooms + 0.3, rooms)
    return np.asarray(np.where(heat < 0.02 * most, comfort.target_c - comfort.down_k, wanted))


def _boilers(site: Site, plan: Plan, community: Community, carried: dict[int, float]) -> list[Track]:
    """Whole stages: the energy of the stages follows the energy of the plan, what rounding owes is carried on."""
    out: list[Track] = []
    steps, dt = community.steps, community.step_h
    total: Array = np.sum([plan.power_kw[b.name] for b in site.boilers], axis=0)
    staged = [b for b in site.boilers if b.stages > 0]
    if len(staged) != len(site.boilers):
        for b in site.boilers:
            kw = plan.power_kw[b.name]
            out += [_track(b.device_id, "enable_command", np.where(kw > 0.5, 1.0, 0.0)), _track(b.device_id, "power_limit_setpoint", np.round(kw, 1))]
        return out
    owed = carried.get(0, 0.0)
    chosen = np.zeros((len(staged), steps))
    for t in range(steps):
        wish = float(total[t]) + owed / dt
        given = 0.0
        for k, b in enumerate(staged):
            stage_kw = b.rated_kw / b.stages
            n = min(b.stages, max(0, math.floor((wish - given) / stage_kw + 0.5)))
            if k < len(staged) - 1:  # equal shares first, so that boilers age alike
                n = min(n, max(0, math.ceil((wish - given) / (len(staged) - k) / stage_kw - 0.5)))
            chosen[k, t] = n
            given += n * stage_kw
        most = float(total.max(initial=0.0)) * dt
        owed = min(max(float(wish - given) * dt, -most), most)
        if t == 0:
            carried[0] = owed
    for k, b in enumerate(staged):
        out += [_track(b.device_id, "enable_command", np.where(chosen[k] > 0, 1.0, 0.0)), _track(b.device_id, "stage_command", chosen[k])]
    return out


def _track(device_id: int, key: str, values: NDArray[np.floating], free: NDArray[np.bool_] | None = None) -> Track:
    return Track(device_id, point(key).id, [None if free is not None and free[k] else float(v) for k, v in enumerate(values)])
