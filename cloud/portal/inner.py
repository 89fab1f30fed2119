"""Asks the portal's own app without a socket: how other protocols reach the same operations, scopes, rates and classes as REST.

Must not know: gRPC, operations.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message


@dataclass
class Answered:
    """An answer under way: status, headers, and pieces of its body as they come."""

    status: int
    headers: dict[str, str]
    pieces: AsyncIterator[bytes]

    async def document(self) -> Any:
        """The whole body as JSON; None when there is none."""
        body = b"".join([piece async for piece in self.pieces])
        return json.loads(body) if body else None


@dataclass(frozen=True)
class Inner:
    """One caller of the app.

    Attributes:
        app: the portal.
        headers: what every call carries (authorization, idempotency-key).
        address: where the caller is, for rates, audit and network records.
    """

    app: ASGIApp
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = ""

    @contextlib.asynccontextmanager
    async def ask(self, method: str, path: str, query: Sequence[tuple[str, Any]] = (), body: Any = None) -> AsyncIterator[Answered]:
        """One call under /api/v1/; whoever leaves the block early hangs up."""
        sent = b"" if body is None else json.dumps(body).encode()
        given = {"host": "inner", "accept": "*/*", **({"content-type": "application/json", "content-length": str(len(sent))} if body is not None else {}), **self.headers}
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method, "scheme": "https", "path": f"/api/v1/{path}",
                 "raw_path": f"/api/v1/{path}".encode(), "query_string": urlencode(query).encode(), "root_path": "", "client": (self.address, 0), "server": ("inner", 0), "state": {},
                 "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]}
        out: asyncio.Queue[Message | None] = asyncio.Queue(64)
        gone, first = asyncio.Event(), [True]

        async def receive() -> Message:
            if first[0]:
                first[0] = False
                return {"type": "http.request", "body": sent, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await self.app(scope, receive, out.put)
            finally:
                if not gone.is_set():
                    await out.put(None)

        work = asyncio.create_task(run(), name=f"inner {method} {path}")
        try:
            begun = await out.get()
            if begun is None:
                await work  # raises what went wrong
                raise RuntimeError("the app gave no answer")
            yield Answered(begun["status"], {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in begun.get("headers", ())}, _pieces(out))
        finally:
            gone.set()
            if not work.done():
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work


async def _pieces(out: asyncio.Queue[Message | None]) -> AsyncIterator[bytes]:
    while True:
        message = await out.get()
        if message is None:
            return
        if message["type"] == "http.response.body":
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str]]:
    """(event, data) of a stream of server-sent events."""
    rest = b""
    async for piece in pieces:
        rest += piece.replace(b"\r\n", b"\n")
        while b"\n\n" in rest:
            block, _, rest = rest.partition(b"\n\n")
            fields = [line.partition(":") for line in block.decode().split("\n") if line and not line.startswith(":")]
            named = next((value.strip() for name, _, value in fields if name == "event"), "message")
            data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
            if data:
                yield named, data
