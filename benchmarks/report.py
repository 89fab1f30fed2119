"""How every benchmark speaks: a table on the terminal and a list of {id, value, unit, goal, ok} in build/results.

`ok` is the plain comparison with the goal; a smaller run says so in every row. Must not know: what is measured.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUICK = os.environ.get("QUICK") == "1"


@dataclass
class Report:
    """Rows of one target."""

    target: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, id_: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None, note: str = "") -> None:
        """One figure; a goal is a floor or a cap, or there is none (then `ok` is None: shown for comparison only)."""
        ok = None
        if at_least is not None:
            ok = value >= at_least
        if at_most is not None:
            ok = value <= at_most and ok is not False
        goal = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}" if at_most is not None else ""
        self.rows.append({"id": id_, "value": round(value, 6), "unit": unit, "goal": goal, "ok": ok, "note": note, "quick": QUICK})

    def missing(self, id_: str, why: str) -> None:
        """A figure that could not be taken, with the reason."""
        self.rows.append({"id": id_, "value": None, "unit": "", "goal": "", "ok": False, "note": why, "quick": QUICK})

    def finish(self) -> int:
        """Print and save; 0 when no goal was missed."""
        print(f"\n{self.target}{' (a smaller run of the same shape: QUICK=1)' if QUICK else ''}")
        width = max((len(r["id"]) for r in self.rows), default=10)
        for r in self.rows:
            value = "-" if r["value"] is None else f"{r['value']:,.4g}"
            mark = {True: "ok", False: "MISSED", None: ""}[r["ok"]]
            print(f"  {r['id']:<{width}}  {value:>12} {r['unit']:<14} {r['goal']:<12} {mark:<7} {r['note']}")
        path = Path("build/results") / f"{self.target}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.rows, indent=1))
        print(f"  written to {path}")
        return 0 if all(r["ok"] is not False for r in self.rows) else 1


def quantile(values: list[float], q: float) -> float:
    """Nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(q * len(ordered) + 0.5) - 1))]
