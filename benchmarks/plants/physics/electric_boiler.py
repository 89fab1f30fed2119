"""An electric boiler (电锅炉) with stages that come one after another, a water level and its own hard protection.

Must not know: tanks, tariffs, controllers.
"""

from __future__ import annotations

from benchmarks.plants.physics.ledger import Ledger


class ElectricBoiler:
    """A boiler of `stages` equal stages, `rated_kw` together; each stage change takes `stage_s`."""

    STATE = ("on", "clock_s", "element", "leaving", "starts", "run_s", "level", "tripped", "heat_kw", "power_kw")

    def __init__(self, rated_kw: float, stages: int, stage_s: float = 10.0, efficiency: float = 0.985) -> None:
        self.rated_kw = rated_kw
        self.stages = stages
        self.stage_s = stage_s
        self.efficiency = efficiency
        self.on = 0          # stages on
        self.clock_s = 0.0   # since the last stage change
        self.element = 40.0  # degC
        self.leaving = 40.0
        self.starts = 0.0
        self.run_s = 0.0
        self.level = 85.0    # %
        self.tripped = False
        self.heat_kw = 0.0
        self.power_kw = 0.0
        self.ledger = Ledger()

    def step(self, dt: float, *, wish: int, flow: float, t_entering: float, cp: float = 4.186, alive: bool = True) -> None:
        """Advance by `dt` seconds; results in `heat_kw`, `power_kw`, `on`, `leaving`.

        Args:
            dt: s.
            wish: wished stages.
            flow: water through the boiler, kg/s.
            t_entering: degC.
            cp: kJ/(kg K).
            alive: electricity is there.
        """
        wish = max(0, min(self.stages, wish))
        self.tripped = self.level < 20.0 or self.leaving > 98.0 or (self.tripped and (self.level < 40.0 or self.leaving > 85.0))
        if self.tripped or not alive or flow <= 0:
            self.on, self.clock_s = 0, 0.0  # hard protection acts at once
        else:
            self.clock_s += dt
            while self.on != wish and self.clock_s >= self.stage_s:
                self.clock_s -= self.stage_s
                if self.on == 0:
                    self.starts += 1
                self.on += 1 if wish > self.on else -1
            if self.on == wish:
                self.clock_s = min(self.clock_s, self.stage_s)
        self.power_kw = self.rated_kw * self.on / self.stages
        self.heat_kw = self.efficiency * self.power_kw
        self.run_s += dt if self.on else 0.0
        target = t_entering + (self.heat_kw / (flow * cp) if flow > 0 else 0.0)
        self.leaving += (target - self.leaving) * min(1.0, dt / 60)
        self.element += (self.leaving + 35.0 * self.on / self.stages - self.element) * min(1.0, dt / 90)
        self.ledger.add(entered=dt * self.power_kw, left=dt * self.power_kw)

    def stored(self) -> float:
        """The boiler's own water belongs to the tank, kJ."""
        return 0.0
