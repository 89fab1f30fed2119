"""OpenADR 3.1 events in our own words: what becomes an order, and what cannot is refused with the field named. The table stands in the documentation.

Pure: programs, resources and the time are arguments. Must not know: ledgers, HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud.functions.demand_response.errors import EventError
from cloud.functions.demand_response.orders import STEP_MS, Capability
from cloud.functions.demand_response.states import Kind
from cloud.functions.interfaces.openadr.errors import FieldError
from cloud.functions.interfaces.openadr.terms import Terms, number, terms
from cloud.functions.interfaces.openadr.times import NOW, duration_ms, moment_ms

#: Payloads that become a limit on the draw of all targets together, kW.
LIMITS: Final = frozenset({"IMPORT_CAPACITY_LIMIT", "IMPORT_CAPACITY_SUBSCRIPTION", "DISPATCH_SETPOINT"})
#: Payloads that become a reduction below the baseline.
REDUCTIONS: Final = frozenset({"DISPATCH_SETPOINT_RELATIVE", "SIMPLE"})
#: Granted on top of a subscription.
EXTRA: Final = "IMPORT_CAPACITY_RESERVATION"
CONTROLS: Final = LIMITS | REDUCTIONS
#: What a report can be asked to hold.
REPORTS: Final = frozenset({"DEMAND", "BASELINE", "DATA_QUALITY", "DELTA_USAGE"})
_KW_MOST: Final = 1e7
#: Where in an event's document stands what the desk calls so.
_PLACES: Final[Mapping[str, str]] = {
    "start_ms": "intervalPeriod.start", "end_ms": "intervalPeriod.duration", "kw": "intervals", "resources": "targets", "bid_until_ms": "intervalPeriod.start", "target": "intervals.0.payloads.0.type", "micro_kwh": "intervals"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One interval as it was written."""

    begin_ms: int
    end_ms: int
    control: str
    value: float
    price: float | None
    place: str


def order(event: Mapping[str, Any], program: Mapping[str, Any], able: Mapping[str, Capability], now_ms: int, *, event_id: str, version: int, begun_ms: int = 0) -> dict[str, Any]:
    """An event's document as fields of `orders.Order`, for `ResponseService.submit`.

    Args:
        event: as sent.
        program: the document of its program.
        able: what may be asked of each resource in the caller's scope, by code.
        now_ms: UTC milliseconds.
        event_id: its number here.
        version: of this content.
        begun_ms: start of the version known before, for a start of "now".

    Raises:
        FieldError: names the place in the document.
    """
    means = terms(program)
    units = _units(event, program)
    asked = _loop(event, _intervals(event, means, units, begun_ms or now_ms))
    _reports(event)
    start, end = asked[0].begin_ms, asked[-1].end_ms
    codes = _targets(event, program, able)
    control = asked[0].control
    values = [a.value for a in asked]
    if control == "SIMPLE":
        whole = sum(c.forced_kw if means.kind is Kind.ORDER else c.down_kw((end - start) / 1000) for c in (able[code] for code in (codes if codes is not None else able)))
        values = [round(means.levels[int(v)] * whole, 3) for v in values]
    prices = {a.price for a in asked}
    if len(prices) > 1:
        raise FieldError(field="intervals", problem_zh="各时段 PRICE 须相同", problem_en="PRICE must be the same in every interval")
    price = prices.pop()
    given: dict[str, Any] = {
        "event_id": event_id, "version": version, "kind": str(means.kind), "start_ms": start, "end_ms": end, "target": "limit" if control in LIMITS else "reduction", "kw": _quarters(asked, values),
        "ramp_s": means.ramp_s, "priority": _priority(event), "baseline": means.baseline, "rebound_share": means.rebound_share, "trial": means.trial, "micro_kw": means.micro_kw,
        "micro_penalty_kwh": means.micro_penalty_kwh, "reason": str(event.get("eventName") or "")}
    if codes is not None:
        given["resources"] = codes
    if means.kind is Kind.MARKET:
        given |= {"bid_until_ms": start - means.gate_ms, "micro_kwh": round((price or 0.0) * 1e6)}
    return given


def told(error: EventError) -> FieldError:
    """What the desk refused, by its place in the event's document."""
    name, _, rest = str(error.values["field"]).partition(".")
    return FieldError(field=_PLACES.get(name, name) + (f".{rest}" if rest and name == "resources" else ""), problem_zh=error.values["problem_zh"], problem_en=error.values["problem_en"])


# -- parts --------------------------------------------------------------------------------------------------------------


def _intervals(event: Mapping[str, Any], means: Terms, units: Mapping[str, tuple[str | None, str | None]], now_ms: int) -> list[Asked]:
    period, rows = event.get("intervalPeriod") or {}, event.get("intervals") or []
    if not rows:
        raise FieldError(field="intervals", problem_zh="须至少有一个时段", problem_en="must hold at least one interval")
    _unrandom(period, "intervalPeriod")
    numbers: set[int] = set()
    cursor = None if period.get("start") is None else now_ms if period["start"].startswith(NOW) else moment_ms(period["start"], "intervalPeriod.start")
    found: list[Asked] = []
    for n, row in enumerate(rows):
        own, place = row.get("intervalPeriod") or {}, f"intervals.{n}"
        _unrandom(own, f"{place}.intervalPeriod")
        if row["id"] in numbers:
            raise FieldError(field=f"{place}.id", problem_zh="时段编号重复", problem_en="stands twice")
        numbers.add(row["id"])
        begin = cursor
        if own.get("start") is not None:
            begin = now_ms if own["start"].startswith(NOW) else moment_ms(own["start"], f"{place}.intervalPeriod.start")
        if begin is None:
            raise FieldError(field="intervalPeriod.start", problem_zh="缺少开始时间", problem_en="is missing: nothing says when the event starts")
        if found and begin != cursor:
            raise FieldError(field=f"{place}.intervalPeriod.start", problem_zh="时段须首尾相接", problem_en="must be the end of the interval before: an event has no holes and no overlaps")
        length = own.get("duration") or period.get("duration")
        where = f"{place}.intervalPeriod.duration" if own.get("duration") else "intervalPeriod.duration"
        if length is None:
            raise FieldError(field=where, problem_zh="缺少时长", problem_en="is missing")
        cursor = begin + duration_ms(length, where, 1, 366 * 86_400_000)
        control, value, price = _payloads(row, place, means, units)
        if found and control != found[0].control:
            raise FieldError(field=f"{place}.payloads", problem_zh=f"各时段须同为 {found[0].control}", problem_en=f"must be {found[0].control}, as in the first interval")
        found.append(Asked(begin, cursor, control, value, price, place))
    return found


def _loop(event: Mapping[str, Any], asked: list[Asked]) -> list[Asked]:
    """Intervals repeated until the event's own duration is over."""
    given = event.get("duration")
    if given is None or given == "PT0S":
        return asked
    whole, once = duration_ms(given, "duration", 1, 366 * 86_400_000), asked[-1].end_ms - asked[0].begin_ms
    if whole % once or whole // once * len(asked) > 1500:
        raise FieldError(field="duration", problem_zh="须为各时段总长的整数倍", problem_en=f"must be a whole multiple of the intervals' {once / 1000:g} s")
    return [Asked(a.begin_ms + k * once, a.end_ms + k * once, a.control, a.value, a.price, a.place) for k in range(whole // once) for a in asked]


def _payloads(row: Mapping[str, Any], place: str, means: Terms, units: Mapping[str, tuple[str | None, str | None]]) -> tuple[str, float, float | None]:
    """(control, value, price) of an interval."""
    control, value, extra, price = "", 0.0, None, None
    for m, payload in enumerate(row["payloads"]):
        kind, values, at = payload["type"], payload["values"], f"{place}.payloads.{m}"
        if kind not in CONTROLS | {EXTRA, "PRICE"}:
            raise FieldError(field=f"{at}.type", problem_zh=f"不支持 {kind[:60]}；支持 {'、'.join(sorted(CONTROLS))}", problem_en=f"{kind[:60]} cannot be carried out here; what can: {', '.join(sorted(CONTROLS))}")
        if len(values) != 1:
            raise FieldError(field=f"{at}.values", problem_zh="须为一个值", problem_en="must be one value")
        _unit(kind, units, at)
        amount = _amount(kind, values[0], f"{at}.values.0")
        if kind == "PRICE":
            if means.kind is Kind.ORDER:
                raise FieldError(field=f"{at}.type", problem_zh="有序用电不付费，不能带 PRICE", problem_en="PRICE stands in a mandatory program, whose events are not paid")
            again, price = price is not None, amount
        elif kind == EXTRA:
            again, extra = extra is not None, amount
        else:
            again, control, value = bool(control), kind, amount
        if again:
            raise FieldError(field=f"{at}.type", problem_zh="同一时段只能有一个此类值", problem_en="one interval can hold one such value only")
    if not control:
        raise FieldError(field=f"{place}.payloads", problem_zh=f"缺少功率要求（{'、'.join(sorted(CONTROLS))}）", problem_en=f"asks for no power; one of {', '.join(sorted(CONTROLS))} is needed")
    if extra is not None and control != "IMPORT_CAPACITY_SUBSCRIPTION":
        raise FieldError(field=f"{place}.payloads", problem_zh=f"{EXTRA} 须与 IMPORT_CAPACITY_SUBSCRIPTION 同时出现", problem_en=f"{EXTRA} goes with IMPORT_CAPACITY_SUBSCRIPTION only")
    return control, value + (extra or 0.0), price


def _amount(kind: str, value: Any, at: str) -> float:
    if kind == "SIMPLE":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 3:
            raise FieldError(field=at, problem_zh="须为 0、1、2 或 3", problem_en="must be 0, 1, 2 or 3")
        return float(value)
    if kind == "DISPATCH_SETPOINT_RELATIVE":
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _KW_MOST:
            raise FieldError(field=at, problem_zh="须为负（削减）或 0：不受理上调", problem_en="must be negative (less draw) or 0: raising the draw is not offered")
        return -number(value, at, -_KW_MOST, 0.0)
    return number(value, at, 0.0, 1000.0 if kind == "PRICE" else _KW_MOST)


def _quarters(asked: Sequence[Asked], values: Sequence[float]) -> list[float]:
    """One value, or one a quarter of an hour from the start."""
    if len(set(values)) == 1:
        return [values[0]]
    start, end = asked[0].begin_ms, asked[-1].end_ms
    steps = math.ceil((end - start) / STEP_MS)
    if steps > 2000:
        raise FieldError(field="duration", problem_zh="事件过长", problem_en="makes the event too long")
    for before, now, a, b in zip(asked, asked[1:], values, values[1:], strict=False):
        if a != b and (now.begin_ms - start) % STEP_MS:
            raise FieldError(field=f"{before.place}.intervalPeriod.duration", problem_zh="数值只能在开始后每 15 分钟改变一次", problem_en="the value changes off the quarter of an hour; it can change every 15 minutes from the start")
    out, k = [], 0
    for step in range(steps):
        while asked[k].end_ms <= start + step * STEP_MS:
            k += 1
        out.append(values[k])
    return out


def _targets(event: Mapping[str, Any], program: Mapping[str, Any], able: Mapping[str, Capability]) -> list[str] | None:
    """Those meant by the event, else by its program, else (None) everybody in scope."""
    for targets, prefix in ((event.get("targets"), "targets"), (program.get("targets"), "programID: targets")):
        if targets is None:
            continue
        if not targets:
            raise FieldError(field=prefix, problem_zh="为空：请列出资源；针对全部资源时不要写这个字段", problem_en="is empty: name the resources meant, or leave the field out to mean all of them")
        for n, code in enumerate(targets):
            if code not in able:
                raise FieldError(field=f"{prefix}.{n}", problem_zh=f"没有资源“{code[:40]}”，或不在您的范围内", problem_en=f"there is no resource '{code[:40]}' in your scope that could be asked")
        return list(targets)
    if not able:
        raise FieldError(field="targets", problem_zh="没有可调资源", problem_en="there is no resource to ask")
    return None


def _priority(event: Mapping[str, Any]) -> int:
    value = event.get("priority")
    if value is None:
        return 5
    if not 0 <= value <= 9:
        raise FieldError(field="priority", problem_zh="须为 0（最高）至 9", problem_en="must be 0 (first) to 9")
    return int(value)


def _reports(event: Mapping[str, Any]) -> None:
    for n, wanted in enumerate(event.get("reportDescriptors") or []):
        if wanted["payloadType"] not in REPORTS:
            raise FieldError(field=f"reportDescriptors.{n}.payloadType", problem_zh=f"不提供 {wanted['payloadType'][:60]}；提供 {'、'.join(sorted(REPORTS))}", problem_en=f"{wanted['payloadType'][:60]} is not reported; what is: {', '.join(sorted(REPORTS))}")
        if wanted.get("historical") is False:
            raise FieldError(field=f"reportDescriptors.{n}.historical", problem_zh="不提供预测报告", problem_en="forecasts are not reported by event; see the resource")


def _units(event: Mapping[str, Any], program: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """(units, currency) by payload type; the event's own descriptors come before the program's."""
    rows = [d for document in (program, event) for d in document.get("payloadDescriptors") or [] if d["objectType"] == "EVENT_PAYLOAD_DESCRIPTOR"]
    return {d["payloadType"]: (d.get("units"), d.get("currency")) for d in rows}


def _unit(kind: str, units: Mapping[str, tuple[str | None, str | None]], at: str) -> None:
    """A number means kW (a price: yuan per kWh) unless its descriptor says otherwise, which is then refused."""
    unit, currency = units.get(kind, (None, None))
    if kind == "SIMPLE":
        return
    wanted = "KWH" if kind == "PRICE" else "KW"
    if unit not in {None, wanted}:
        raise FieldError(field=f"{at}.type", problem_zh=f"单位须为 {wanted}，而不是 {str(unit)[:20]}", problem_en=f"its descriptor says {str(unit)[:20]}; only {wanted} is taken")
    if kind == "PRICE" and currency not in {None, "CNY"}:
        raise FieldError(field=f"{at}.type", problem_zh="币种须为 CNY", problem_en="its descriptor's currency is not CNY")


def _unrandom(period: Mapping[str, Any], place: str) -> None:
    given = period.get("randomizeStart")
    if given is not None and duration_ms(given, f"{place}.randomizeStart", 0, 366 * 86_400_000):
        raise FieldError(field=f"{place}.randomizeStart", problem_zh="不支持：平台自行错峰", problem_en="is not offered: the platform staggers starts itself")
