"""How long to wait before dialling again: doubling, capped, jittered. Sans-IO; time and chance are arguments.

Must not know: what is dialled.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Doubling delays with jitter in [0.5, 1.0] of the nominal delay, so that a thousand boxes do not knock together.

    Attributes:
        first_s: first delay.
        cap_s: largest delay.
        failures: consecutive failures.
        ready_at: monotonic seconds of the next allowed try.
    """

    first_s: float = 0.5
    cap_s: float = 30.0
    failures: int = 0
    ready_at: float = 0.0

    def ready(self, now: float) -> bool:
        """True when a try is allowed."""
        return now >= self.ready_at

    def failed(self, now: float, chance: float) -> float:
        """Note a failure; `chance` in [0, 1). Returns the delay in seconds."""
        nominal = min(self.cap_s, self.first_s * 2.0 ** min(self.failures, 20))
        self.failures += 1
        delay = nominal * (0.5 + 0.5 * chance)
        self.ready_at = now + delay
        return delay

    def succeeded(self) -> None:
        """Start over."""
        self.failures, self.ready_at = 0, 0.0
