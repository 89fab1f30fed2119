"""The outdoor forecast as a provider would give it: the truth and a stated error process, with one cold wave missed by 6 K.

Error: an AR(1) in lead time and issue time, about 0.5 K now and 2 K at 24 h (standard deviation), drawn anew every hour of issue but correlated
with the issue before. Must not know: plants, planners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.plants import weather

Array = NDArray[np.float64]
MISS_K, MISS_DAYS = 6.0, (21.0, 23.0)  # days from the beginning: 22 and 23 January, the measured cold wave


class Forecast:
    """Forecasts on a 15-minute grid; `error` 0 = perfect foresight."""

    def __init__(self, begin_s: float, *, error: float = 1.0, seed: int = 7) -> None:
        self._begin, self._error = begin_s, error
        rng = np.random.default_rng(seed)
        hours = 60 * 24
        # Shocks that every later issue keeps in part: neighbouring issues agree with each other.
        self._shock: Array = rng.normal(0, 1, (hours, 4))

    def at(self, issue_s: float, steps: int) -> tuple[Array, Array]:
        """(outdoor degC, sun kW/m2) per 15 minutes from `issue_s` on."""
        truth = [weather.at(issue_s + 900 * (k + 0.5)) for k in range(steps)]
        outdoor, sun = np.array([c.temperature for c in truth]), np.array([c.sun for c in truth]) / 1000
        if not self._error:
            return outdoor, sun
        lead = np.arange(steps) / 4.0
        hour = int((issue_s - self._begin) // 3600)
        level = np.sum([0.7**k * self._shock[max(0, hour - k), 0] for k in range(12)]) / 1.4
        drift = np.sum([0.7**k * self._shock[max(0, hour - k), 1] for k in range(12)]) / 1.4
        spread = 0.5 + 1.5 * np.minimum(1.0, lead / 24) ** 0.5
        wave = np.sin(2 * np.pi * (lead / 24 + 0.1 * self._shock[hour, 2]))
        bias = spread * (0.6 * level + 0.6 * drift * np.minimum(1.0, lead / 24) + 0.5 * wave * np.minimum(1.0, lead / 12))
        days = (issue_s - self._begin) / 86400 + lead / 24
        missed = np.where((days >= MISS_DAYS[0]) & (days < MISS_DAYS[1]) & (lead > 6), MISS_K, 0.0)
        return outdoor + self._error * (bias + missed), sun * np.clip(1 + 0.3 * self._error * level, 0.2, 1.5)
