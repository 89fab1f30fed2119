"""What both transports share: which sealed messages go next, and what is done with what comes down.

Must not know: gRPC, NATS, drivers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from edge_agent.commands.journal import Journal
from edge_agent.session import UplinkSession
from edge_agent.spool import Spool
from edge_agent.witness import Witness
from protos import envelope
from protos.kang.v1 import link_pb2, telemetry_pb2
from protos.suites import suite_of_public

log = logging.getLogger("kang.edge.uplink")
VERSION: Final = "0.1.0"
LIVE_QUEUE: Final = 64
HURRY_S: Final = 0.5


class Agent(Protocol):
    """What the link asks of the agent."""

    def mono_ms(self) -> int:
        """Monotonic milliseconds."""
        ...

    def heartbeat(self) -> telemetry_pb2.Heartbeat:
        """A fresh heartbeat; the clock notes that it was asked."""
        ...

    def on_command(self, wire: bytes) -> None:
        """A sealed command arrived."""
        ...

    def on_lease(self, lease: link_pb2.Lease) -> None:
        """Somebody is looking."""
        ...

    def on_welcome(self, welcome: link_pb2.Welcome) -> None:
        """The platform's time."""
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One sealed message: `batch` or result, its stream's epoch and number."""

    batch: bool
    epoch: bytes
    sequence: int
    wire: bytes


class Link:
    """The sessions of batches and results over one connection after another."""

    def __init__(self, agent: Agent, spool: Spool, journal: Journal, telemetry_box: bytes, *, heartbeat_s: float) -> None:
        self.agent = agent
        self.heartbeat_s = heartbeat_s
        self.witness: Witness | None = None
        self.counts: Counter[str] = Counter()
        self.up = False
        self.wake = asyncio.Event()
        self.live: asyncio.Queue[telemetry_pb2.LiveFrame] = asyncio.Queue(LIVE_QUEUE)
        self._hurry = False
        self._spool, self._journal, self._box = spool, journal, telemetry_box
        self._suite = suite_of_public(telemetry_box)
        self._batches = UplinkSession(spool)
        self._results = UplinkSession(journal, resend_ms=5_000, live_first=False)
        self._sealer = envelope.Sealer(telemetry_box, suite=self._suite)

    def connected(self) -> None:
        """A connection stands and was welcomed."""
        self._sealer = envelope.Sealer(self._box, suite=self._suite)
        self._batches.connected()
        self._results.connected()
        self.up = True
        self.counts["connections"] += 1
        self.wake.set()

    def lost(self) -> None:
        """The connection broke."""
        self.up = False
        self._batches.lost()
        self._results.lost()

    def due(self, limit: int = 32) -> list[Outgoing]:
        """What to send now; results before batches."""
        now = self.agent.mono_ms()
        out: list[Outgoing] = []
        for session, store, batch in ((self._results, self._journal, False), (self._batches, self._spool, True)):
            for sequence in session.due(now, limit=limit):
                signed = store.get(sequence)
                if signed is None:
                    session.gone(sequence)
                else:
                    out.append(Outgoing(batch, store.epoch, sequence, self._sealer.seal(signed)))
        return out

    def on_ack(self, ack: link_pb2.Ack) -> None:
        """Committed ranges of batches, or results taken by the command service; sometimes a checkpoint to keep."""
        if ack.checkpoint and self.witness is not None and not self.witness.take(ack.checkpoint):
            self.counts["audit_checkpoints_refused"] += 1
        (self._results if ack.epoch == self._journal.epoch else self._batches).acked(ack)
        self.wake.set()

    def on_refusal(self, refusal: link_pb2.Refusal) -> None:
        """The gateway could not take a message; it waits and goes again."""
        self.counts[f"refused.{refusal.code}"] += 1
        self._batches.refused(refusal, self.agent.mono_ms())

    def failed(self, message: Outgoing, code: str) -> None:
        """A hand-over failed; it goes again later."""
        session = self._batches if message.batch else self._results
        session.refused(link_pb2.Refusal(code=code, sequence=message.sequence), self.agent.mono_ms())

    def on_welcome(self, welcome: link_pb2.Welcome) -> None:
        """Window, heartbeat interval, time."""
        self._batches.welcome(welcome)
        self.agent.on_welcome(welcome)
        if welcome.heartbeat_s:
            self.heartbeat_s = min(self.heartbeat_s, float(welcome.heartbeat_s))

    def show(self, frame: telemetry_pb2.LiveFrame) -> None:
        """Offer a live frame; when the queue is full the oldest is dropped (live frames are not missed)."""
        if self.live.full():
            self.live.get_nowait()
            self.counts["live_dropped"] += 1
        self.live.put_nowait(frame)
        self.wake.set()

    def hurry(self) -> None:
        """Who holds what has changed: the next heartbeat should not wait for its turn."""
        self._hurry = True
        self.wake.set()

    def beat_due(self, now_s: float, last_s: float) -> bool:
        """Is a heartbeat due? A hurried one at most every half second."""
        if now_s - last_s >= self.heartbeat_s or (self._hurry and now_s - last_s >= HURRY_S):
            self._hurry = False
            return True
        return False

    async def pause(self, seconds: float) -> None:
        """Sleep until something is to be sent, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return
        finally:
            self.wake.clear()


Chance = Callable[[], float]
