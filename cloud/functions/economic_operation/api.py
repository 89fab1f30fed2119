"""REST of economic operation (经济运行): how a project is run, its plan beside what was measured, and why. Thin.

Must not know: solvers, transports.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.economic_operation.service import EconomicService, published
from cloud.functions.economic_operation.site import site
from cloud.functions.params import Line, Whole
from cloud.functions.services import Services, services
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from protos.errors import KangError
from protos.points import point

api = router()
Given = Annotated[Services, Depends(services)]
Sees = Annotated[Principal, operation("economic_operation.plan.read")]
Changes = Annotated[Principal, operation("economic_operation.setting.change")]
DAY_MS = 86_400_000


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
    """Setting, newest plan with its series and reasons, where it stands at the site, and the last day as measured: {setting, plan, delivery, measured}."""
    project = given.project(who, project_id)
    service = _service(given)
    setting, newest = await asyncio.gather(asyncio.to_thread(service.setting, project_id), asyncio.to_thread(service.newest, project_id))
    made = newest if newest is None or newest["outcome"] == "planned" else await asyncio.to_thread(lambda: service.newest(project_id, planned=True))
    where = site(project.id, project.heated_area_m2, given.directory.devices(project_id))
    end = given.now()
    series = [(where.grid_meter, point("active_power").id)] if where.grid_meter else []
    if where.weather:
        series.append((where.weather, point("outdoor_temp").id))
    measured = await given.historian.history(project_id, series, end - DAY_MS, end, resolution_s=900) if series else []
    try:
        delivery = await given.commands.plans(project_id)
    except KangError:  # the command service is away: the page says that it does not know
        delivery = None
    return {"setting": dataclasses.asdict(setting), "plannable": where.plannable, "plan": made, "last": None if newest is None else {k: v for k, v in newest.items() if k != "document"}, "delivery": delivery,
            "measured": {("grid_kw" if s.point_id == point("active_power").id else "outdoor_c"): {"at_ms": s.at_ms, "mean": s.mean} for s in measured}}


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
