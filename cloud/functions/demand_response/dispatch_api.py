"""What a dispatcher asks over REST, and the gRPC service through it: resources, events by its own numbers, set-points, reports. Thin.

Must not know: gRPC, solvers.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.demand_response.api import Given, kept, records
from cloud.functions.demand_response.states import TERMINAL
from cloud.functions.params import Line, Whole
from cloud.security.guard import operation, router
from cloud.security.operations import Principal

api = router()
EventId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
Reads = Annotated[Principal, operation("demand_response.dispatch.read")]
Kw = Annotated[float, Field(le=1e9)]


class Asked(BaseModel):
    """An event; see the documentation of grid dispatch. What is wrong with it is answered field by field by the desk, not by the shape."""

    model_config = ConfigDict(extra="forbid")
    event_id: str = Field(max_length=200)
    version: int
    kind: str = Field(max_length=20)
    resources: list[Annotated[str, Field(max_length=80)]] | None = Field(None, max_length=20_000, description="ids of those meant; left out = all in scope")
    start_ms: int
    end_ms: int
    target: str = Field("reduction", max_length=20)
    kw: Kw | list[Kw]
    ramp_s: int = 300
    priority: int = 5
    bid_until_ms: int = 0
    micro_kwh: int = 0
    micro_kw: int = 0
    micro_penalty_kwh: int = 0
    baseline: str = Field("realtime_15_min", max_length=60)
    rebound_share: float = 0.0
    trial: bool = False
    supersedes: str = Field("", max_length=200)
    reason: Line = Field("", max_length=200)


class Withdrawn(BaseModel):
    """Why an event is taken back."""

    model_config = ConfigDict(strict=True, extra="forbid")
    reason: Line = Field("", max_length=200)


class Cleared(BaseModel):
    """What the market took of a bid: kW (0 = nothing) at a price in micro-yuan per kWh."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
    kw: float = Field(ge=0, le=1e7)
    micro_kwh: int = Field(ge=0, le=1_000_000_000)


class Setpoint(BaseModel):
    """The reduction (or limit, as the event asks) from now on, kW."""

    model_config = ConfigDict(strict=True, extra="forbid")
    kw: float


@api.post("/dispatch/events", status_code=201)
async def submit(body: Asked, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.submit")], given: Given) -> dict[str, Any]:
    """Ask for an event, or for a new version of one; the same version again gives the same answer."""
    request.state.target = f"event {body.event_id} v{body.version}"[:200]
    return await asyncio.to_thread(lambda: kept(given).submit(body.model_dump(), who.name, given.projects(who)))


@api.get("/dispatch/events")
async def mine(who: Reads, given: Given, open_only: bool = False, offset: Whole = 0, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> dict[str, Any]:
    """The asking dispatcher's events, newest first: {rows, total}."""
    rows, total = await asyncio.to_thread(lambda: kept(given).events(dispatcher=who.name, sort="created_ms", offset=offset, limit=limit))
    return {"rows": [r for r in rows if not open_only or r["state"] not in TERMINAL], "total": total}


@api.get("/dispatch/events/{event_id}")
async def one(event_id: EventId, who: Reads, given: Given) -> dict[str, Any]:
    """One of the dispatcher's events."""
    return await asyncio.to_thread(kept(given).of, who.name, event_id)


@api.post("/dispatch/events/{event_id}/cancel")
async def cancel(event_id: EventId, body: Withdrawn, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.cancel")], given: Given) -> dict[str, Any]:
    """Take an event back; what is held to it is let go at once."""
    request.state.target = f"event {event_id}"
    return await asyncio.to_thread(kept(given).cancel, event_id, who.name, body.reason)


@api.post("/dispatch/events/{event_id}/clear")
async def clear(event_id: EventId, body: Cleared, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.clear")], given: Given) -> dict[str, Any]:
    """Answer a bid."""
    request.state.target = f"event {event_id} {body.kw:g} kW"
    return await asyncio.to_thread(kept(given).clear, event_id, who.name, body.kw, body.micro_kwh)


@api.post("/dispatch/events/{event_id}/setpoint")
async def setpoint(event_id: EventId, body: Setpoint, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.setpoint")], given: Given) -> dict[str, Any]:
    """Set the power of an order under way; the newest counts. {event_id, state, asked_kw, delivered_kw, at_ms}."""
    request.state.target = f"event {event_id} {body.kw:g} kW"
    event = await asyncio.to_thread(lambda: kept(given).setpoint(event_id, who.name, body.kw, given.projects(who)))
    last = (await asyncio.to_thread(records(given).minutes, event["id"], given.now() - 180_000))[-1:]
    return {"event_id": event_id, "state": event["state"], "asked_kw": body.kw, "delivered_kw": round(last[0]["baseline_kw"] - last[0]["metered_kw"], 2) if last else None, "at_ms": given.now()}


@api.get("/dispatch/events/{event_id}/report")
async def report(event_id: EventId, who: Reads, given: Given, after_ms: Whole = 0) -> dict[str, Any]:
    """Minutes after one, and once it is over what every project delivered and gets: {event, minutes, statements}."""
    event = await asyncio.to_thread(kept(given).of, who.name, event_id)
    told = await asyncio.to_thread(records(given).minutes, event["id"], after_ms)
    rows, _ = await asyncio.to_thread(lambda: records(given).statements(event=event["id"], limit=2_000))
    codes = {p.id: p.code for p in given.directory.projects()}
    statements = [{"resource": codes.get(r["project_id"], ""), "participant": r["participant"], "lines": r["lines"], "total_micro": r["total_micro"],
                   **{k: r["basis"][k] for k in ("baseline", "delivered_kwh", "committed_kwh", "ratio", "gaps")}} for r in rows]
    return {"event": event, "minutes": told, "statements": statements}
