"""Control parameters (调控参数): what stands on every writable point, who set it, what stood before, and where it has left its template. Pure functions.

Must not know: FastAPI, the ledger, transports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from cloud.core.ports import DeviceInfo, Latest, Series
from cloud.functions.devices.state import holder_view
from cloud.functions.devices.templates import device_writings
from protos.points import BY_ID

#: How a parameter can have left what it should be: outside the template's limits; not what its holder wants; unlike its fellows of one template;
#: under local control; its device's template has a newer version.
DRIFTS: Final = ("limits", "held", "unlike", "local", "version")
SORTS: Final = ("device", "point", "value", "at_ms")


def rows(devices: Iterable[DeviceInfo], document: Callable[[str], Mapping[str, Any]], latest: Mapping[tuple[int, int], Latest], heard: Mapping[int, Mapping[str, Any]], newest: Mapping[str, int]) -> list[dict[str, Any]]:
    """Every control parameter of these devices.

    Args:
        devices: in scope.
        document: a template's document by "key@version".
        latest: by (device id, point id).
        heard: device states as last heard, by device id.
        newest: newest version by template key.

    Returns:
        {device_id, project_id, point_id, template, value, at_ms, quality, low, high, usual, source (a holder's view, or None: nobody holds it), drift: [...]} each; canonical units.
    """
    found: list[dict[str, Any]] = []
    alike: dict[tuple[str, int], list[float]] = {}
    for device in devices:
        text, state = document(device.template), heard.get(device.id) or {}
        key, _, version = device.template.partition("@")
        for point_id, write in device_writings(device, text).items():
            if write.pulse or point_id not in device.points:
                continue
            newest_value = latest.get((device.id, point_id))
            value = newest_value.value if newest_value is not None and math.isfinite(newest_value.value) else None
            holders = sorted((h for h in state.get("holders", ()) if int(h["point_id"]) == point_id), key=lambda h: int(h["authority"]))
            chosen = next((h for h in holders if h.get("value") is not None), None)
            tolerance = max(device.points[point_id].resolution, 1e-6)
            drift = []
            if value is not None and not write.low - tolerance <= value <= write.high + tolerance:
                drift.append("limits")
            if value is not None and chosen is not None and abs(value - float(chosen["value"])) > 1.5 * tolerance:
                drift.append("held")
            if state.get("local_manual"):
                drift.append("local")
            if version.isdecimal() and newest.get(key, 0) > int(version):
                drift.append("version")
            if value is not None:
                alike.setdefault((key, point_id), []).append(value)
            found.append({"device_id": device.id, "project_id": device.project_id, "point_id": point_id, "template": device.template, "value": value, "at_ms": newest_value.at_ms if newest_value else None,
                          "quality": newest_value.quality if newest_value else None, "low": write.low, "high": write.high, "source": holder_view(chosen, text) if chosen is not None else None, "drift": drift})
    for row in found:
        fellows = alike.get((row["template"].partition("@")[0], row["point_id"]), [])
        row["usual"] = median(fellows) if len(fellows) >= 3 else None
        if row["usual"] is not None and row["value"] is not None and abs(row["value"] - row["usual"]) > max(1.5 * BY_ID[row["point_id"]].resolution, 0.05 * abs(row["usual"])):
            row["drift"].append("unlike")
    return found


def changes(series: Series, commands: Sequence[Mapping[str, Any]], resolution: float) -> list[dict[str, Any]]:
    """When a parameter took another value, newest first: {at_ms, value, before, command (the verified one that explains it, or None)}.

    Args:
        series: as measured, raw or in buckets.
        commands: of the device, any order; views of the command service.
        resolution: what counts as another value, canonical unit.
    """
    found: list[dict[str, Any]] = []
    before: float | None = None
    span = max(series.resolution_s * 1000, 60_000)
    for at, value in zip(series.at_ms, series.mean, strict=True):
        if not math.isfinite(value):
            continue
        if before is not None and abs(value - before) > max(resolution / 2, 1e-9):
            by = [c for c in commands if c["point_id"] == series.point_id and c["state"] == "verified" and c["value"] is not None and abs(c["value"] - value) <= max(resolution, 1e-6)
                  and -span <= at - _done_ms(c) <= span]
            found.append({"at_ms": at, "value": value, "before": before, "command": {k: by[0][k] for k in ("id", "actor", "reason", "authority", "created_ms")} if by else None})
        before = value
    return found[::-1]


def _done_ms(command: Mapping[str, Any]) -> int:
    steps = command.get("steps") or ()
    return int(steps[-1]["at_ms"]) if steps else int(command["created_ms"])
