"""REST of economic operation (经济运行): how a project is run, its plan beside what was measured, and why. Thin.

Must not know: solvers, transports.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.core.ports import DeviceInfo, Series
from cloud.functions.economic_operation.service import EconomicService, published
from cloud.functions.economic_operation.site import site
from cloud.functions.params import Line, Whole
from cloud.functions.services import Services, services
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from optimizers.tariff.rating import price_array
from protos.errors import KangError
from protos.points import BY_ID, point

api = router()
Given = Annotated[Services, Depends(services)]
Sees = Annotated[Principal, operation("economic_operation.plan.read")]
Changes = Annotated[Principal, operation("economic_operation.setting.change")]
DAY_MS = 86_400_000
QUARTER_MS = 900_000
_PAST = {"active_power": "grid_kw", "outdoor_temp": "outdoor_c"}


class Change(BaseModel):
    """What to change; what is not named stays. `version` is the one that was seen."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    version: Whole
    mode: Line | None = Field(None, max_length=8)
    tariff: Line | None = Field(None, max_length=80)
    target_c: float | None = Field(None, ge=10, le=28)
    floor_c: float | None = Field(None, ge=5, le=24)
    down_k: float | None = Field(None, ge=0, le=5)
    up_k: float | None = Field(None, ge=0, le=5)
    contract_kw: float | None = Field(None, gt=0, le=1e6)


def _service(given: Services) -> EconomicService:
    return EconomicService(given.sessions.ledger, given.now)


@api.get("/economic/tariffs")
async def tariffs(_who: Sees) -> list[dict[str, Any]]:
    """Tariffs a project can be run by."""
    return [{"key": key, "zh": t.zh, "en": t.en, "category": t.category, "voltage": t.voltage, "demand_yuan_kw": None if t.demand is None else float(t.demand.yuan_kw)} for key, t in sorted(published().items())]


@api.get("/projects/{project_id}/economic")
async def economic(project_id: Whole, who: Sees, given: Given) -> dict[str, Any]:
    """Setting, newest plan with its series and reasons, where it stands at the site, and the last day as it was.

    Returns:
        {setting, plannable, plan, last, delivery, measured: {grid_kw, outdoor_c, room_c (mean of the measured rooms), price (yuan/kWh of the tariff set now): {at_ms, mean}}}.
    """
    project = given.project(who, project_id)
    service = _service(given)
    setting, newest = await asyncio.gather(asyncio.to_thread(service.setting, project_id), asyncio.to_thread(service.newest, project_id))
    made = newest if newest is None or newest["outcome"] == "planned" else await asyncio.to_thread(lambda: service.newest(project_id, planned=True))
    devices = given.directory.devices(project_id)
    where = site(project.id, project.heated_area_m2, devices)
    end = given.now()
    series = [(where.grid_meter, point("active_power").id)] if where.grid_meter else []
    if where.weather:
        series.append((where.weather, point("outdoor_temp").id))
    series += [(r.device_id, point("room_temp").id) for r in where.rooms if r.sensor]
    found = await given.historian.history(project_id, series, end - DAY_MS, end, resolution_s=QUARTER_MS // 1000) if series else []
    measured: dict[str, dict[str, Any]] = {kind: {"at_ms": s.at_ms, "mean": s.mean} for s in found if (kind := _PAST.get(BY_ID[s.point_id].key))}
    if rooms := [s for s in found if s.point_id == point("room_temp").id]:
        measured["room_c"] = _mean(rooms)
    if tariff := published().get(setting.tariff):
        begin = (end - DAY_MS) // QUARTER_MS * QUARTER_MS
        measured["price"] = {"at_ms": [begin + k * QUARTER_MS for k in range(DAY_MS // QUARTER_MS)], "mean": price_array(tariff, begin, DAY_MS // QUARTER_MS, 0.25).tolist()}
    if made is not None:
        made["document"]["reasons"] = named(made["document"]["reasons"], devices)
    try:
        delivery = await given.commands.plans(project_id)
    except KangError:  # the command service is away: the page says that it does not know
        delivery = None
    return {"setting": dataclasses.asdict(setting), "plannable": where.plannable, "plan": made, "last": None if newest is None else {k: v for k, v in newest.items() if k != "document"}, "delivery": delivery,
            "measured": measured}


def _mean(series: Sequence[Series]) -> dict[str, list[Any]]:
    """The mean of several series at each of their instants, over those that have a value there."""
    at: dict[int, list[float]] = {}
    for one in series:
        for when, value in zip(one.at_ms, one.mean, strict=True):
            if math.isfinite(value):
                at.setdefault(when, []).append(value)
    return {"at_ms": sorted(at), "mean": [round(sum(at[when]) / len(at[when]), 3) for when in sorted(at)]}


def named(reasons: Sequence[Sequence[dict[str, Any]]], devices: Sequence[DeviceInfo]) -> list[list[dict[str, Any]]]:
    """Reasons of a plan with its devices called by name instead of code; what people wrote or the planner counted stays."""
    known = {d.code: d for d in devices}
    if not known:
        return [list(row) for row in reasons]
    codes = re.compile(r"(?<![\w-])(" + "|".join(sorted(map(re.escape, known), key=len, reverse=True)) + r")(?![\w-])")
    return [[{**r, "zh": codes.sub(lambda m: known[m[1]].name_zh, r["zh"]), "en": codes.sub(lambda m: known[m[1]].name_en, r["en"])} for r in row] for row in reasons]


@api.get("/projects/{project_id}/economic/plans")
async def plans(project_id: Whole, who: Sees, given: Given, before_ms: Whole | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> list[dict[str, Any]]:
    """Plans made, newest first, without their series."""
    given.project(who, project_id)
    return await asyncio.to_thread(lambda: _service(given).plans(project_id, limit=limit, before_ms=before_ms))


@api.put("/projects/{project_id}/economic")
async def change(project_id: Whole, body: Change, request: Request, who: Changes, given: Given) -> dict[str, Any]:
    """Change how a project is run; planned anew within seconds. To take a contracted demand away send `contract_kw: null`."""
    project = given.project(who, project_id)
    values = body.model_dump(exclude_unset=True)
    values = {k: v for k, v in values.items() if v is not None or k == "contract_kw"}
    request.state.target = f"{project.code} {values.get('mode', '')}".strip()
    where = site(project.id, project.heated_area_m2, given.directory.devices(project_id))
    if not where.plannable and values.get("mode", "off") != "off":
        raise NotFoundError(what="plannable device", name=project.code)
    return dataclasses.asdict(await asyncio.to_thread(lambda: _service(given).change(project_id, values, who.name)))
