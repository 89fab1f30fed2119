"""Serve a community in the test's own loop on free ports, and talk to its control socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.plants.communities import build
from benchmarks.plants.plant import Plant
from benchmarks.plants.run import PORTS_EACH, SEEDS, Running

START_S = 1_795_500_000.0


class Clock:
    """A clock that the test moves."""

    def __init__(self, now: float = START_S) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def warm(key: str, days: float = 0.1, clock: Clock | None = None, **more: Any) -> Plant:
    """A community after a short warm-up, in simulated time that only the test moves."""
    plant = Plant(build(key, SEEDS[key]), clock=clock or Clock(), **more)
    plant.warm_up(days)
    return plant


def advance(plant: Plant, seconds: float, dt: float = 5.0) -> None:
    """Run physics for `seconds` and publish."""
    for _ in range(round(seconds / dt)):
        plant.community.advance(plant.community.now_s + dt, dt)
    plant.community.publish()


def free_base() -> int:
    """A port from which the next ten are free."""
    for base in range(21_000, 32_000, PORTS_EACH):
        sockets = []
        try:
            for k in range(PORTS_EACH):
                s = socket.socket()
                sockets.append(s)
                s.bind(("127.0.0.1", base + k))
        except OSError:
            continue
        else:
            return base
        finally:
            for s in sockets:
                s.close()
    raise RuntimeError("no free ports")


@asynccontextmanager
async def served(plant: Plant) -> AsyncIterator[Running]:
    """Real sockets around a plant."""
    async with Running(plant, free_base()) as running:
        yield running


async def http(running: Running, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """One request to the control socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port_base + 9)
    data = b"" if body is None else json.dumps(body).encode()
    writer.write(f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest)
