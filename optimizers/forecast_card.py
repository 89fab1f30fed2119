"""A card per project: what its forecast was learnt from, how wrong it is on days it had not seen, how often its interval holds, and whether it drifts.

Held-out days are forecast a day ahead as in operation (each taken up after it passed). Drift compares a model frozen before with itself: its errors lately
against its errors before. Must not know: clocks, pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizers.boosting import Verdict, verdict
from optimizers.forecast import LEAST_DAYS, Weather, calibrated, degree_hours, fit, interval, judged, predict, update
from optimizers.specification import Array

HELD_OUT, REFERENCE, RECENT = 28, 28, 14
#: Standard errors of a shift, and ratio of errors, from which a forecast is said to drift.
SHIFT, WORSE = 4.0, 1.6


@dataclass(frozen=True, slots=True)
class Card:
    """Of one project.

    Attributes:
        project: its row.
        method: ridge, boosting (ridge with trees on top) or degree_hours.
        days: whole days of history that were there.
        missing: share of their hours without a value.
        held_out: days the errors below are from.
        cvrmse, bias: of the day-ahead forecast, relative to the mean load (with boosting: the ridge's error times what cross-validation found it to save); of yesterday's load at the same hour instead: `naive_cvrmse`.
        coverage: share of held-out hours within the 80 % interval.
        shift: mean error lately less before, in standard errors (NaN: not asked).
        worse: root mean square error lately over before (NaN: not asked).
        drifting: True when either is beyond its limit.
        boosting: what cross-validation says.
        zh, en: the card in a sentence.
    """

    project: int
    method: str
    days: int
    missing: float
    held_out: int
    cvrmse: float
    bias: float
    naive_cvrmse: float
    coverage: float
    shift: float
    worse: float
    drifting: bool
    boosting: Verdict
    zh: str
    en: str


def cards(load: Array, weather: Weather, *, boosting: bool = True) -> list[Card]:
    """The card of every project.

    Args:
        load: (projects, hours) whole days of history from hour 0; NaN = missing.
        weather: same hours.
        boosting: ask cross-validation for boosting too (some 0.3 s a project).

    Raises:
        ForecastError: not a whole day.
        InputError: arrays of other shapes, a hole in the weather.
    """
    load, weather = judged("cards", load, weather, days=1)
    projects, days = load.shape[0], load.shape[1] // 24
    thin = days < LEAST_DAYS + HELD_OUT
    held = min(HELD_OUT, days // 3)
    error, inside = _thin(load, weather, held) if thin else _as_operated(load, weather, held)
    truth = load[:, -held * 24:] if held else load[:, :0]
    naive = load[:, (days - held) * 24 - 24:days * 24 - 24] - truth if held and days > held else np.full_like(truth, np.nan)
    shift, worse = _drift(load, weather) if days >= LEAST_DAYS + REFERENCE + RECENT else (np.full(projects, np.nan),) * 2
    found = []
    for p in range(projects):
        asked = Verdict(False, np.nan, np.nan, -1) if thin or not boosting else verdict(load[p], weather)
        mean = _mean(truth[p])
        drifting = bool(abs(shift[p]) > SHIFT or worse[p] > WORSE)
        method = "degree_hours" if thin else "boosting" if asked.wins else "ridge"
        cvrmse, bias, plain = np.sqrt(_mean(error[p] ** 2)) / mean, _mean(error[p]) / mean, np.sqrt(_mean(naive[p] ** 2)) / mean
        if asked.wins:
            cvrmse *= asked.boosted / asked.ridge
        missing, coverage = float(np.mean(~np.isfinite(load[p]))), _mean(inside[p])
        zh, en = _words(method, days, missing, held, cvrmse, plain, coverage, drifting)
        found.append(Card(p, method, days, missing, held, float(cvrmse), float(bias), float(plain), coverage, float(shift[p]), float(worse[p]), drifting, asked, zh, en))
    return found


def _part(load: Array, weather: Weather, begin: int, end: int) -> tuple[Array, Weather]:
    cut = slice(begin * 24, end * 24)
    return load[:, cut], Weather(weather.outdoor_c[cut], weather.workday[cut], None if weather.sun_kw_m2 is None else weather.sun_kw_m2[cut])


def _as_operated(load: Array, weather: Weather, held: int) -> tuple[Array, Array]:
    """(errors, hits), each (projects, held * 24): day ahead, every day taken up after it passed."""
    days = load.shape[1] // 24
    model = fit(*_part(load, weather, 0, days - held))
    spread, errors, hits = 1.0, list[Array](), list[Array]()
    for day in range(days - held, days):
        recent = _part(load, weather, max(0, day - 21), day + 1)
        said, truth = predict(model, *recent), load[:, day * 24:(day + 1) * 24]
        low, high = interval(model, said, spread=spread)
        hit = np.where(np.isfinite(truth), (truth >= low) & (truth <= high), np.nan)
        if np.isfinite(hit).any():
            spread = calibrated(spread, float(np.nanmean(hit)))
        errors.append(said - truth)
        hits.append(hit)
        model = update(model, *recent)
    return np.concatenate(errors, axis=1), np.concatenate(hits, axis=1)


def _thin(load: Array, weather: Weather, held: int) -> tuple[Array, Array]:
    days = load.shape[1] // 24
    if not held:
        return np.full((len(load), 0), np.nan), np.full((len(load), 0), np.nan)
    seen, ahead = slice(0, (days - held) * 24), slice((days - held) * 24, days * 24)
    said = degree_hours(load[:, seen], weather.outdoor_c[seen], weather.outdoor_c[ahead])
    return said - load[:, ahead], np.full((len(load), held * 24), np.nan)


def _drift(load: Array, weather: Weather) -> tuple[Array, Array]:
    """(shift in standard errors, ratio of errors) of a model frozen before the reference days; daily means, their memory counted (AR(1) sample size)."""
    days = load.shape[1] // 24
    first = days - REFERENCE - RECENT
    model = fit(*_part(load, weather, 0, first))
    errors = np.stack([predict(model, *_part(load, weather, max(0, d - 8), d + 1)) - load[:, d * 24:(d + 1) * 24] for d in range(first, days)], axis=1)
    usable = np.isfinite(errors)
    daily = np.where(usable, errors, 0.0).sum(axis=2) / np.maximum(1, usable.sum(axis=2))
    before, lately = daily[:, :REFERENCE], daily[:, REFERENCE:]
    centred = before - before.mean(axis=1, keepdims=True)
    variance = np.maximum(centred.var(axis=1), 1e-12)
    memory = np.clip((centred[:, 1:] * centred[:, :-1]).mean(axis=1) / variance, 0, 0.9)
    kept = (1 - memory) / (1 + memory)
    error = np.sqrt(variance / kept * (1 / RECENT + 1 / REFERENCE))
    rms = [np.sqrt((part ** 2).mean(axis=1)) for part in (before, lately)]
    return (lately.mean(axis=1) - before.mean(axis=1)) / error, rms[1] / np.maximum(rms[0], 1e-9)


def _mean(values: Array) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _words(method: str, days: int, missing: float, held: int, cvrmse: float, naive: float, coverage: float, drifting: bool) -> tuple[str, str]:
    zh = {"ridge": "岭回归", "boosting": "岭回归加提升树", "degree_hours": "度时法（历史不足）"}[method]
    en = {"ridge": "ridge", "boosting": "ridge with boosted trees", "degree_hours": "degree-hours (little history)"}[method]
    held_zh = f"在未见过的 {held} 天上误差 {cvrmse:.1%}（照搬前一天为 {naive:.1%}）" if np.isfinite(cvrmse) else "尚无未见过的日子可评"
    held_en = f"wrong by {cvrmse:.1%} on {held} days it had not seen ({naive:.1%} for yesterday repeated)" if np.isfinite(cvrmse) else "no unseen day to judge by yet"
    if np.isfinite(coverage):
        held_zh, held_en = f"{held_zh}，80 % 区间覆盖 {coverage:.0%}", f"{held_en}, the 80 % interval held in {coverage:.0%}"
    drift = ("；近期误差已漂移，请核对表计与建筑变化并重新拟合", "; it drifts: check meters and changes of the building, then fit anew") if drifting else ("", "")
    return f"{zh}，{days} 天历史（缺 {missing:.1%}）；{held_zh}{drift[0]}。", f"{en}, {days} days of history ({missing:.1%} missing); {held_en}{drift[1]}."
