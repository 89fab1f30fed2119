"""Baselines (基线): what the load would have been without the event. Plug-ins with one signature, so a province's rule is a few numbers.

All take days x intervals. Only days before the event and intervals before its own pre-heat are ever looked at: the adjustment window closes at
`Event.closed`, because pre-heating inside it would be paid for. Sources: chinasmartgrid 2015-10-19 (Beijing, Jiangsu), GB/T 37016-2018, CAISO 2017.
Must not know: prices, projects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.errors import InputError, OptimizerError, Words
from optimizers.forecast import low_pass
from optimizers.rules import KNOWN_OR_NOT, Number, number, numbers, one_of
from optimizers.specification import Array


class BaselineError(OptimizerError):
    """The history does not carry this baseline."""

    code = "E-BASELINE"
    zh = "历史数据不足以计算基线“{method}”：{problem}。请换一种基线或补充数据。"
    en = "The history does not carry the baseline '{method}': {problem}. Choose another or bring more data."


@dataclass(frozen=True, slots=True)
class History:
    """Load and weather of days.

    Attributes:
        load_kw: (days, n) mean of each interval; NaN = missing.
        outdoor_c: (days, n), measured (for the event's day: measured too, at settlement).
        workday: (days,) True for a normal working day.
        excluded: (days,) True for days with events, outages, special days.
    """

    load_kw: Array
    outdoor_c: Array
    workday: NDArray[np.bool_]
    excluded: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Event:
    """An event: on `day` (index), in intervals [first, last); its adjustment may look at intervals before `closed` (its own pre-heat begins there)."""

    day: int
    first: int
    last: int
    closed: int


Baseline = Callable[[History, Event], Array]
_COUNT, _SHARE = Number(1, 10_000, whole=True), Number(0, 1)


def judged(history: History, event: Event) -> tuple[History, Event]:
    """Both, fit to use; every baseline begins with this.

    Raises:
        InputError: no days x intervals, arrays of other lengths, a day or intervals outside the history, a window that closes within the event.
    """
    one_of("baseline", "history", history, (History,))
    one_of("baseline", "event", event, (Event,))
    load = numbers("baseline", "history.load_kw", history.load_kw, (None, None), KNOWN_OR_NOT)
    days, n = load.shape
    outdoor = numbers("baseline", "history.outdoor_c", history.outdoor_c, (days, n), Number(-90, 60, missing=True))
    flags = []
    for field in ("workday", "excluded"):
        value = np.asarray(getattr(history, field))
        if value.dtype != np.bool_ or value.shape != (days,):
            raise InputError(name="baseline", field=f"history.{field}", problem=Words(f"{value.dtype} of shape {value.shape}; {days} truth values are needed", f"{value.dtype}，形状 {value.shape}；应为 {days} 个布尔值"))
        flags.append(value)
    day, first = _whole("event.day", event.day, 0, days - 1), _whole("event.first", event.first, 0, n - 1)
    return History(load, outdoor, *flags), Event(day, first, _whole("event.last", event.last, first + 1, n), _whole("event.closed", event.closed, 0, first))


def _whole(field: str, value: object, low: int, high: int) -> int:
    return int(number("baseline", field, value, Number(low, max(low, high), whole=True)))


def _known(method: str, values: Array) -> Array:
    """A baseline without holes."""
    if not np.isfinite(values).all():
        raise BaselineError(method=method, problem=Words("gaps in what it was made from", "所用数据有缺口"))
    return values


def _days(history: History, event: Event, count: int, method: str, *, back: int = 60, latest: int = 1) -> NDArray[np.int64]:
    """The last `count` usable days of the event day's kind, newest first."""
    kind = bool(history.workday[event.day])
    found = [d for d in range(event.day - latest, max(-1, event.day - back - 1), -1)
             if bool(history.workday[d]) == kind and not history.excluded[d] and np.isfinite(history.load_kw[d, event.first:event.last]).all()]
    if len(found) < count:
        raise BaselineError(method=method, problem=Words(f"{len(found)} usable days of {count}", f"可用日 {len(found)} 天，需 {count} 天"))
    return np.array(found[:count], np.int64)


def _intervals(history: History, per_day: int, method: str) -> None:
    """Low passes count hours: the history has as many intervals a day as the method was made for."""
    if history.load_kw.shape[1] != per_day:
        raise InputError(name=method, field="per_day", problem=Words(f"{per_day}, but the history has {history.load_kw.shape[1]} intervals a day", f"{per_day}，而历史数据每日 {history.load_kw.shape[1]} 个时段"))


def mean_of_last(days: int) -> Baseline:
    """Mean of the last normal days of the same kind (Jiangsu, invited events: 5)."""
    days = _given("mean_of_last", "days", days)

    def method(history: History, event: Event) -> Array:
        history, event = judged(history, event)
        chosen = _days(history, event, days, f"mean_of_last({days})")
        return np.asarray(history.load_kw[chosen, event.first:event.last].mean(axis=0))
    return method


def high_of(high: int, days: int, *, latest: int = 2) -> Baseline:
    """Mean of the `high` days with the most energy among the last `days` usable ones of the day's kind, from D-`latest` back (Beijing: 5 of 10, D-2 to D-12 where all
    of them are usable; excluded days and holes reach further back, 60 days at most).
    """
    days = _given("high_of", "days", days)
    high, latest = int(number("high_of", "high", high, Number(1, days, whole=True))), _given("high_of", "latest", latest)

    def method(history: History, event: Event) -> Array:
        history, event = judged(history, event)
        chosen = _days(history, event, days, f"high_of({high},{days})", latest=latest)
        window = history.load_kw[chosen, event.first:event.last]
        return np.asarray(window[np.argsort(-window.sum(axis=1))[:high]].mean(axis=0))
    return method


def before_control(intervals: int = 1) -> Baseline:
    """The load just before the event: the mean of so many intervals of the history, whatever their length (real-time events: 15 min, one of 96 a day)."""
    intervals = _given("before_control", "intervals", intervals)

    def method(history: History, event: Event) -> Array:
        history, event = judged(history, event)
        seen = history.load_kw[event.day, max(0, event.closed - intervals):event.closed]
        if event.closed < intervals or not np.isfinite(seen).all():
            raise BaselineError(method="before_control", problem=Words("no load just before", "事件前没有负荷数据"))
        return np.full(event.last - event.first, float(seen.mean()))
    return method


def _factor(method: str, mine: Array, theirs: Array, cap: float) -> float:
    """The same day's load over the baseline's in the adjustment window, within 1 -+ cap; an adjustment that cannot be made is an error, never none."""
    usable = np.isfinite(mine) & np.isfinite(theirs)
    if not usable.any() or theirs[usable].sum() <= 0:
        raise BaselineError(method=method, problem=Words("no load in the window of adjustment before 'closed'", "“closed”之前的修正窗口没有可用负荷"))
    return float(np.clip(mine[usable].sum() / theirs[usable].sum(), 1 - cap, 1 + cap))


def adjusted(base: Baseline, like: Callable[[History, Event, slice], Array], *, window: int = 4, cap: float = 0.2) -> Baseline:
    """A baseline scaled by the same day's load in the intervals before `closed`, at most by the cap (X of Y with adjustment).

    Args:
        base: what is scaled.
        like: the same baseline over another window of the day.
        window: intervals looked at; where none of them has load, the baseline is refused (`BaselineError`): an unadjusted one is another baseline.
        cap: the factor stays within 1 -+ cap.
    """
    window, cap = _given("adjusted", "window", window), number("adjusted", "cap", cap, _SHARE)

    def method(history: History, event: Event) -> Array:
        history, event = judged(history, event)
        seen = slice(max(0, event.closed - window), event.closed)
        mine, theirs = history.load_kw[event.day, seen], like(history, event, seen)
        return base(history, event) * _factor("adjusted", mine, theirs, cap)
    return method


def mean_like(days: int) -> Callable[[History, Event, slice], Array]:
    """`mean_of_last` over another window of the day."""
    days = _given("mean_like", "days", days)

    def like(history: History, event: Event, seen: slice) -> Array:
        history, event = judged(history, event)
        one_of("mean_like", "seen", seen, (slice,))
        rows = history.load_kw[_days(history, event, days, "adjusted")][:, seen]
        known = np.isfinite(rows)
        return np.asarray(np.divide(np.where(known, rows, 0.0).sum(axis=0), known.sum(axis=0), out=np.full(rows.shape[1], np.nan), where=known.any(axis=0)))
    return like


def _given(name: str, field: str, value: object) -> int:
    return int(number(name, field, value, _COUNT))


def temperature(days: int = 40, *, window: int = 4, cap: float = 0.2, inertia: float = 24.0, per_day: int = 24) -> Baseline:
    """Ridge on low-passed outdoor temperature, one slope and level an interval of the day, then the same-day adjustment.

    Args:
        days: days of the same kind to learn from.
        window: intervals of adjustment before `closed`; 0 = none.
        cap: of the adjustment.
        inertia: time constant of the low pass, hours.
        per_day: intervals a day.
    """
    days, per_day = _given("temperature", "days", days), _given("temperature", "per_day", per_day)
    window, cap, inertia = int(number("temperature", "window", window, Number(0, 10_000, whole=True))), number("temperature", "cap", cap, _SHARE), number("temperature", "inertia", inertia, Number(above=True))

    def method(history: History, event: Event) -> Array:
        history, event = judged(history, event)
        _intervals(history, per_day, "temperature")
        chosen = _days(history, event, days, "temperature", back=3 * days)
        low = low_pass(history.outdoor_c.ravel(), inertia * per_day / 24).reshape(history.outdoor_c.shape)
        seen = slice(max(0, event.closed - window), event.closed) if window else slice(0, 0)

        def fitted(where: slice) -> Array:
            out = []
            for k in range(*where.indices(per_day)):
                x = np.column_stack([np.ones(len(chosen)), low[chosen, k], history.outdoor_c[chosen, k] - low[chosen, k]])
                # Newer days count more; a little ridge on the slopes keeps thin data calm.
                weight = 0.97 ** np.arange(len(chosen))
                y = history.load_kw[chosen, k]
                fine = np.isfinite(y) & np.isfinite(x).all(axis=1)
                if not fine.any():
                    out.append(np.nan)
                    continue
                a = (x[fine] * weight[fine, None]).T @ x[fine] + np.diag([0, 0.5, 0.5])
                beta = np.linalg.solve(a, (x[fine] * weight[fine, None]).T @ y[fine])
                out.append(beta @ np.array([1.0, low[event.day, k], history.outdoor_c[event.day, k] - low[event.day, k]]))
            return np.array(out)

        base = fitted(slice(event.first, event.last))
        if window:
            mine, theirs = history.load_kw[event.day, seen], fitted(seen)
            base = base * _factor("temperature", mine, theirs, cap)
        return _known("temperature", base)
    return method


def matched(days: int = 5, *, back: int = 60, per_day: int = 24) -> Baseline:
    """Mean of the days whose outdoor temperature came closest (matched days)."""
    days, back, per_day = (_given("matched", field, value) for field, value in (("days", days), ("back", back), ("per_day", per_day)))

    def method(history: History, event: Event) -> Array:
        history, event = judged(history, event)
        _intervals(history, per_day, "matched")
        _days(history, event, days, "matched", back=back)
        pool = np.array([d for d in range(event.day - 1, max(-1, event.day - back - 1), -1) if bool(history.workday[d]) == bool(history.workday[event.day])
                         and not history.excluded[d] and np.isfinite(history.load_kw[d, event.first:event.last]).all()], np.int64)
        low = low_pass(history.outdoor_c.ravel(), float(per_day)).reshape(history.outdoor_c.shape)
        distance = np.abs(low[pool, event.first:event.last] - low[event.day, event.first:event.last]).mean(axis=1)
        _known("matched", distance)
        return np.asarray(history.load_kw[pool[np.argsort(distance)[:days]], event.first:event.last].mean(axis=0))
    return method


#: Baselines by the name a programme's rule gives them.
METHODS: Mapping[str, Baseline] = {
    "beijing_high_5_of_10": high_of(5, 10), "jiangsu_5_workdays": mean_of_last(5), "realtime_15_min": before_control(),
    "x_of_y_adjusted": adjusted(mean_of_last(10), mean_like(10)), "five_days_adjusted": adjusted(mean_of_last(5), mean_like(5)),
    "temperature": temperature(), "temperature_unadjusted": temperature(window=0), "matched_days": matched(),
}
