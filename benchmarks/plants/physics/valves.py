"""On-off valves of households (通断阀): three minutes from closed to open, and the open time that settlement counts.

Must not know: rooms, who decides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Valves:
    """n valves; `position` 0 closed .. 1 open."""

    STATE = ("position", "command", "on_time_s")

    def __init__(self, n: int, travel_s: float = 180.0) -> None:
        self.travel_s = travel_s
        self.position: Array = np.ones(n)
        self.command: Array = np.ones(n)
        self.on_time_s: Array = np.zeros(n)

    def step(self, dt: float, *, alive: bool = True) -> None:
        """Move towards the commands; without electricity a valve stays where it is."""
        if alive:
            reach = dt / self.travel_s if self.travel_s > 0 else 1.0
            self.position = np.clip(self.command, self.position - reach, self.position + reach)
        self.on_time_s = self.on_time_s + dt * (self.position >= 0.5)

    @property
    def state(self) -> Array:
        """0 closed, 1 open, 2 moving."""
        return np.where(self.position <= 0.001, 0.0, np.where(self.position >= 0.999, 1.0, 2.0))
