"""Seven days of every point at its sampling interval, as a monitoring system keeps them: a ring, quantised like the registers.

All points every 15 min, active power of plant devices and meters also every 5 min; states, set-points, commands and alarms are given out
when they changed, or hourly. Must not know: physics, sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.plants.device import Image
from benchmarks.plants.template import load
from protos.points import Kind, point

TICK_S, FINE_S, DAYS = 900, 300, 7
_STEADY = {Kind.STATE, Kind.SETPOINT, Kind.COMMAND, Kind.ALARM}
_RATED = {"kW", "kWh", "kvar", "kvarh", "kVA", "A"}


class History:
    """The ring of one community. Times are UNIX seconds UTC; rows carry milliseconds."""

    def __init__(self, image: Image) -> None:
        self._image = image
        n = len(image.index)
        self._names = [(image.devices[k].code, p) for k, p in image.index]
        kinds = [point(p).kind for _, p in image.index]
        self._steady = np.array([k in _STEADY for k in kinds])
        self._counter = np.array([k is Kind.COUNTER for k in kinds])
        self._fine = np.array([i for i, (k, p) in enumerate(image.index) if p == "active_power" and image.devices[k].template != "room_heater_modbus"], dtype=np.intp)
        self._slots, self._fine_slots = DAYS * 86400 // TICK_S, DAYS * 86400 // FINE_S
        self._coarse = np.full((self._slots, n), np.nan)
        self._quick = np.full((self._fine_slots, len(self._fine)), np.nan)
        self._coarse_at = np.full(self._slots, -1, dtype=np.int64)  # tick number kept in a slot
        self._quick_at = np.full(self._fine_slots, -1, dtype=np.int64)
        step, shift, ratio = np.ones(n), np.zeros(n), np.ones(n)
        for i, (k, p) in enumerate(image.index):
            device, place = image.devices[k], load(image.devices[k].template).places[p]
            modbus = load(device.template).protocol == "modbus" and place.address.get("type") != "f32"
            step[i] = abs(place.scale * place.factor) if modbus else place.resolution
            shift[i] = place.offset * place.factor + place.shift if modbus else 0.0
            ratio[i] = device.ct_ratio if not modbus and point(p).unit in _RATED else 1.0
        self._step, self._shift, self._ratio = step, shift, ratio

    def quantised(self) -> npt.NDArray[np.float64]:
        """The image as the registers show it."""
        exact = (self._image.values / self._ratio - self._shift) / self._step
        raw = np.where(self._counter, np.floor(exact + 1e-6), np.round(exact))  # a counter is cut, as on its display
        return np.round((raw * self._step + self._shift) * self._ratio, 6)

    def record(self, utc_s: float) -> None:
        """Keep the published image if `utc_s` is on the grid."""
        at = round(utc_s)
        if at % FINE_S == 0:
            values = self.quantised()
            tick = at // FINE_S
            self._quick[tick % self._fine_slots] = values[self._fine]
            self._quick_at[tick % self._fine_slots] = tick
            if at % TICK_S == 0:
                tick = at // TICK_S
                self._coarse[tick % self._slots] = values
                self._coarse_at[tick % self._slots] = tick

    def page(self, start_ms: int, end_ms: int, limit: int = 20_000) -> dict[str, Any]:
        """Rows of [start, end) up to about `limit`, columnar: {series: [{device, point, at_ms, value}], rows, next}; `next` is the start of the next page or None."""
        first = -(-start_ms // (TICK_S * 1000))
        last = -(-end_ms // (TICK_S * 1000))
        if len(kept := self._coarse_at[self._coarse_at >= 0]):
            first, last = max(first, int(kept.min())), min(last, int(kept.max()) + 1)
        per_tick = int((~self._steady).sum()) + int(self._steady.sum()) // 4 + 2 * len(self._fine)
        stop = min(last, first + max(1, limit // max(per_tick, 1)))
        ticks = [t for t in range(first, stop) if self._coarse_at[t % self._slots] == t]
        series = self._coarse_series(ticks)
        self._add_fine(series, ticks, start_ms, end_ms)
        rows = [{"device": d, "point": p, "at_ms": at, "value": value} for (d, p), (at, value) in series.items() if at]
        return {"series": rows, "rows": sum(len(r["at_ms"]) for r in rows), "next": stop * TICK_S * 1000 if stop < last else None}

    def _coarse_series(self, ticks: list[int]) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
        block = self._coarse[[t % self._slots for t in ticks]]
        at_ms = np.array(ticks, dtype=np.int64) * TICK_S * 1000
        keep = np.isfinite(block)
        if ticks:
            before = np.array([self._coarse[(t - 1) % self._slots] if self._coarse_at[(t - 1) % self._slots] == t - 1 else np.full(block.shape[1], np.nan) for t in ticks])
            hourly = (np.array(ticks) % 4 == 0)[:, None]
            keep &= ~self._steady[None, :] | hourly | (block != before)
        return {name: (at_ms[keep[:, i]].tolist(), block[keep[:, i], i].tolist()) for i, name in enumerate(self._names)}

    def _add_fine(self, series: dict[tuple[str, str], tuple[list[int], list[float]]], ticks: list[int], start_ms: int, end_ms: int) -> None:
        for j, i in enumerate(self._fine):
            at, value = [], []
            for tick in ticks:
                for k in range(TICK_S // FINE_S):
                    fine = tick * (TICK_S // FINE_S) + k
                    here = fine * FINE_S * 1000
                    if self._quick_at[fine % self._fine_slots] == fine and start_ms <= here < end_ms:
                        at.append(here)
                        value.append(float(self._quick[fine % self._fine_slots, j]))
            series[self._names[i]] = (at, value)

    def rows(self, start_ms: int, end_ms: int) -> Iterator[tuple[str, str, int, float]]:
        """(device code, point key, UTC ms, canonical value) of [start, end), page by page in time."""
        at: int | None = start_ms
        while at is not None:
            page = self.page(at, end_ms)
            for s in page["series"]:
                for when, value in zip(s["at_ms"], s["value"], strict=True):
                    yield s["device"], s["point"], when, value
            at = page["next"]
