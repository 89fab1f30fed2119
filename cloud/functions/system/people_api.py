"""REST of people (账号管理): accounts, roles, sessions, organisations and contracts, second persons, emergency grants. Must not know: engines."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.params import Line, Moment, Whole
from cloud.functions.services import Services, services
from cloud.functions.system.accounts import Access
from cloud.functions.tables_out import CsvResponse, csv_response, local_time
from cloud.security.guard import Gate, NotFoundError, operation, router
from cloud.security.operations import ADMINS, Principal, Role

api = router()
Given = Annotated[Services, Depends(services)]
Id = Annotated[int, Path(ge=0, le=(1 << 63) - 1)]
_STRICT = ConfigDict(strict=True)
_ROLES = tuple(str(r) for r in Role)


class _Filter(BaseModel):
    """Which accounts."""

    q: str = Field("", max_length=60)
    role: Literal[("", *_ROLES)] = ""  # type: ignore[valid-type]
    state: Literal["", "active", "locked", "expired", "no_role"] = ""
    organisation_id: Whole | None = None
    sort: Literal["name", "display_name", "created_ms", "last_sign_in_ms", "expires_ms"] = "name"
    descending: bool = False
    offset: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(100, ge=1, le=1000)


class NewPerson(BaseModel):
    """A new account."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{1,59}$")
    display_name: Line = Field(min_length=1, max_length=120)
    organisation_id: Whole | None = None
    expires_ms: Moment | None = None


class PersonChange(BaseModel):
    """What an account is called and when it ends."""

    model_config = _STRICT

    display_name: Line = Field(min_length=1, max_length=120)
    expires_ms: Moment | None = None


class Lock(BaseModel):
    """Locked or not, and why."""

    model_config = _STRICT

    locked: bool
    reason: Line = Field(min_length=2, max_length=200)


class Grant(BaseModel):
    """Roles and scope; null = not narrowed."""

    model_config = ConfigDict()

    roles: list[Literal[_ROLES]] = Field(max_length=len(_ROLES))  # type: ignore[valid-type]
    organisation_id: Whole | None = None
    project_ids: list[Whole] | None = Field(None, max_length=5000)
    region_codes: list[Annotated[str, Field(max_length=60)]] | None = Field(None, max_length=500)
    device_ids: list[Whole] | None = Field(None, max_length=500)


class NewOrganisation(BaseModel):
    """An organisation."""

    model_config = _STRICT

    code: str = Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")
    name_zh: Line = Field(min_length=1, max_length=120)
    name_en: Line = Field(min_length=1, max_length=120)
    kind: Literal["owner", "provider", "customer"]


class NewContract(BaseModel):
    """A service contract: [starts_ms, ends_ms)."""

    model_config = _STRICT

    number: Line = Field(min_length=1, max_length=60)
    project_ids: list[Whole] = Field(min_length=1, max_length=5000)
    starts_ms: Moment
    ends_ms: Moment


class Decision(BaseModel):
    """What the second person says."""

    model_config = _STRICT

    approve: bool
    reason: Line = Field("", max_length=200)


class Emergency(BaseModel):
    """An emergency grant for oneself."""

    model_config = _STRICT

    role: Literal["operator", "engineer", "dispatcher"]
    seconds: int = Field(3600, ge=60, le=4 * 3600)
    reason: Line = Field(min_length=5, max_length=200)


class Review(BaseModel):
    """What the audit administrator found."""

    model_config = _STRICT

    text: Line = Field(min_length=2, max_length=200)


@api.get("/people")
async def people(who: Annotated[Principal, operation("system.person.read")], given: Given, wanted: Annotated[_Filter, Query()]) -> dict[str, Any]:  # noqa: ARG001
    """Accounts, a page of them."""
    total, rows = await asyncio.to_thread(given.people.accounts.rows, **wanted.model_dump())
    return {"total": total, "offset": wanted.offset, "rows": rows}


@api.get("/people.csv", response_class=CsvResponse)
async def people_csv(who: Annotated[Principal, operation("system.person.export")], given: Given, wanted: Annotated[_Filter, Query()]) -> Response:  # noqa: ARG001
    """The same accounts as a table, all pages."""
    _, rows = await asyncio.to_thread(given.people.accounts.rows, **{**wanted.model_dump(), "offset": 0, "limit": 100_000})
    head = ("name", "display_name", "roles", "state", "organisation", "second_factor", "created", "expires", "last_sign_in")
    return csv_response("people.csv", head, [(
        r["name"], r["display_name"], " ".join(r["roles"]), r["state"], r["organisation"]["name_zh"] if r["organisation"] else "", r["strong"], local_time(r["created_ms"], given.timezone),
        local_time(r["expires_ms"], given.timezone), local_time(r["last_sign_in_ms"], given.timezone)) for r in rows])


@api.get("/people/{person_id}")
async def one(person_id: Id, who: Annotated[Principal, operation("system.person.read")], given: Given) -> dict[str, Any]:  # noqa: ARG001
    """One account with roles, scope and what it proves identity with."""
    return await asyncio.to_thread(given.people.accounts.one, person_id)


@api.post("/people", status_code=201)
async def create(body: NewPerson, request: Request, who: Annotated[Principal, operation("system.person.create")], given: Given) -> dict[str, Any]:  # noqa: ARG001
    """A new account without a role; gives the one-time code to hand over."""
    request.state.target = f"people {body.name}"
    made, code = await asyncio.to_thread(given.people.accounts.create, body.name, body.display_name, organisation_id=body.organisation_id, expires_ms=body.expires_ms)
    return {"id": made, "code": code}


@api.put("/people/{person_id}")
async def change(person_id: Id, body: PersonChange, request: Request, who: Annotated[Principal, operation("system.person.change")], given: Given) -> dict[str, Any]:
    """Change what an account is called and when it ends."""
    await _target(request, given, person_id, "")
    await asyncio.to_thread(given.people.accounts.change, person_id, who, display_name=body.display_name, expires_ms=body.expires_ms)
    return await asyncio.to_thread(given.people.accounts.one, person_id)


@api.post("/people/{person_id}/lock")
async def lock(person_id: Id, body: Lock, request: Request, who: Annotated[Principal, operation("system.person.lock")], given: Given) -> dict[str, Any]:
    """Lock an account (its sessions end) or unlock it."""
    await _target(request, given, person_id, f"{'lock' if body.locked else 'unlock'}: {body.reason}")
    await asyncio.to_thread(given.people.accounts.lock, person_id, who, locked=body.locked)
    return await asyncio.to_thread(given.people.accounts.one, person_id)


@api.post("/people/{person_id}/reset")
async def reset(person_id: Id, request: Request, who: Annotated[Principal, operation("system.person.reset")], given: Given) -> dict[str, Any]:
    """Forget password, authenticator and passkeys; gives a one-time code. Needs the security administrator's approval."""
    await _target(request, given, person_id, "")
    return {"id": person_id, "code": await asyncio.to_thread(given.people.accounts.reset, person_id, who)}


@api.put("/people/{person_id}/access")
async def grant(person_id: Id, body: Grant, request: Request, who: Annotated[Principal, operation("system.role.grant")], given: Given) -> dict[str, Any]:
    """Give exactly these roles and this scope."""
    await _target(request, given, person_id, "= " + (" ".join(body.roles) or "-"))
    for project_id in body.project_ids or ():
        given.project(who, project_id)
    for device_id in body.device_ids or ():
        if given.device(who, device_id).project_id not in (body.project_ids or ()):
            raise NotFoundError(what="device", name=device_id)
    access = Access(frozenset(Role(r) for r in body.roles), body.organisation_id, None if body.project_ids is None else tuple(body.project_ids),
                    None if body.region_codes is None else tuple(body.region_codes), None if body.device_ids is None else tuple(body.device_ids))
    await asyncio.to_thread(given.people.accounts.grant, person_id, who, access)
    return await asyncio.to_thread(given.people.accounts.one, person_id)


@api.get("/sessions")
async def sessions(who: Annotated[Principal, operation("system.session.list")], given: Given, user_id: Whole | None = None) -> list[dict[str, Any]]:
    """Everybody's live sessions."""
    rows = await asyncio.to_thread(given.sessions.rows, user_id=user_id)
    return [{**r, "this": r["id"] == who.session[:32]} for r in rows]


@api.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")], who: Annotated[Principal, operation("system.session.end")], given: Given) -> None:  # noqa: ARG001
    """End somebody's session."""
    if not await asyncio.to_thread(given.sessions.end_named, session_id):
        raise NotFoundError(what="session", name=session_id[:12])


@api.get("/organisations")
async def organisations(who: Annotated[Principal, operation("system.organisation.read")], given: Given) -> list[dict[str, Any]]:  # noqa: ARG001
    """Organisations with their contracts."""
    return await asyncio.to_thread(given.people.organisations.rows)


@api.post("/organisations", status_code=201)
async def register(body: NewOrganisation, request: Request, who: Annotated[Principal, operation("system.organisation.change")], given: Given) -> dict[str, int]:  # noqa: ARG001
    """Register or rename an organisation."""
    request.state.target = f"organisations {body.code}"
    return {"id": await asyncio.to_thread(given.people.organisations.register, body.code, body.name_zh, body.name_en, body.kind)}


@api.post("/organisations/{organisation_id}/contracts", status_code=201)
async def contract(organisation_id: Id, body: NewContract, request: Request, who: Annotated[Principal, operation("system.contract.change")], given: Given) -> dict[str, int]:
    """Register a contract, or change the one with that number."""
    request.state.target = f"contracts {body.number}"
    for project_id in body.project_ids:
        given.project(who, project_id)
    return {"id": await asyncio.to_thread(given.people.organisations.contract, organisation_id, body.number, body.project_ids, body.starts_ms, body.ends_ms)}


@api.get("/approvals")
async def approvals(request: Request, who: Annotated[Principal, operation("system.approval.read")], given: Given) -> list[dict[str, Any]]:
    """What one asked for, and what one may decide, newest first."""
    gate: Gate = request.app.state.gate
    return await asyncio.to_thread(given.people.approvals.rows, who, gate.table)


@api.get("/approvals/waiting")
async def waiting(request: Request, who: Annotated[Principal, operation("system.approval.read")], given: Given) -> dict[str, int]:
    """How many wait for one's decision."""
    gate: Gate = request.app.state.gate
    return {"waiting": await asyncio.to_thread(given.people.approvals.waiting, who, gate.table)}


@api.post("/approvals/{approval_id}")
async def decide(approval_id: Annotated[str, Path(max_length=40)], body: Decision, request: Request, who: Annotated[Principal, operation("system.approval.decide")],
                 given: Given) -> dict[str, Any]:
    """Approve or refuse as the second person."""
    gate: Gate = request.app.state.gate
    request.state.target = f"approvals {approval_id} {'approve' if body.approve else 'refuse'}"
    return await asyncio.to_thread(given.people.approvals.decide, approval_id, who, gate.table, approve=body.approve, reason=body.reason)


@api.get("/emergencies")
async def emergencies(who: Annotated[Principal, operation("system.emergency.read")], given: Given) -> list[dict[str, Any]]:
    """Emergency grants: the staff see their own, the administrators all."""
    return await asyncio.to_thread(given.people.emergency.rows, user_id=None if who.roles & ADMINS else who.user_id)


@api.post("/emergencies", status_code=201)
async def take(body: Emergency, request: Request, who: Annotated[Principal, operation("system.emergency.take")], given: Given) -> dict[str, int]:
    """Take another staff role for at most four hours."""
    request.state.target = f"emergency {body.role} {body.seconds} s: {body.reason}"
    return {"id": await asyncio.to_thread(given.people.emergency.take, who, Role(body.role), seconds=body.seconds, reason=body.reason)}


@api.delete("/emergencies/{grant_id}", status_code=204)
async def end(grant_id: Id, who: Annotated[Principal, operation("system.emergency.end")], given: Given) -> None:
    """End a grant now: one's own, or anybody's for the security administrator."""
    if not await asyncio.to_thread(given.people.emergency.end, grant_id, user_id=None if Role.SECURITY_ADMIN in who.roles else who.user_id):
        raise NotFoundError(what="grant", name=grant_id)


@api.post("/emergencies/{grant_id}/review", status_code=204)
async def review(grant_id: Id, body: Review, who: Annotated[Principal, operation("system.emergency.review")], given: Given) -> None:
    """Say what came of a grant that has ended."""
    await asyncio.to_thread(given.people.emergency.review, grant_id, who, body.text)


async def _target(request: Request, given: Services, person_id: int, what: str) -> None:
    """Name the person in the log row."""
    request.state.target = f"people {await asyncio.to_thread(given.people.accounts.name_of, person_id)} {what}".strip()
