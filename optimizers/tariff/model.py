"""A tariff as data: schedule of periods, components with versions, brackets (tiers, caps, subsidies), market curve, capacity or demand charge, power factor.

`parse` turns a document (JSON or YAML already loaded; schema: `tariff.schema.json`) into frozen data, or says where it is wrong. Money is Decimal.
Must not know: meters, files, the optimiser.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optimizers.errors import InputError, OptimizerError, Words
from optimizers.tariff.schema import plain, problems

PERIODS = ("sharp", "peak", "flat", "valley", "deep_valley")  # 尖 峰 平 谷 深谷
DAY_TYPES = ("workday", "weekend", "holiday")
DAY = 1440


class TariffError(OptimizerError):
    """A tariff document is wrong."""

    code = "E-TARIFF"
    zh = "电价方案“{where}”有误：{problem}。请更正后重新提交。"
    en = "The tariff is wrong at '{where}': {problem}. Correct it and submit again."


@dataclass(frozen=True, slots=True)
class Season:
    """From a month-day to a month-day, both included; may cross the year's end."""

    first: tuple[int, int]
    last: tuple[int, int]

    def holds(self, day: dt.date) -> bool:
        """True for a day within."""
        at = (day.month, day.day)
        return self.first <= at <= self.last if self.first <= self.last else at >= self.first or at <= self.last

    def begins(self, day: dt.date) -> dt.date:
        """First day of the season a day within belongs to."""
        year = day.year if (day.month, day.day) >= self.first else day.year - 1
        return dt.date(year, *self.first)


@dataclass(frozen=True, slots=True)
class Rule:
    """Periods of a day, for some months and day types (and a season, which then comes first).

    Attributes:
        spans: (from minute, to minute, period), covering [0, 1440) once.
    """

    months: frozenset[int]
    days: frozenset[str]
    season: Season | None
    spans: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A component's price from a day on, yuan/kWh: one for all periods, or one a period."""

    since: dt.date
    yuan: Decimal | None
    by_period: Mapping[str, Decimal]
    season: Season | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A market's prices: one value for every stretch of a day, from its local midnight on.

    Attributes:
        minutes: length of a stretch, elapsed time; a day of 23 or 25 hours has fewer or more.
        days: day -> yuan/kWh of each stretch.
        otherwise: yuan/kWh on days without values; None = such days cannot be rated.
    """

    minutes: int
    days: Mapping[dt.date, tuple[Decimal, ...]]
    otherwise: Decimal | None


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the price (purchase, line loss, transmission, funds, ...).

    Attributes:
        factors: True when time-of-use factors apply to it.
        adjusted: True when the power-factor adjustment applies to it.
        versions: newest last; empty when there is a curve.
        curve: a market's prices instead.
    """

    key: str
    zh: str
    en: str
    factors: bool
    adjusted: bool
    versions: tuple[Version, ...]
    curve: Curve | None = None


@dataclass(frozen=True, slots=True)
class Bracket:
    """A step of a bracket: up to so many kWh of its scope (None = without end), yuan/kWh added (negative: a subsidy)."""

    up_to: Decimal | None
    add: Decimal


@dataclass(frozen=True, slots=True)
class Brackets:
    """Tiers, a cap or a subsidy: kWh counted over a scope, in the order they were used.

    Attributes:
        scope: month, year or season.
        periods: which periods count and are priced; empty = all.
    """

    key: str
    zh: str
    en: str
    scope: str
    season: Season | None
    periods: frozenset[str]
    steps: tuple[Bracket, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """Maximum-demand charge (需量电费).

    Attributes:
        yuan_kw: a month, per kW.
        minutes: length of the mean.
        sliding: True = every window, False = aligned blocks.
        discount_kwh_kva, discount: from so many kWh per kVA a month on, the price is multiplied (None: never).
    """

    yuan_kw: Decimal
    minutes: int = 15
    sliding: bool = False
    discount_kwh_kva: Decimal | None = None
    discount: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Tariff:
    """A tariff.

    Attributes:
        factors: period -> factor, by first day, newest last.
        demand, capacity_yuan_kva: one of them, or neither.
        power_factor: standard to keep (0.80, 0.85, 0.90), None = no adjustment.
    """

    key: str
    zh: str
    en: str
    zone: ZoneInfo
    category: str
    voltage: str
    holidays: frozenset[dt.date]
    workdays: frozenset[dt.date]
    rules: tuple[Rule, ...]
    components: tuple[Component, ...]
    factors: tuple[tuple[dt.date, Mapping[str, Decimal]], ...]
    brackets: tuple[Brackets, ...]
    demand: Demand | None
    capacity_yuan_kva: Decimal | None
    power_factor: Decimal | None

    def day_type(self, day: dt.date) -> str:
        """workday, weekend or holiday; named workdays (调休) win."""
        if day in self.workdays:
            return "workday"
        if day in self.holidays:
            return "holiday"
        return "weekend" if day.weekday() >= 5 else "workday"

    def spans(self, day: dt.date) -> tuple[tuple[int, int, str], ...]:
        """Periods of a day; a rule with a season wins over one without."""
        kind = self.day_type(day)
        fitting = [r for r in self.rules if day.month in r.months and kind in r.days and (r.season is None or r.season.holds(day))]
        return min(fitting, key=lambda r: r.season is None).spans


def parse(document: Mapping[str, Any]) -> Tariff:
    """A tariff from its document.

    Raises:
        TariffError: a field is missing or wrong; the place is named, for periods with month, day type and hour.
    """
    if not isinstance(document, Mapping):
        raise TariffError(where="tariff", problem=Words(f"{type(document).__name__} is no document", f"{type(document).__name__} 不是文档"))
    document = plain(document)
    for where, problem in problems(document):
        raise TariffError(where=where or "tariff", problem=problem)
    try:
        zone = ZoneInfo(str(document.get("zone", "Asia/Shanghai")))
    except (ZoneInfoNotFoundError, ValueError):
        raise TariffError(where="zone", problem=f"'{document.get('zone')}' is no time zone") from None
    rules = tuple(_rule(r, f"schedule[{k}]") for k, r in enumerate(_list(document, "schedule")))
    tariff = Tariff(
        str(_need(document, "tariff")), *_names(document), zone, str(document.get("category", "")), str(document.get("voltage", "")),
        frozenset(_date(d, "holidays") for d in document.get("holidays", ())), frozenset(_date(d, "workdays") for d in document.get("workdays", ())), rules,
        tuple(_component(c, f"components[{k}]", zone) for k, c in enumerate(_list(document, "components"))),
        tuple(sorted(((_date(f.get("from", "1970-01-01"), "factors"), {p: _money(v, f"factors.{p}") for p, v in f["periods"].items()}) for f in document.get("factors", ())),
                     key=lambda f: f[0])),
        tuple(_brackets(b, f"brackets[{k}]") for k, b in enumerate(document.get("brackets", ()))), _demand(document.get("demand")),
        _money(document["capacity_yuan_kva"], "capacity_yuan_kva") if "capacity_yuan_kva" in document else None,
        _money(document["power_factor"], "power_factor") if "power_factor" in document else None)
    if tariff.demand is not None and tariff.capacity_yuan_kva is not None:
        raise TariffError(where="capacity_yuan_kva", problem="a demand charge and a capacity charge exclude each other")
    for what, keys in (("components", [c.key for c in tariff.components]), ("brackets", [b.key for b in tariff.brackets])):
        if len(set(keys)) != len(keys):
            raise TariffError(where=what, problem=f"key '{next(k for k in keys if keys.count(k) > 1)}' is given twice")
    _covered(tariff)
    _priced(tariff)
    return tariff


def with_prices(tariff: Tariff, key: str, days: Mapping[dt.date, Sequence[Decimal]]) -> Tariff:
    """The tariff with more days on a component's market curve; a day already there is replaced.

    Args:
        tariff: the tariff.
        key: of a component with a curve.
        days: day -> yuan/kWh of each stretch.

    Raises:
        TariffError: there is no such curve, a price is no number, or a day has too few or too many values; the first missing time is named.
        InputError: `days` is no mapping of days to rows.
    """
    where = f"components.{key}"
    if not isinstance(tariff, Tariff) or not isinstance(days, Mapping) or not all(type(d) is dt.date and isinstance(v, Sequence) and not isinstance(v, str) for d, v in days.items()):
        raise InputError(name="with_prices", field="days", problem=Words("not days with a price a stretch", "不是“日期到各时段价格”的映射"))
    old = next((c for c in tariff.components if c.key == key), None)
    if old is None or old.curve is None:
        raise TariffError(where=where, problem="no component with a market curve")
    more = {day: _whole_day(day, tuple(_money(v, f"{where}.days.{day}") for v in values), old.curve.minutes, tariff.zone, where) for day, values in days.items()}
    new = dataclasses.replace(old, curve=dataclasses.replace(old.curve, days={**old.curve.days, **more}))
    return dataclasses.replace(tariff, components=tuple(new if c.key == key else c for c in tariff.components))


def _covered(tariff: Tariff) -> None:
    """Every day of every kind has one rule with a season, or none with and one without."""
    for day in (dt.date(2024, 1, 1) + dt.timedelta(days=k) for k in range(366)):
        for kind in DAY_TYPES:
            fitting = [r for r in tariff.rules if day.month in r.months and kind in r.days and (r.season is None or r.season.holds(day))]
            place = f"month {day.month}, {kind} ({day:%m-%d}), 00:00 to 24:00"
            if not fitting:
                raise TariffError(where="schedule", problem=f"{place}: no rule")
            if len([r for r in fitting if r.season is not None] or fitting) > 1:
                raise TariffError(where="schedule", problem=f"{place}: an overlap, two rules hold")


def _priced(tariff: Tariff) -> None:
    used = {p for r in tariff.rules for _, _, p in r.spans}
    for c in tariff.components:
        since = [(v.since, v.season) for v in c.versions]
        for version in c.versions:
            if since.count((version.since, version.season)) > 1:
                raise TariffError(where=f"components.{c.key}", problem=f"two prices from {version.since}")
            missing = used - set(version.by_period) if version.yuan is None else set()
            if missing:
                raise TariffError(where=f"components.{c.key}", problem=f"no price for {', '.join(sorted(missing))} from {version.since}")
        if c.factors and (not tariff.factors or any(used - set(f) for _, f in tariff.factors)):
            raise TariffError(where=f"components.{c.key}", problem="time-of-use factors apply, but some period has none")


def _rule(raw: Mapping[str, Any], where: str) -> Rule:
    spans = []
    for k, span in enumerate(_list(raw, "periods", where)):
        if not isinstance(span, Sequence) or len(span) != 3:
            raise TariffError(where=f"{where}.periods[{k}]", problem="not [from, to, period]")
        first, last, period = _minute(span[0], where), _minute(span[1], where, end=True), str(span[2])
        if period not in PERIODS:
            raise TariffError(where=f"{where}.periods[{k}]", problem=f"'{period}' is none of {', '.join(PERIODS)}")
        if first == last:
            raise TariffError(where=f"{where}.periods[{k}]", problem=f"no width at {_clock(first)}")
        spans += [(first, last, period)] if first < last else [(first, DAY, period), *([(0, last, period)] if last else [])]
    at = 0
    for first, last, _ in sorted(spans):
        if first != at:
            raise TariffError(where=where, problem=f"a gap from {_clock(at)} to {_clock(first)}" if first > at else f"an overlap from {_clock(first)} to {_clock(min(at, last))}")
        at = last
    if at != DAY:
        raise TariffError(where=where, problem=f"a gap from {_clock(at)} to 24:00")
    months = frozenset(int(m) for m in raw.get("months", range(1, 13)))
    days = frozenset(str(d) for d in raw.get("days", DAY_TYPES))
    if not months <= set(range(1, 13)) or not days <= set(DAY_TYPES) or not months or not days:
        raise TariffError(where=where, problem="months are 1-12, days are workday, weekend, holiday")
    return Rule(months, days, _season(raw, where), tuple(sorted(spans)))


def _component(raw: Mapping[str, Any], where: str, zone: ZoneInfo) -> Component:
    versions = list[Version]()
    if ("curve" in raw) == ("prices" in raw):
        raise TariffError(where=where, problem="neither 'prices' nor 'curve', or both")
    for v in raw.get("prices", ()):
        by_period = {str(p): _money(y, f"{where}.prices.{p}") for p, y in v.get("periods", {}).items()}
        versions.append(Version(_date(v.get("from", "1970-01-01"), where), _money(v["yuan"], where) if "yuan" in v else None, by_period, _season(v, where)))
        if "yuan" not in v and not by_period:
            raise TariffError(where=where, problem="a price has neither 'yuan' nor 'periods'")
    return Component(str(_need(raw, "key", where)), *_names(raw), bool(raw.get("factors", False)), bool(raw.get("adjusted", False)), tuple(sorted(versions, key=lambda v: v.since)),
                     _curve(raw["curve"], f"{where}.curve", zone) if "curve" in raw else None)


def _curve(raw: Mapping[str, Any], where: str, zone: ZoneInfo) -> Curve:
    minutes, days = int(raw["minutes"]), dict[dt.date, tuple[Decimal, ...]]()
    for text, values in raw["days"].items():
        day = _date(text, f"{where}.days")
        days[day] = _whole_day(day, tuple(_money(v, f"{where}.days.{day}") for v in values), minutes, zone, where)
    return Curve(minutes, days, _money(raw["otherwise"], f"{where}.otherwise") if "otherwise" in raw else None)


def _whole_day(day: dt.date, values: tuple[Decimal, ...], minutes: int, zone: ZoneInfo, where: str) -> tuple[Decimal, ...]:
    begin, end = (dt.datetime.combine(d, dt.time(), zone) for d in (day, day + dt.timedelta(days=1)))
    wanted = round((end.timestamp() - begin.timestamp()) / 60) // minutes
    if len(values) < wanted:
        at = dt.datetime.fromtimestamp(begin.timestamp() + len(values) * minutes * 60, zone)
        raise TariffError(where=f"{where}.days.{day}", problem=f"a gap from {at:%H:%M} to 24:00: {len(values)} prices, {wanted} are needed")
    if len(values) > wanted:
        raise TariffError(where=f"{where}.days.{day}", problem=f"an overlap after 24:00: {len(values)} prices, {wanted} are needed")
    return values


def _brackets(raw: Mapping[str, Any], where: str) -> Brackets:
    steps = tuple(Bracket(None if s.get("up_to") is None else _money(s["up_to"], where), _money(s["add"], where)) for s in _list(raw, "steps", where))
    edges = [s.up_to for s in steps]
    if any(e is None for e in edges[:-1]) or edges[-1] is not None or any(a >= b for a, b in itertools.pairwise(e for e in edges if e is not None)):
        raise TariffError(where=where, problem="steps must rise, and only the last is without end")
    if edges[0] is not None and edges[0] <= 0:
        raise TariffError(where=f"{where}.steps[0].up_to", problem=Words(f"'{edges[0]}' kWh is not above zero", f"“{edges[0]}” kWh 不大于零"))
    scope, season = str(raw.get("scope", "month")), _season(raw, where)
    if scope not in ("month", "year", "season") or (scope == "season" and season is None):
        raise TariffError(where=where, problem="scope is month, year, or season with a season given")
    periods = frozenset(str(p) for p in raw.get("periods", ()))
    if not periods <= set(PERIODS):
        raise TariffError(where=where, problem=f"unknown period in {sorted(periods)}")
    return Brackets(str(_need(raw, "key", where)), *_names(raw), scope, season, periods, steps)


def _demand(raw: Mapping[str, Any] | None) -> Demand | None:
    if raw is None:
        return None
    discount = raw.get("discount", {})
    found = Demand(_money(_need(raw, "yuan_kw", "demand"), "demand"), int(raw.get("minutes", 15)), bool(raw.get("sliding", False)),
                   _money(discount["kwh_kva"], "demand.discount") if discount else None, _money(discount.get("factor", 1), "demand.discount"))
    if found.minutes <= 0 or DAY % found.minutes:
        raise TariffError(where="demand.minutes", problem=f"{found.minutes} does not divide a day")
    return found


def _names(raw: Mapping[str, Any]) -> tuple[str, str]:
    name = raw.get("name", {})
    return str(name.get("zh", raw.get("key", raw.get("tariff", "")))), str(name.get("en", raw.get("key", raw.get("tariff", ""))))


def _need(raw: Mapping[str, Any], field: str, where: str = "") -> Any:
    if field not in raw:
        raise TariffError(where=f"{where}.{field}".strip("."), problem="missing")
    return raw[field]


def _list(raw: Mapping[str, Any], field: str, where: str = "") -> Sequence[Any]:
    found = _need(raw, field, where)
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise TariffError(where=f"{where}.{field}".strip("."), problem="not a list with entries")
    return found


def _season(raw: Mapping[str, Any], where: str) -> Season | None:
    if "season" not in raw:
        return None
    ends = [re.fullmatch(r"(\d\d)-(\d\d)", str(raw["season"].get(k, ""))) for k in ("from", "to")]
    try:
        first, last = ((int(m[1]), int(m[2])) for m in ends if m)
        dt.date(2024, *first), dt.date(2024, *last)
    except ValueError:
        raise TariffError(where=f"{where}.season", problem="not from MM-DD to MM-DD") from None
    if first == (2, 29):
        raise TariffError(where=f"{where}.season", problem="begins on a day that most years do not have; take 03-01 (or end at 02-29, which holds in any year)")
    return Season(first, last)


def _money(value: Any, where: str) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise TariffError(where=where, problem=f"'{value}' is not a number") from None
    if not found.is_finite() or abs(found) > 10_000_000:
        raise TariffError(where=where, problem=f"'{value}' is out of range")
    return found


def _date(value: Any, where: str) -> dt.date:
    try:
        return dt.date.fromisoformat(str(value) if len(str(value)) > 7 else f"{value}-01")
    except ValueError:
        raise TariffError(where=where, problem=f"'{value}' is not a date") from None


def _minute(value: Any, where: str, *, end: bool = False) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d\d)", str(value))
    minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else -1
    if not 0 <= minute <= DAY:
        raise TariffError(where=where, problem=f"'{value}' is not HH:MM")
    return minute % DAY if not end else minute


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
