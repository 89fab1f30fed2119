"""What a dispatcher asks (调度指令), checked field by field before anything is done with it.

Pure: resources and the time are arguments. Must not know: ledgers, transports.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloud.functions.demand_response.errors import EventError
from cloud.functions.demand_response.states import Kind
from optimizers.demand_response.baseline import METHODS

STEP_MS: Final = 900_000
SHORTEST_MS, LONGEST_MS, AHEAD_MS = 60_000, 24 * 3_600_000, 14 * 86_400_000
#: An event that began so little ago still counts as not in the past: the message travelled.
GRACE_MS: Final = 5_000
#: Asked for above what is published by less than this is rounding.
TOLERANCE: Final = 1.001
TARGETS: Final = ("reduction", "limit")
MICRO_MOST: Final = 1_000_000_000
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")


@dataclass(frozen=True, slots=True)
class Capability:
    """What a resource may be asked for; see `tables.ResponseResource`.

    Attributes:
        project_id: the project behind it.
        base_kw: draw without an event.
        floor_kw: security load and frost minimum.
        forced_kw: what a mandatory order may cut.
        rows: (duration_s, down_kw), ascending, comfort-limited.
    """

    project_id: int
    base_kw: float
    floor_kw: float
    forced_kw: float
    rows: tuple[tuple[int, float], ...]

    def down_kw(self, seconds: float) -> float:
        """What can be lowered for so long: the published row at or above the duration, 0 when none is so long."""
        return next((kw for duration, kw in self.rows if duration >= seconds - 1), 0.0)


@dataclass(frozen=True, slots=True)
class Order:
    """An event as it was taken.

    Attributes:
        event_id: the dispatcher's own number; version: rises with every change.
        kind: mandatory order or market event.
        resources: codes of the projects meant, sorted.
        start_ms, end_ms: UTC milliseconds, [start, end).
        target: "reduction" below the baseline, or "limit" on the draw of all resources together; kw: one value, or one a quarter of an hour from the start on.
        ramp_s: until the target must be there.
        priority: 0 is strongest; among events of one kind.
        bid_until_ms: gate closure (market).
        micro_kwh, micro_kw, micro_penalty_kwh: prices of energy, capacity and missing energy, micro-yuan.
        baseline: name of the official baseline, of `optimizers.demand_response.baseline.METHODS`.
        rebound_share: the most drawn after it, share of the baseline's peak (0 = each project's strategy).
        trial: a test event: executed and evaluated, never paid.
        supersedes: an event of the same dispatcher this one takes the place of.
        reason: shown to people.
    """

    event_id: str
    version: int
    kind: Kind
    resources: tuple[str, ...]
    start_ms: int
    end_ms: int
    target: str
    kw: tuple[float, ...]
    ramp_s: int = 300
    priority: int = 5
    bid_until_ms: int = 0
    micro_kwh: int = 0
    micro_kw: int = 0
    micro_penalty_kwh: int = 0
    baseline: str = "realtime_15_min"
    rebound_share: float = 0.0
    trial: bool = False
    supersedes: str = ""
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """As it is kept."""
        return {name: (list(v) if isinstance(v := getattr(self, name), tuple) else str(v) if isinstance(v, Kind) else v) for name in self.__slots__}

    def digest(self) -> str:
        """Two orders of one content have one digest."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()

    @property
    def seconds(self) -> float:
        """Length."""
        return (self.end_ms - self.start_ms) / 1000

    def wanted_kw(self, at_ms: int) -> float:
        """The target at a moment of the event."""
        return self.kw[min(len(self.kw) - 1, max(0, (at_ms - self.start_ms) // STEP_MS))]


def read(document: Mapping[str, Any]) -> Order:
    """An order out of what `Order.document` gave."""
    return Order(**{**document, "kind": Kind(document["kind"]), "resources": tuple(document["resources"]), "kw": tuple(document["kw"])})


def check(given: Mapping[str, Any], resources: Mapping[str, Capability], now_ms: int, *, begun_ms: int = 0) -> Order:
    """Check what a dispatcher sent.

    Args:
        given: fields of `Order`; `resources` may be empty = all the dispatcher sees.
        resources: by code, those in the dispatcher's scope.
        now_ms: UTC milliseconds.
        begun_ms: start of the event under way that this changes, 0 = none: its start cannot move, its end must still lie ahead.

    Raises:
        EventError: names the field.
    """
    order = _shape(given, resources)
    if begun_ms and order.start_ms != begun_ms:
        raise EventError(field="start_ms", problem_zh="事件已开始，不能改变开始时间", problem_en="cannot move: the event is under way")
    if begun_ms and order.end_ms <= now_ms:
        raise EventError(field="end_ms", problem_zh="结束时间已过；要立即结束请取消事件", problem_en="has passed; cancel the event to end it now")
    if not begun_ms and order.start_ms < now_ms - GRACE_MS:
        raise EventError(field="start_ms", problem_zh="开始时间已过", problem_en=f"lies {(now_ms - order.start_ms) / 1000:.0f} s in the past")
    if order.start_ms > now_ms + AHEAD_MS:
        raise EventError(field="start_ms", problem_zh="最多提前 14 天下达", problem_en="is more than 14 days ahead")
    if order.kind is Kind.MARKET and not now_ms < order.bid_until_ms <= order.start_ms:
        raise EventError(field="bid_until_ms", problem_zh="报价截止须晚于现在且不晚于开始", problem_en="must lie between now and the start")
    named = [resources[code] for code in order.resources]
    if order.target == "reduction":
        able = sum(r.forced_kw if order.kind is Kind.ORDER else r.down_kw(order.seconds) for r in named)
        if max(order.kw) > able * TOLERANCE:
            raise EventError(field="kw", problem_zh=f"要求削减 {max(order.kw):.1f} kW，所列资源最多可削减 {able:.1f} kW", problem_en=f"asks for {max(order.kw):.1f} kW less, these resources can do {able:.1f} kW")
    else:
        floor = sum(r.floor_kw for r in named)
        if min(order.kw) < floor / TOLERANCE:
            raise EventError(field="kw", problem_zh=f"限额 {min(order.kw):.1f} kW 低于保安负荷与防冻最低功率之和 {floor:.1f} kW", problem_en=f"limits to {min(order.kw):.1f} kW, security load and frost minimum are {floor:.1f} kW")
    return order


def repeats(given: Mapping[str, Any], kept: Order) -> bool:
    """True when what a dispatcher sent is what was taken before, whatever became possible or impossible since."""
    try:
        again = _shape({**given, "resources": list(given.get("resources") or kept.resources)}, dict.fromkeys(kept.resources))
    except (EventError, TypeError):
        return False
    return again.digest() == kept.digest()


def _shape(given: Mapping[str, Any], resources: Mapping[str, Any]) -> Order:
    event_id = given.get("event_id")
    if not isinstance(event_id, str) or not _ID.match(event_id):
        raise EventError(field="event_id", problem_zh="须为 1–64 个字母、数字或 . _ : -", problem_en="must be 1-64 letters, digits or . _ : -")
    supersedes = given.get("supersedes") or ""
    if supersedes and (not isinstance(supersedes, str) or not _ID.match(supersedes) or supersedes == event_id):
        raise EventError(field="supersedes", problem_zh="须为本调度机构的另一事件编号", problem_en="must name another event of yours")
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in tuple(Kind):
        raise EventError(field="kind", problem_zh="须为 order（有序用电）或 market（市场邀约）", problem_en="must be order or market")
    target = given.get("target", "reduction")
    if not isinstance(target, str) or target not in TARGETS:
        raise EventError(field="target", problem_zh="须为 reduction 或 limit", problem_en="must be reduction or limit")
    if target == "limit" and kind == Kind.MARKET:
        raise EventError(field="target", problem_zh="市场事件按削减量结算，须为 reduction", problem_en="a market event is settled by reduction, so it must be reduction")
    start, end = _whole(given, "start_ms", 0, 1 << 50), _whole(given, "end_ms", 0, 1 << 50)
    if not SHORTEST_MS <= end - start <= LONGEST_MS:
        raise EventError(field="end_ms", problem_zh="须比开始晚 1 分钟至 24 小时", problem_en=f"must be 1 minute to 24 hours after the start, not {(end - start) / 1000:.0f} s")
    named = _named(given.get("resources"), resources)
    baseline = given.get("baseline") or "realtime_15_min"
    if not isinstance(baseline, str) or baseline not in METHODS:
        raise EventError(field="baseline", problem_zh=f"没有基线方法“{str(baseline)[:40]}”", problem_en=f"must be one of {', '.join(METHODS)}")
    return Order(
        event_id, _whole(given, "version", 1, 1 << 31), Kind(kind), named, start, end, target, _kw(given.get("kw"), end - start), _whole(given, "ramp_s", 0, 7200, 300), _whole(given, "priority", 0, 9, 5),
        _whole(given, "bid_until_ms", 0, 1 << 50, 0) if kind == Kind.MARKET else 0, _whole(given, "micro_kwh", 0, MICRO_MOST, 0), _whole(given, "micro_kw", 0, MICRO_MOST, 0),
        _whole(given, "micro_penalty_kwh", 0, MICRO_MOST, 0), baseline, _number(given.get("rebound_share", 0.0), "rebound_share", 0.0, 3.0), bool(given.get("trial", False)), supersedes,
        str(given.get("reason") or "")[:200])


def _named(codes: Any, resources: Mapping[str, Any]) -> tuple[str, ...]:
    """Those meant: all in scope when nothing is said of them; an empty list means none, which asks for nothing."""
    if codes is None:
        codes = tuple(resources)
    elif not isinstance(codes, list | tuple):
        raise EventError(field="resources", problem_zh="须为资源编号列表", problem_en="must be a list of resource ids")
    for n, code in enumerate(codes):
        if not isinstance(code, str) or code not in resources:
            raise EventError(field=f"resources.{n}", problem_zh=f"没有资源“{str(code)[:40]}”，或不在您的范围内", problem_en=f"there is no resource '{str(code)[:40]}' in your scope")
    if not codes and resources:
        raise EventError(field="resources", problem_zh="为空：请列出资源；针对全部资源时不要写这个字段", problem_en="is empty: name the resources meant, or leave the field out to mean all of them")
    chosen = tuple(sorted(set(codes)))
    if not chosen:
        raise EventError(field="resources", problem_zh="没有可调资源", problem_en="there is no resource to ask")
    return chosen


def _kw(values: Any, length_ms: int) -> tuple[float, ...]:
    values = [values] if isinstance(values, int | float) and not isinstance(values, bool) else values
    most = max(1, math.ceil(length_ms / STEP_MS))
    if not isinstance(values, list | tuple) or len(values) not in {1, most}:
        raise EventError(field="kw", problem_zh=f"须为 1 个值，或每 15 分钟 1 个共 {most} 个", problem_en=f"must be one value, or {most}: one a quarter of an hour")
    return tuple(_number(v, f"kw.{n}" if len(values) > 1 else "kw", 0.0, 1e7) for n, v in enumerate(values))


def _number(value: Any, field: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise EventError(field=field, problem_zh=f"须为 {low:g} 至 {high:g} 的数", problem_en=f"must be a number from {low:g} to {high:g}")
    return float(value)


def _whole(given: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise EventError(field=name, problem_zh=f"须为 {low} 至 {high} 的整数", problem_en=f"must be a whole number from {low} to {high}")
    return value
