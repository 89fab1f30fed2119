"""How a project answers the grid (响应策略): defaults, presets people can choose, checks.

Pure. Must not know: ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from cloud.functions.demand_response.errors import StrategyError


@dataclass(frozen=True, slots=True)
class Strategy:
    """Fields as of `tables.ResponseStrategy`."""

    project_id: int
    participates: bool = False
    joins: bool = False
    depth: float = 0.7
    longest_s: int = 14_400
    rest_s: int = 7_200
    notice_s: int = 0
    floor_c: float = 18.0
    rebound_share: float = 1.2
    rebound_s: int = 3_600
    events_per_day: int = 2
    events_per_season: int = 60
    security_kw: float = 0.0
    frost_kw: float = 0.0
    price_micro_kwh: int = 0
    owner_share: float = 0.8
    preset: str = "balanced"
    version: int = 0
    changed_ms: int = 0
    changed_by: str = ""

    @property
    def least_kw(self) -> float:
        """Nothing is lowered below this, whoever asks: frost protection outranks the grid, security load is registered."""
        return max(self.security_kw, self.frost_kw)


#: What a customer chooses among (供热端经济运行参与, 7.3.10 d): how much warmth is lent to the grid, for how long, how often.
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "comfort": {"depth": 0.4, "longest_s": 3_600, "rest_s": 14_400, "floor_c": 19.0, "events_per_day": 1},
    "balanced": {"depth": 0.7, "longest_s": 14_400, "rest_s": 7_200, "floor_c": 18.0, "events_per_day": 2},
    "saver": {"depth": 1.0, "longest_s": 14_400, "rest_s": 3_600, "floor_c": 18.0, "events_per_day": 4},
}
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "depth": (0.0, 1.0), "longest_s": (900, 86_400), "rest_s": (0, 604_800), "notice_s": (0, 86_400), "floor_c": (5.0, 24.0), "rebound_share": (0.2, 3.0), "rebound_s": (0, 43_200),
    "events_per_day": (0, 48), "events_per_season": (0, 1_000), "security_kw": (0.0, 1e6), "frost_kw": (0.0, 1e6), "price_micro_kwh": (0, 1_000_000_000), "owner_share": (0.0, 1.0)}
FIELDS: Final = tuple(f.name for f in fields(Strategy) if f.name not in ("project_id", "version", "changed_ms", "changed_by"))


def changed(known: Strategy, values: Mapping[str, Any]) -> dict[str, Any]:
    """All fields after a change; a preset named brings its values, those given beside it win.

    Raises:
        StrategyError: names the field.
    """
    preset = values.get("preset")
    if preset is not None and preset not in (*PRESETS, ""):
        raise StrategyError(field="preset", problem_zh=f"须为 {'、'.join(PRESETS)}", problem_en=f"must be one of {', '.join(PRESETS)}")
    wanted = {name: getattr(known, name) for name in FIELDS} | dict(PRESETS.get(preset or "", {})) | {k: v for k, v in values.items() if k in FIELDS}
    for name in ("participates", "joins"):
        if not isinstance(wanted[name], bool):
            raise StrategyError(field=name, problem_zh="须为是或否", problem_en="must be true or false")
    for name, (low, high) in _RANGES.items():
        value = wanted[name]
        whole = isinstance(getattr(known, name), int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value) or not low <= value <= high:
            raise StrategyError(field=name, problem_zh=f"须在 {low:g} 与 {high:g} 之间{'，且为整数' if whole else ''}", problem_en=f"must be a {'whole ' if whole else ''}number from {low:g} to {high:g}")
    if preset is None and wanted["preset"] and any(wanted[k] != v for k, v in PRESETS[wanted["preset"]].items()):
        wanted["preset"] = ""
    return wanted


def rested(strategy: Strategy, events: list[tuple[int, int]], start_ms: int, end_ms: int, day_start_ms: int) -> str:
    """Why fatigue keeps a project out of [start, end), "" when it may.

    Args:
        strategy: of the project.
        events: (start, end) of market events it is committed to in this season, others than this one.
        start_ms: of the event.
        end_ms: of the event.
        day_start_ms: midnight before the event, local time.
    """
    if (end_ms - start_ms) / 1000 > strategy.longest_s:
        return "too-long"
    rest = strategy.rest_s * 1000
    if any(s < end_ms + rest and start_ms < e + rest for s, e in events):
        return "resting"
    if sum(day_start_ms <= s < day_start_ms + 86_400_000 for s, _ in events) >= strategy.events_per_day:
        return "day-full"
    return "season-full" if len(events) >= strategy.events_per_season else ""
