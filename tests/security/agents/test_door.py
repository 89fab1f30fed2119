"""The enrolment listener's door: so many TLS sessions and no more; who waits too long is hung up on, and the next one is served."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud.gateways.enrolment import Door
from cloud.security.certificates import closed_circle
from cloud.security.tls import server_context

pytestmark = pytest.mark.point("P2")


@asynccontextmanager
async def door(folder: Path, *, sessions: int, waiting: int = 10, patience_s: float = 0.3) -> AsyncIterator[tuple[int, ssl.SSLContext, dict[str, int], asyncio.Event]]:
    """(port, client context, counters, what lets the served ones go)."""
    closed_circle(folder, "x", ["localhost"])
    counters, go = {"turned_away": 0}, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await go.wait()
        writer.write(b"served")
        await writer.drain()
        writer.close()

    made = Door(serve, server_context(folder / "x.pem", folder / "x.key", folder / "x-ca.pem", required=False, newest_only=True), counters, sessions=sessions, waiting=waiting, patience_s=patience_s)
    server = await asyncio.get_running_loop().create_server(made.knock, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], ssl.create_default_context(cafile=str(folder / "x-ca.pem")), counters, go
    server.close()


async def call(port: int, context: ssl.SSLContext) -> bytes:
    """What a caller hears; "" when hung up on."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"x")
        heard = await reader.read(20)
        writer.close()
    except OSError:
        return b""
    return heard


async def test_callers_are_served_and_one_who_waits_too_long_is_hung_up_on(tmp_path: Path) -> None:
    async with door(tmp_path, sessions=2) as (port, context, counters, go):
        callers = [asyncio.create_task(call(port, context)) for _ in range(3)]
        done, _ = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
        assert [t.result() for t in done] == [b""]
        assert counters["turned_away"] == 1
        go.set()
        assert sorted([await t for t in callers]) == [b"", b"served", b"served"]
        assert await call(port, context) == b"served", "a slot that was used is free again"


async def test_one_who_waits_is_let_in_when_another_goes(tmp_path: Path) -> None:
    async with door(tmp_path, sessions=1, patience_s=10) as (port, context, counters, go):
        callers = [asyncio.create_task(call(port, context)) for _ in range(3)]
        await asyncio.sleep(0.2)
        go.set()
        assert [await t for t in callers] == [b"served"] * 3
        assert counters["turned_away"] == 0


async def test_beyond_the_number_that_may_wait_nobody_waits(tmp_path: Path) -> None:
    async with door(tmp_path, sessions=1, waiting=2, patience_s=10) as (port, context, counters, go):
        callers = [asyncio.create_task(call(port, context)) for _ in range(5)]
        await asyncio.sleep(0.3)
        assert counters["turned_away"] == 3
        go.set()
        assert sorted([await t for t in callers]) == [b"", b"", b"", b"served", b"served"]


async def test_a_caller_that_says_nothing_or_nonsense_costs_its_slot_only_for_a_while(tmp_path: Path) -> None:
    async with door(tmp_path, sessions=1, patience_s=10) as (port, context, _, go):
        go.set()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await writer.drain()
        assert await call(port, context) == b"served"
        await reader.read()
        writer.close()
