"""REST of signing in through an identity provider: is there one, go there, come back. Must not know: tokens."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from cloud.functions.services import Services, services
from cloud.functions.system.api import open_browser, site_of
from cloud.functions.system.oidc import PATIENCE_S, Provider, ProviderRefusedError
from cloud.security.guard import Gate, NotFoundError, address_of, operation, router
from cloud.security.operations import Operation

api = router("/session/provider")
Given = Annotated[Services, Depends(services)]
Word = Annotated[str, Query(max_length=2000)]
BACK = "/api/v1/session/provider/back"

OPERATIONS = (
    Operation("system.provider.read", "查看统一身份认证入口", "See whether there is an identity provider", frozenset(), label="public", open=True, scope="self"),
    Operation("system.provider.leave", "前往身份提供方", "Go to the identity provider", frozenset(), label="public", open=True, scope="self"),
    Operation("system.provider.open", "经身份提供方登录", "Sign in through the identity provider", frozenset(), label="public", open=True, scope="self", audit="always"),
)


def _provider(given: Services) -> Provider:
    if given.provider is None:
        raise NotFoundError(what="identity provider", name="-")
    return given.provider


def _cookie(request: Request) -> str:
    gate: Gate = request.app.state.gate
    return f"{'__Host-' if gate.secure else ''}kang_leaving"


@api.get("")
async def known(given: Given, _open: Annotated[None, operation("system.provider.read")]) -> dict[str, Any]:
    """The name of the provider for the button, or that there is none."""
    if given.provider is None:
        return {"available": False, "name_zh": "", "name_en": ""}
    return {"available": True, "name_zh": given.provider.settings.name_zh, "name_en": given.provider.settings.name_en}


@api.get("/leave", response_class=RedirectResponse, status_code=303)
async def leave(request: Request, given: Given, _open: Annotated[None, operation("system.provider.leave")]) -> Response:
    """Go to the provider; the browser gets a secret with which it alone may come back."""
    given.attempts.check(f"provider {address_of(request)}")
    url, browser = await asyncio.to_thread(_provider(given).begin, site_of(request).origin + BACK)
    gate: Gate = request.app.state.gate
    answer = RedirectResponse(url, status_code=303)
    # lax: it must come along when the provider sends the browser back
    answer.set_cookie(_cookie(request), browser, max_age=PATIENCE_S, path="/", secure=gate.secure, httponly=True, samesite="lax")
    return answer


@api.get("/back", response_class=RedirectResponse, status_code=303)
async def back(request: Request, given: Given, _open: Annotated[None, operation("system.provider.open")], state: Word = "", code: Word = "") -> Response:
    """Come back from the provider with a code: it becomes a session cookie."""
    address = address_of(request)
    given.attempts.check(f"provider {address}")
    try:
        opened = await asyncio.to_thread(lambda: _provider(given).finish(state, code, request.cookies.get(_cookie(request), ""), address=address, agent=request.headers.get("user-agent", "")))
    except ProviderRefusedError:
        given.attempts.failed(f"provider {address}")
        raise
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(_cookie(request), path="/")
    await open_browser(request, answer, given, *opened)
    return answer
