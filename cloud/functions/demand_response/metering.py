"""What projects draw (关口计量): minutes of the grid meter from the historian, for tracking, evaluation and settlement alike.

Async over the historian's port. Must not know: events, ledgers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from cloud.core.ports import DeviceInfo, Historian, ProjectInfo
from cloud.functions.economic_operation.site import site
from optimizers.demand_response.baseline import (
    METHODS,
    BaselineError,
    Event,
    History,
    adjusted,
    matched,
    mean_like,
    mean_of_last,
    temperature,
)
from optimizers.specification import Array
from protos.points import point

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
PER_DAY: Final = 96
#: Days of history a baseline may look back at.
BACK_DAYS: Final = 45
#: A value holds so many minutes when nothing newer came: agents report by exception.
HOLDS: Final = 10
REALTIME: Final = "realtime_15_min"
#: What is shown beside each other (基线对比): the two official rules and one that knows the weather.
SHOWN: Final = ("beijing_high_5_of_10", "jiangsu_5_workdays", REALTIME, "temperature")
_QUARTERS: Final = {**METHODS, "x_of_y_adjusted": adjusted(mean_of_last(10), mean_like(10)), "temperature": temperature(per_day=PER_DAY), "temperature_unadjusted": temperature(window=0, per_day=PER_DAY), "matched_days": matched(per_day=PER_DAY)}
_POWER, _OUTDOOR = point("active_power").id, point("outdoor_temp").id


@dataclass(frozen=True, slots=True)
class Meter:
    """Where a project's draw and weather are read: device ids, 0 = none."""

    project_id: int
    device: int
    weather: int
    timezone: str


def meter_of(project: ProjectInfo, devices: Sequence[DeviceInfo]) -> Meter:
    """The grid meter of a project."""
    where = site(project.id, project.heated_area_m2, devices)
    return Meter(project.id, where.grid_meter, where.weather, project.timezone)


async def minutes(historian: Historian, meter: Meter, start_ms: int, end_ms: int) -> Array:
    """(minutes,) mean draw of each minute of [start, end), kW; NaN where nothing was told for longer than `HOLDS` minutes."""
    first, count = start_ms // MINUTE_MS * MINUTE_MS, max(0, -(-end_ms // MINUTE_MS) - start_ms // MINUTE_MS)
    out = np.full(count, np.nan)
    if not meter.device or not count:
        return out
    (found,) = await historian.history(meter.project_id, [(meter.device, _POWER)], first - HOLDS * MINUTE_MS, first + count * MINUTE_MS, resolution_s=60)
    held, since = np.nan, HOLDS + 1
    seen = dict(zip(found.at_ms, found.mean, strict=True))
    for k in range(-HOLDS, count):
        value = seen.get(first + k * MINUTE_MS)
        held, since = (value, 0) if value is not None and np.isfinite(value) else (held, since + 1)
        if k >= 0:
            out[k] = held if since <= HOLDS else np.nan
    return out


async def just_before(historian: Historian, meter: Meter, at_ms: int, *, most: bool = False) -> float | None:
    """Mean draw of the quarter of an hour before a moment (`most`: of its highest minute), None when it was not told."""
    seen = await minutes(historian, meter, at_ms - 15 * MINUTE_MS, at_ms)
    return float(np.nanmax(seen) if most else np.nanmean(seen)) if np.isfinite(seen).any() else None


class Baselines:
    """Baselines of one project for one event, by the minute.

    Args:
        historian: the port.
        meter: of the project.
        start_ms, end_ms: the event.
        closed_ms: the adjustment looks at what was before; the event's own heating-up begins there.
        excluded: (start, end) of other events of the project: such days are no baseline.
    """

    def __init__(self, historian: Historian, meter: Meter, start_ms: int, end_ms: int, closed_ms: int, excluded: Sequence[tuple[int, int]]) -> None:
        self._historian, self._meter, self._start, self._end, self._closed, self._excluded = historian, meter, start_ms, end_ms, closed_ms, excluded
        self._history: tuple[History, int] | None = None

    async def by(self, method: str) -> Array:
        """(minutes,) of [start, end), kW.

        Raises:
            BaselineError: the history does not carry it.
        """
        count = -(-self._end // MINUTE_MS) - self._start // MINUTE_MS
        if method == REALTIME:
            before = await just_before(self._historian, self._meter, self._closed)
            if before is None:
                raise BaselineError(method=method, problem="no load just before")
            return np.full(count, before)
        history, midnight = await self._read()
        at = self._start // MINUTE_MS * MINUTE_MS + np.arange(count) * MINUTE_MS
        day, quarter = (at - midnight) // DAY_MS, (at - midnight) % DAY_MS // (DAY_MS // PER_DAY)
        out = np.empty(count)
        for d in np.unique(day):
            mine = day == d
            first, last = int(quarter[mine].min()), int(quarter[mine].max()) + 1
            closed = min(first, max(0, int((self._closed - midnight - d * DAY_MS) // (DAY_MS // PER_DAY))))
            values = _QUARTERS[method](history, Event(int(d), first, last, closed))
            out[mine] = np.asarray(values)[quarter[mine] - first]
        if not np.isfinite(out).all():
            raise BaselineError(method=method, problem="gaps in what it was made from")
        return np.maximum(0.0, out)

    async def _read(self) -> tuple[History, int]:
        """Quarter-hours by local day, the event's day last."""
        if self._history is None:
            zone = ZoneInfo(self._meter.timezone)
            last = dt.datetime.fromtimestamp(self._end / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)
            midnight = int(last.timestamp() * 1000) - BACK_DAYS * DAY_MS  # zones of heating lands here keep one offset all winter
            days = BACK_DAYS + 1
            asked = [(self._meter.device, _POWER), *([(self._meter.weather, _OUTDOOR)] if self._meter.weather else [])]
            found = await self._historian.history(self._meter.project_id, asked, midnight, min(midnight + days * DAY_MS, self._end), resolution_s=900, max_points=days * PER_DAY)
            tables = []
            for s in found:
                flat = np.full(days * PER_DAY, np.nan)
                for t, v in zip(s.at_ms, s.mean, strict=True):
                    k = (t - midnight) // (DAY_MS // PER_DAY)
                    if 0 <= k < len(flat):
                        flat[k] = v
                tables.append(_filled(flat).reshape(days, PER_DAY))
            load = tables[0]
            outdoor = tables[1] if len(tables) > 1 else np.zeros_like(load)
            dates = [dt.datetime.fromtimestamp((midnight + d * DAY_MS) / 1000, zone) for d in range(days)]
            used = np.array([any(s < midnight + (d + 1) * DAY_MS and e > midnight + d * DAY_MS for s, e in self._excluded) for d in range(days)])
            # Days without weather carry no weather model; the event's own day is judged as it was.
            self._history = (History(load, np.where(np.isfinite(outdoor), outdoor, np.nanmean(outdoor) if np.isfinite(outdoor).any() else 0.0), np.array([d.weekday() < 5 for d in dates]), used), midnight)
        return self._history


def _filled(values: Array) -> Array:
    """Hold a value for an hour when nothing newer came."""
    out, since = values.copy(), 99
    for k in range(len(out)):
        since = 0 if np.isfinite(values[k]) else since + 1
        if 0 < since <= 4 and k:
            out[k] = out[k - 1]
    return out
