"""Wires that lose, double, delay, reorder and damage; JetStream's log and its compare-and-set records as they behave (cloud/bus/streams.py).

Must not know: what a message means, who reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cloud.bus.streams import FencedError, Message, StreamLostError
from tests.simulation.world import Process, World

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the wires are; probabilities per message, seconds."""

    drop: float = 0.0
    double: float = 0.0
    flip: float = 0.0
    delay_s: float = 0.05
    late: float = 0.0
    late_s: float = 20.0


class Net:
    """Everything that travels passes here. When the faults are over it only delays."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world, self._weather = world, weather
        self._random = world.chance("net")

    def delay(self) -> float:
        """How long the next message takes; a late one overtakes nobody and is overtaken by many."""
        r = self._random
        if self._world.faults and r.random() < self._weather.late:
            return r.uniform(1, self._weather.late_s)
        return r.uniform(0.005, self._weather.delay_s)

    def bad(self, probability: float) -> bool:
        """Does it happen?"""
        return self._world.faults and self._random.random() < probability

    def send(self, deliver: Callable[..., Any], *args: Any) -> None:
        """One way: none, once or twice."""
        if self.bad(self._weather.drop):
            self._world.count("dropped")
            return
        self._world.loop.call_later(self.delay(), deliver, *args)
        if self.bad(self._weather.double):
            self._world.count("doubled")
            self._world.loop.call_later(self.delay(), deliver, *args)

    async def call(self, process: Process, where: str, serve: Callable[..., T], *args: Any, timeout_s: float = 5.0) -> T:
        """Ask and wait for the answer. A time-out does not say whether it was done.

        Raises:
            TimeoutError: question or answer was lost, or nobody serves (`serve` returned None).
        """
        process.check(where)
        if self.bad(self._weather.drop):
            self._world.count("dropped")
            await process.point(where, timeout_s)
            raise TimeoutError
        await asyncio.sleep(self.delay())
        answer = serve(*args)
        if self.bad(self._weather.double):
            self._world.loop.call_later(self.delay(), serve, *args)
        if answer is None or self.bad(self._weather.drop):
            await process.point(where, timeout_s)
            raise TimeoutError
        await process.point(where, self.delay())
        return answer

    def damage(self, data: bytes) -> bytes:
        """Perhaps one flipped bit."""
        if not self.bad(self._weather.flip):
            return data
        self._world.count("flipped")
        at = self._random.randrange(len(data) * 8)
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        return bytes(changed)


@dataclass(slots=True)
class Stream:
    """A JetStream stream: numbered messages, identity in its metadata, message ids remembered for a while."""

    world: World
    name: str
    window_s: float
    identity: str = ""
    first: int = 1
    messages: list[Message] = field(default_factory=list)
    ids: dict[str, float] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    lives: int = 0

    def __post_init__(self) -> None:
        self.recreate()

    def recreate(self) -> None:
        """The stream was lost and made again: numbers begin anew under a new identity."""
        self.lives += 1
        self.identity = f"{self.name}-{self.lives:02d}".encode().hex()[-16:]
        self.first, self.messages = 1, []
        self.ids.clear()
        self.news.set()

    @property
    def last(self) -> int:
        return self.first + len(self.messages) - 1

    def publish(self, subject: str, data: bytes, message_id: str) -> bool:
        """Store once per message id within the window; True either way, as JetStream acknowledges both."""
        now = self.world.loop.now
        if now - self.ids.get(message_id, -1e9) < self.window_s:
            self.world.count("deduplicated by message id")
            return True
        self.ids[message_id] = now
        self.messages.append(Message(self.last + 1, subject, data, self.world.now_ms))
        self.news.set()
        return True

    def purge(self, up_to: int) -> None:
        gone = min(max(0, up_to - self.first + 1), len(self.messages))
        del self.messages[:gone]
        self.first += gone


class SimLog:
    """`cloud.bus.streams.PartitionLog` over a `Stream`."""

    def __init__(self, process: Process, stream: Stream) -> None:
        self._process, self._stream = process, stream
        self._random = process.world.chance(f"log:{process.name}:{stream.name}")
        self._next = 1
        self.identity = ""

    async def open(self) -> str:
        await self._process.point("log.open", self._random.uniform(0.001, 0.02))
        self.identity = self._stream.identity
        return self.identity

    async def seek(self, sequence: int) -> None:
        self._next = sequence

    async def bounds(self) -> tuple[int, int]:
        await self._process.point("log.bounds", self._random.uniform(0.001, 0.02))
        return self._stream.first, self._stream.last

    async def fetch(self, limit: int, wait_s: float) -> list[Message]:
        """As PartitionLog: an idle fetch, and one from a stream that is gone, look at the identity."""
        await self._process.point("log.fetch", self._random.uniform(0.001, 0.02))
        deadline = self._process.world.loop.now + wait_s
        while True:
            stream = self._stream
            if stream.identity != self.identity:
                raise StreamLostError(stream=stream.name)
            if stream.last >= self._next and stream.messages:
                start = max(0, self._next - stream.first)
                got = stream.messages[start:start + min(limit, self._random.randint(1, 40))]
                self._next = got[-1].sequence + 1
                await self._process.point("log.fetched")
                return got
            left = deadline - self._process.world.loop.now
            if left <= 0.0005:
                return []
            stream.news.clear()
            try:
                async with asyncio.timeout(left):
                    await stream.news.wait()
            except TimeoutError:
                pass
            self._process.check("log.fetch")

    async def purge(self, up_to: int) -> None:
        await self._process.point("log.purge", self._random.uniform(0.001, 0.02))
        self._stream.purge(up_to)


class Records:
    """The key-value bucket of claims."""

    def __init__(self) -> None:
        self.entries: dict[int, tuple[dict[str, Any], int]] = {}
        self.revision = 0
        self._older: dict[int, tuple[dict[str, Any], int]] = {}

    def backup(self) -> None:
        """Keep a copy."""
        self._older = dict(self.entries)

    def restore(self) -> None:
        """The bucket comes back as it was at the last copy (or empty), with new revisions."""
        self.entries = {}
        for partition, (claim, _) in self._older.items():
            self.revision += 1
            self.entries[partition] = (claim, self.revision)


class SimClaims:
    """`cloud.bus.streams.ClaimStore` over `Records`."""

    def __init__(self, process: Process, records: Records) -> None:
        self._process, self._records = process, records
        self._random = process.world.chance(f"claims:{process.name}")

    async def load(self, partition: int) -> tuple[dict[str, Any] | None, int]:
        await self._process.point("claims.load", self._random.uniform(0.001, 0.02))
        entry = self._records.entries.get(partition)
        return (dict(entry[0]), entry[1]) if entry else (None, 0)

    async def store(self, partition: int, claim: dict[str, Any], revision: int) -> int:
        await self._process.point("claims.store", self._random.uniform(0.001, 0.02))
        present = self._records.entries.get(partition)
        if (present[1] if present else 0) != revision:
            raise FencedError(partition=partition)
        self._records.revision += 1
        self._records.entries[partition] = (dict(claim), self._records.revision)
        await self._process.point("claims.stored", self._random.uniform(0.001, 0.02))
        return self._records.revision
