"""Says what commands will do to rooms and bill in the next hours (预演), from what economic operation has learnt of a project.

One temperature for the whole building, heat that appears or goes at once: enough to tell a person whether an act costs half a degree or five. Implements
`remote_control.effect.Effects`. Must not know: FastAPI, transports.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from cloud.core.ports import CommandRequest, Historian, ProjectDirectory
from cloud.functions.economic_operation.learner import from_register
from cloud.functions.economic_operation.service import EconomicService, published
from cloud.functions.economic_operation.site import Boiler, Pump, Room, Site, site
from optimizers.tariff.model import TariffError
from optimizers.tariff.rating import price_array
from protos.points import BY_ID, point

HOURS: Final = 6
_STEP_H: Final = 0.25


class EconomicEffects:
    """Predicts with the newest plan's parameters, or with the register's when nothing was planned yet."""

    def __init__(self, service: EconomicService, directory: ProjectDirectory, historian: Historian, now: Callable[[], int]) -> None:
        self._service, self._directory, self._historian, self._now = service, directory, historian, now

    async def effect(self, project_id: int, wishes: Sequence[CommandRequest]) -> dict[str, Any] | None:
        """As of the port; None for an unknown project or when no wish can be judged."""
        project = self._directory.project(project_id)
        if project is None:
            return None
        where = site(project.id, project.heated_area_m2, self._directory.devices(project_id))
        latest = {(v.device_id, v.point_id): v.value for v in await self._historian.latest(project_id, [w.device_id for w in wishes]) if v.value is not None and math.isfinite(v.value)}
        setting, newest = await asyncio.gather(asyncio.to_thread(self._service.setting, project_id), asyncio.to_thread(lambda: self._service.newest(project_id, planned=True)))
        register = from_register(where)
        learnt = (newest or {}).get("summary", {}).get("learnt") or {}
        loss, how = float(learnt.get("loss_kw_k") or register.loss_kw_k), str(learnt.get("how") or register.how)
        if loss <= 0 or register.capacity_kwh_k <= 0:
            return None
        changes = {w.device_id: change(where, w, latest, loss) for w in wishes}
        known = [(c, min(w.hold_s / 3600, HOURS)) for w in wishes if (c := changes[w.device_id]) is not None]
        if not known:
            return None
        rooms, power = course(known, loss, register.capacity_kwh_k)
        return {"hours": list(range(1, HOURS + 1)), "room_k": [round(rooms[round(h / _STEP_H) - 1], 3) for h in range(1, HOURS + 1)], "kwh": round(sum(power) * _STEP_H, 2), "yuan": self._yuan(setting.tariff, power),
                "how": how, "unpredicted": [d for d, c in changes.items() if c is None]}

    def _yuan(self, tariff: str, power: Sequence[float]) -> float | None:
        known = published().get(tariff)
        if known is None:
            return None
        try:
            prices = price_array(known, self._now(), len(power), _STEP_H)
        except TariffError:
            return None
        return round(float(sum(p * float(c) for p, c in zip(power, prices, strict=True))) * _STEP_H, 2)


def course(changes: Sequence[tuple[tuple[float, float], float]], loss_kw_k: float, capacity_kwh_k: float) -> tuple[list[float], list[float]]:
    """(change of the mean room in K, change of electric power in kW) at each quarter of an hour.

    Args:
        changes: ((heat kW, electric kW), for how many hours) each.
        loss_kw_k: heat loss of the whole, kW/K.
        capacity_kwh_k: heat it holds, kWh/K.
    """
    keep = math.exp(-loss_kw_k * _STEP_H / capacity_kwh_k)
    rooms, power, now = [], [], 0.0
    for k in range(round(HOURS / _STEP_H)):
        heat = sum(h for (h, _), hours in changes if k * _STEP_H < hours)
        now = keep * now + (1 - keep) * heat / loss_kw_k
        rooms.append(now)
        power.append(sum(e for (_, e), hours in changes if k * _STEP_H < hours))
    return rooms, power


def change(where: Site, wish: CommandRequest, latest: dict[tuple[int, int], float], loss_kw_k: float) -> tuple[float, float] | None:
    """(heat kW, electric kW) by which a command changes a device, None when that cannot be told."""
    key = BY_ID[wish.point_id].key if wish.point_id in BY_ID else ""
    source = next((s for s in where.sources if s.device_id == wish.device_id), None)
    if source is not None:
        return _source(source, wish, key, latest.get((wish.device_id, point("active_power").id)))
    room = next((r for r in where.rooms if r.device_id == wish.device_id), None)
    return None if room is None else _room(where, room, wish, key, latest, loss_kw_k)


def _source(source: Boiler | Pump, wish: CommandRequest, key: str, power: float | None) -> tuple[float, float] | None:
    top, ratio = (source.rated_kw, 1.0) if isinstance(source, Boiler) else (source.power_kw, source.rated_heat_kw / source.power_kw if source.power_kw > 0 else 2.5)
    if power is None:
        return None
    if wish.kind == "stop" or (wish.kind == "hold" and key == "enable_command" and wish.value == 0):
        after = 0.0
    elif wish.kind == "start" or (wish.kind == "hold" and key == "enable_command" and wish.value == 1):
        after = power if power > 0.02 * top else top
    elif wish.kind == "hold" and key == "stage_command" and isinstance(source, Boiler) and source.stages > 0 and wish.value is not None:
        after = top * min(1.0, wish.value / source.stages)
    elif wish.kind == "hold" and key == "power_limit_setpoint" and wish.value is not None:
        after = min(power, wish.value)
    else:
        return None
    return (after - power) * ratio, after - power


def _room(where: Site, room: Room, wish: CommandRequest, key: str, latest: dict[tuple[int, int], float], loss_kw_k: float) -> tuple[float, float] | None:
    """A room's set-point: in the long run it takes its share of the loss per kelvin; a room heater pays for it in electricity, the others in heat from the loop."""
    now = latest.get((room.device_id, point("room_temp_setpoint").id))
    if key != "room_temp_setpoint" or wish.kind != "hold" or wish.value is None or now is None or where.area_m2 <= 0:
        return None
    heat = loss_kw_k * (room.area_m2 / where.area_m2) * (wish.value - now)
    heats = sum(p.rated_heat_kw for p in where.pumps) + sum(b.rated_kw for b in where.boilers)
    power = sum(p.power_kw for p in where.pumps) + sum(b.rated_kw for b in where.boilers)
    return heat, heat * (1.0 if room.heater_kw > 0 or heats <= 0 else power / heats)
