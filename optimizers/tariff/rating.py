"""Rates interval energy under a tariff: bill lines by month, component, period and bracket, exact in money.

Energy of an interval is uniform within it, so an interval across an edge is split by time. Money is Decimal; a component is rounded once, half up to the fen.
Must not know: meters, customers, journals.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizers.errors import InputError, Words
from optimizers.rules import UNJUDGED, Number, money, number, numbers, one_of
from optimizers.tariff.calendar import MINUTE_MS, Pieces, pieces
from optimizers.tariff.model import DAY, PERIODS, Brackets, Component, Curve, Tariff, TariffError

Array = NDArray[np.float64]
FEN = Decimal("0.01")
_KWH = Decimal("0.000001")
#: End of the year 2200.
_LATEST_MS = 7_289_654_400_000
#: Adjustment by power factor below the standard, in per mille for each hundredth missing (1983 rule): 5 a step for the first 20, 10 for the next 5, then 20.
_BELOW = (20, 5)
#: Standard in hundredths -> reward in 1/10,000 a step, and at most.
_ABOVE = {90: (15, 75), 85: (10, 110), 80: (10, 130)}


@dataclass(frozen=True, slots=True)
class Line:
    """A line: so many kWh at one price. `amount` is not rounded; the component is."""

    month: str
    key: str
    zh: str
    en: str
    period: str
    kwh: Decimal
    price: Decimal

    @property
    def amount(self) -> Decimal:
        """Yuan, exact."""
        return self.kwh * self.price


@dataclass(frozen=True, slots=True)
class Charge:
    """A component of a month's bill, rounded once."""

    month: str
    key: str
    zh: str
    en: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """What was rated: lines, charges (rounded), kWh, and where the counters of brackets stand afterwards. Energy only: no charge for capacity or demand, no power factor."""

    lines: list[Line]
    charges: list[Charge]
    kwh: Decimal
    used: dict[str, Decimal]

    @property
    def total(self) -> Decimal:
        """Yuan, the sum of the charges."""
        return sum((c.amount for c in self.charges), Decimal(0))


def rate(tariff: Tariff, start_ms: NDArray[np.int64], end_ms: NDArray[np.int64], kwh: Array, *, used: Mapping[str, Decimal] | None = None) -> Bill:
    """Rate the energy of one account's intervals: components, market curves, brackets.

    The charge for capacity or demand (`tariff.capacity_yuan_kva`, `tariff.demand`, with `demand_kw`) and the adjustment by power factor (`power_factor_share`) are by month and
    contract, not by interval: they are not in this bill.

    Args:
        tariff: the tariff.
        start_ms: (n,) UTC milliseconds, ascending, not overlapping.
        end_ms: (n,) UTC milliseconds.
        kwh: (n,) energy of each interval, not negative.
        used: kWh already counted by each bracket in the window that is running when the first interval begins.

    Raises:
        InputError: intervals overlap, are empty or of another number than energies; energy is negative or not a number; a counter of an unknown bracket.
        TariffError: a component has no price yet, or a market curve none, on a day of the span.
    """
    start, end = _grid("rate", tariff, start_ms, end_ms)
    energy = numbers("rate", "kwh", kwh, (len(start),), Number(0, 1e12))
    used = _counters("rate", tariff, used)
    if len(start) == 0:
        return Bill([], [], Decimal(0), dict(used))
    cut = pieces(tariff, int(start[0]), int(end[-1]))
    (at, interval), share = _split(cut, start, end)
    if share is not None:
        energy = energy[interval] * share
    lines = _component_lines(tariff, cut, at, energy)
    for component in tariff.components:
        if component.curve is not None:
            span = np.maximum(start[interval], cut.edges[at]), np.minimum(end[interval], cut.edges[at + 1])
            lines += _curve_lines(tariff, component, component.curve, cut, at, span, energy)
    counters = dict(used)
    for b in tariff.brackets:
        more, counters[b.key] = _bracket_lines(b, cut, at, energy, counters.get(b.key, Decimal(0)))
        lines += more
    return Bill(lines, _charges(lines), _dec(float(energy.sum())), counters)


def _grid(name: str, tariff: Tariff, start_ms: Any, end_ms: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Intervals in whole milliseconds: ascending, not overlapping, not empty, within the years that calendars know."""
    one_of(name, "tariff", tariff, (Tariff,))
    at = Number(0, _LATEST_MS, whole=True)
    start = numbers(name, "start_ms", start_ms, rule=at).astype(np.int64)
    end = numbers(name, "end_ms", end_ms, (len(start),), at).astype(np.int64)
    wrong = np.r_[end <= start] | np.r_[False, start[1:] < end[:-1]][:len(start)]
    if wrong.any():
        k = int(np.argmax(wrong))
        raise InputError(name=name, field="start_ms", problem=Words(f"interval {k} ({start[k]} to {end[k]}) is empty or overlaps the one before; ascending ones are needed",
                                                                   f"第 {k} 个时段（{start[k]} 至 {end[k]}）为空或与前一个重叠，须按时间递增"))
    return start, end


def _counters(name: str, tariff: Tariff, used: Mapping[str, Decimal] | None) -> dict[str, Decimal]:
    """Counters of known brackets."""
    if used is None:
        return {}
    one_of(name, "used", used, (Mapping,))
    known = [b.key for b in tariff.brackets]
    for key in used:
        if key not in known:
            raise InputError(name=name, field="used", problem=Words(f"the tariff has no bracket '{key}'; there are {', '.join(known) or 'none'}", f"电价方案没有阶梯“{key}”；现有：{'、'.join(known) or '无'}"))
    return {key: money(name, f"used.{key}", kwh, Number(0, 1e12)) for key, kwh in used.items()}


def _split(cut: Pieces, start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Array | None]:
    """((piece of each part, interval of each part), share of the interval in the part or None when nothing is split)."""
    first = np.searchsorted(cut.edges, start, "right") - 1
    last = np.searchsorted(cut.edges, end, "left") - 1
    count = last - first + 1
    if (count == 1).all():
        return (first, np.arange(len(start))), None
    interval = np.repeat(np.arange(len(start)), count)
    piece = first[interval] + np.arange(len(interval)) - np.repeat(np.cumsum(count) - count, count)
    overlap = np.minimum(end[interval], cut.edges[piece + 1]) - np.maximum(start[interval], cut.edges[piece])
    return (piece, interval), overlap / (end[interval] - start[interval])


def regimes(tariff: Tariff, days: Sequence[dt.date]) -> NDArray[np.int64]:
    """A number per day that changes whenever any price may."""
    known: dict[tuple[object, ...], int] = {}
    return np.array([known.setdefault(_regime(tariff, d), len(known)) for d in days], np.int64)


def _regime(tariff: Tariff, day: dt.date) -> tuple[object, ...]:
    return (sum(since <= day for since, _ in tariff.factors), *(tuple((v.since <= day) and (v.season is None or v.season.holds(day)) for v in c.versions) for c in tariff.components))


def price(tariff: Tariff, component: Component, day: dt.date, period: str) -> Decimal:
    """Yuan/kWh of a component without a curve on a day in a period. A version with a season wins over one without; outside the seasons of all its versions it is nothing.

    Raises:
        TariffError: the day is before the first version: what was unknown then is not free.
    """
    if component.versions and day < component.versions[0].since:
        since = component.versions[0].since
        raise TariffError(where=f"components.{component.key}", problem=Words(f"no price on {day}: its first begins on {since}; give an earlier one, 0 if it was free then",
                                                                           f"{day} 没有价格：首个版本自 {since} 起；请补充更早的版本，当时免费则填 0"))
    fitting = [v for v in component.versions if v.since <= day and (v.season is None or v.season.holds(day))]
    if not fitting:
        return Decimal(0)
    version = max(fitting, key=lambda v: (v.season is not None, v.since))
    value = version.by_period.get(period) if version.yuan is None else version.yuan
    if value is None or period not in PERIODS:
        raise TariffError(where=f"components.{component.key}", problem=Words(f"no price for '{period}' on {day}", f"{day} 没有“{period}”时段的价格"))
    return value * factor(tariff, day, period) if component.factors else value


def factor(tariff: Tariff, day: dt.date, period: str) -> Decimal:
    """The time-of-use factor of a period on a day; one when the tariff has none.

    Raises:
        TariffError: the day is before the first factors.
    """
    factors = [f for since, f in tariff.factors if since <= day]
    if tariff.factors and not factors:
        since = tariff.factors[0][0]
        raise TariffError(where="factors", problem=Words(f"no factors on {day}: the first begin on {since}; give earlier ones", f"{day} 没有浮动系数：首个版本自 {since} 起；请补充更早的版本"))
    if factors and period not in factors[-1]:
        raise TariffError(where="factors", problem=Words(f"no factor for '{period}' on {day}", f"{day} 没有“{period}”时段的系数"))
    return factors[-1][period] if factors else Decimal(1)


def _component_lines(tariff: Tariff, cut: Pieces, at: NDArray[np.int64], energy: Array) -> list[Line]:
    months, regime = cut.months(), regimes(tariff, cut.days)[cut.day]
    base = int(months.min())
    key = ((months - base) * (int(regime.max()) + 1) + regime) * len(PERIODS) + cut.period
    sums = np.bincount(key[at], weights=energy)
    lines = []
    for k in np.flatnonzero(sums):
        where = int(np.argmax(key == k))
        day, period = cut.days[int(cut.day[where])], PERIODS[int(cut.period[where])]
        lines += [Line(_month(int(months[where])), c.key, c.zh, c.en, period, _dec(float(sums[k])), price(tariff, c, day, period)) for c in tariff.components if c.curve is None]
    return lines


def _curve_lines(tariff: Tariff, c: Component, curve: Curve, cut: Pieces, at: NDArray[np.int64], span: tuple[NDArray[np.int64], NDArray[np.int64]], energy: Array) -> list[Line]:
    """One line a month and period, at the mean market price that its energy met (energy is uniform within an interval)."""
    edges, summed = _integral(tariff, c, curve, cut)
    begin, end = span
    paid = energy * (np.interp(end, edges, summed) - np.interp(begin, edges, summed)) / (end - begin)
    months = cut.months()
    key = (months - int(months.min())) * len(PERIODS) + cut.period
    kwh, yuan = np.bincount(key[at], weights=energy), np.bincount(key[at], weights=paid)
    return [Line(_month(int(months.min()) + int(k) // len(PERIODS)), c.key, c.zh, c.en, PERIODS[int(k) % len(PERIODS)], _dec(float(kwh[k])), Decimal(repr(float(yuan[k]))) / Decimal(repr(float(kwh[k]))))
            for k in np.flatnonzero(kwh)]


def _integral(tariff: Tariff, c: Component, curve: Curve, cut: Pieces) -> tuple[NDArray[np.int64], Array]:
    """(edges in UTC ms, yuan/kWh summed over ms up to each edge) of a component with a curve, its time-of-use factor within."""
    begins, values = list[NDArray[np.int64]](), list[Array]()
    for day in cut.days:
        prices = curve.days.get(day)
        if prices is None and curve.otherwise is None:
            raise TariffError(where=f"components.{c.key}", problem=f"no market price for {day}, 00:00 to 24:00")
        midnight = round(dt.datetime.combine(day, dt.time(), tariff.zone).timestamp() * 1000)
        begins.append(midnight + curve.minutes * MINUTE_MS * np.arange(1 if prices is None else len(prices), dtype=np.int64))
        values.append(np.array([curve.otherwise] if prices is None else prices, np.float64))
    first, market = np.concatenate(begins), np.concatenate(values)
    edges = np.unique(np.r_[cut.edges, first[(first > cut.edges[0]) & (first < cut.edges[-1])]])
    each = market[np.searchsorted(first, edges[:-1], "right") - 1]
    if c.factors:
        by_piece = np.array([float(factor(tariff, cut.days[int(d)], PERIODS[int(p)])) for d, p in zip(cut.day, cut.period, strict=True)])
        each = each * by_piece[np.searchsorted(cut.edges, edges[:-1], "right") - 1]
    return edges, np.r_[0.0, np.cumsum(each * np.diff(edges))]


def _bracket_lines(b: Brackets, cut: Pieces, at: NDArray[np.int64], energy: Array, used: Decimal) -> tuple[list[Line], Decimal]:
    windows = np.array([_window(b, d) for d in cut.days], np.int64)
    counts = (windows >= 0)[cut.day] & (np.isin(cut.period, [PERIODS.index(p) for p in b.periods]) if b.periods else True)
    chosen = counts[at]
    window, month, kwh = windows[cut.day[at]][chosen], cut.months()[at][chosen], energy[chosen]
    if not len(kwh):
        return [], used if len(windows) and windows[-1] == windows[0] else Decimal(0)
    total = np.cumsum(kwh)
    begins = np.flatnonzero(np.r_[True, window[1:] != window[:-1]])
    before = np.repeat(np.r_[0.0, total][begins], np.diff(np.r_[begins, len(window)]))
    carried = np.where(window == _window(b, cut.days[0]), float(used), 0.0)
    after = total - before + carried
    low = after - kwh
    lines = []
    at_least = 0.0
    for n, step in enumerate(b.steps):
        edge = np.inf if step.up_to is None else float(step.up_to)
        within = np.clip(np.minimum(after, edge) - np.maximum(low, at_least), 0, None)
        if step.add:
            lines += [Line(_month(int(m)), b.key, f"{b.zh} {n + 1}", f"{b.en} {n + 1}", "", _dec(float(within[month == m].sum())), step.add) for m in np.unique(month[within > 0])]
        at_least = edge
    last = _dec(float(after[-1])) if window[-1] == windows[-1] else Decimal(0)
    return lines, last


def _window(b: Brackets, day: dt.date) -> int:
    if b.season is not None and not b.season.holds(day):
        return -1
    if b.scope == "month":
        return day.year * 12 + day.month
    return b.season.begins(day).toordinal() if b.scope == "season" and b.season is not None else day.year


def _charges(lines: list[Line]) -> list[Charge]:
    sums: dict[tuple[str, str], tuple[Line, Decimal]] = {}
    for line in lines:
        first, amount = sums.get((line.month, line.key), (line, Decimal(0)))
        sums[line.month, line.key] = (first, amount + line.amount)
    return [Charge(month, key, first.zh, first.en, fen(amount)) for (month, key), (first, amount) in sorted(sums.items(), key=lambda i: i[0][0])]


def totals(tariff: Tariff, start_ms: NDArray[np.int64], end_ms: NDArray[np.int64], kwh: Array) -> tuple[Array, list[tuple[str, str, dt.date]]]:
    """Energy of many accounts on one grid by month, price regime and period: what bills without brackets and market curves are made of, in one matrix product.

    Args:
        tariff: the tariff.
        start_ms: (n,) the shared grid, UTC milliseconds.
        end_ms: (n,) its ends.
        kwh: (accounts, n).

    Returns:
        (accounts, groups) kWh, and (month, period, a day in it) of each group.

    Raises:
        InputError: no interval, intervals that overlap, another number of columns; energy is the caller's: NaN gives NaN.
    """
    start, end = _grid("totals", tariff, start_ms, end_ms)
    kwh = numbers("totals", "kwh", kwh, (None, len(start)), UNJUDGED)
    if not len(start):
        raise InputError(name="totals", field="start_ms", problem=Words("no interval", "没有时段"))
    cut = pieces(tariff, int(start[0]), int(end[-1]))
    (piece, interval), share = _split(cut, start, end)
    months, regime = cut.months(), regimes(tariff, cut.days)[cut.day]
    key = (months * (int(regime.max()) + 1) + regime) * len(PERIODS) + cut.period
    groups, of_piece = np.unique(key, return_inverse=True)
    place = np.zeros((len(start), len(groups)))
    np.add.at(place, (interval, of_piece[piece]), 1.0 if share is None else share)
    first = [int(np.argmax(of_piece == g)) for g in range(len(groups))]
    return kwh @ place, [(_month(int(months[w])), PERIODS[int(cut.period[w])], cut.days[int(cut.day[w])]) for w in first]


def price_array(tariff: Tariff, start_ms: int, steps: int, step_h: float, *, used: Mapping[str, Decimal] | None = None) -> Array:
    """Yuan/kWh a step for the optimiser: components, market curves, and the bracket that the counters stand in now.

    Args:
        tariff: the tariff.
        start_ms: UTC milliseconds where the first step begins.
        steps: how many.
        step_h: length of a step.
        used: kWh counted so far by each bracket, as of `rate`.

    Raises:
        TariffError: a component or a market curve has no price for a day.
        InputError: a time, number or length of steps that cannot be, a counter of an unknown bracket.
    """
    one_of("price_array", "tariff", tariff, (Tariff,))
    start_ms = int(number("price_array", "start_ms", start_ms, Number(0, _LATEST_MS, whole=True)))
    steps = int(number("price_array", "steps", steps, Number(1, 1e6, whole=True)))
    length = round(number("price_array", "step_h", step_h, Number(1e-3, 24)) * 3_600_000)
    used = _counters("price_array", tariff, used)
    cut = pieces(tariff, start_ms, start_ms + steps * length)
    each = np.array([float(sum((price(tariff, c, cut.days[int(cut.day[k])], PERIODS[int(cut.period[k])]) for c in tariff.components if c.curve is None), Decimal(0))
                           + _bracket_now(tariff, cut.days[int(cut.day[k])], PERIODS[int(cut.period[k])], used)) for k in range(len(cut.period))])
    integral = np.r_[0.0, np.cumsum(each * np.diff(cut.edges))]
    edges = start_ms + length * np.arange(steps + 1)
    summed = np.interp(edges, cut.edges, integral)
    for c in tariff.components:
        if c.curve is not None:
            summed = summed + np.interp(edges, *_integral(tariff, c, c.curve, cut))
    return np.asarray(np.diff(summed) / length, np.float64)


def _bracket_now(tariff: Tariff, day: dt.date, period: str, used: Mapping[str, Decimal]) -> Decimal:
    add = Decimal(0)
    for b in tariff.brackets:
        if _window(b, day) >= 0 and (not b.periods or period in b.periods):
            add += next(s.add for s in b.steps if s.up_to is None or used.get(b.key, Decimal(0)) < s.up_to)
    return add


def demand_kw(start_ms: NDArray[np.int64], kwh: Array, length_ms: int, *, minutes: int = 15, sliding: bool = False) -> float:
    """Maximum demand: the highest mean over `minutes`, of intervals of one length without holes; windows begin at whole multiples of `minutes`, or anywhere when `sliding`.

    Raises:
        InputError: the mean's length is not a whole number of intervals; arrays of other lengths; energy that is not a number (a hole is no zero: fill it by the contract's rule).
    """
    minutes, length_ms = int(number("demand_kw", "minutes", minutes, Number(1, DAY, whole=True))), int(number("demand_kw", "length_ms", length_ms, Number(1, DAY * MINUTE_MS, whole=True)))
    kwh = numbers("demand_kw", "kwh", kwh)
    start = numbers("demand_kw", "start_ms", start_ms, (len(kwh),), Number(0, _LATEST_MS, whole=True)).astype(np.int64)
    if (np.diff(start) != length_ms).any():
        raise InputError(name="demand_kw", field="start_ms", problem=Words(f"a hole or another length than {length_ms} ms after interval {int(np.argmax(np.diff(start) != length_ms))}",
                                                                          f"第 {int(np.argmax(np.diff(start) != length_ms))} 个时段之后有缺口，或长度不是 {length_ms} 毫秒"))
    if (minutes * MINUTE_MS) % length_ms:
        raise InputError(name="demand_kw", field="minutes", problem=Words(f"{minutes} min is not a whole number of intervals of {length_ms} ms; longer intervals hide the peak", f"{minutes} 分钟不是 {length_ms} 毫秒时段的整数倍；更长的时段会掩盖峰值"))
    width = minutes * MINUTE_MS // length_ms
    sums = np.convolve(kwh, np.ones(width), "valid") if len(kwh) >= width else np.empty(0)
    if not sliding:
        sums = sums[(start[:len(sums)] // length_ms) % width == 0]
    if not len(sums):
        raise InputError(name="demand_kw", field="kwh", problem=Words(f"no whole window of {minutes} min among {len(kwh)} intervals", f"{len(kwh)} 个时段中没有完整的 {minutes} 分钟窗口"))
    return float(np.max(sums, initial=0.0)) * 60 / minutes


def power_factor_share(factor: Decimal, standard: Decimal) -> Decimal:
    """Share added to (or taken from) the adjusted charges by the power factor, both to two places (rule of 1983).

    Raises:
        InputError: a factor outside [0, 1], or a standard other than 0.80, 0.85, 0.90.
    """
    factor, standard = money("power_factor_share", "factor", factor, Number(0, 1)), money("power_factor_share", "standard", standard, Number(0, 1))
    if standard not in [Decimal(k) / 100 for k in _ABOVE]:
        raise InputError(name="power_factor_share", field="standard", problem=Words(f"{standard} is none of 0.80, 0.85, 0.90", f"{standard} 不是 0.80、0.85、0.90 之一"))
    hundredths = int(((factor - standard) * 100).to_integral_value(ROUND_HALF_UP))
    if hundredths >= 0:
        each, most = _ABOVE[int(standard * 100)]
        return -Decimal(min(hundredths * each, most)) / 10_000
    missing = -hundredths
    first, second = min(missing, _BELOW[0]), min(max(missing - _BELOW[0], 0), _BELOW[1])
    return Decimal(first * 5 + second * 10 + max(missing - sum(_BELOW), 0) * 20) / 1000


def fen(amount: Decimal) -> Decimal:
    """Rounded half up to the fen.

    Raises:
        InputError: no finite Decimal.
    """
    return money("fen", "amount", amount).quantize(FEN, ROUND_HALF_UP)


def _dec(kwh: float) -> Decimal:
    return Decimal(repr(kwh)).quantize(_KWH, ROUND_HALF_UP)


def _month(number: int) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}"
