"""REST of signing in and out and of the operation log (系统管理). Must not know: engines."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.params import Whole
from cloud.functions.services import Services, services
from cloud.functions.system.errors import SignInRefusedError
from cloud.functions.system.factors import Proof
from cloud.security.guard import Gate, address_of, operation, router
from cloud.security.operations import Principal, described
from cloud.security.passkeys import PasskeyError, Site

api = router()
Given = Annotated[Services, Depends(services)]


class Opening(BaseModel):
    """A one-time sign-in code, or a name with password and second factor."""

    model_config = ConfigDict(strict=True)

    code: str = Field("", max_length=200)
    name: str = Field("", max_length=60)
    password: str = Field("", max_length=200)
    second: str = Field("", max_length=40)


class Assertion(BaseModel):
    """A passkey's answer to a challenge."""

    model_config = ConfigDict(strict=True)

    token: str = Field(min_length=1, max_length=1000)
    credential: dict[str, Any]


class Again(BaseModel):
    """A proof of identity within a session; one of them."""

    model_config = ConfigDict(strict=True)

    code: str = Field("", max_length=40)
    one_time: str = Field("", max_length=200)
    token: str = Field("", max_length=1000)
    credential: dict[str, Any] | None = None


@api.get("/session")
async def read_session(request: Request, who: Annotated[Principal, operation("system.session.read")], given: Given) -> dict[str, Any]:
    """Who is signed in, what they may do, and the token their changes must carry."""
    return await _view(request, who, given)


@api.post("/session")
async def open_session(body: Opening, request: Request, response: Response, given: Given,
                       _open: Annotated[None, operation("system.session.open")]) -> dict[str, Any]:
    """Turn a one-time code, or a password with a second factor, into a session cookie."""
    address, agent = address_of(request), request.headers.get("user-agent", "")
    if body.name:
        return await _opened(request, response, given, *await given.people.factors.sign_in(body.name, body.password, body.second, address=address, agent=agent))
    given.attempts.check(address)
    try:
        opened = await asyncio.to_thread(given.sessions.redeem, body.code, address=address, agent=agent)
    except SignInRefusedError:
        given.attempts.failed(address)
        raise
    return await _opened(request, response, given, *opened)


@api.get("/session/passkey")
async def challenge(request: Request, given: Given, _open: Annotated[None, operation("system.session.challenge")]) -> dict[str, Any]:
    """A challenge for signing in with a passkey."""
    return given.people.factors.passkey_request(site_of(request))


@api.post("/session/passkey")
async def open_with_passkey(body: Assertion, request: Request, response: Response, given: Given,
                            _open: Annotated[None, operation("system.session.open")]) -> dict[str, Any]:
    """Turn a passkey's answer into a session cookie."""
    address = address_of(request)
    given.attempts.check(address)
    try:
        opened = await asyncio.to_thread(given.people.factors.sign_in_passkey, site_of(request), body.token, body.credential, address=address,
                                         agent=request.headers.get("user-agent", ""))
    except PasskeyError:
        given.attempts.failed(address)
        raise
    return await _opened(request, response, given, *opened)


@api.get("/session/reauthenticate")
async def challenge_again(request: Request, who: Annotated[Principal, operation("system.me.read")], given: Given) -> dict[str, Any]:
    """A challenge for proving one's identity again with a passkey."""
    return await asyncio.to_thread(given.people.factors.passkey_request, site_of(request), who)


@api.post("/session/reauthenticate")
async def reauthenticate(body: Again, request: Request, who: Annotated[Principal, operation("system.session.reauthenticate")], given: Given) -> dict[str, Any]:
    """Prove one's identity again: what needs a fresh proof may be done for the next minutes."""
    proof = Proof(body.code, body.one_time, body.token, body.credential)
    await asyncio.to_thread(given.people.factors.prove, who, proof, site_of(request), address=address_of(request))
    return {"factor_ms": given.now()}


@api.delete("/session", status_code=204)
async def close_session(request: Request, response: Response, who: Annotated[Principal, operation("system.session.close")], given: Given) -> None:
    """Sign out."""
    await asyncio.to_thread(given.sessions.end, who)
    _forget_cookies(request, response)


@api.get("/operations")
async def operations(request: Request, who: Annotated[Principal, operation("system.operation.read")]) -> list[dict[str, Any]]:  # noqa: ARG001
    """The operation table: every operation of the product, who may, on whose data, with what proof."""
    gate: Gate = request.app.state.gate
    return [described(row) for row in sorted(gate.table, key=lambda r: r.name)]


@api.get("/log")
async def log(who: Annotated[Principal, operation("system.log.read")], given: Given, request: Request,  # noqa: ARG001 - the guard needs who
              before: Whole | None = None, operator: Annotated[str, Query(max_length=60)] = "", name: Annotated[str, Query(max_length=80)] = "",
              limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """The operation log (操作日志), newest first, with each operation's words."""
    rows = await asyncio.to_thread(given.journal.rows, before=before, operator=operator, operation=name, limit=limit)
    gate: Gate = request.app.state.gate
    words = {row.name: row for row in gate.table}
    return [{**row, "zh": words[row["operation"]].zh if row["operation"] in words else row["operation"],
             "en": words[row["operation"]].en if row["operation"] in words else row["operation"]} for row in rows]


async def _opened(request: Request, response: Response, given: Services, token: str, who: Principal) -> dict[str, Any]:
    await open_browser(request, response, given, token, who)
    return await _view(request, who, given)


async def open_browser(request: Request, response: Response, given: Services, token: str, who: Principal) -> None:
    """Set the new session's cookie; a session the browser came with ends, in either realm."""
    gate: Gate = request.app.state.gate
    for old in (request.cookies.get(gate.cookie), request.cookies.get(gate.resident_cookie)):
        if old:
            await asyncio.to_thread(given.sessions.end_token, old)
    request.state.operator = who.name
    _forget_cookies(request, response, but=gate.resident_cookie if who.resident else gate.cookie)
    response.set_cookie(gate.resident_cookie if who.resident else gate.cookie, token, max_age=given.sessions.absolute_s, path="/", secure=gate.secure, httponly=True, samesite="strict")


def _forget_cookies(request: Request, response: Response, *, but: str = "") -> None:
    gate: Gate = request.app.state.gate
    for cookie in (gate.cookie, gate.resident_cookie):
        if cookie in request.cookies and cookie != but:
            response.delete_cookie(cookie, path="/", secure=gate.secure, httponly=True, samesite="strict")


def site_of(request: Request) -> Site:
    """Where the browser believes it is."""
    gate: Gate = request.app.state.gate
    scheme = "https" if gate.secure else request.url.scheme
    return Site(request.url.hostname or "", f"{scheme}://{request.headers.get('host', '')}")


async def _view(request: Request, who: Principal, given: Services) -> dict[str, Any]:
    gate: Gate = request.app.state.gate
    state = await asyncio.to_thread(given.people.factors.state, who.user_id)
    mine = [row.name for row in gate.table if row.open or (row.grants(who.roles) and not (row.scope == "platform" and who.bounded) and not (who.restricted and row.scope != "self"))]
    return {"name": who.name, "display_name": who.display_name, "roles": sorted(who.roles), "operations": sorted(mine), "csrf": who.csrf, "version": given.version,
            "demo": given.demo, "now_ms": given.now(), "timezone": given.timezone, "restricted": who.restricted, "factor_ms": who.factor_ms,
            "factors": {"password": state["password_ms"] is not None, "totp": state["totp"], "passkeys": len(state["passkeys"])}}
