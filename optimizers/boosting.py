"""Gradient boosting of small trees on what the ridge leaves over, and the gate that lets it in only where cross-validation wins.

Histogram trees (Friedman 2001; binning as in Ke et al. 2017) in numpy: a few thousand hours, a dozen features, some tens of milliseconds a project; no further
dependency. It corrects `forecast.predict`, never replaces it. Must not know: clocks, weather providers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.errors import InputError, Words
from optimizers.forecast import Model, Weather, design, fit, judged, predict
from optimizers.rules import KNOWN_OR_NOT, UNJUDGED, Number, number, numbers, one_of
from optimizers.specification import Array

BINS = 32
DEPTH = 3
#: Boosting must be better by this share, in the mean of the folds, and in all but one of them.
MARGIN = 0.03
FOLDS, FOLD_DAYS = 3, 14
#: Days a fold needs to learn from.
LEAST_DAYS = 60

Bins = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Booster:
    """Trees of one project.

    Attributes:
        edges: (features, BINS - 1) where bins begin.
        feature, above: (trees, 2**DEPTH - 1) split of each node: feature, and the last bin that goes left.
        leaf: (trees, 2**DEPTH) kW added.
    """

    edges: Array
    feature: NDArray[np.int64]
    above: NDArray[np.int64]
    leaf: Array


@dataclass(frozen=True, slots=True)
class Verdict:
    """What cross-validation says of one project.

    Attributes:
        wins: True when boosting shall be used.
        ridge, boosted: root mean square error over the folds, in the load's unit.
        folds: in how many folds boosting was better; -1: too little history to ask.
    """

    wins: bool
    ridge: float
    boosted: float
    folds: int


def boost(features: Array, target: Array, *, trees: int = 60, rate: float = 0.1, least: int = 30) -> Booster:
    """Trees on (rows, features) and (rows,) targets; rows with anything missing are left out.

    Args:
        features: what may be known at the issue time.
        target: what is left over.
        trees: how many.
        rate: share of each tree that is taken.
        least: fewest rows in a leaf.

    Raises:
        InputError: arrays of other lengths, counts or a rate that are none, not one usable row.
    """
    features = numbers("boost", "features", features, (None, None), UNJUDGED)
    target = numbers("boost", "target", target, (len(features),), UNJUDGED)
    trees, least = int(number("boost", "trees", trees, Number(1, 10_000, whole=True))), int(number("boost", "least", least, Number(1, whole=True)))
    rate = number("boost", "rate", rate, Number(0, 1, above=True))
    usable = np.isfinite(target) & np.isfinite(features).all(axis=1)
    if not usable.any():
        raise InputError(name="boost", field="features", problem=Words("not one row without a hole", "没有一行是完整的"))
    x, rest = features[usable], target[usable].astype(np.float64)
    edges = np.quantile(x, np.arange(1, BINS) / BINS, axis=0).T
    binned = _binned(x, edges)
    nodes = 2 ** DEPTH - 1
    feature, above, leaf = np.zeros((trees, nodes), np.int64), np.full((trees, nodes), BINS, np.int64), np.zeros((trees, nodes + 1))
    for k in range(trees):
        place = np.zeros(len(rest), np.int64)
        for level in range(DEPTH):
            first, count = 2 ** level - 1, 2 ** level
            feature[k, first:first + count], above[k, first:first + count] = _splits(binned, rest, place - first, count, least)
            place = 2 * place + 1 + (binned[np.arange(len(place)), feature[k, place]] > above[k, place])
        sums, sizes = np.bincount(place - nodes, rest, nodes + 1), np.bincount(place - nodes, minlength=nodes + 1)
        leaf[k] = rate * sums / (sizes + 1.0)
        rest = rest - leaf[k, place - nodes]
    return Booster(edges, feature, above, leaf)


def _splits(binned: Bins, rest: Array, node: NDArray[np.int64], count: int, least: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best (feature, last bin to the left) of each node; a node without one sends all left."""
    size = count * BINS
    best, feature, above = np.full(count, 1e-9), np.zeros(count, np.int64), np.full(count, BINS, np.int64)
    for f in range(binned.shape[1]):
        key = node * BINS + binned[:, f]
        sums, sizes = (np.bincount(key, w, size).reshape(count, BINS).cumsum(axis=1) for w in (rest, None))
        total, rows = sums[:, -1:], sizes[:, -1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = sums ** 2 / sizes + (total - sums) ** 2 / (rows - sizes) - total ** 2 / rows
        gain[(sizes < least) | (rows - sizes < least)] = -np.inf
        at = gain.argmax(axis=1)
        found = gain[np.arange(count), at]
        better = found > best
        best[better], feature[better], above[better] = found[better], f, at[better]
    return feature, above


def corrected(booster: Booster, features: Array) -> Array:
    """(rows,) to be added; zero where a feature is missing.

    Raises:
        InputError: another number of features than it was learnt from.
    """
    one_of("corrected", "booster", booster, (Booster,))
    features = numbers("corrected", "features", features, (None, len(booster.edges)), UNJUDGED)
    known = np.asarray(np.isfinite(features).all(axis=1), np.bool_)
    binned = _binned(np.where(known[:, None], features, 0.0), booster.edges)
    total, rows = np.zeros(len(features)), np.arange(len(features))
    for feature, above, leaf in zip(booster.feature, booster.above, booster.leaf, strict=True):
        place = np.zeros(len(features), np.int64)
        for _ in range(DEPTH):
            place = 2 * place + 1 + (binned[rows, feature[place]] > above[place])
        total += leaf[place - len(feature)]
    return np.where(known, total, 0.0)


def _binned(x: Array, edges: Array) -> Bins:
    return np.stack([np.searchsorted(edges[f], x[:, f], "right") for f in range(x.shape[1])], axis=1).astype(np.uint8)


def features(model: Model, load: Array, weather: Weather) -> Array:
    """(projects, hours, features): the ridge's design, the hour, and what the ridge says."""
    load, weather = judged("features", load, weather)
    one_of("features", "model", model, (Model,))
    x = design(load, weather)
    hour = np.broadcast_to(np.arange(x.shape[1]) % 24, x.shape[:2])
    said = np.einsum("phf,phf->ph", x, model.beta[:, np.arange(x.shape[1]) % 24])
    return np.concatenate([x[..., 1:], hour[..., None], said[..., None]], axis=-1)


def learn(model: Model, load: Array, weather: Weather, project: int = 0) -> Booster:
    """Trees on what the ridge left over of one project's history."""
    project = _row(model, project)
    x = features(model, load, weather)[project]
    return boost(x, load[project] - x[:, -1])


def predict_boosted(model: Model, booster: Booster, load: Array, weather: Weather, project: int = 0) -> Array:
    """(24,): the ridge's forecast of the last 24 hours of `weather`, corrected; `load` there is not looked at."""
    project, load = _row(model, project), judged("predict_boosted", load, weather, days=8)[0]
    hidden = load.copy()
    hidden[:, -24:] = np.nan
    said = predict(model, load, weather)[project]
    return np.asarray(np.maximum(0.0, said + corrected(booster, features(model, hidden, weather)[project, -24:])), np.float64)


def _row(model: Model, project: int) -> int:
    one_of("boosting", "model", model, (Model,))
    return int(number("boosting", "project", project, Number(0, len(model.beta) - 1, whole=True)))


def verdict(load: Array, weather: Weather, *, folds: int = FOLDS, fold_days: int = FOLD_DAYS) -> Verdict:
    """Whether boosting helps one project, by folds that always predict what comes after what was learnt from.

    Args:
        load: (hours,) whole days of history.
        weather: same hours.
        folds: stretches at the end of the history, each predicted from all before it.
        fold_days: length of each.

    Raises:
        InputError: arrays of other lengths, numbers of folds or days that are none.
        ForecastError: not a whole day.
    """
    load = judged("verdict", numbers("verdict", "load", load, rule=KNOWN_OR_NOT)[None], weather, days=1)[0][0]
    folds, fold_days = int(number("verdict", "folds", folds, Number(1, 100, whole=True))), int(number("verdict", "fold_days", fold_days, Number(1, 1000, whole=True)))
    days = len(load) // 24
    if days < LEAST_DAYS + folds * fold_days:
        return Verdict(False, np.nan, np.nan, -1)
    errors = np.empty((folds, 2))
    for k in range(folds):
        cut = days - (folds - k) * fold_days
        end = cut + fold_days
        part, seen = load[None, :end * 24], slice(0, cut * 24)
        now = Weather(weather.outdoor_c[:end * 24], weather.workday[:end * 24], None if weather.sun_kw_m2 is None else weather.sun_kw_m2[:end * 24])
        model = fit(part[:, seen], Weather(now.outdoor_c[seen], now.workday[seen], None if now.sun_kw_m2 is None else now.sun_kw_m2[seen]))
        x = features(model, part, now)[0]
        truth, said = part[0, cut * 24:], x[cut * 24:, -1]
        more = corrected(boost(x[seen], part[0, seen] - x[seen, -1]), x[cut * 24:])
        errors[k] = [np.sqrt(np.nanmean((truth - forecast) ** 2)) for forecast in (said, said + more)]
    ridge, boosted = np.sqrt(np.mean(errors ** 2, axis=0))
    won = int((errors[:, 1] < errors[:, 0]).sum())
    return Verdict(bool(boosted < (1 - MARGIN) * ridge and won >= folds - 1), float(ridge), float(boosted), won)
