"""What the gateway tells the network records: streams with their sizes, refusals, agents that talk by NATS (by their heartbeats).

Must not know: sealed bytes, the historian's tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud.historian.flow import Flow

Note = Callable[[Flow], None]
ZONE = "monitoring"
#: Heartbeats missed before a NATS agent counts as gone.
MISSED = 3


def ignore(_: Flow) -> None:
    """Where no records are kept."""


def host_of(peer: str) -> str:
    """Host of gRPC's "ipv4:10.0.0.9:4711" or "ipv6:[::1]:4711"."""
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "[").replace("%5D", "]").strip("[]")


@dataclass
class StreamCount:
    """One stream's traffic; said once when it begins and once when it ends."""

    note: Note
    site: str
    address: str
    bytes_in: int = 0
    bytes_out: int = 0
    messages: int = 0
    started: float = field(default_factory=time.monotonic)

    def began(self) -> None:
        """The agent was welcomed."""
        self.note(Flow("connect", ZONE, self.site, self.address, "EdgeLink/Connect"))

    def ended(self, why: str) -> None:
        """The stream is over; `why` is "" when the agent hung up."""
        self.note(Flow("disconnect", ZONE, self.site, self.address, "EdgeLink/Connect", why.partition(":")[0] if why.startswith("E-") else "ok", self.bytes_in, self.bytes_out, self.messages,
                       time.monotonic() - self.started, why))


@dataclass(slots=True)
class _Heard:
    boot: bytes
    first: float
    last: float
    messages: int = 0
    size: int = 0


class NatsPresence:
    """Agents that talk by NATS have no stream here: their heartbeats tell when they came and went.

    Args:
        limit_s: silence after which an agent counts as gone.
    """

    def __init__(self, note: Note, limit_s: float, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._note, self._limit_s, self._mono_s = note, limit_s, mono_s
        self._heard: dict[str, _Heard] = {}

    def heard(self, agent_id: str, boot: bytes, size: int) -> None:
        """A heartbeat."""
        now, known = self._mono_s(), self._heard.get(agent_id)
        if known is not None and known.boot != boot:
            self._gone(agent_id, known, "another boot")
            known = None
        if known is None:
            known = self._heard[agent_id] = _Heard(boot, now, now)
            self._note(Flow("connect", ZONE, agent_id, "", "NATS"))
        known.last, known.messages, known.size = now, known.messages + 1, known.size + size

    def sweep(self) -> None:
        """Say who has fallen silent; call every second or so."""
        now = self._mono_s()
        for agent_id, known in list(self._heard.items()):
            if now - known.last > self._limit_s:
                self._gone(agent_id, known, "no heartbeat")
                del self._heard[agent_id]

    def _gone(self, agent_id: str, known: _Heard, why: str) -> None:
        self._note(Flow("disconnect", ZONE, agent_id, "", "NATS", bytes_in=known.size, messages=known.messages, seconds=known.last - known.first, detail=f"heartbeats only; {why}"))
