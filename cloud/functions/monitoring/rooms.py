"""Rooms against the promise (室温达标): measured ones only, "n of m"; the coldest true room decides. Pure.

Must not know: FastAPI, engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cloud.core.ports import DeviceInfo, Latest, ProjectInfo
from cloud.functions.devices.state import ROOM_PROFILES, is_fresh
from protos.points import BY_KEY

#: degC; the room temperature promised where a project registers none (GB 50736: 18-24).
COMFORT_LOW = 18.0
_ROOM, _SET = BY_KEY["room_temp"].id, BY_KEY["room_temp_setpoint"].id


def comfort_low(project: ProjectInfo) -> float:
    """The promised room temperature of a project, degC."""
    return float(project.attributes.get("comfort_low", COMFORT_LOW))


def room_devices(devices: Iterable[DeviceInfo]) -> list[DeviceInfo]:
    """Devices that stand for a room."""
    return [d for d in devices if d.profile in ROOM_PROFILES]


def rooms(project: ProjectInfo, devices: Sequence[DeviceInfo], latest: Iterable[Latest], now_ms: int) -> dict[str, Any]:
    """The strip of rooms.

    Returns:
        {low, total, measured, kept, coldest, rooms: [{device_id, name_zh, name_en, value|None, at_ms, quality, fresh, setpoint, attributes}]};
        `kept` counts measured rooms at or above `low`.
    """
    low = comfort_low(project)
    values = {(row.device_id, row.point_id): row for row in latest}
    found: list[dict[str, Any]] = []
    for device in room_devices(devices):
        row, wish = values.get((device.id, _ROOM)), values.get((device.id, _SET))
        sensed = _ROOM in device.points and row is not None
        found.append({
            "device_id": device.id, "code": device.code, "name_zh": device.name_zh, "name_en": device.name_en, "sensor": _ROOM in device.points,
            "value": row.value if sensed and row else None, "at_ms": row.at_ms if sensed and row else None,
            "quality": row.quality if sensed and row else None, "fresh": bool(sensed and row and is_fresh(device, row, now_ms)),
            "setpoint": wish.value if wish else None, "location": device.location,
            "attributes": {k: device.attributes[k] for k in ("floor", "unit", "corner", "top", "end", "heated_area_m2") if k in device.attributes}})
    true: list[float] = [r["value"] for r in found if r["fresh"] and r["value"] is not None]
    return {"low": low, "total": len(found), "measured": len(true), "kept": sum(v >= low for v in true),
            "coldest": min(true) if true else None, "rooms": found}
