"""The listener of external systems: mutual TLS with certificates of the third parties' zone, the API only, nobody's cookies.

What a caller presents is told to the door as `CERTIFICATE`, to which its tokens are bound (RFC 8705). Must not know: operations, clients.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
import ssl
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cloud.core.settings import Settings
from cloud.functions.interfaces.clients import CERTIFICATE
from cloud.portal.answers import Answer
from cloud.portal.problems import NoRouteError, problem
from cloud.security.tls import server_context

log = logging.getLogger("kang.portal")
_HSTS: Final = ("strict-transport-security", "max-age=63072000")


class Presented:
    """The app for one connection: what its certificate is, as long as it has not ended."""

    def __init__(self, app: ASGIApp, certificate: bytes) -> None:
        self._app, self._digest = app, hashlib.sha256(certificate).hexdigest()
        self._ends = x509.load_der_x509_certificate(certificate).not_valid_after_utc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; a connection may outlive its certificate, its calls may not."""
        if scope["type"] != "http" or not (scope["path"].startswith("/api/") or scope["path"] == "/openapi.json"):
            answer = Answer(problem(NoRouteError(path=str(scope.get("path", ""))[:100]), 404, ""), status_code=404, media_type="application/problem+json")
            await answer(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"cookie", b"x-forwarded-for", b"forwarded")]
        told = CERTIFICATE.set(self._digest if dt.datetime.now(dt.UTC) < self._ends else "")
        try:
            await self._app({**scope, "headers": headers}, receive, send)
        finally:
            CERTIFICATE.reset(told)


class _Connection(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        self.app = Presented(self.app, tls.getpeercert(binary_form=True) or b"")


def context(credentials: Path) -> ssl.SSLContext:
    """TLS of the listener; a certificate of the third parties' zone is required."""
    return server_context(credentials / "interfaces.pem", credentials / "interfaces.key", credentials / "third-clients.pem", required=True)


async def listen(app: Any, settings: Settings) -> asyncio.Server | None:
    """Listen; None where it is switched off, or the installation has no certificate for it yet (made at the next `kang up`)."""
    if not settings.interfaces_port:
        return None
    if not (settings.credentials / "interfaces.pem").exists():
        log.warning("no certificate for the interfaces' listener yet: start the platform again with `kang up`")
        return None
    config = Config(app, log_config=None, access_log=False, lifespan="off", http=_Connection, ws="none", proxy_headers=False, headers=[_HSTS], server_header=False)
    config.load()
    state = ServerState()
    state.default_headers = config.encoded_headers
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(config, state, {}, loop), settings.interfaces_host, settings.interfaces_port, ssl=context(settings.credentials), ssl_handshake_timeout=10)
    log.info("interfaces listen on %s:%d", settings.interfaces_host, settings.interfaces_port)
    return server
