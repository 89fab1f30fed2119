"""One way to connect to NATS: mutual TLS against the installation's CA, nkey seed and JWT, quick reconnects for ever.

Must not know: subjects, streams.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import nats
from nats.aio.client import Client

log = logging.getLogger("kang.bus")


def tls_context(ca: Path, chain: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A client context that trusts only the given CA, with a certificate of its own when there is one."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if chain is not None and chain.exists():
        context.load_cert_chain(chain, key)
    return context


def _user_jwt(credentials: Path) -> Callable[[], bytearray] | None:
    """Reads `nats-platform.jwt` at every connection, so that a new one needs no restart; None for a server that knows us by nkey alone."""
    file = credentials / "nats-platform.jwt"
    return (lambda: bytearray(file.read_bytes().strip())) if file.exists() else None


async def connect(url: str, credentials: Path, name: str, *, wait_s: float = 30.0) -> Client:
    """Connect as the platform; waits for a server that is still starting, then reconnects for ever.

    Raises:
        TimeoutError: no server answered within `wait_s`.
    """
    loop = asyncio.get_running_loop()
    given = credentials / "nats-ca.pem"  # a given server has a CA of its own; ours is signed by the edge zone's
    ca = given if given.exists() else credentials / "edge-ca.pem"
    mine = "nats-client" if (credentials / "nats-client.pem").exists() else "platform-nats"
    deadline = loop.time() + wait_s

    async def on_error(error: Exception) -> None:
        log.warning("nats: %s", error or type(error).__name__)

    while True:
        try:
            return await nats.connect(
                url, name=name, tls=tls_context(ca, credentials / f"{mine}.pem", credentials / f"{mine}.key") if url.startswith("tls") else None, user_jwt_cb=_user_jwt(credentials),
                nkeys_seed=str(credentials / "nats-platform.seed"), max_reconnect_attempts=-1, reconnect_time_wait=0.2, connect_timeout=5,
                ping_interval=10, max_outstanding_pings=3, error_cb=on_error, allow_reconnect=True, pending_size=64 << 20)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            if loop.time() > deadline:
                raise TimeoutError(f"NATS at {url} does not answer: {error}") from error
            await asyncio.sleep(0.2)
