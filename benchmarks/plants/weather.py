"""The measured winter of Shunyi (Beijing), laid over today: same hour of day, always a January day.

Rule (fixed, so two runs and two machines agree): local day number d since 1970 (UTC+8) shows day (d mod 31) + 1 of January 2016, the
coldest measured January (mean -4.6 degC, cold wave of 22 to 24 January). Gaps are interpolated linearly; the seam (31 -> 1 January) is
cross-faded over its last three hours. Sun is not measured there: it is modelled (clear sky, dimmed in moist air) and labelled so. Must not know: plants.
"""

from __future__ import annotations

import lzma
import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
UTC_OFFSET_S = 8 * 3600
WINDOW_START = date(2016, 1, 1)
WINDOW_DAYS = 31
LATITUDE = 40.13
SEAM_H = 3
FIRST_HOUR = date(2013, 3, 1)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Weather at one instant: degC, %, m/s, W/m2 (horizontal, modelled)."""

    temperature: float
    humidity: float
    wind: float
    sun: float


@cache
def measured() -> tuple[Array, dict[str, int]]:
    """The whole series: columns temperature degC, dew point degC, wind m/s, shape (35064, 3), first row 2013-03-01 00:00 local; and the gaps filled per column."""
    data = resources.files("benchmarks.plants").joinpath("data/shunyi_hourly.csv.xz").read_bytes()
    rows = lzma.decompress(data).decode().splitlines()[1:]
    table = np.array([[float(v) if v else math.nan for v in row.split(",")[1:]] for row in rows])
    gaps = {}
    index = np.arange(len(table))
    for k, name in enumerate(("temperature", "dew_point", "wind")):
        missing = np.isnan(table[:, k])
        gaps[name] = int(missing.sum())
        table[missing, k] = np.interp(index[missing], index[~missing], table[~missing, k])
    return table, gaps


@cache
def _window() -> Array:
    """One row per hour of the window and the row after it (equal to the first), seam cross-faded."""
    first = (WINDOW_START - FIRST_HOUR).days * 24
    rows = measured()[0][first:first + WINDOW_DAYS * 24].copy()
    for k in range(SEAM_H):
        weight = (k + 1) / (SEAM_H + 1)
        rows[-SEAM_H + k] = (1 - weight) * rows[-SEAM_H + k] + weight * rows[0]
    return np.vstack([rows, rows[0]])


def source_day(local_day: int) -> date:
    """The measured day shown on local day number `local_day` (days since 1970-01-01)."""
    return WINDOW_START + timedelta(days=local_day % WINDOW_DAYS)


def at(utc_s: float) -> Conditions:
    """Weather at `utc_s` (UNIX seconds), linear between the measured hours."""
    hours = ((utc_s + UTC_OFFSET_S) / 3600) % (WINDOW_DAYS * 24)
    k = int(hours)
    share = hours - k
    window = _window()
    temperature, dew, wind = (float(v) for v in (1 - share) * window[k] + share * window[k + 1])
    humidity = relative_humidity(temperature, dew)
    day_of_year = 1 + k // 24
    return Conditions(temperature, humidity, max(0.0, wind), _sun(day_of_year, hours % 24, humidity))


def relative_humidity(temperature: float, dew_point: float) -> float:
    """Percent, Magnus formula (WMO-No. 8, annex 4.B)."""
    def pressure(t: float) -> float:
        return math.exp(17.62 * t / (243.12 + t))
    return min(100.0, 100.0 * pressure(dew_point) / pressure(temperature))


def _sun(day_of_year: int, hour: float, humidity: float) -> float:
    """Modelled horizontal irradiance, W/m2 (Haurwitz 1945 clear sky; dimmed above 60 % humidity: derived here)."""
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (day_of_year + 10) / 365)
    latitude, angle = math.radians(LATITUDE), math.pi * (hour - 12.2) / 12
    height = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(angle)
    if height <= 0.01:
        return 0.0
    return 1098.0 * height * math.exp(-0.057 / height) * max(0.25, min(1.0, 1.0 - (humidity - 60) / 50))
