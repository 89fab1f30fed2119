"""What a project can do for the grid (需求分析, 7.3.7 a), from the same optimiser that plans it; without a plan, from what its meter shows.

Pure. Must not know: ledgers, transports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cloud.functions.economic_operation.site import Site
from optimizers.demand_response.flexibility import DURATIONS_H, envelope
from optimizers.specification import Community

#: Sources answer within so long: a stage or a compressor's lock.
RAMP_S: Final = 300
NOTICE_S: Final = 60


def stage_kw(where: Site) -> float:
    """The stage in which a project's draw moves, kW; 0 = it follows any kW, or there is nothing to move."""
    if where.pumps or not where.boilers or not all(b.stages for b in where.boilers):
        return 0.0
    return min(b.rated_kw / b.stages for b in where.boilers)


def optimised(community: Community, grid_kw: Sequence[float], start_ms: int, now_ms: int, least_kw: float, *, step_kw: float = 0.0) -> dict[str, Any]:
    """From the community a plan was made for.

    Args:
        community: as planned.
        grid_kw: the plan's draw (without an event).
        start_ms: of the plan's first interval.
        now_ms: UTC milliseconds.
        least_kw: security load and frost minimum.
        step_kw: the stage in which it moves, 0 = any kW.
    """
    step_ms = round(community.step_h * 3_600_000)
    first = min(max(0, (now_ms - start_ms) // step_ms), community.steps - 2)
    base = float(grid_kw[first])
    rows = [{"duration_s": round(f.duration_h * 3600), "down_kw": round(max(0.0, f.down_kw), 2), "up_kw": round(max(0.0, f.up_kw), 2), "down_micro": round(max(0.0, f.down_yuan) * 1e6), "up_micro": round(f.up_yuan * 1e6)}
            for f in envelope(community, int(first))]
    return {"at_ms": now_ms, "start_ms": start_ms + int(first) * step_ms, "base_kw": round(base, 2), "forced_kw": round(max(0.0, base - least_kw), 2), "ramp_s": RAMP_S, "notice_s": NOTICE_S, "how": "optimised", "rows": rows,
            "base": {"start_ms": start_ms, "step_s": step_ms // 1000, "kw": [round(float(x), 2) for x in grid_kw], "step_kw": step_kw, "other_kw": round(float(np.mean(community.base_kw)), 2)}}


def metered(draw_kw: float, least_kw: float, now_ms: int, *, step_kw: float = 0.0, other_kw: float = 0.0) -> dict[str, Any]:
    """Without a plan: what is drawn above the floor could be left off for as long as a house forgives without any planning, a quarter of an hour."""
    able = round(max(0.0, draw_kw - least_kw), 2)
    rows = [{"duration_s": round(h * 3600), "down_kw": able if h <= 0.25 else 0.0, "up_kw": 0.0, "down_micro": 0, "up_micro": 0} for h in DURATIONS_H]
    return {"at_ms": now_ms, "start_ms": now_ms // 900_000 * 900_000, "base_kw": round(draw_kw, 2), "forced_kw": able, "ramp_s": RAMP_S, "notice_s": NOTICE_S, "how": "metered", "rows": rows, "base": {"step_kw": step_kw, "other_kw": round(other_kw, 2)}}


def mean(values: Sequence[float]) -> float | None:
    """Mean of finite values, None when there is none."""
    seen = np.asarray(values, np.float64)
    seen = seen[np.isfinite(seen)]
    return float(seen.mean()) if len(seen) else None
