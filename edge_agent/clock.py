"""What time it is, and who vouches for it. Sans-IO: wall and monotonic clocks are arguments.

The local clock counts when it is synchronised and not before the persisted floor; otherwise the platform's signed time (DOMAIN 14).
Must not know: transports, the spool.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from protos.kang.v1 import link_pb2
from protos.suites import VerifyingKey, verifies

CHALLENGE_MS: Final = 60_000
ANSWER_WITHIN_MS: Final = 10_000
FLOOR_SLACK_MS: Final = 300_000


@dataclass(frozen=True, slots=True)
class Now:
    """A moment: UTC milliseconds (a guess unless `trusted`), monotonic milliseconds."""

    wall_ms: int
    mono_ms: int
    trusted: bool


class Challenges:
    """The random words a command must echo: a new one every minute, the last three count."""

    def __init__(self) -> None:
        self._recent: deque[tuple[bytes, int]] = deque(maxlen=3)

    def current(self, mono_ms: int, fresh: bytes) -> bytes:
        """The challenge for the next heartbeat; `fresh` (12 random bytes) is used when the old one is a minute old."""
        if not self._recent or mono_ms - self._recent[-1][1] >= CHALLENGE_MS:
            self._recent.append((fresh, mono_ms))
        return self._recent[-1][0]

    def known(self, challenge: bytes) -> bool:
        """True for one of the last three."""
        return any(challenge == c for c, _ in self._recent)

    def all(self) -> list[bytes]:
        """The last three, newest last."""
        return [c for c, _ in self._recent]


class AgentClock:
    """Chooses between the local clock and the platform's signed time."""

    def __init__(self, *, command_key: VerifyingKey, floor_ms: int, mode: str = "auto") -> None:
        """Args: floor_ms: persisted "time never before"; mode: auto (local clock when synchronised), system (always trust it), platform (never)."""
        self._key, self.floor_ms, self._mode = command_key, floor_ms, mode
        self._synchronised = False
        self._offset_ms: int | None = None
        self._asked_ms: int | None = None
        self.rejected = 0
        self.local_error_ms: int | None = None

    def local(self, *, synchronised: bool) -> None:
        """Tell whether the operating system says its clock is synchronised."""
        self._synchronised = synchronised

    def asked(self, mono_ms: int) -> None:
        """A heartbeat was sent; its Welcome counts only for a few seconds."""
        self._asked_ms = mono_ms

    @property
    def source(self) -> str:
        """As shown on the page: ntp, system, platform or none."""
        if self._mode == "system":
            return "system"
        if self._mode == "auto" and self._synchronised:
            return "ntp"
        return "platform" if self._offset_ms is not None else "none"

    def now(self, wall_ms: int, mono_ms: int) -> Now:
        """The best known time."""
        local = (self._mode == "system" or (self._mode == "auto" and self._synchronised)) and wall_ms >= self.floor_ms - FLOOR_SLACK_MS
        if local:
            return Now(wall_ms, mono_ms, trusted=True)
        if self._offset_ms is not None:
            return Now(mono_ms + self._offset_ms, mono_ms, trusted=True)
        return Now(max(wall_ms, self.floor_ms), mono_ms, trusted=False)

    def welcome(self, message: link_pb2.Welcome, challenges: list[bytes], wall_ms: int, mono_ms: int) -> bool:
        """Take the platform's signed time. False (and counted) when the signature, the freshness or the floor says no."""
        signed = message.wall_ms.to_bytes(8, "little", signed=True)
        fresh = self._asked_ms is not None and mono_ms - self._asked_ms <= ANSWER_WITHIN_MS
        if not fresh or message.wall_ms < self.floor_ms - FLOOR_SLACK_MS or not any(verifies(self._key, message.signature, c + signed) for c in challenges):
            self.rejected += 1
            return False
        self._offset_ms = message.wall_ms - mono_ms
        self.local_error_ms = wall_ms - message.wall_ms
        return True
