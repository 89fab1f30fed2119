"""REST of demand response (需求响应): the desk, strategies, offers, statements. Thin.

Must not know: solvers, transports.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.demand_response.desk import recomputed
from cloud.functions.demand_response.errors import UnknownEventError
from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import OPEN, Kind, State
from cloud.functions.demand_response.strategies import PRESETS
from cloud.functions.params import Line, Whole
from cloud.functions.services import Services, services
from cloud.functions.tables_out import OR_CSV, csv_response, local_time
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal

api = router()
Given = Annotated[Services, Depends(services)]
Sees = Annotated[Principal, operation("demand_response.event.read")]
Strict = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
Sort = Literal["start_ms", "created_ms", "asked_kw", "state", "priority", "event_id"]
MOST = 2_000
#: States of events, separated by commas; "" = all.
States = Annotated[str, Query(max_length=200, pattern=rf"^(|(?:{'|'.join(State)})(?:,(?:{'|'.join(State)}))*)$")]


def kept(given: Services) -> ResponseService:
    """The service over this portal's ledger."""
    return ResponseService(given.sessions.ledger, given.now)


def records(given: Services) -> Records:
    """What events came to."""
    return Records(given.sessions.ledger)


def seen(given: Services, who: Principal, event: dict[str, Any]) -> dict[str, Any] | None:
    """An event as somebody may see it: only the resources in their scope, None when there is none of them."""
    if not who.bounded:
        return event
    codes = {p.code for p in given.projects(who)}
    mine = [code for code in event["document"]["resources"] if code in codes]
    return {**event, "document": {**event["document"], "resources": mine}} if mine else None


async def one(given: Services, who: Principal, event: int) -> dict[str, Any]:
    """An event in scope.

    Raises:
        NotFoundError: unknown, or out of scope.
    """
    found = await asyncio.to_thread(kept(given).event, event)
    shown = None if found is None else seen(given, who, found)
    if shown is None:
        raise NotFoundError(what="event", name=event)
    return shown


@api.get("/demand-response/resources")
async def resources(who: Annotated[Principal, operation("demand_response.resource.read")], given: Given) -> list[dict[str, Any]]:
    """What projects in scope can do for the grid now, by duration, as their own optimiser finds it and their strategies lend it."""
    return await asyncio.to_thread(kept(given).resources, given.projects(who))


@api.get("/demand-response/events", response_model=None, responses=OR_CSV)
async def events(who: Sees, given: Given, state: States = "", kind: Literal["", "order", "market"] = "", text: Annotated[Line, Query(max_length=64)] = "",
                 from_ms: Whole | None = None, to_ms: Whole | None = None, sort: Sort = "start_ms", descending: bool = True, offset: Whole = 0, limit: Annotated[int, Query(ge=1, le=500)] = 50,
                 format: Literal["json", "csv"] = "json") -> dict[str, Any] | Response:  # noqa: A002  the name callers know
    """Events, filtered and sorted: {rows, total}; `format=csv` gives all that are filtered."""
    whole = who.bounded or format == "csv"
    asked: dict[str, Any] = {"state": [s for s in state.split(",") if s], "kind": kind, "text": text, "from_ms": from_ms, "to_ms": to_ms, "sort": sort, "descending": descending}
    rows, total = await asyncio.to_thread(lambda: kept(given).events(**asked, offset=0 if whole else offset, limit=MOST if whole else limit))
    shown = [e for row in rows if (e := seen(given, who, row)) is not None]
    if format == "csv":
        head = ["event_id", "version", "dispatcher", "kind", "state", "why", "start", "end", "asked_kw", "committed_kw", "delivered_kwh", "ratio", "yuan"]
        return csv_response("events.csv", head, [[e["event_id"], e["version"], e["dispatcher"], e["kind"], e["state"], e["why"], local_time(e["start_ms"], given.timezone), local_time(e["end_ms"], given.timezone), e["asked_kw"], e["committed_kw"],
                                                  (v := e["outcome"].get("evaluation", {})).get("delivered_kwh"), v.get("ratio"), v.get("total_micro", 0) / 1e6] for e in shown])
    return {"rows": shown[offset:offset + limit] if whole else shown, "total": len(shown) if whole else total}


@api.get("/demand-response/events/{event}")
async def event_page(event: Whole, who: Sees, given: Given) -> dict[str, Any]:
    """One event: as it stands, what happened, who is held to what, minutes, statements."""
    found = await one(given, who, event)
    visible = {p.id for p in given.projects(who)}
    steps, held, told, (statements, _) = await asyncio.gather(
        asyncio.to_thread(kept(given).steps, event), asyncio.to_thread(kept(given).commitments, event), asyncio.to_thread(records(given).minutes, event),
        asyncio.to_thread(lambda: records(given).statements(event=event, limit=MOST)))
    return {"event": found, "steps": steps, "commitments": [c for c in held if c["project_id"] in visible], "minutes": told,
            "statements": [_short(s) for s in statements if s["project_id"] in visible]}


@api.get("/demand-response/events/{event}/minutes")
async def event_minutes(event: Whole, who: Sees, given: Given, after_ms: Whole = 0) -> list[dict[str, Any]]:
    """Minutes of an event after one of them, for a page that follows."""
    await one(given, who, event)
    return await asyncio.to_thread(records(given).minutes, event, after_ms)


class Bid(BaseModel):
    """kW and price (micro-yuan per kWh) offered."""

    model_config = Strict
    kw: float = Field(gt=0, le=1e7)
    micro_kwh: int = Field(ge=0, le=1_000_000_000)


@api.post("/demand-response/events/{event}/bid")
async def bid(event: Whole, body: Bid, request: Request, who: Annotated[Principal, operation("demand_response.event.bid")], given: Given) -> dict[str, Any]:
    """Bid, or bid again, until gate closure."""
    found = await one(given, who, event)
    request.state.target = f"event {found['event_id']} {body.kw:g} kW"
    return await asyncio.to_thread(lambda: kept(given).bid(event, body.kw, body.micro_kwh, who.name))


class ChangedStrategy(BaseModel):
    """What changes of a strategy; what is not named stays. `version` is the one that was seen."""

    model_config = Strict
    version: Whole
    participates: bool | None = None
    joins: bool | None = None
    depth: float | None = Field(None, ge=0, le=1)
    longest_s: int | None = Field(None, ge=900, le=86_400)
    rest_s: int | None = Field(None, ge=0, le=604_800)
    notice_s: int | None = Field(None, ge=0, le=86_400)
    floor_c: float | None = Field(None, ge=5, le=24)
    rebound_share: float | None = Field(None, ge=0.2, le=3)
    rebound_s: int | None = Field(None, ge=0, le=43_200)
    events_per_day: int | None = Field(None, ge=0, le=48)
    events_per_season: int | None = Field(None, ge=0, le=1_000)
    security_kw: float | None = Field(None, ge=0, le=1e6)
    frost_kw: float | None = Field(None, ge=0, le=1e6)
    price_micro_kwh: int | None = Field(None, ge=0, le=1_000_000_000)
    owner_share: float | None = Field(None, ge=0, le=1)
    preset: Line | None = Field(None, max_length=12)


@api.get("/projects/{project_id}/demand-response")
async def strategy(project_id: Whole, who: Annotated[Principal, operation("demand_response.strategy.read")], given: Given) -> dict[str, Any]:
    """How a project answers the grid, what it can do now, what one may choose among: {strategy, resource, presets}."""
    project = given.project(who, project_id)
    found, able = await asyncio.gather(asyncio.to_thread(kept(given).strategy, project_id), asyncio.to_thread(kept(given).resources, [project]))
    return {"strategy": dataclasses.asdict(found), "resource": able[0] if able else None, "presets": PRESETS}


@api.put("/projects/{project_id}/demand-response")
async def change(project_id: Whole, body: ChangedStrategy, request: Request, who: Annotated[Principal, operation("demand_response.strategy.change")], given: Given) -> dict[str, Any]:
    """Change a strategy, or choose a preset; published anew within seconds."""
    project = given.project(who, project_id)
    request.state.target = project.code
    values = {k: v for k, v in body.model_dump(exclude_unset=True).items() if v is not None}
    return dataclasses.asdict(await asyncio.to_thread(lambda: kept(given).change_strategy(project_id, values, who.name)))


@api.get("/projects/{project_id}/demand-response/offers")
async def offers(project_id: Whole, who: Annotated[Principal, operation("demand_response.offer.read")], given: Given) -> list[dict[str, Any]]:
    """Market events this project is invited to or takes part in, and what was said to each; orders too, which leave no choice."""
    project = given.project(who, project_id)
    service = kept(given)
    found = [e for e in await asyncio.to_thread(service.open_events) if project.code in e["document"]["resources"]]
    out = []
    for e in found:
        choice = (await asyncio.to_thread(service.choices, e["id"])).get(project_id)
        held = next((c for c in await asyncio.to_thread(service.commitments, e["id"]) if c["project_id"] == project_id), None)
        out.append({**(seen(given, who, e) or e), "choice": choice[0] if choice else "", "depth": choice[1] if choice else None, "held": None if held is None else {k: held[k] for k in ("kw", "out", "segments", "rebound_kw", "rebound_ms")},
                    "open": e["kind"] == Kind.MARKET and e["state"] in (State.PUBLISHED, State.INVITED, State.BID), "may_leave": e["kind"] == Kind.MARKET and e["state"] in OPEN})
    return out


class Choice(BaseModel):
    """Join (lending up to `depth` of what was published) or decline."""

    model_config = Strict
    choice: Literal["join", "decline"]
    depth: float = Field(1.0, ge=0, le=1)


@api.post("/projects/{project_id}/demand-response/offers/{event}")
async def choose(project_id: Whole, event: Whole, body: Choice, request: Request, who: Annotated[Principal, operation("demand_response.offer.choose")], given: Given) -> dict[str, Any]:
    """Join or decline; declining what the project is held to is an opt-out, and recorded as such."""
    project = given.project(who, project_id)
    found = await asyncio.to_thread(kept(given).event, event)
    if found is None or project.code not in found["document"]["resources"]:
        raise UnknownEventError(event_id=event)
    request.state.target = f"{project.code} {body.choice} {found['event_id']}"
    return await asyncio.to_thread(lambda: kept(given).choose(event, project_id, body.choice, body.depth, who.name))


@api.get("/demand-response/statements", response_model=None, responses=OR_CSV)
async def statements(who: Annotated[Principal, operation("demand_response.statement.read")], given: Given, project_id: Whole | None = None, event: Whole | None = None, offset: Whole = 0,
                     limit: Annotated[int, Query(ge=1, le=500)] = 50, format: Literal["json", "csv"] = "json") -> dict[str, Any] | Response:  # noqa: A002
    """What participants got, newest first: {rows, total}."""
    ids = [given.project(who, project_id).id] if project_id is not None else [p.id for p in given.projects(who)] if who.bounded else None
    rows, total = await asyncio.to_thread(lambda: records(given).statements(event=event, project_ids=ids, offset=offset if format == "json" else 0, limit=limit if format == "json" else MOST))
    if format == "csv":
        codes = {p.id: p.code for p in given.directory.projects()}
        return csv_response("statements.csv", ["event_id", "project", "participant", "start", "delivered_kwh", "ratio", "energy_yuan", "capacity_yuan", "penalty_yuan", "total_yuan"],
                            [[r["event_id"], codes.get(r["project_id"], r["project_id"]), r["participant"], local_time(r["start_ms"], given.timezone), r["basis"]["delivered_kwh"], r["basis"]["ratio"],
                              *(r["lines"].get(k, 0) / 1e6 for k in ("energy", "capacity", "penalty")), r["total_micro"] / 1e6] for r in rows])
    return {"rows": [_short(r) for r in rows], "total": total}


@api.get("/demand-response/statements/{statement}")
async def statement(statement: Whole, who: Annotated[Principal, operation("demand_response.statement.read")], given: Given) -> dict[str, Any]:
    """One statement with the series it was made from."""
    return await _statement(statement, who, given)


@api.get("/demand-response/statements/{statement}/verify")
async def verify(statement: Whole, who: Annotated[Principal, operation("demand_response.statement.read")], given: Given) -> dict[str, Any]:
    """Compute a statement again from stored readings and the event as it was taken: {same, differences, lines}."""
    found = await _statement(statement, who, given)
    event = await asyncio.to_thread(kept(given).event, found["event"])
    held = next((c for c in await asyncio.to_thread(kept(given).commitments, found["event"]) if c["project_id"] == found["project_id"]), None)
    if event is None or held is None:
        raise NotFoundError(what="event", name=found["event"])
    again = await recomputed(kept(given), given.directory, given.historian, event, held, found["basis"]["owner_share"])
    if again is None:
        raise NotFoundError(what="project", name=found["project_id"])
    lines = again["lines"][found["participant"]]
    pairs = {**{k: (v, lines.get(k)) for k, v in found["lines"].items()}, "baseline": (found["basis"]["baseline"], again["basis"]["baseline"]), "delivered_kwh": (found["basis"]["delivered_kwh"], again["basis"]["delivered_kwh"])}
    differences = {k: {"kept": a, "again": b} for k, (a, b) in pairs.items() if a != b}
    return {"statement": statement, "same": not differences, "differences": differences, "lines": lines, "at_ms": given.now()}


async def _statement(statement: int, who: Principal, given: Services) -> dict[str, Any]:
    found = await asyncio.to_thread(records(given).statement, statement)
    if found is None or not who.sees_project(found["project_id"]):
        raise NotFoundError(what="statement", name=statement)
    return found


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "basis": {k: v for k, v in row["basis"].items() if k != "series"}}
