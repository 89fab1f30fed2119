"""Around every request: an id, security headers, a limit on bodies, a count. Pure ASGI, so that streams pass untouched.

Must not know: functions, sessions.
"""

from __future__ import annotations

import time
import uuid

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
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, size, begun, over = time.perf_counter(), 500, 0, False, False

        async def outgoing(message: Message) -> None:
            nonlocal status, begun
            if over and not begun:
                return  # whatever the app says of the broken body, the answer below says why
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = request_id
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
                message = {**message, "headers": headers.raw}
            await send(message)

        async def incoming() -> Message:
            nonlocal size, over
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                over = True
                raise TooLargeError(limit=MAX_BODY)
            return message

        try:
            if _length(scope) > MAX_BODY:
                raise TooLargeError(limit=MAX_BODY)
            await self._app(scope, incoming, outgoing)
            if over and not begun:
                raise TooLargeError(limit=MAX_BODY)
        except TooLargeError as error:
            if begun:
                raise
            over = False
            await Answer(problem(error, 413, request_id), status_code=413, media_type="application/problem+json")(scope, receive, outgoing)
        finally:
            self._metrics.request(scope["method"], _route(scope), status, time.perf_counter() - started)


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _route(scope: Scope) -> str:
    route = scope.get("route")
    path = getattr(route, "path", None)
    return str(path) if path and scope["path"].startswith("/api/") else "other"
