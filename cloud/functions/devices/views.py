"""Shapes of projects, devices, agents and points as the API says them. Must not know: FastAPI, engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloud.core.ports import AgentInfo, DeviceInfo, Latest, ProjectInfo
from cloud.functions.devices import state
from cloud.functions.devices.templates import device_writings
from protos.points import BY_ID, POINTS, Kind


def project_view(project: ProjectInfo) -> dict[str, Any]:
    """A project."""
    return {
        "id": project.id, "code": project.code, "name_zh": project.name_zh, "name_en": project.name_en, "region": project.region,
        "latitude": project.latitude, "longitude": project.longitude, "timezone": project.timezone,
        "heated_area_m2": project.heated_area_m2, "kind": project.kind, "attributes": dict(project.attributes)}


def value_view(device: DeviceInfo, latest: Latest) -> dict[str, Any]:
    """A newest value, with the longest silence its point promised (seconds)."""
    setting = device.points.get(latest.point_id)
    return {"point_id": latest.point_id, "at_ms": latest.at_ms, "value": latest.value, "quality": latest.quality,
            "max_silent_s": setting.max_silent_s if setting else None}


def device_row(device: DeviceInfo, heard: Mapping[str, Any] | None, severities: Mapping[str, int], latest: Sequence[Latest],
               document: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A device as a list row: identity, condition, why, key values."""
    values = {row.point_id: row for row in latest}
    writable = [p for p in device.points.values() if p.writable]
    standing = next((values[p.point_id] for p in writable if p.point_id in values and BY_ID[p.point_id].kind is Kind.SETPOINT), None)
    return {
        "id": device.id, "project_id": device.project_id, "agent_id": device.agent_id, "code": device.code, "name_zh": device.name_zh,
        "name_en": device.name_en, "template": device.template, "profile": device.profile, "parent_id": device.parent_id,
        "location": device.location, "rated_kw": device.rated_kw, "attributes": dict(device.attributes),
        "condition": state.condition(heard, severities), "why": state.why(heard, standing, passive=not writable, document=document), "alarms": dict(severities),
        "last_ok_ms": heard.get("last_ok_ms") if heard else None,
        "key": [value_view(device, values[p]) for p in state.key_points(device) if p in values]}


def point_rows(device: DeviceInfo, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points of a device with limits and promises; `write` tells how a writable one may be written."""
    allowed = device_writings(device, document)
    return [{**point_view(p.point_id), "low": p.low, "high": p.high, "resolution": p.resolution, "max_silent_s": p.max_silent_s,
             "writable": p.writable, "verify_within_s": p.verify_within_s,
             "write": {"low": w.low, "high": w.high, "pulse": w.pulse, "whole": w.whole} if (w := allowed.get(p.point_id)) else None} for p in device.points.values()]


def point_view(point_id: int) -> dict[str, Any]:
    """A catalogue entry."""
    point = BY_ID.get(point_id)
    if point is None:
        return {"id": point_id, "key": f"point_{point_id}", "kind": "gauge", "unit": "", "zh": f"测点 {point_id}", "en": f"Point {point_id}",
                "low": None, "high": None, "resolution": None}
    return {"id": point.id, "key": point.key, "kind": point.kind.value, "unit": point.unit, "zh": point.zh, "en": point.en, "low": point.low,
            "high": point.high, "resolution": point.resolution}


def catalogue() -> list[dict[str, Any]]:
    """The whole point catalogue."""
    return [point_view(point.id) for point in POINTS]


def agent_row(info: AgentInfo, heard: Mapping[str, Any] | None) -> dict[str, Any]:
    """An agent: as admitted, and as last heard (None for figures never heard)."""
    heard = heard or {}
    figures = ("last_heard_ms", "clock_offset_ms", "clock_trusted", "clock_source", "spool_batches", "spool_readings", "oldest_ms", "version",
               "cpu_share", "rss_bytes", "audit_contradictions", "audit_forged")
    devices = list(heard.get("devices", ()))
    return {"agent_id": info.agent_id, "project_id": info.project_id, "uplink": info.uplink, "revoked": info.revoked,
            "certificate_serial": info.certificate_serial, "online": bool(heard.get("online", False)), **{k: heard.get(k) for k in figures},
            "devices_total": len(devices), "devices_online": sum(bool(d.get("online")) for d in devices) if heard.get("online") else 0}
