"""REST of signing in and out and of the operation log (系统管理). Must not know: engines."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field

from cloud.functions.params import Whole
from cloud.functions.services import Services, services
from cloud.functions.system.errors import SignInRefusedError
from cloud.security.guard import Gate, address_of, operation, router
from cloud.security.operations import Principal

api = router()
Given = Annotated[Services, Depends(services)]


class Code(BaseModel):
    """A one-time sign-in code."""

    code: str = Field(min_length=1, max_length=200)


@api.get("/session")
async def read_session(request: Request, who: Annotated[Principal, operation("system.session.read")], given: Given) -> dict[str, Any]:
    """Who is signed in, what they may do, and the token their changes must carry."""
    return _view(request, who, given)


@api.post("/session")
async def open_session(body: Code, request: Request, response: Response, given: Given,
                       _open: Annotated[None, operation("system.session.open")]) -> dict[str, Any]:
    """Turn a one-time code into a session cookie."""
    address = address_of(request)
    given.attempts.check(address)
    try:
        token, who = await asyncio.to_thread(given.sessions.redeem, body.code, address=address, agent=request.headers.get("user-agent", ""))
    except SignInRefusedError:
        given.attempts.failed(address)
        raise
    request.state.operator = who.name
    gate: Gate = request.app.state.gate
    response.set_cookie(gate.resident_cookie if who.resident else gate.cookie, token, max_age=given.sessions.absolute_s, path="/", secure=gate.secure, httponly=True, samesite="strict")
    return _view(request, who, given)


@api.delete("/session", status_code=204)
async def close_session(request: Request, response: Response, who: Annotated[Principal, operation("system.session.close")], given: Given) -> None:
    """Sign out."""
    await asyncio.to_thread(given.sessions.end, who)
    gate: Gate = request.app.state.gate
    response.delete_cookie(gate.cookie, path="/", secure=gate.secure, httponly=True, samesite="strict")


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


def _view(request: Request, who: Principal, given: Services) -> dict[str, Any]:
    gate: Gate = request.app.state.gate
    return {"name": who.name, "display_name": who.display_name, "roles": sorted(who.roles), "operations": sorted(gate.table.allowed(who.roles)),
            "csrf": who.csrf, "version": given.version, "demo": given.demo, "now_ms": given.now(), "timezone": given.timezone}
