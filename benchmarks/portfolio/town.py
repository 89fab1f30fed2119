"""A town of simulated projects, all at once in arrays: three rooms each, walls, radiators that lag, staged boilers or heat pumps behind a thermostat and a box that keeps caps.

Its physics are its own, not the optimiser's: what is known of a project (area, a loss misjudged by up to 15 %) is all the other side gets. Must not know: events, desks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from optimizers.specification import Building, Community, ElectricBoiler, HeatPump, Prices

Array = NDArray[np.float64]
STEP_S: Final = 10
MARGIN, RISE_PER_MIN = 0.02, 0.25  # of the box's own rule
SET_C, FLOOR_C, COP = 20.5, 18.0, 2.8
KINDS: Final = 40


class Town:
    """Forty kinds of projects, each many times in many sizes. `room_c` is (count, 3); all else (count,).

    Args:
        count: projects.
        seed: of who they are and of every noise: two towns of one seed differ only by what they are asked for.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        r = np.random.default_rng(self.seed)
        kind = np.arange(self.count) % KINDS
        k = np.random.default_rng(7)
        per: dict[str, NDArray[Any]] = {"loss": k.uniform(1.0, 1.9, KINDS), "air": k.uniform(0.012, 0.025, KINDS), "wall": k.uniform(0.06, 0.14, KINDS), "link": k.uniform(4.0, 8.0, KINDS), "pump": k.uniform(0, 1, KINDS) < 0.35, "error": k.uniform(0.85, 1.15, KINDS),
               "rated": k.uniform(1.35, 1.8, KINDS), "lag": k.uniform(300, 1200, KINDS), "stages": k.integers(12, 37, KINDS)}
        self.kind = kind
        self.area: Array = r.lognormal(np.log(4000), 0.5, self.count)
        self.loss: Array = per["loss"][kind] * self.area / 1000
        self.air, self.wall, self.link = per["air"][kind] * self.area, per["wall"][kind] * self.area, per["link"][kind] * self.area / 1000
        self.pump, self.lag, self.known = per["pump"][kind], per["lag"][kind], per["error"][kind]
        self.cop = np.where(self.pump, COP, 1.0)
        self.rated = per["rated"][kind] * self.loss * 32 / self.cop
        self.stage = np.where(self.pump, 0.0, self.rated / per["stages"][kind])
        self.worse = np.stack([np.full(self.count, 0.94), np.ones(self.count), r.uniform(1.02, 1.1, self.count)], axis=1)
        self.other = 0.03 * self.rated
        self.cap, self._allowed = np.full(self.count, np.inf), np.full(self.count, np.inf)
        self.outdoor, self._rng, self._owed = -5.0, np.random.default_rng(self.seed + 1), np.zeros(self.count)
        self._beside = self.other.copy()
        self.room_c = SET_C - (self.worse - 1) * 14 + 0.0
        self.wall_c = self.room_c.mean(axis=1) - 4
        self.heat_kw = self.loss * (SET_C - self.outdoor)
        self._source = self.heat_kw / self.cop
        self.power_kw = self._source + self.other
        self.limited = np.zeros(count, np.bool_)

    def step(self) -> Array:
        """Ten seconds; returns what the grid meters saw, kW."""
        mean = self.room_c.mean(axis=1)
        want = np.clip(self.loss * (SET_C - self.outdoor) * (1 + 0.4 * (SET_C - mean)) / self.cop, 0, self.rated)
        other = self.other * (1 + 0.05 * self._rng.standard_normal(self.count))
        self._beside = np.maximum(other, self._beside + 0.1 * (other - self._beside))  # rises at once, falls slowly
        room = self.cap * (1 - MARGIN) - self._beside
        rising = np.where(np.isfinite(self._allowed), self._allowed + RISE_PER_MIN * np.where(np.isfinite(self.cap), self.cap, self.rated) * STEP_S / 60, np.inf)
        self._allowed = np.minimum(np.maximum(room, 0), rising)
        stage = np.maximum(self.stage, 1e-9)
        # A thermostat of a staged source puts stages in and out so that their mean is what it wants.
        self._owed = np.clip(self._owed + (want - self._source) * STEP_S, -stage * 300, stage * 300)
        staged = np.clip(np.round((want + self._owed / 300) / stage), 0, np.floor(self.rated / stage + 1e-6)) * stage
        wish = np.where(self.stage > 0, staged, want)
        most = np.where(self.stage > 0, np.floor(self._allowed / stage + 1e-6) * stage, self._allowed)
        source = np.minimum(wish, most)
        self._source, self.limited = source, source < wish - 0.01
        self.heat_kw += (source * self.cop - self.heat_kw) * np.minimum(1.0, STEP_S / self.lag)
        dt = STEP_S / 3600
        flow = self.link[:, None] / 3 * (self.room_c - self.wall_c[:, None])
        out = self.loss[:, None] / 3 * 0.6 * self.worse * (self.room_c - self.outdoor)
        self.room_c = self.room_c + dt * (self.heat_kw[:, None] / 3 - out - flow) / (self.air[:, None] / 3)
        lost = self.loss * 0.4 * (mean - self.outdoor) * (self.wall_c - self.outdoor) / np.maximum(1.0, mean - 4 - self.outdoor)
        self.wall_c = self.wall_c + dt * (flow.sum(axis=1) - lost) / self.wall
        self.power_kw = source + other
        return np.asarray(self.power_kw, np.float64)


def community(town: Town, n: int) -> Community:
    """What an optimiser takes one project for: its areas, and its loss as it was misjudged."""
    steps = 32
    loss = town.loss[n] * town.known[n]
    room = float(town.room_c[n].mean())
    price = np.full(steps, 0.8)
    building = Building("rooms", float(town.air[n]), float(loss * 0.6), room, float(town.wall[n]), float(town.link[n]), float(loss * 0.4), float(town.wall_c[n]), 0.0, 0.0, float(town.rated[n] * town.cop[n]),
                        np.full(steps, FLOOR_C + 0.8), np.full(steps, 19.4), np.full(steps, 21.5), target_c=min(room, 20.4))
    source = HeatPump("source", float(town.rated[n] * COP)) if town.pump[n] else ElectricBoiler("source", float(town.rated[n]), 0.99)
    kelvin = 5 * float(loss) * 0.8
    return Community(str(n), 0.25, Prices(price, terminal=0.5, floor=max(200.0, 20 * kelvin), comfort=max(5.0, kelvin)), np.full(steps, town.outdoor), [building], [source], [], [], np.zeros(steps), np.full(steps, 40.0), float(town.other[n]), 0.0,
                     float("inf"), float("inf"))
