"""REST of OpenADR 3.1: this platform as VTN for business-logic clients, under /api/v1/openadr3/3.1.0. Thin.

Scopes of the standard are operations here (documentation, "grid dispatch"); what is not offered says so with 501. Must not know: engines, gRPC.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, NoReturn

from fastapi import Depends, Path, Query, Request, Response

from cloud.functions.demand_response.service import ResponseService
from cloud.functions.interfaces.api import issue
from cloud.functions.interfaces.openadr import views
from cloud.functions.interfaces.openadr.errors import NotOfferedError, UnknownObjectError
from cloud.functions.interfaces.openadr.models import EventRequest, ObjectId, ProgramRequest, ReportRequest, Text128
from cloud.functions.interfaces.openadr.reports import ReportService
from cloud.functions.interfaces.openadr.service import ExchangeService
from cloud.functions.services import Services, services
from cloud.security.guard import operation, router
from cloud.security.operations import Principal

PREFIX: Final = "/openadr3/3.1.0"
#: Scopes of the standard and the operations they come down to.
SCOPES: Final = {"read_all": {"demand_response.dispatch.read", "demand_response.resource.read"}, "write_programs": {"demand_response.program.change"},
                 "write_events": {"demand_response.dispatch.submit", "demand_response.dispatch.cancel"}, "write_reports": {"demand_response.exchange.write"}}

api = router(PREFIX)
Given = Annotated[Services, Depends(services)]
Number = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$")]
Reads = Annotated[Principal, operation("demand_response.dispatch.read")]
Sees = Annotated[Principal, operation("demand_response.resource.read")]
Arranges = Annotated[Principal, operation("demand_response.program.change")]
Writes = Annotated[Principal, operation("demand_response.exchange.write")]
Targets = Annotated[list[Text128], Query(max_length=1000)]
Skip = Annotated[int, Query(ge=0, lt=1 << 31)]
Limit = Annotated[int, Query(ge=0, le=50)]
#: Of routes the standard has and this platform does not.
NOT: Final[dict[str, Any]] = {"response_model": None, "responses": {501: {"description": "Not offered here; the text says what is instead"}}}
NO_WEBHOOKS: Final = {"what_zh": "订阅推送", "what_en": "subscriptions", "way_zh": "请定期读取 /events 与 /reports，或用 gRPC WatchEvent", "way_en": "Read /events and /reports again, or use gRPC WatchEvent"}
NO_VENS: Final = {"what_zh": "VEN 与资源的登记", "what_en": "the registration of vens and resources", "way_zh": "本平台自身是唯一的 VEN，其资源可读取", "way_en": "The platform itself is the one VEN; its resources can be read"}


def kept(given: Services) -> ExchangeService:
    """The service over this portal's ledger."""
    return ExchangeService(given.sessions.ledger, given.now)


# -- tokens -------------------------------------------------------------------------------------------------------------


@api.get("/auth/server")
async def server(request: Request, _open: Annotated[None, operation("interfaces.description.read")]) -> dict[str, str]:
    """Where tokens are given."""
    return {"tokenURL": f"{str(request.base_url).rstrip('/')}/api/v1{PREFIX}/auth/token"}


@api.post("/auth/token", response_model=None, openapi_extra={"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": {
    "type": "object", "required": ["grant_type"], "properties": {"grant_type": {"type": "string", "enum": ["client_credentials"]}, "client_id": {"type": "string"}, "client_secret": {"type": "string"}, "scope": {"type": "string"}}}}}}})
async def token(request: Request, response: Response, given: Given, _open: Annotated[None, operation("interfaces.token.issue")]) -> dict[str, Any]:
    """A token for client id and secret, the same as of /oauth/token; `scope` says in the standard's words what the client may."""
    made = await issue(request, response, given)
    mine = set(made["scope"].split())
    return {**made, "scope": " ".join(name for name, needed in SCOPES.items() if needed <= mine)}


# -- programs -----------------------------------------------------------------------------------------------------------


@api.get("/programs")
async def programs(who: Reads, given: Given, targets: Targets = [], skip: Skip = 0, limit: Limit = 50) -> list[dict[str, Any]]:  # noqa: B006  FastAPI copies it
    """The caller's programs."""
    return await asyncio.to_thread(lambda: kept(given).programs(who.name, targets=targets, skip=skip, limit=limit))


@api.post("/programs", status_code=201)
async def make_program(body: ProgramRequest, request: Request, who: Arranges, given: Given) -> dict[str, Any]:
    """A new program; KANG_KIND says whether its events are mandatory orders or market events."""
    request.state.target = f"program {body.programName}"[:200]
    return await asyncio.to_thread(kept(given).make_program, who.name, body.document())


@api.get("/programs/{program_id}")
async def program(program_id: Number, who: Reads, given: Given) -> dict[str, Any]:
    """One."""
    return await asyncio.to_thread(kept(given).program, who.name, program_id)


@api.put("/programs/{program_id}")
async def change_program(program_id: Number, body: ProgramRequest, request: Request, who: Arranges, given: Given) -> dict[str, Any]:
    """Change a program; events taken before keep their terms."""
    request.state.target = f"program {program_id}"[:200]
    return await asyncio.to_thread(kept(given).change_program, who.name, program_id, body.document(), body.modificationDateTime)


@api.delete("/programs/{program_id}")
async def drop_program(program_id: Number, request: Request, who: Arranges, given: Given) -> dict[str, Any]:
    """Take a program away whose events are over."""
    request.state.target = f"program {program_id}"[:200]
    return await asyncio.to_thread(kept(given).drop_program, who.name, program_id)


# -- events -------------------------------------------------------------------------------------------------------------


@api.get("/events")
async def events(who: Reads, given: Given, programID: ObjectId = "", targets: Targets = [], active: bool = False, skip: Skip = 0, limit: Limit = 50) -> list[dict[str, Any]]:  # noqa: B006, N803  the standard's name
    """The caller's events as they stand; `active` leaves out those that are over."""
    return await asyncio.to_thread(lambda: kept(given).events(who.name, program=programID, targets=targets, active=active, skip=skip, limit=limit))


@api.post("/events", status_code=201)
async def make_event(body: EventRequest, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.submit")], given: Given) -> dict[str, Any]:
    """Ask for demand response; with an eventName the same again gives the same answer."""
    request.state.target = f"event {body.eventName or ''} of {body.programID}"[:200]
    return await asyncio.to_thread(lambda: kept(given).make_event(who.name, body.document(), given.projects(who)))


@api.get("/events/{event_id}")
async def event(event_id: Number, who: Reads, given: Given) -> dict[str, Any]:
    """One."""
    return await asyncio.to_thread(kept(given).event, who.name, event_id)


@api.put("/events/{event_id}")
async def change_event(event_id: Number, body: EventRequest, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.submit")], given: Given) -> dict[str, Any]:
    """A new version; an order under way is allocated anew and goes on."""
    request.state.target = f"event {event_id}"[:200]
    return await asyncio.to_thread(lambda: kept(given).change_event(who.name, event_id, body.document(), body.modificationDateTime, given.projects(who)))


@api.delete("/events/{event_id}")
async def drop_event(event_id: Number, request: Request, who: Annotated[Principal, operation("demand_response.dispatch.cancel")], given: Given) -> dict[str, Any]:
    """Take an event back; what is held to it is let go at once."""
    request.state.target = f"event {event_id}"[:200]
    return await asyncio.to_thread(kept(given).drop_event, who.name, event_id)


# -- reports ------------------------------------------------------------------------------------------------------------


def told(given: Services) -> ReportService:
    """Reports over this portal's ledger."""
    return ReportService(given.sessions.ledger, given.now, {p.id: p.code for p in given.directory.projects()})


@api.get("/reports")
async def reports(who: Reads, given: Given, programID: ObjectId = "", eventID: ObjectId = "", clientName: Annotated[str, Query(max_length=128)] = "", skip: Skip = 0, limit: Limit = 50) -> list[dict[str, Any]]:  # noqa: N803
    """What was metered in the caller's events that have begun, and what it handed in itself."""
    return await asyncio.to_thread(lambda: told(given).reports(who.name, program=programID, event=eventID, client=clientName, skip=skip, limit=limit))


@api.get("/reports/{report_id}")
async def report(report_id: Number, who: Reads, given: Given) -> dict[str, Any]:
    """One."""
    return await asyncio.to_thread(lambda: told(given).report(who.name, report_id))


@api.post("/reports", status_code=201)
async def make_report(body: ReportRequest, request: Request, who: Writes, given: Given) -> dict[str, Any]:
    """Hand in a report about one of the caller's events; kept and shown, not settled by."""
    request.state.target = f"report of {body.eventID}"[:200]
    return await asyncio.to_thread(lambda: told(given).hand_in(who.name, body.document()))


@api.put("/reports/{report_id}")
async def change_report(report_id: Number, body: ReportRequest, request: Request, who: Writes, given: Given) -> dict[str, Any]:
    """Change a report that was handed in."""
    request.state.target = f"report {report_id}"[:200]
    return await asyncio.to_thread(lambda: told(given).change(who.name, report_id, body.document(), body.modificationDateTime))


@api.delete("/reports/{report_id}")
async def drop_report(report_id: Number, request: Request, who: Writes, given: Given) -> dict[str, Any]:
    """Take away a report that was handed in."""
    request.state.target = f"report {report_id}"[:200]
    return await asyncio.to_thread(lambda: told(given).drop(who.name, report_id))


# -- what can be asked --------------------------------------------------------------------------------------------------


@api.get("/vens")
async def vens(who: Sees, given: Given, venName: Annotated[str, Query(max_length=128)] = "", targets: Targets = [], skip: Skip = 0, limit: Limit = 50) -> list[dict[str, Any]]:  # noqa: B006, N803
    """The platform, behind which all resources stand."""
    return [views.ven(given.now(), who.name)][skip:skip + limit] if venName in {"", views.VEN} and not targets else []


@api.get("/vens/{ven_id}")
async def ven(ven_id: Number, who: Sees, given: Given) -> dict[str, Any]:
    """One."""
    if ven_id != views.VEN:
        raise UnknownObjectError(what="ven", name=ven_id[:60])
    return views.ven(given.now(), who.name)


@api.get("/resources")
async def resources(who: Sees, given: Given, resourceName: Annotated[str, Query(max_length=128)] = "", venID: ObjectId = "", targets: Targets = [], skip: Skip = 0, limit: Limit = 50) -> list[dict[str, Any]]:  # noqa: B006, N803
    """What projects in scope can do for the grid now."""
    if venID not in {"", views.VEN}:
        return []
    found = await asyncio.to_thread(lambda: ResponseService(given.sessions.ledger, given.now).resources(given.projects(who)))
    return [views.resource(r, who.name) for r in found if resourceName in {"", r["id"]} and (not targets or r["id"] in targets)][skip:skip + limit]


@api.get("/resources/{resource_id}")
async def resource(resource_id: Annotated[str, Path(min_length=1, max_length=128)], who: Sees, given: Given) -> dict[str, Any]:
    """One."""
    found = await asyncio.to_thread(lambda: ResponseService(given.sessions.ledger, given.now).resources([p for p in given.projects(who) if p.code == resource_id]))
    if not found:
        raise UnknownObjectError(what="resource", name=resource_id[:60])
    return views.resource(found[0], who.name)


@api.post("/vens", status_code=201, **NOT)
@api.post("/resources", status_code=201, **NOT)
async def no_ven(_who: Writes) -> NoReturn:
    """Not offered."""
    raise NotOfferedError(**NO_VENS)


@api.put("/vens/{ven_id}", **NOT)
@api.delete("/vens/{ven_id}", **NOT)
async def no_ven_of(ven_id: Number, _who: Writes) -> NoReturn:  # noqa: ARG001
    """Not offered."""
    raise NotOfferedError(**NO_VENS)


@api.put("/resources/{resource_id}", **NOT)
@api.delete("/resources/{resource_id}", **NOT)
async def no_resource_of(resource_id: Number, _who: Writes) -> NoReturn:  # noqa: ARG001
    """Not offered."""
    raise NotOfferedError(**NO_VENS)


# -- notifications ------------------------------------------------------------------------------------------------------


@api.get("/notifiers")
async def notifiers(_who: Reads) -> dict[str, bool]:
    """None: neither webhooks nor MQTT."""
    return {"WEBHOOK": False}


@api.get("/subscriptions", **NOT)
async def no_subscriptions(_who: Reads) -> NoReturn:
    """Not offered."""
    raise NotOfferedError(**NO_WEBHOOKS)


@api.get("/subscriptions/{subscription_id}", **NOT)
async def no_subscription(subscription_id: Number, _who: Reads) -> NoReturn:  # noqa: ARG001
    """Not offered."""
    raise NotOfferedError(**NO_WEBHOOKS)


@api.post("/subscriptions", status_code=201, **NOT)
async def no_new_subscription(_who: Writes) -> NoReturn:
    """Not offered."""
    raise NotOfferedError(**NO_WEBHOOKS)


@api.put("/subscriptions/{subscription_id}", **NOT)
@api.delete("/subscriptions/{subscription_id}", **NOT)
async def no_subscription_of(subscription_id: Number, _who: Writes) -> NoReturn:  # noqa: ARG001
    """Not offered."""
    raise NotOfferedError(**NO_WEBHOOKS)
