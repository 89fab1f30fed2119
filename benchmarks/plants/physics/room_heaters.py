"""Direct electric room heaters (分散式电采暖: cable, film, panel) with their own thermostats.

Must not know: rooms' physics, gateways, the platform.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class RoomHeaters:
    """n heaters; each is on below set-point - band and off above set-point + band, never switching within `lock_s`."""

    STATE = ("on", "since_s", "enable", "setpoint", "energy_kwh")

    def __init__(self, rated_kw: Array, band: float = 0.4, lock_s: float = 120.0) -> None:
        n = len(rated_kw)
        self.rated_kw = rated_kw
        self.band = band
        self.lock_s = lock_s
        self.on: Array = np.zeros(n)
        self.since_s: Array = np.full(n, 1e6)
        self.enable: Array = np.ones(n)
        self.setpoint: Array = np.full(n, 19.0)
        self.energy_kwh: Array = np.zeros(n)

    def step(self, dt: float, t_measured: Array, *, alive: bool = True, frost: float = 6.0) -> Array:
        """Advance by `dt` seconds.

        Args:
            dt: s.
            t_measured: what the thermostats see, degC, (n,).
            alive: electricity is there.
            frost: below this the heater runs even when disabled (its own protection), degC.

        Returns:
            Electric power, all of it heat in the room, kW, (n,).
        """
        self.since_s = self.since_s + dt
        wish = np.where(t_measured < self.setpoint - self.band, 1.0, np.where(t_measured > self.setpoint + self.band, 0.0, self.on))
        wish = np.where(self.enable > 0, wish, 0.0)
        wish = np.where(t_measured < frost, 1.0, wish)
        change = (wish != self.on) & (self.since_s >= self.lock_s)
        self.on = np.where(change, wish, self.on)
        self.since_s = np.where(change, 0.0, self.since_s)
        power = self.rated_kw * self.on if alive else np.zeros_like(self.on)
        self.energy_kwh = self.energy_kwh + power * dt / 3600
        return power
