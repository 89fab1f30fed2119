"""A community in time: warm-up over the last seven days, then steps that keep up with the clock (or run faster than it).

Must not know: sockets. The clock is an argument.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.plants.community import Community
from benchmarks.plants.device import PlantError
from benchmarks.plants.history import DAYS, FINE_S, History

WARM_STEP_S = 60.0


class Plant:
    """One running community."""

    def __init__(self, community: Community, *, clock: Callable[[], float], speed: float = 1.0, step_s: float = 5.0, state: Path | None = None) -> None:
        """Args: clock gives UNIX seconds; speed > 1 runs faster than life; step_s is the physics step (must divide 60); state is the file that survives."""
        self.community = community
        self.history_ring = History(community.image)
        self.speed = speed
        self.step_s = step_s
        self.state = state
        self._clock = clock
        self._wall0 = self._sim0 = clock()

    def now_s(self) -> float:
        """Simulated UTC seconds; equal to the clock at speed 1."""
        return self._sim0 + (self._clock() - self._wall0) * self.speed

    def warm_up(self, days: float = DAYS) -> None:
        """Run physics over the last `days` at 60 s steps; a saved state is continued from where it stopped, but never more than `days` back.

        Raises:
            PlantError: the saved state cannot be read, or belongs to another community, seed or version.
        """
        end = math.floor(self._clock() / WARM_STEP_S) * WARM_STEP_S
        start = end - days * 86400
        if self.state is not None and self.state.exists():
            try:
                self.community.restore(json.loads(self.state.read_text()))
                start = min(end, max(start, math.floor(self.community.now_s / WARM_STEP_S) * WARM_STEP_S))
            except (ValueError, KeyError, TypeError) as error:
                raise PlantError(reason=f"the saved state {self.state} cannot be read ({error!r}); delete it to begin anew") from error
        self._run(start, end, WARM_STEP_S)
        if end == start:
            self.community.advance(end, 1e-3)
        self.community.publish()
        self._sim0 = end

    def _run(self, start: float, end: float, dt: float) -> None:
        for k in range(round((end - start) / dt)):
            at = start + (k + 1) * dt
            self.community.advance(at, dt)
            if round(at) % FINE_S == 0:
                self.community.publish()
                self.history_ring.record(at)

    def begin(self) -> None:
        """The clock counts from here: simulated time continues at the end of the warm-up (the seconds it took are caught up by the first `tick`)."""
        self._wall0 = self._clock() if self.speed != 1.0 else self._sim0

    def tick(self, *, most_s: float = 3600.0) -> int:
        """Catch up with the clock in whole steps, publish; returns the number of steps (at most `most_s` of simulated time per call)."""
        target = min(self.now_s(), self.community.now_s + most_s)
        steps = max(0, math.floor((target - self.community.now_s) / self.step_s + 1e-9))
        for _ in range(steps):
            at = self.community.now_s + self.step_s
            self.community.advance(at, self.step_s)
            if abs(at / FINE_S - round(at / FINE_S)) * FINE_S < self.step_s / 2:
                self.community.publish()
                self.history_ring.record(round(at / FINE_S) * FINE_S)
        if steps:
            self.community.publish()
        return steps

    def history(self, start_ms: int, end_ms: int) -> Iterator[tuple[str, str, int, float]]:
        """Rows (device code, point key, UTC ms, canonical value) of [start, end)."""
        return self.history_ring.rows(start_ms, end_ms)

    def save(self) -> None:
        """Write the state file (whole or not at all)."""
        if self.state is None:
            return
        self.state.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.state.with_suffix(".new")
        scratch.write_text(json.dumps(self.community.save()))
        scratch.replace(self.state)
