"""One measured heat meter (Aalborg no. 660, 2018-2020), replayed as many: meter k shows the same house, its window shifted by k days.

Rule: meter k replays the increments of 31 measured days from 2019-01-01 + k days, cyclically, aligned to hour of day; registers are the
running sum, so they never fall at the seam. Values between the hours are linear. Must not know: protocols, plants.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
UTC_OFFSET_S = 8 * 3600
DAYS = 31
HOURS = DAYS * 24
FIRST_ROW = (363 * 24) + 1
"""Row of 2019-01-01 00:00 UTC; the series begins at 2018-01-02 23:00 UTC."""
EPOCH_DAY = 20_454
"""2026-01-01 in days since 1970: registers begin with the measured register here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """kWh, m3, kW, m3/h, degC, degC."""

    energy: float
    volume: float
    power: float
    flow: float
    supply: float
    back: float


@cache
def measured() -> Array:
    """Columns heat kWh, volume m3, inlet m3 degC, return m3 degC (all cumulative), shape (26256, 4)."""
    data = resources.files("benchmarks.plants").joinpath("data/aalborg_meter_660_hourly.csv.xz").read_bytes()
    rows = lzma.decompress(data).decode().splitlines()[1:]
    return np.array([[float(v) for v in row.split(",")[1:]] for row in rows])


class ReplayedMeter:
    """Meter number `k` (0 ..)."""

    def __init__(self, k: int) -> None:
        first = FIRST_ROW + 24 * k
        rows = measured()[first:first + HOURS + 1]
        self._sum = rows - rows[0]
        self._start = rows[0]
        step = np.diff(rows, axis=0)
        self._power, self._flow = step[:, 0], step[:, 1]
        wet = step[:, 1] > 1e-6
        hours = np.arange(HOURS)
        # An hour without flow has no temperature of its own: the last wet hour's is kept.
        last = np.maximum.accumulate(np.where(wet, hours, int(np.argmax(wet))))
        with np.errstate(divide="ignore", invalid="ignore"):
            self._supply = np.where(wet, step[:, 2] / step[:, 1], 0.0)[last]
            self._back = np.where(wet, step[:, 3] / step[:, 1], 0.0)[last]

    def at(self, utc_s: float) -> Reading:
        """Registers and instantaneous values at `utc_s`."""
        hours = (utc_s + UTC_OFFSET_S) / 3600 - EPOCH_DAY * 24
        cycles, within = divmod(hours, HOURS)
        k = int(within)
        share = within - k
        total = self._start + cycles * self._sum[-1] + (1 - share) * self._sum[k] + share * self._sum[k + 1]
        return Reading(float(total[0]), float(total[1]), float(self._power[k]), float(self._flow[k]), float(self._supply[k]), float(self._back[k]))
