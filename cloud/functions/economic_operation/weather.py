"""The weather port (气象): a forecast with its issue time and source, from a provider, a file, or at worst from what the site's own sensor showed.

Demonstration and fallback sources say so in `source`. Must not know: plans, projects' devices.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray

from protos.errors import KangError

Array = NDArray[np.float64]
STALE_H: Final = 12.0
HOUR_MS: Final = 3_600_000


class WeatherError(KangError):
    """A provider gives nothing usable."""

    code = "E-WEATHER"
    zh = "气象数据不可用（{source}）：{problem}。沿用最近一次有效预报，并标注时效。"
    en = "No usable weather from {source}: {problem}. The last good forecast is used and its age shown."


@dataclass(frozen=True, slots=True)
class Forecast:
    """Hourly values from `first_ms` on; instants, linear in between.

    Attributes:
        source: who made it; "site sensor" and "demo" are no weather services.
        issued_ms: when it was made.
        outdoor_c: degC.
        sun_kw_m2: horizontal irradiance.
    """

    source: str
    issued_ms: int
    first_ms: int
    outdoor_c: Array
    sun_kw_m2: Array

    def grid(self, start_ms: int, steps: int, step_s: int = 900) -> tuple[Array, Array]:
        """(outdoor, sun) in the middle of each step; beyond its end the last day repeats.

        Raises:
            WeatherError: it has not a single hour.
        """
        if not len(self.outdoor_c):
            raise WeatherError(source=self.source, problem="empty")
        at = (start_ms + step_s * 1000 * (np.arange(steps) + 0.5) - self.first_ms) / HOUR_MS
        last = len(self.outdoor_c) - 1
        folded = np.where(at > last, last - 23 + np.mod(at - last - 1, 24.0), at) if last >= 24 else at
        hours = np.arange(last + 1)
        return np.interp(folded, hours, self.outdoor_c), np.interp(folded, hours, self.sun_kw_m2)

    def age_h(self, now_ms: int) -> float:
        """Hours since it was issued."""
        return (now_ms - self.issued_ms) / HOUR_MS


class Provider(Protocol):
    """Who forecasts."""

    async def forecast(self, latitude: float, longitude: float, now_ms: int) -> Forecast:
        """The newest forecast for a place (WGS-84).

        Raises:
            WeatherError: none to be had.
        """
        ...


class OpenMeteo:
    """The Open-Meteo forecast API (data CC BY 4.0), at the address the operator names; nothing is asked when none is given."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url, self._timeout, self._transport = url, timeout_s, transport

    async def forecast(self, latitude: float, longitude: float, now_ms: int) -> Forecast:
        """Hourly temperature and radiation over three days."""
        asked = {"latitude": f"{latitude:.4f}", "longitude": f"{longitude:.4f}", "hourly": "temperature_2m,shortwave_radiation", "forecast_days": "3", "timezone": "UTC"}
        try:
            async with httpx.AsyncClient(timeout=self._timeout, transport=self._transport) as client:
                answer = await client.get(self._url, params=asked)
                answer.raise_for_status()
                return parse_open_meteo(answer.json(), now_ms)
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise WeatherError(source="Open-Meteo", problem=type(error).__name__) from error


def parse_open_meteo(document: Any, now_ms: int) -> Forecast:
    """Its JSON; hours without a temperature are interpolated, never invented at the ends.

    Raises:
        WeatherError: not its shape, or fewer than six hours with a value.
    """
    try:
        hourly = document["hourly"]
        times = [dt.datetime.fromisoformat(t).replace(tzinfo=dt.UTC) for t in hourly["time"]]
        outdoor = np.array([math.nan if v is None else float(v) for v in hourly["temperature_2m"]])
        sun = np.array([0.0 if v is None else float(v) for v in hourly["shortwave_radiation"]]) / 1000
    except (KeyError, TypeError, ValueError) as error:
        raise WeatherError(source="Open-Meteo", problem=f"unexpected document ({type(error).__name__})") from error
    return _checked("Open-Meteo", now_ms, [int(t.timestamp() * 1000) for t in times], outdoor, sun)


class File:
    """A CSV that somebody else brings: columns time (ISO 8601 with zone), outdoor_c, sun_w_m2 (optional); the file's own time is the issue time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def forecast(self, latitude: float, longitude: float, now_ms: int) -> Forecast:  # noqa: ARG002  one file, one place
        """What the file says."""
        try:
            rows = list(csv.DictReader(self._path.read_text(encoding="utf-8").splitlines()))
            issued = int(self._path.stat().st_mtime * 1000)
        except (OSError, UnicodeDecodeError) as error:
            raise WeatherError(source=self._path.name, problem=type(error).__name__) from error
        times, outdoor, sun = [], [], []
        for n, row in enumerate(rows, 2):
            try:
                at = dt.datetime.fromisoformat(row["time"])
                if at.tzinfo is None:
                    raise ValueError("a time without a zone")
                value = float(row["outdoor_c"])
            except (KeyError, TypeError, ValueError) as error:
                raise WeatherError(source=self._path.name, problem=f"line {n}: {error}") from error
            times.append(int(at.timestamp() * 1000))
            outdoor.append(value)
            sun.append(float(row.get("sun_w_m2") or 0) / 1000)
        return _checked(self._path.name, issued, times, np.array(outdoor), np.array(sun))


def persistence(history_ms: Sequence[int], outdoor_c: Sequence[float], now_ms: int) -> Forecast:
    """Without any provider: tomorrow is like the last day the site's own sensor saw.

    Args:
        history_ms: starts of hours, ascending.
        outdoor_c: their means.
        now_ms: now.

    Raises:
        WeatherError: not an hour of the last two days.
    """
    seen = {int((t - now_ms) // HOUR_MS): v for t, v in zip(history_ms, outdoor_c, strict=True) if now_ms - t < 49 * HOUR_MS and math.isfinite(v)}
    if not seen:
        raise WeatherError(source="site sensor", problem="no outdoor temperature in two days")
    mean = float(np.mean(list(seen.values())))
    hours = [seen.get(h - 24, seen.get(h - 48, mean)) for h in range(24)]
    now_c = seen.get(-1, seen.get(-2, hours[0]))
    # Begin where the sensor stands; the difference to yesterday fades over half a day.
    start = np.array(hours) + (now_c - hours[0]) * np.exp(-np.arange(24) / 12.0)
    return Forecast("site sensor", now_ms, now_ms // HOUR_MS * HOUR_MS, np.r_[start, hours], np.zeros(48))


def _checked(source: str, issued_ms: int, times: Sequence[int], outdoor: Array, sun: Array) -> Forecast:
    order = np.argsort(np.array(times, np.int64), kind="stable")
    at = np.array(times, np.int64)[order]
    keep = np.r_[True, np.diff(at) > 0] if len(at) else np.empty(0, bool)  # an hour told twice: the first counts
    at, outdoor, sun = at[keep], outdoor[order][keep], sun[order][keep]
    good = np.isfinite(outdoor) & (np.abs(outdoor) < 70)
    if good.sum() < 6:
        raise WeatherError(source=source, problem=f"{int(good.sum())} usable hours; at least six are needed")
    first, last = int(at[good][0] // HOUR_MS), int(at[good][-1] // HOUR_MS)
    hours = np.arange(first, last + 1) * HOUR_MS
    return Forecast(source, issued_ms, first * HOUR_MS, np.interp(hours, at[good], outdoor[good]), np.maximum(0.0, np.interp(hours, at, np.nan_to_num(sun))))
