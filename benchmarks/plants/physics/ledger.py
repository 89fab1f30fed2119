"""Counts every kilojoule that crosses a component's border, so that a test can prove the balance.

Must not know: which components exist.
"""

from __future__ import annotations

from dataclasses import dataclass

CP = 4.186
"""Specific heat of water, kJ/(kg K); density is taken as 1000 kg/m3 throughout."""
KJ_PER_KWH = 3600.0


@dataclass(slots=True)
class Ledger:
    """Energy that entered and left since the start, kJ (both sums are of signed flows, ambient heat included)."""

    entered: float = 0.0
    left: float = 0.0
    turnover: float = 0.0

    def add(self, entered: float = 0.0, left: float = 0.0) -> None:
        """Book energy in and out, kJ."""
        self.entered += entered
        self.left += left
        self.turnover += abs(entered) + abs(left)

    def imbalance(self, stored_change: float) -> float:
        """Relative error of "in = out + change in stored"; the scale is the gross turnover."""
        return abs(self.entered - self.left - stored_change) / max(self.turnover, abs(stored_change), 1.0)
