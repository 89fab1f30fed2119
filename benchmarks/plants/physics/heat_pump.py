"""An air-source heat pump (空气源热泵): capacity and COP by temperatures and part load, icing, defrost, compressor lock.

COP is a second-law share of Carnot between the refrigerant temperatures (share 0.5: about 2.4 at -12/41 degC, above the floor
of GB/T 25127.2-2020); hplib's generic class was rejected because it falls below 1 in a Beijing cold wave. Must not know: tanks, controllers.
"""

from __future__ import annotations

from benchmarks.plants.physics.ledger import Ledger

LATENT = 334.0
"""Melting heat of ice, kJ/kg."""


class HeatPump:
    """One heat pump of `rated_kw` heating capacity at -12 degC outside and 41 degC leaving water."""

    STATE = ("running", "since_s", "ice_kg", "defrosting", "starts", "run_s", "heat_kw", "power_kw", "share", "leaving")

    def __init__(self, rated_kw: float, lock_s: float = 300.0, minimum_share: float = 0.3) -> None:
        self.rated_kw = rated_kw
        self.lock_s = lock_s
        self.minimum_share = minimum_share
        self.running = False
        self.since_s = 1e9
        self.ice_kg = 0.0
        self.defrosting = 0.0  # s still to go
        self.starts = 0.0
        self.run_s = 0.0
        self.heat_kw = 0.0
        self.power_kw = 0.0
        self.share = 0.0
        self.leaving = 40.0
        self.ledger = Ledger()

    def capacity(self, t_out: float, t_supply: float) -> float:
        """Full-load heating capacity, kW."""
        return self.rated_kw * max(0.35, (1 + 0.018 * (t_out + 12)) * (1 - 0.006 * (t_supply - 41)))

    @staticmethod
    def cop(t_out: float, t_supply: float, share: float = 1.0) -> float:
        """Coefficient of performance without ice; better in the middle of the inverter's range, worse near its floor."""
        hot, cold = t_supply + 5 + 273.15, t_out - 8 + 273.15
        part = 1 + 0.12 * (1 - share) - (0.25 * (0.45 - share) if share < 0.45 else 0.0)
        return max(1.2, 0.5 * part * hot / max(hot - cold, 15.0))

    def stored(self) -> float:
        """Heat owed by the ice on the coil, kJ (negative: melting takes heat)."""
        return -LATENT * self.ice_kg

    def step(self, dt: float, *, wish: float, t_out: float, humidity: float, t_supply: float, t_entering: float, alive: bool = True) -> None:
        """Advance by `dt` seconds; results stand in `heat_kw` (to the water), `power_kw`, `running`.

        Args:
            dt: s, at most 60 (the compressor lock is judged at its ends).
            wish: wished share of full capacity, 0 = off; below the minimum share it is raised to it.
            t_out: degC.
            humidity: %.
            t_supply: leaving-water temperature, degC.
            t_entering: entering-water temperature, degC.
            alive: electricity is there.
        """
        self.since_s += dt
        if not alive and self.running:
            self._switch(on=False)
        elif alive and (wish > 0) != self.running and self.since_s >= self.lock_s:
            self._switch(on=wish > 0)
        ambient = casing = 0.0
        self.heat_kw, self.power_kw = 0.0, 0.05 if alive else 0.0
        casing += self.power_kw
        if self.running:
            self.run_s += dt
            full = self.capacity(t_out, t_supply)
            if self.defrosting > 0:
                compressor = 0.35 * full / self.cop(7.0, t_supply)
                melt = min(LATENT * self.ice_kg / dt, 0.9 * compressor + 0.25 * full)
                self.heat_kw = -(melt - 0.9 * compressor)  # reverse cycle: the water pays for what the compressor does not
                self.power_kw += compressor
                casing += 0.1 * compressor
                self.ice_kg = max(0.0, self.ice_kg - melt * dt / LATENT)
                self.defrosting = 0.0 if self.ice_kg <= 1e-6 else max(0.0, self.defrosting - dt)
                self.share = 0.35
            else:
                self.share = min(1.0, max(self.minimum_share, wish))
                clog = min(1.0, self.ice_kg / (0.12 * self.rated_kw))
                heat = full * self.share * (1 - 0.25 * clog)
                compressor = heat / (self.cop(t_out, t_supply, self.share) * (1 - 0.2 * clog))
                self.heat_kw, self.power_kw = heat, self.power_kw + compressor
                casing += 0.03 * compressor
                frost = self._frost_rate(t_out, humidity) * heat * dt
                self.ice_kg += frost
                ambient = heat + 0.03 * compressor - compressor - LATENT * frost / dt
                if self.ice_kg > 0.12 * self.rated_kw:
                    self.defrosting = 480.0
        else:
            self.share = 0.0
            if t_out > 2 and self.ice_kg > 0:
                thaw = min(self.ice_kg, 1e-4 * self.rated_kw * (t_out - 2) * dt / 60)
                self.ice_kg -= thaw
                ambient += LATENT * thaw / dt
        self.leaving = t_supply if self.running else self.leaving + (t_entering - self.leaving) * min(1.0, dt / 600)
        self.ledger.add(entered=dt * (self.power_kw + ambient), left=dt * (casing + self.heat_kw))

    def _switch(self, *, on: bool) -> None:
        self.running, self.since_s, self.defrosting = on, 0.0, 0.0 if not on else self.defrosting
        self.starts += on

    @staticmethod
    def _frost_rate(t_out: float, humidity: float) -> float:
        """Ice per heat delivered, kg/kJ: worst near 0 degC in wet air, nothing above 5 degC (shape derived here)."""
        if t_out > 5 or humidity < 45:
            return 0.0
        cold = 1.0 if t_out > -3 else max(0.15, 1 + 0.08 * (t_out + 3))
        return 4.0e-5 * cold * (humidity - 40) / 60
