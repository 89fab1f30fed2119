"""Around every request: an id, security headers, a limit on bodies, a count. Pure ASGI, so that streams pass untouched.

Must not know: functions, sessions.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.portal.answers import Answer
from cloud.portal.metrics import Metrics
from cloud.portal.problems import TooLargeError, problem

MAX_BODY = 1 << 20
_CSP = ("default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; worker-src 'self'; manifest-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'")
_HEADERS = {
    "Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()"}


class Envelope:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, secure: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._headers = dict(_HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, receive, send, self._headers)
        scope.setdefault("state", {})["request_id"] = call.id
        try:
            if _length(scope) > MAX_BODY:
                await call.refuse()
                return
            try:
                await self._app(scope, call.incoming, call.outgoing)
            except TooLargeError:
                if call.begun:
                    raise
            if call.over and not call.begun:
                await call.refuse()
        finally:
            self._metrics.request(scope["method"], _route(scope), call.status, time.perf_counter() - call.started)


class _Call:
    """One request on its way in and out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        self.id = uuid.uuid4().hex
        self.started = time.perf_counter()
        self.status = 500
        self.begun = False
        self.over = False
        self._size = 0
        self._scope, self._receive, self._send, self._headers = scope, receive, send, headers

    async def incoming(self) -> Message:
        """The next piece of the body; more than the limit is an error."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY:
            self.over = True
            raise TooLargeError(limit=MAX_BODY)
        return message

    async def outgoing(self, message: Message) -> None:
        """The answer, with id and headers; what the app says of a body that was too large is not sent, `refuse` says why instead."""
        if self.over and not self.begun:
            return
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            headers = MutableHeaders(raw=message["headers"])
            for name, value in self._headers.items():
                headers.setdefault(name, value)
            headers["X-Request-ID"] = self.id
            if self._scope["path"].startswith("/api/"):
                headers.setdefault("Cache-Control", "no-store")
            message = {**message, "headers": headers.raw}
        await self._send(message)

    async def refuse(self) -> None:
        """Answer that the body is too large."""
        self.over = False
        answer = Answer(problem(TooLargeError(limit=MAX_BODY), 413, self.id), status_code=413, media_type="application/problem+json")
        await answer(self._scope, self._receive, self.outgoing)


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _route(scope: Scope) -> str:
    route = scope.get("route")
    path = getattr(route, "path", None)
    return str(path) if path and scope["path"].startswith("/api/") else "other"
