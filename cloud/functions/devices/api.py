"""REST of projects, devices, agents and the point catalogue (设备管理). Thin: rules stand in state.py, listing.py, views.py.

Must not know: engines, transports.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import AfterValidator

from cloud.functions.devices import state, views
from cloud.functions.devices.listing import Filter, list_devices
from cloud.functions.params import Whole
from cloud.functions.services import Services, services
from cloud.functions.tables_out import OR_CSV, csv_response, local_time
from cloud.security.guard import operation, router
from cloud.security.operations import Principal
from protos.points import BY_ID

api = router()
Given = Annotated[Services, Depends(services)]
SeesProjects = Annotated[Principal, operation("devices.project.read")]
SeesDevices = Annotated[Principal, operation("devices.device.read")]


@api.get("/projects")
async def projects(who: SeesProjects, given: Given) -> list[dict[str, Any]]:
    """Projects in scope (项目)."""
    return [views.project_view(p) for p in given.projects(who)]


@api.get("/projects/{project_id}")
async def project(project_id: Whole, who: SeesProjects, given: Given) -> dict[str, Any]:
    """A project, with how many devices of each profile it has."""
    found = given.project(who, project_id)
    profiles: dict[str, int] = {}
    for device in given.devices(who, project_id):
        profiles[device.profile] = profiles.get(device.profile, 0) + 1
    return {**views.project_view(found), "profiles": profiles}


def _conditions(text: str) -> str:
    for word in filter(None, text.split(",")):
        if word not in state.CONDITIONS:
            raise ValueError(f"no condition '{word}'; there are {', '.join(state.CONDITIONS)}")
    return text


@api.get("/devices", response_model=None, responses=OR_CSV)
async def devices(
        who: SeesDevices, given: Given, project_id: Whole | None = None, q: Annotated[str, Query(max_length=80)] = "",
        profile: Annotated[str, Query(max_length=60)] = "", condition: Annotated[str, Query(max_length=120), AfterValidator(_conditions)] = "", parent_id: Whole | None = None,
        sort: Literal["name", "code", "profile", "project", "condition", "rated_kw", "location"] = "project", descending: bool = False,
        offset: Annotated[int, Query(ge=0, le=(1 << 63) - 1)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        format: Literal["json", "csv"] = "json", language: Literal["zh", "en"] = "zh") -> dict[str, Any] | Response:  # noqa: A002
    """Devices in scope: filter, sort, page; `format=csv` exports everything the filter shows."""
    wanted = Filter(project_id, q, profile, condition, parent_id, sort, descending, language)
    page = await list_devices(given, who, wanted, offset=0 if format == "csv" else offset, limit=100_000 if format == "csv" else limit)
    if format == "json":
        return page
    named = {p.id: p for p in given.projects(who)}
    zh = language == "zh"
    head = ("编码,名称,项目,类型,位置,额定功率 kW,状态,最近正常,关键测点" if zh else "code,name,project,profile,location,rated kW,condition,last ok,key values").split(",")
    return csv_response("devices.csv", head, (
        (row["code"], row[f"name_{language}"], getattr(named[row["project_id"]], f"name_{language}"), row["profile"], row["location"],
         row["rated_kw"], row["condition"], local_time(row["last_ok_ms"], named[row["project_id"]].timezone),
         "; ".join(f"{getattr(BY_ID[v['point_id']], language)} {v['value']:g} {BY_ID[v['point_id']].unit}".strip() for v in row["key"]))
        for row in page["rows"]))


@api.get("/devices/{device_id}")
async def device(device_id: Whole, who: SeesDevices, given: Given) -> dict[str, Any]:
    """A device: template, points with limits, newest values, holders, why, children."""
    found = given.device(who, device_id)
    agents, alarms, latest = await asyncio.gather(
        given.live.agents(found.project_id), given.historian.alarms(project_id=found.project_id, active=True, limit=1000),
        given.historian.latest(found.project_id, [device_id]))
    heard = state.by_device(agents).get(device_id)
    document = given.directory.template(found.template) or {}
    row = views.device_row(found, heard, state.severities_by_device(alarms).get(device_id, {}), latest, document)
    children = [d for d in given.devices(who, found.project_id) if d.parent_id == device_id]
    parent = given.directory.device(found.parent_id) if found.parent_id else None
    return {
        **row, "points": views.point_rows(found, document), "latest": [views.value_view(found, v) for v in latest if v.point_id in found.points],
        "holders": [state.holder_view(h, document) for h in (heard or {}).get("holders", ())], "local_manual": bool(heard and heard.get("local_manual")),
        "locked_out": bool(heard and heard.get("locked_out")), "lockout_holder": heard.get("lockout_holder", "") if heard else "",
        "lockout_reason": heard.get("lockout_reason", "") if heard else "", "lockout_ms": heard.get("lockout_ms", 0) if heard else 0, "active_alarms": [a for a in alarms if a["device_id"] == device_id],
        "template_document": {k: document.get(k) for k in ("template", "version", "profile", "maker", "model", "name", "protocol", "poll_s",
                                                          "sequences", "interlocks", "safe_state", "frost", "alarms")},
        "startable": bool((document.get("sequences") or {}).get("start")), "stoppable": bool((document.get("sequences") or {}).get("stop")),
        "project": views.project_view(given.project(who, found.project_id)),
        "parent": {"id": parent.id, "code": parent.code, "name_zh": parent.name_zh, "name_en": parent.name_en} if parent else None,
        "children": [{"id": d.id, "code": d.code, "name_zh": d.name_zh, "name_en": d.name_en, "profile": d.profile} for d in children]}


@api.get("/catalogue")
async def catalogue(who: Annotated[Principal, operation("devices.catalogue.read")]) -> list[dict[str, Any]]:  # noqa: ARG001 - the guard needs it
    """The point catalogue (测点目录)."""
    return views.catalogue()
