"""The uplink session (上行会话), sans-IO: which sealed batches go next, and what the platform's answers mean.

Live first: after a reconnect the newest batch goes at once and new batches always go ahead; the backlog follows oldest-first in the rest of the
window. Only an `Ack` frees the spool; what stays unacknowledged is sent again. Runs inside the deterministic simulator too.
Must not know: transports, clocks, disks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from protos.kang.v1 import link_pb2


class Backlog(Protocol):
    """What the session needs of a spool."""

    epoch: bytes

    @property
    def last_sequence(self) -> int:
        """The newest sequence ever sealed."""
        ...

    def pending(self, after: int, limit: int, *, until: int | None = None) -> list[int]:
        """Unacknowledged sequences above `after`, ascending."""
        ...

    def free(self, ranges: list[tuple[int, int]]) -> int:
        """Forget acknowledged ranges."""
        ...


@dataclass(slots=True)
class _Flight:
    due_ms: int
    tries: int


class UplinkSession:
    """One agent's conversation about its batches. Times are monotonic milliseconds."""

    def __init__(self, spool: Backlog, *, window: int = 256, live_reserve: int = 16, resend_ms: int = 15_000, resend_cap_ms: int = 120_000,
                 live_first: bool = True) -> None:
        """Args: live_first: False sends strictly oldest-first (results); window: unacknowledged batches in flight; live_reserve: of these, kept free for new batches; resend_ms: first patience, doubled up to the cap."""
        self.counts: Counter[str] = Counter()
        self._spool = spool
        self._window, self._reserve = window, min(live_reserve, window - 1)
        self._resend_ms, self._cap_ms = resend_ms, resend_cap_ms
        self._flight: dict[int, _Flight] = {}
        self._up = False
        self._live_first = live_first
        self._live_cursor = 0
        self._live_from = 0
        self._backlog_cursor = 0

    @property
    def in_flight(self) -> int:
        """Sent on this connection and not acknowledged."""
        return len(self._flight)

    def connected(self) -> None:
        """A connection stands: start with the newest batch."""
        self._up = True
        self._flight.clear()
        self._live_from = self._live_cursor = max(0, self._spool.last_sequence - 1) if self._live_first else 0
        self._backlog_cursor = 0

    def lost(self) -> None:
        """The connection broke: nothing is in flight any more."""
        self._up = False
        self._flight.clear()

    def welcome(self, message: link_pb2.Welcome) -> None:
        """The platform may shrink or widen the window (1..1024)."""
        if message.window:
            self._window = max(1, min(1024, message.window))
            self._reserve = min(self._reserve, self._window - 1)

    def due(self, now_ms: int, *, limit: int = 64) -> list[int]:
        """Sequences to send now, in this order; they count as in flight from here on."""
        if not self._up:
            return []
        out: list[int] = []
        for sequence, flight in self._flight.items():
            if flight.due_ms <= now_ms and len(out) < limit:
                flight.tries += 1
                flight.due_ms = now_ms + self._patience(flight.tries)
                self.counts["resent"] += 1
                out.append(sequence)
        room = min(self._window - len(self._flight), limit - len(out))
        if room > 0:
            fresh = self._spool.pending(self._live_cursor, room)
            if fresh:
                self._live_cursor = fresh[-1]
            out += self._launch(fresh, now_ms)
            room = min(self._window - self._reserve - len(self._flight), limit - len(out))
        if room > 0 and self._backlog_cursor < self._live_from:
            old = self._spool.pending(self._backlog_cursor, room, until=self._live_from)
            self._backlog_cursor = old[-1] if old else self._live_from
            out += self._launch(old, now_ms)
        return out

    def acked(self, message: link_pb2.Ack) -> int:
        """The platform has committed ranges. Another epoch's ranges are ignored and counted. Returns the batches freed."""
        if message.epoch != self._spool.epoch:
            self.counts["foreign_ack"] += 1
            return 0
        ranges = [(r.first, r.last) for r in message.ranges if 0 < r.first <= r.last]
        freed = self._spool.free(ranges)
        for first, last in ranges:
            for sequence in [s for s in self._flight if first <= s <= last]:
                del self._flight[sequence]
        self.counts["acked"] += freed
        return freed

    def refused(self, message: link_pb2.Refusal, now_ms: int) -> None:
        """The gateway could not take a batch: keep it and try again later."""
        self.counts[f"refused.{message.code}"] += 1
        flight = self._flight.get(message.sequence)
        if flight is not None:
            flight.tries += 1
            flight.due_ms = now_ms + self._patience(flight.tries)

    def gone(self, sequence: int) -> None:
        """A batch was freed before it could be sent."""
        self._flight.pop(sequence, None)

    def _launch(self, sequences: list[int], now_ms: int) -> list[int]:
        new = [s for s in sequences if s not in self._flight]
        for sequence in new:
            self._flight[sequence] = _Flight(now_ms + self._patience(0), 0)
        self.counts["sent"] += len(new)
        return new

    def _patience(self, tries: int) -> int:
        return int(min(self._cap_ms, self._resend_ms * 2 ** min(tries, 10)))
