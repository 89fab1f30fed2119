"""Forecast of heat or electricity from temperature (气温模型): one ridge an hour of the day, recursively updated, with conformal intervals.

Design: low-passed outdoor temperature (heat stored in walls), its fast part, a changepoint below which heating begins, sun, day type, the load 24, 48 and
168 h before. Thousands of projects are fitted in one vectorised call. Issue times are the caller's: nothing after the issue is looked at.
Source of the design: Bacher et al. 2013 (doi 10.1016/j.enbuild.2013.04.022), TOWT (Mathieu 2011). Must not know: clocks, weather providers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from optimizers.errors import InputError, OptimizerError, Words
from optimizers.rules import ANY, KNOWN_OR_NOT, Number, number, numbers, one_of
from optimizers.specification import Array

LAGS_H = (24, 48, 168)
#: Least days of history for the full model; under that the forecast is by degree-hours, and says so.
LEAST_DAYS = 21


class ForecastError(OptimizerError):
    """There is nothing to forecast from."""

    code = "E-FORECAST"
    zh = "无法预测：{problem}。请补充历史数据。"
    en = "No forecast: {problem}. Bring more history."


@dataclass(frozen=True, slots=True)
class Weather:
    """Hourly weather, history and forecast in one row: outdoor_c (n,), sun_kw_m2 (n,) or None, workday (n,)."""

    outdoor_c: Array
    workday: NDArray[np.bool_]
    sun_kw_m2: Array | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """Fitted coefficients.

    Attributes:
        beta: (projects, 24, features).
        gram: (projects, 24, features, features), what the recursive update keeps.
        moment: (projects, 24, features).
        residuals: (projects, k, 24) day-ahead errors actual - forecast of the last k days, NaN where unknown; the intervals come from these.
        scale: (projects,) mean load, for relative figures.
        days: days of history used.
    """

    beta: Array
    gram: Array
    moment: Array
    residuals: Array
    scale: Array
    days: int


def judged(name: str, load: Array, weather: Weather, *, days: int = 0) -> tuple[Array, Weather]:
    """Load and weather, fit to use; every public function begins with this.

    Args:
        name: of the function, for the message.
        load: (projects, hours).
        weather: same hours.
        days: whole days that are needed at least; 0: any number of hours.

    Raises:
        InputError: arrays of other shapes, a hole in the weather (fill it first: its low pass remembers for days).
        ForecastError: too little history, or no whole days.
    """
    one_of(name, "weather", weather, (Weather,))
    load = numbers(name, "load", load, (None, None), KNOWN_OR_NOT)
    hours = load.shape[1]
    if not len(load) or not hours or (days and (hours % 24 or hours < days * 24)):
        raise ForecastError(problem=Words(f"{len(load)} projects with {hours} hours of history; at least {max(1, days)} whole days are needed", f"{len(load)} 个项目、{hours} 小时历史；至少需要 {max(1, days)} 个整日"))
    outdoor = numbers(name, "weather.outdoor_c", weather.outdoor_c, (hours,), Number(-90, 60))
    sun = None if weather.sun_kw_m2 is None else numbers(name, "weather.sun_kw_m2", weather.sun_kw_m2, (hours,), Number(-1, 5))
    workday = np.asarray(weather.workday)
    if workday.shape != (hours,) or workday.dtype.kind not in "bif" or not np.isin(workday, (0, 1)).all():
        raise InputError(name=name, field="weather.workday", problem=Words(f"{workday.dtype} of shape {workday.shape}; {hours} truth values are needed", f"{workday.dtype}，形状 {workday.shape}；应为 {hours} 个布尔值"))
    return load, Weather(outdoor, workday.astype(bool), sun)


def _learnt(name: str, model: Model, projects: int) -> None:
    one_of(name, "model", model, (Model,))
    if np.shape(model.beta)[:2] != (projects, 24):
        raise InputError(name=name, field="load", problem=Words(f"{projects} projects; the model knows {np.shape(model.beta)[0] if np.ndim(model.beta) else 0}", f"{projects} 个项目；模型含 {np.shape(model.beta)[0] if np.ndim(model.beta) else 0} 个"))


def design(load: Array, weather: Weather) -> Array:
    """(projects, hours, features): the load part needs lags, so the first week is NaN.

    Args:
        load: (projects, hours) history, NaN where missing or in the future.
        weather: same hours.

    Raises:
        InputError: see `judged`.
    """
    load, weather = judged("design", load, weather)
    projects, hours = load.shape
    shared = _shared(weather, hours)
    return np.concatenate([np.broadcast_to(shared, (projects, *shared.shape)), _lags(load)], axis=-1)


def _shared(weather: Weather, hours: int) -> Array:
    """(hours, features) that all projects of one weather share: level, temperatures, sun, day type, and what the weather was at each lag."""
    out = weather.outdoor_c
    slow, slower = low_pass(out, 24.0), low_pass(out, 72.0)
    columns = [np.ones(hours), slow, out - slow, slower - slow, np.maximum(0.0, 15.0 - slow), weather.workday.astype(float),
               np.zeros(hours) if weather.sun_kw_m2 is None else weather.sun_kw_m2]
    for lag in LAGS_H:
        # A lag of the load alone says little: what the weather was then belongs to it.
        was = np.full(hours, np.nan)
        was[lag:] = slow[:max(0, hours - lag)]
        columns.append(was)
    return np.stack(columns, axis=-1)


def _lags(load: Array) -> Array:
    """(projects, hours, lags)."""
    found = np.full((*load.shape, len(LAGS_H)), np.nan)
    for k, lag in enumerate(LAGS_H):
        found[:, lag:, k] = load[:, :max(0, load.shape[1] - lag)]
    return found


def fit(load: Array, weather: Weather, *, half_life_days: float = 120.0, ridge: float = 1e-3) -> Model:
    """Fit every project at once on whole days of history.

    Args:
        load: (projects, hours), hours a multiple of 24, beginning at hour 0; NaN = missing.
        weather: same hours.
        half_life_days: an hour so many days old counts half.
        ridge: relative to each feature's own sum of squares.

    A project without any usable hour at some hour of the day has NaN coefficients there, and is forecast as NaN: nobody knows.

    Raises:
        ForecastError: no whole week of data.
        InputError: see `judged`.
    """
    load, weather = judged("fit", load, weather, days=8)
    half_life_days, ridge = number("fit", "half_life_days", half_life_days, Number(above=True)), number("fit", "ridge", ridge, Number(1e-9))
    projects, hours = load.shape
    days = hours // 24
    shared, lagged = _shared(weather, hours), _lags(load)
    features, keep = shared.shape[-1] + len(LAGS_H), min(60, days)
    weight = 0.5 ** ((days - 1 - np.arange(days)) / half_life_days)
    gram, moment = np.empty((projects, 24, features, features)), np.empty((projects, 24, features))
    residuals = np.full((projects, keep, 24), np.nan)
    beta = np.empty((projects, 24, features))
    seen = np.zeros((projects, days), bool)
    split = shared.shape[-1]
    for hour in range(24):
        # All projects share the weather, so every sum over days is one matrix product (projects x days)(days x features).
        xs, ls, y = shared[hour::24], lagged[:, hour::24], load[:, hour::24]
        usable = np.isfinite(y) & np.isfinite(ls).all(axis=-1) & np.isfinite(xs).all(axis=-1)
        w = np.where(usable, weight, 0.0)
        xs, ls, ys = np.nan_to_num(xs), np.where(usable[..., None], ls, 0.0), np.where(usable, y, 0.0)
        g = gram[:, hour]
        g[:, :split, :split] = (w @ (xs[:, :, None] * xs[:, None, :]).reshape(days, -1)).reshape(projects, split, split)
        for k in range(len(LAGS_H)):
            g[:, :split, split + k] = g[:, split + k, :split] = (w * ls[..., k]) @ xs
            for j in range(k + 1):
                g[:, split + k, split + j] = g[:, split + j, split + k] = np.einsum("pd,pd,pd->p", w, ls[..., k], ls[..., j])
        moment[:, hour, :split] = (w * ys) @ xs
        moment[:, hour, split:] = np.einsum("pd,pdk->pk", w * ys, ls)
        beta[:, hour] = np.where(usable.any(axis=1, keepdims=True), _solve(g, moment[:, hour], ridge), np.nan)
        fitted = beta[:, hour, :split] @ xs[-keep:].T + np.einsum("pk,pdk->pd", beta[:, hour, split:], ls[:, -keep:])
        residuals[:, :, hour] = np.where(usable[:, -keep:], ys[:, -keep:] - fitted, np.nan)
        seen |= usable
    # In-sample errors are a little too small; they give way to day-ahead ones as days pass.
    residuals *= np.sqrt(1 + 2 * features / days)
    return Model(beta, gram, moment, residuals, _known_mean(load), int(seen.any(axis=0).sum()))


def update(model: Model, load: Array, weather: Weather, *, half_life_days: float = 120.0, ridge: float = 1e-3) -> Model:
    """Take up the newest whole day: one recursive step, cost independent of the history's length.

    Args:
        model: what was.
        load: (projects, hours) recent history that ends with the new day; at least eight days.
        weather: same hours.
        half_life_days: as of `fit`.
        ridge: as of `fit`.

    Raises:
        ForecastError: fewer than eight whole days.
        InputError: another number of projects than the model has, or see `judged`.
    """
    load, weather = judged("update", load, weather, days=8)
    _learnt("update", model, len(load))
    half_life_days, ridge = number("update", "half_life_days", half_life_days, Number(above=True)), number("update", "ridge", ridge, Number(1e-9))
    x = design(load, weather)[:, -24:]
    y = load[:, -24:]
    usable = np.isfinite(y) & np.isfinite(x).all(axis=-1)
    xs, ys = np.where(usable[..., None], x, 0.0), np.where(usable, y, 0.0)
    error = np.where(usable, ys - np.einsum("phf,phf->ph", xs, model.beta), np.nan)
    decay = 0.5 ** (1 / half_life_days)
    gram = decay * model.gram + xs[..., :, None] * xs[..., None, :]
    moment = decay * model.moment + xs * ys[..., None]
    residuals = np.concatenate([model.residuals, error[:, None]], axis=1)[:, -60:]
    return dataclasses.replace(model, beta=_solve(gram, moment, ridge), gram=gram, moment=moment, residuals=residuals, days=model.days + 1)


def predict(model: Model, load: Array, weather: Weather) -> Array:
    """(projects, 24): the last 24 hours of `weather` are the day to forecast; `load` there is not looked at.

    A load missing 24, 48 or 168 h before is taken as the mean of that day, else of the other lags, else of the project.

    Raises:
        ForecastError: fewer than eight whole days, the one to forecast included.
        InputError: another number of projects than the model has, or see `judged`.
    """
    load, weather = judged("predict", load, weather, days=8)
    _learnt("predict", model, len(load))
    hidden = load.copy()
    hidden[:, -24:] = np.nan
    x = design(hidden, weather)[:, -24:]
    if not np.isfinite(x).all():
        lags = x[..., -len(LAGS_H):]
        for instead in (_known_mean(lags, axis=1)[:, None, :], _known_mean(lags)[:, None, None], np.asarray(model.scale)[:, None, None]):
            lags = np.where(np.isfinite(lags), lags, instead)
        x = np.concatenate([x[..., :-len(LAGS_H)], lags], axis=-1)
    return np.asarray(np.maximum(0.0, np.einsum("phf,phf->ph", x, model.beta)))


def _known_mean(values: Array, axis: int | None = None) -> Array:
    """Mean of what is known along an axis (None: of all but the first); NaN where nothing is."""
    axes = tuple(range(1, values.ndim)) if axis is None else axis
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=axes), known.sum(axis=axes)
    return np.asarray(np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0), np.float64)


def interval(model: Model, forecast: Array, *, share: float = 0.8, spread: float = 1.0) -> tuple[Array, Array]:
    """Conformal interval: quantiles of the recent day-ahead errors of the hour and its neighbours, relative to size.

    Args:
        model: with residuals.
        forecast: (projects, 24).
        share: of the hours that shall fall within.
        spread: widening learnt from recent coverage (see `calibrated`).

    Returns:
        (low, high), each (projects, 24); NaN where there are no errors yet.

    Raises:
        InputError: a share or spread that is none, a forecast of another shape.
    """
    one_of("interval", "model", model, (Model,))
    share, spread = number("interval", "share", share, Number(0, 1)), number("interval", "spread", spread, Number())
    forecast = numbers("interval", "forecast", forecast, (len(model.residuals), 24), KNOWN_OR_NOT)
    shifted = np.concatenate([np.roll(model.residuals, k, axis=2) for k in (-1, 0, 1)], axis=1)
    unknown = ~np.isfinite(shifted).any(axis=1, keepdims=True)
    low, high = (np.where(unknown[:, 0], np.nan, np.nanquantile(np.where(unknown, 0.0, shifted), q, axis=1)) for q in ((1 - share) / 2, (1 + share) / 2))
    # Errors grow with the load: half of their spread is taken relative.
    size = np.clip(forecast / np.maximum(1e-9, model.scale[:, None]), 0.5, 3.0)
    factor = spread * (0.5 + 0.5 * size)
    return forecast + low * factor, forecast + high * factor


def calibrated(spread: float, inside: float, *, share: float = 0.8, rate: float = 0.05) -> float:
    """The next `spread`: a little wider after a day that fell outside more than it should, narrower after one inside (adaptive conformal, Gibbs & Candes 2021).

    Raises:
        InputError: a spread, share or rate that is none.
    """
    for field, value in (("inside", inside), ("share", share), ("rate", rate)):
        number("calibrated", field, value, Number(0, 1))
    number("calibrated", "spread", spread, Number())
    return float(np.clip(spread + rate * (share - inside), 0.3, 4.0))


def degree_hours(load: Array, outdoor_c: Array, ahead_c: Array, *, base_c: float = 16.0) -> Array:
    """Forecast under thin data: load in proportion to degree-hours, (projects, 24) from (projects, hours) and shared temperatures; a project without any load: NaN.

    Raises:
        InputError: arrays of other shapes, holes in the temperatures.
    """
    load = numbers("degree_hours", "load", load, (None, None), KNOWN_OR_NOT)
    outdoor_c, ahead_c = numbers("degree_hours", "outdoor_c", outdoor_c, (load.shape[1],)), numbers("degree_hours", "ahead_c", ahead_c)
    base_c = number("degree_hours", "base_c", base_c, ANY)
    degrees = np.maximum(0.5, base_c - outdoor_c)
    usable = np.isfinite(load)
    met = np.where(usable, degrees, 0.0).sum(axis=1)
    slope = np.divide(np.where(usable, load, 0.0).sum(axis=1), met, out=np.full(len(load), np.nan), where=met > 0)
    return np.asarray(slope[:, None] * np.maximum(0.5, base_c - ahead_c)[None, :])


def _solve(gram: Array, moment: Array, ridge: float) -> Array:
    diagonal = np.einsum("...ff->...f", gram)
    size = np.sqrt(np.maximum(diagonal, 1e-12))
    scaled = gram / size[..., :, None] / size[..., None, :]
    features = gram.shape[-1]
    scaled[..., range(features), range(features)] += ridge
    return np.asarray(np.linalg.solve(scaled, (moment / size)[..., None])[..., 0] / size)


def low_pass(outdoor_c: Array, hours: float) -> Array:
    """First-order low pass of hourly values with a time constant in hours, begun in balance.

    Raises:
        InputError: no row of numbers, or a time constant that is none.
    """
    outdoor_c, hours = numbers("low_pass", "outdoor_c", outdoor_c, rule=KNOWN_OR_NOT), number("low_pass", "hours", hours, Number(above=True))
    if not len(outdoor_c):
        return outdoor_c
    keep = float(np.exp(-1.0 / hours))
    smooth, _ = lfilter([1 - keep], [1, -keep], outdoor_c, zi=[keep * outdoor_c[0]])
    return np.asarray(smooth)
