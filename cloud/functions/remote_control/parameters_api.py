"""REST of control parameters (调控参数管理): in force everywhere, by whom, before, against the template. Thin.

Must not know: transports, engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from sqlalchemy import func, select

from cloud.functions.devices.state import by_device
from cloud.functions.devices.tables import DeviceTemplate
from cloud.functions.params import Line, Whole
from cloud.functions.remote_control import parameters
from cloud.functions.services import Services, services
from cloud.functions.tables_out import CsvResponse, csv_response, local_time
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from protos.points import BY_ID

api = router()
Given = Annotated[Services, Depends(services)]
Sees = Annotated[Principal, operation("remote_control.parameter.read")]
Drift = Literal["", "any", "limits", "held", "unlike", "local", "version"]
Text = Annotated[Line, Query(max_length=60)]
DAY_MS = 86_400_000
#: Days whose changes are told to the second; longer looks are told to the quarter of an hour.
RAW_DAYS = 31


@api.get("/parameters")
async def everything(who: Sees, given: Given, project_id: Whole | None = None, profile: Line = "", point_id: Whole | None = None, text: Text = "", drift: Drift = "", sort: Literal["device", "-device", "point", "-point", "value", "-value", "at_ms", "-at_ms"] = "device",
                     limit: Annotated[int, Query(ge=1, le=500)] = 100, offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> dict[str, Any]:
    """Control parameters in force: {total, offset, drifts: {kind: how many}, rows}."""
    found = await _rows(given, who, project_id, profile, point_id, text)
    drifts = {kind: sum(kind in r["drift"] for r in found) for kind in parameters.DRIFTS}
    wanted = _sorted([r for r in found if not drift or (r["drift"] if drift == "any" else drift in r["drift"])], sort)
    return {"total": len(wanted), "offset": offset, "drifts": drifts, "rows": wanted[offset:offset + limit]}


@api.get("/parameters/export", response_class=CsvResponse)
async def export(who: Annotated[Principal, operation("remote_control.parameter.export")], given: Given, project_id: Whole | None = None, profile: Line = "", point_id: Whole | None = None, text: Text = "", drift: Drift = "") -> Response:
    """The same as CSV."""
    found = await _rows(given, who, project_id, profile, point_id, text)
    wanted = _sorted([r for r in found if not drift or (r["drift"] if drift == "any" else drift in r["drift"])], "device")
    head = ("设备 device", "名称 name", "参数 parameter", "值 value", "单位 unit", "时间 time", "来源 source", "保持至 until", "下限 low", "上限 high", "同类 usual", "偏离 drift", "模板 template")
    return csv_response("parameters.csv", head, (
        (r["device"]["code"], r["device"]["name_zh"], BY_ID[r["point_id"]].key, r["value"], BY_ID[r["point_id"]].unit, local_time(r["at_ms"], given.timezone), r["source"]["holder"] if r["source"] else "",
         local_time(r["source"]["until_ms"], given.timezone) if r["source"] else "", r["low"], r["high"], r["usual"], " ".join(r["drift"]), r["template"]) for r in wanted))


@api.get("/parameters/{device_id}/{point_id}")
async def one(device_id: Whole, point_id: Whole, who: Sees, given: Given, days: Annotated[int, Query(ge=1, le=366)] = 7) -> dict[str, Any]:
    """One parameter: in force, its changes as measured in the last days with the command that explains each, and what was commanded."""
    device = given.device(who, device_id)
    found = [r for r in await _rows(given, who, device.project_id, "", point_id, "") if r["device_id"] == device_id]
    if not found:
        raise NotFoundError(what="parameter", name=f"{device.code} {point_id}")
    now = given.now()
    (series,), commands = await asyncio.gather(given.historian.history(device.project_id, [(device_id, point_id)], now - days * DAY_MS, now, resolution_s=0 if days <= RAW_DAYS else 900, max_points=50_000), given.commands.list(device_id=device_id, limit=500))
    mine = [c for c in commands if c["point_id"] == point_id and c["created_ms"] >= now - days * DAY_MS]
    return {**found[0], "resolution_s": series.resolution_s, "changes": parameters.changes(series, mine, device.points[point_id].resolution),
            "commands": [{k: c[k] for k in ("id", "kind", "value", "low", "high", "authority", "state", "actor", "reason", "created_ms", "expires_ms", "readback")} for c in mine]}


async def _rows(given: Services, who: Principal, project_id: int | None, profile: str, point_id: int | None, text: str) -> list[dict[str, Any]]:
    projects = [given.project(who, project_id)] if project_id is not None else given.projects(who)
    agents, versions, *latest = await asyncio.gather(given.live.agents(project_id), asyncio.to_thread(_newest, given), *(given.historian.latest(p.id) for p in projects))
    by = {(v.device_id, v.point_id): v for one in latest for v in one}
    words = text.casefold()
    devices = [d for p in projects for d in given.devices(who, p.id) if (not profile or d.profile == profile) and (not words or words in f"{d.code} {d.name_zh} {d.name_en} {d.location}".casefold())]
    found = parameters.rows(devices, lambda name: given.directory.template(name) or {}, by, by_device(agents), versions)
    names = {d.id: {"id": d.id, "code": d.code, "name_zh": d.name_zh, "name_en": d.name_en, "profile": d.profile} for d in devices}
    return [{**r, "device": names[r["device_id"]]} for r in found if point_id is None or r["point_id"] == point_id]


def _newest(given: Services) -> dict[str, int]:
    with given.sessions.ledger.read() as session:
        return {str(key): int(version) for key, version in session.execute(select(DeviceTemplate.key, func.max(DeviceTemplate.version)).group_by(DeviceTemplate.key))}


def _sorted(rows: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {"device": lambda r: (r["device"]["code"], r["point_id"]), "point": lambda r: (r["point_id"], r["device"]["code"]), "value": lambda r: (r["value"] is None, r["value"] or 0.0, r["device_id"]),
            "at_ms": lambda r: (r["at_ms"] or 0, r["device_id"])}
    return sorted(rows, key=keys[sort.lstrip("-")], reverse=sort.startswith("-"))
