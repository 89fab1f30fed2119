"""One way to connect to NATS: TLS against the installation's CA, nkey seed, quick reconnects for ever.

Must not know: subjects, streams.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import nats
from nats.aio.client import Client

log = logging.getLogger("kang.bus")


def tls_context(ca: Path) -> ssl.SSLContext:
    """A client context that trusts only the given CA."""
    return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))


async def connect(url: str, credentials: Path, name: str, *, wait_s: float = 30.0) -> Client:
    """Connect as the platform; waits for a server that is still starting, then reconnects for ever.

    Raises:
        TimeoutError: no server answered within `wait_s`.
    """
    loop = asyncio.get_running_loop()
    given = credentials / "nats-ca.pem"  # a given server has a CA of its own; ours is signed by the edge zone's
    ca = given if given.exists() else credentials / "edge-ca.pem"
    deadline = loop.time() + wait_s

    async def on_error(error: Exception) -> None:
        log.warning("nats: %s", error or type(error).__name__)

    while True:
        try:
            return await nats.connect(
                url, name=name, tls=tls_context(ca) if url.startswith("tls") else None,
                nkeys_seed=str(credentials / "nats-platform.seed"), max_reconnect_attempts=-1, reconnect_time_wait=0.2, connect_timeout=5,
                ping_interval=10, max_outstanding_pings=3, error_cb=on_error, allow_reconnect=True, pending_size=64 << 20)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            if loop.time() > deadline:
                raise TimeoutError(f"NATS at {url} does not answer: {error}") from error
            await asyncio.sleep(0.2)
