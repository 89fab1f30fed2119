"""Who decides in the loop: the best-tuned thermostat, a fixed valley schedule, and the planner with a forecast or with perfect foresight.

Must not know: money's sums, plots.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from benchmarks.loop.forecast import Forecast
from benchmarks.loop.plant import Array, Plant
from cloud.functions.economic_operation.learner import Learnt, from_register, learn, mass_now
from cloud.functions.economic_operation.planner import Comfort, Moment, Planned, Planner

HORIZON = 192


class Controller(Protocol):
    """Called every minute; what it wants it writes."""

    def act(self, plant: Plant, now_s: float, minute: int) -> None:
        """Look and write."""
        ...


class Thermostat:
    """Heat when it is cold: no clock, no tariff. `margin_k`: how much hotter than the loop the tank is kept; room set-points as residents chose, moved by `shift_k`."""

    def __init__(self, margin_k: float = 1.5, shift_k: float = 0.0) -> None:
        self.margin_k, self.shift_k = margin_k, shift_k
        self._own: Array | None = None

    def act(self, plant: Plant, now_s: float, minute: int) -> None:  # noqa: ARG002  a thermostat has no clock
        """Stages follow the top of the tank."""
        if self._own is None:
            self._own = plant.own()
        if minute % 60 == 0 and self.shift_k:
            for k, room in enumerate(plant.site.rooms):
                if room.movable:
                    plant.hold(plant.codes[room.device_id], "room_temp_setpoint", float(self._own[k]) + self.shift_k)
        boilers = plant.site.boilers
        if not boilers or minute % 3:
            return
        top, wanted = plant.read(plant.site.tank.device_id, "supply_temp"), plant.read(plant.site.tank.device_id, "leaving_temp_setpoint")  # type: ignore[union-attr]
        need = max(0, math.ceil(2 * (wanted + self.margin_k - top)))
        for b in boilers:
            n = min(b.stages, need)
            need -= n
            plant.hold(b.name, "enable_command", float(n > 0))
            plant.hold(b.name, "stage_command", float(n))


class Valley:
    """The fixed schedule people have today: storage plants charge in the valley (the plant's own controller does); others heat ahead in it."""

    def __init__(self, up_k: float = 1.0, down_k: float = 0.5) -> None:
        self.up_k, self.down_k = up_k, down_k
        self._own: Array | None = None

    def act(self, plant: Plant, now_s: float, minute: int) -> None:
        """Set-points by the hour."""
        if self._own is None:
            self._own = plant.own()
        if plant.site.boilers or minute % 15:
            return
        hour = ((now_s + 8 * 3600) / 3600) % 24
        move = self.up_k if hour >= 23 or hour < 7 else -self.down_k if 10 <= hour < 15 or 18 <= hour < 21 else 0.0
        for k, room in enumerate(plant.site.rooms):
            if room.movable:
                plant.hold(plant.codes[room.device_id], "room_temp_setpoint", float(self._own[k]) + move)


class Planning:
    """The planner, re-planned every 15 minutes from what the plant shows."""

    def __init__(self, plant: Plant, forecast: Forecast, prices: Array, begin_s: float, demand_yuan_kw: float, end_s: float, month_h: float, *, comfort: Comfort) -> None:
        self.planner = Planner(plant.site, comfort)
        self.forecast, self._prices, self._begin, self._demand, self._end, self._month_h = forecast, prices, begin_s, demand_yuan_kw, end_s, month_h
        self.learnt: Learnt = from_register(plant.site)
        self.peak_kw = 0.0
        self.seconds = 0.0
        self.plans = 0
        self.last: Planned | None = None
        self._own = plant.own()
        self._history: list[tuple[float, float, float, float]] = []
        self._draw: list[float] = []
        self._heat: list[float] = []
        self._running: dict[int, float] = {}

    def act(self, plant: Plant, now_s: float, minute: int) -> None:
        """Plan on the quarter hour, then say it to the devices."""
        site = plant.site
        self._draw.append(plant.read(site.grid_meter, "active_power"))
        self._heat.append(plant.read(site.heat_meter, "heat_power") if site.heat_meter else plant.read(site.grid_meter, "active_power"))
        if minute % 15:
            return
        if minute:
            self.peak_kw = max(self.peak_kw, float(np.mean(self._draw[-15:])))
        if minute % 60 == 0 and minute:
            seen = plant.rooms()
            mean = float(np.nanmean(seen)) if np.isfinite(seen).any() else float("nan")
            outdoor, sun = Forecast(self._begin, error=0.0).at(now_s - 3600, 4)
            self._history.append((mean, float(np.mean(self._heat[-60:])), float(outdoor.mean()), float(sun.mean())))
        if minute % 1440 == 0 and minute:
            columns = np.array(self._history).T
            self.learnt = learn(site, *columns)
        self._count(plant)
        outdoor, sun = self.forecast.at(now_s, HORIZON)
        k = round((now_s - self._begin) / 900)
        other = max(0.0, self._draw[-1] - sum(plant.read(b.device_id, "active_power") for b in site.sources)) if site.sources else 3.0
        moment = Moment(int(now_s * 1000), plant.rooms(), plant.layers(), plant.read(site.tank.device_id, "leaving_temp_setpoint") if site.tank else 45.0, plant.read(site.loop, "return_temp") if site.loop else 35.0, self._running, outdoor, sun,
                        self._prices[k:k + HORIZON], other, self._demand, min(self._month_h, max(1.0, (self._end - now_s) / 3600)), self.peak_kw, own_c=list(self._own))
        learnt = mass_now(self.learnt, np.array([h[0] for h in self._history[-72:]]))
        self.last = self.planner.plan(moment, learnt)
        self.seconds += self.last.plan.seconds
        self.plans += 1
        for track in self.last.tracks:
            value = track.value[0]
            if value is not None:
                plant.write(track.device_id, track.point_id, value)

    def _count(self, plant: Plant) -> None:
        for source in plant.site.sources:
            on = plant.read(source.device_id, "active_power") > 1.0
            before = self._running.get(source.device_id, -24.0)
            self._running[source.device_id] = (max(before, 0.0) + 0.25) if on else (min(before, 0.0) - 0.25)
