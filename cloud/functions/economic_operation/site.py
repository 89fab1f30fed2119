"""What the planner knows of a project from its register: sources, store, rooms, meters, ratings, and which of them it may move.

Must not know: history, prices, weather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud.core.ports import DeviceInfo
from protos.points import point

#: Heat of water, kWh per m3 and K.
CP_WATER_KWH: Final = 1.163
#: Heat a house without any history is taken to lose, W per m2 and K, and to hold, kWh per K and m2 (brick block, GB 50176 class II).
LOSS_W_M2_K: Final = 1.6
HOLD_KWH_K_M2: Final = 0.055


@dataclass(frozen=True, slots=True)
class Boiler:
    """An electric boiler the planner may stage."""

    device_id: int
    name: str
    rated_kw: float
    stages: int


@dataclass(frozen=True, slots=True)
class Pump:
    """A heat pump: heat at its rating point (kW), greatest electric power (kW)."""

    device_id: int
    name: str
    rated_heat_kw: float
    power_kw: float


@dataclass(frozen=True, slots=True)
class Tank:
    """A water store."""

    device_id: int
    volume_m3: float
    layers: int

    def energy_kwh(self, layers_c: Sequence[float], base_c: float, useful_c: float) -> float:
        """Usable heat, kWh: above what comes back from the loop (`base_c`), in layers hot enough to serve it (`useful_c`)."""
        return sum(t - base_c for t in layers_c if t >= useful_c and t > base_c) * self.volume_m3 / max(1, len(layers_c)) * CP_WATER_KWH

    def capacity_kwh(self, full_c: float, base_c: float) -> float:
        """Usable heat when full, kWh."""
        return self.volume_m3 * max(1.0, full_c - base_c) * CP_WATER_KWH


@dataclass(frozen=True, slots=True)
class Room:
    """A household or room: its area, whether it has a sensor, whether its set-point can be moved."""

    device_id: int
    area_m2: float
    sensor: bool
    movable: bool
    heater_kw: float = 0.0


@dataclass(frozen=True, slots=True)
class Site:
    """A project as the planner sees it.

    Attributes:
        grid_meter: device whose active power is the site's draw, 0 = none.
        heat_meter: device whose heat power is what the loop takes, 0 = none.
        loop: device whose return temperature is what comes back from the radiators, 0 = none.
        weather: device with the outdoor temperature, 0 = none.
        transformer_kw: rating.
    """

    project_id: int
    area_m2: float
    boilers: tuple[Boiler, ...]
    pumps: tuple[Pump, ...]
    tank: Tank | None
    rooms: tuple[Room, ...]
    grid_meter: int
    heat_meter: int
    loop: int
    weather: int
    transformer_kw: float

    @property
    def sources(self) -> tuple[Boiler | Pump, ...]:
        """Everything that heats the loop."""
        return (*self.boilers, *self.pumps)

    @property
    def heaters(self) -> tuple[Room, ...]:
        """Rooms heated by a device of their own."""
        return tuple(r for r in self.rooms if r.heater_kw > 0)

    @property
    def plannable(self) -> bool:
        """True when there is anything to move."""
        return bool(self.boilers or self.pumps or any(r.movable for r in self.rooms))


def site(project_id: int, area_m2: float, devices: Sequence[DeviceInfo], locked: frozenset[int] = frozenset()) -> Site:
    """Read a project's register.

    Args:
        project_id: the project.
        area_m2: heated area.
        devices: its devices.
        locked: devices under lockout or local control: they are not planned with.
    """
    by: dict[str, list[DeviceInfo]] = {}
    for device in devices:
        by.setdefault(device.profile, []).append(device)
    usable = {p: [d for d in found if d.id not in locked] for p, found in by.items()}
    boilers = tuple(Boiler(d.id, d.code, d.rated_kw, int(_number(d.attributes, "stages", 0))) for d in usable.get("electric_boiler", []) if d.rated_kw > 0 and _writes(d, "stage_command", "power_limit_setpoint"))
    pumps = tuple(Pump(d.id, d.code, _number(d.attributes, "rated_heat_kw", 2.5 * d.rated_kw), d.rated_kw) for d in usable.get("heat_pump", []) if d.rated_kw > 0 and _writes(d, "enable_command"))
    tanks = [Tank(d.id, _number(d.attributes, "volume_m3", 0.0), int(_number(d.attributes, "layers", 1))) for d in by.get("heat_storage", [])]
    rooms = tuple(Room(d.id, _number(d.attributes, "heated_area_m2", 0.0), point("room_temp").id in d.points, d.id not in locked and _writes(d, "room_temp_setpoint") and point("room_temp").id in d.points,
                       d.rated_kw if d.profile == "room_heater" else 0.0) for p in ("onoff_valve_controller", "room_heater") for d in by.get(p, []))
    meters = [d for d in by.get("transformer", []) if point("active_power").id in d.points] or [d for d in by.get("electricity_meter", []) if d.parent_id is None] or by.get("electricity_meter", [])
    heats = by.get("heat_meter", [])
    rating = max((_number(d.attributes, "rated_kva", d.rated_kw) for d in (*by.get("transformer", []), *by.get("electricity_meter", []))), default=0.0)
    return Site(project_id, area_m2 or sum(r.area_m2 for r in rooms), boilers, pumps, next((t for t in tanks if t.volume_m3 > 0), None), rooms, meters[0].id if meters else 0,
                heats[0].id if len(heats) == 1 else 0, next((d.id for d in (*by.get("network", []), *heats[:1])), 0), next((d.id for d in by.get("weather", [])), 0), 0.95 * rating if rating > 0 else float("inf"))


def _writes(device: DeviceInfo, *keys: str) -> bool:
    return any((setting := device.points.get(point(key).id)) is not None and setting.writable for key in keys)


def _number(attributes: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = attributes.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
