"""REST of one's own security (我的安全): password, authenticator app, passkeys, own sessions. Must not know: engines."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.params import Line
from cloud.functions.services import Services, services
from cloud.functions.system.api import site_of
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal

api = router("/me")
Given = Annotated[Services, Depends(services)]


class NewPassword(BaseModel):
    """The new password, and the present one when there is one."""

    model_config = ConfigDict(strict=True)

    new: str = Field(min_length=1, max_length=200)
    present: str = Field("", max_length=200)


class AppCode(BaseModel):
    """Six digits of the authenticator app."""

    model_config = ConfigDict(strict=True)

    code: str = Field(pattern=r"^[0-9]{6}$")


class NewPasskey(BaseModel):
    """What the browser made."""

    model_config = ConfigDict(strict=True)

    token: str = Field(min_length=1, max_length=1000)
    credential: dict[str, Any]
    name: Line = Field(min_length=1, max_length=60)


@api.get("/security")
async def security(who: Annotated[Principal, operation("system.me.read")], given: Given) -> dict[str, Any]:
    """What one has to prove identity with, and one's live sessions."""
    state = await asyncio.to_thread(given.people.factors.state, who.user_id)
    sessions = await asyncio.to_thread(given.sessions.rows, user_id=who.user_id)
    return {**state, "sessions": [{**s, "this": s["id"] == who.session[:32]} for s in sessions], "restricted": who.restricted}


@api.put("/password", status_code=204)
async def password(body: NewPassword, who: Annotated[Principal, operation("system.me.password")], given: Given) -> None:
    """Set one's password; one's other sessions end."""
    await given.people.factors.set_password(who, body.new, body.present)


@api.post("/authenticator")
async def authenticator(who: Annotated[Principal, operation("system.me.authenticator")], given: Given) -> dict[str, str]:
    """A new secret for an authenticator app; in force once a code of it is confirmed."""
    return await asyncio.to_thread(given.people.factors.begin_totp, who)


@api.post("/authenticator/confirm")
async def confirm(body: AppCode, who: Annotated[Principal, operation("system.me.authenticator")], given: Given) -> dict[str, list[str]]:
    """Put the authenticator in force; gives recovery codes, shown once."""
    return {"recovery_codes": await asyncio.to_thread(given.people.factors.confirm_totp, who, body.code)}


@api.delete("/authenticator", status_code=204)
async def remove_authenticator(who: Annotated[Principal, operation("system.me.authenticator")], given: Given) -> None:
    """Take the authenticator out of force."""
    await asyncio.to_thread(given.people.factors.remove_totp, who)


@api.post("/passkeys/challenge")
async def begin_passkey(request: Request, who: Annotated[Principal, operation("system.me.passkey")], given: Given) -> dict[str, Any]:
    """Options for a new passkey."""
    return await asyncio.to_thread(given.people.factors.begin_passkey, who, site_of(request))


@api.post("/passkeys", status_code=204)
async def add_passkey(body: NewPasskey, request: Request, who: Annotated[Principal, operation("system.me.passkey")], given: Given) -> None:
    """Register a passkey."""
    await asyncio.to_thread(given.people.factors.add_passkey, who, site_of(request), body.token, body.credential, body.name)


@api.delete("/passkeys/{passkey_id}", status_code=204)
async def remove_passkey(passkey_id: Annotated[str, Path(max_length=400)], who: Annotated[Principal, operation("system.me.passkey")], given: Given) -> None:
    """Forget a passkey."""
    if not await asyncio.to_thread(given.people.factors.remove_passkey, who, passkey_id):
        raise NotFoundError(what="passkey", name=passkey_id[:12])


@api.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")], who: Annotated[Principal, operation("system.me.session")], given: Given) -> None:
    """End one of one's own sessions."""
    if not await asyncio.to_thread(given.sessions.end_named, session_id, user_id=who.user_id):
        raise NotFoundError(what="session", name=session_id[:12])
