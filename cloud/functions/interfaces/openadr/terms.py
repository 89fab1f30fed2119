"""What a program says of its events: the attributes KANG_* of an OpenADR program, checked. Pure.

Must not know: events, ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloud.functions.demand_response.states import Kind
from cloud.functions.interfaces.openadr.errors import FieldError
from cloud.functions.interfaces.openadr.times import duration_ms
from optimizers.demand_response.baseline import METHODS

#: Share of the published capability that levels 0 to 3 of SIMPLE ask for.
LEVELS: Final = (0.0, 1 / 3, 2 / 3, 1.0)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a program says of its events, by its attributes.

    Attributes:
        kind: a mandatory order or a market event; what says nothing is voluntary.
        baseline: by which delivery is judged.
        trial: True for a test program.
        ramp_s: time to get there.
        rebound_share: of the baseline's peak, 0 = no limit.
        gate_ms: bids close so long before the start.
        micro_kw, micro_penalty_kwh: price of capacity and of what is not delivered, micro-yuan.
        levels: share of the capability by SIMPLE level.
    """

    kind: Kind = Kind.MARKET
    baseline: str = "realtime_15_min"
    trial: bool = False
    ramp_s: int = 300
    rebound_share: float = 0.0
    gate_ms: int = 900_000
    micro_kw: int = 0
    micro_penalty_kwh: int = 0
    levels: tuple[float, ...] = LEVELS


def terms(program: Mapping[str, Any]) -> Terms:
    """Terms of a program's document.

    Raises:
        FieldError: an attribute of ours that will not do.
    """
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for n, attribute in enumerate(program.get("attributes") or []):
        name, values, place = attribute["type"], attribute["values"], f"attributes.{n}"
        if not name.startswith("KANG_"):
            continue
        if name in seen:
            raise FieldError(field=f"{place}.type", problem_zh=f"{name} 重复", problem_en=f"{name} stands twice")
        seen.add(name)
        if name == "KANG_SIMPLE_LEVELS":
            shares = tuple(number(v, f"{place}.values.{k}", 0.0, 1.0) for k, v in enumerate(values))
            if len(shares) != 3 or list(shares) != sorted(shares):
                raise FieldError(field=f"{place}.values", problem_zh="须为 1、2、3 级的三个比例，递增", problem_en="must be three rising shares, of levels 1, 2 and 3")
            found["levels"] = (0.0, *shares)
            continue
        if len(values) != 1:
            raise FieldError(field=f"{place}.values", problem_zh="须为一个值", problem_en="must be one value")
        found |= _term(name, values[0], place)
    return Terms(**found)


def _term(name: str, value: Any, place: str) -> dict[str, Any]:
    at = f"{place}.values.0"
    match name:
        case "KANG_KIND":
            if value not in tuple(Kind):
                raise FieldError(field=at, problem_zh="须为 order（有序用电）或 market（市场邀约）", problem_en="must be order or market")
            return {"kind": Kind(value)}
        case "KANG_BASELINE":
            if value not in METHODS:
                raise FieldError(field=at, problem_zh=f"没有基线方法“{str(value)[:40]}”", problem_en=f"must be one of {', '.join(METHODS)}")
            return {"baseline": value}
        case "KANG_TRIAL":
            if not isinstance(value, bool):
                raise FieldError(field=at, problem_zh="须为 true 或 false", problem_en="must be true or false")
            return {"trial": value}
        case "KANG_RAMP":
            return {"ramp_s": duration_ms(value, at, 0, 7_200_000) // 1000}
        case "KANG_GATE":
            return {"gate_ms": duration_ms(value, at, 0, 86_400_000)}
        case "KANG_REBOUND_SHARE":
            return {"rebound_share": number(value, at, 0.0, 3.0)}
        case "KANG_CAPACITY_PRICE":
            return {"micro_kw": round(number(value, at, 0.0, 1000.0) * 1e6)}
        case "KANG_PENALTY_PRICE":
            return {"micro_penalty_kwh": round(number(value, at, 0.0, 1000.0) * 1e6)}
    raise FieldError(field=f"{place}.type", problem_zh=f"没有属性“{name[:60]}”", problem_en=f"there is no attribute '{name[:60]}'")


def number(value: Any, field: str, low: float, high: float) -> float:
    """A finite number within bounds.

    Raises:
        FieldError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise FieldError(field=field, problem_zh=f"须为 {low:g} 至 {high:g} 的数", problem_en=f"must be a number from {low:g} to {high:g}")
    return float(value)
