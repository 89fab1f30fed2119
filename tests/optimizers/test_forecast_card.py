"""Cards tell what is true of made loads: error near the noise, drift where it was put and not elsewhere, boosting only where the law bends."""

from __future__ import annotations

import numpy as np

from optimizers.boosting import boost, corrected, learn, predict_boosted, verdict
from optimizers.forecast import Weather, fit, predict
from optimizers.forecast_card import cards
from tests.optimizers.test_forecast import made


def bent(days: int, noise: float = 2.0, seed: int = 0) -> tuple[np.ndarray, Weather]:
    """A load that a line cannot follow: the plant is full in cold hours, and a second pump starts below -3 degC on workdays."""
    load, weather = made(days, 1, 0.0, seed)
    second = 25.0 * (weather.outdoor_c < -3) * np.asarray(weather.workday)
    return np.minimum(load + second, 118.0) + np.random.default_rng(seed + 1).normal(0, noise, load.shape), weather


def test_trees_find_a_step_and_say_nothing_where_features_are_missing() -> None:
    r = np.random.default_rng(0)
    x = r.uniform(-1, 1, (3000, 4))
    y = np.where(x[:, 1] > 0.2, 5.0, -1.0) * np.where(x[:, 2] > 0, 1.0, 0.5)
    trees = boost(x, y)
    assert np.sqrt(np.mean((corrected(trees, x) - y) ** 2)) < 0.2 * y.std()  # the bin the step falls in is shared
    hole = x[:5].copy()
    hole[2, 0] = np.nan
    assert corrected(trees, hole)[2] == 0.0


def test_boosting_is_taken_where_the_law_bends_and_left_where_it_is_a_line() -> None:
    load, weather = bent(150)
    bends = verdict(load[0], weather)
    assert bends.wins
    assert bends.boosted < 0.9 * bends.ridge
    straight, weather = made(150, 4, noise=4.0)
    assert not any(verdict(row, weather).wins for row in straight)
    assert verdict(straight[0, :30 * 24], Weather(weather.outdoor_c[:30 * 24], weather.workday[:30 * 24])).folds == -1


def test_a_boosted_forecast_is_better_on_the_next_day_and_does_not_look_at_it() -> None:
    load, weather = bent(140)
    error = np.empty((10, 2))
    for k in range(10):
        hours = (130 + k) * 24
        seen = Weather(weather.outdoor_c[:hours], weather.workday[:hours])
        model = fit(load[:, :hours], seen)
        trees = learn(model, load[:, :hours], seen)
        ahead = Weather(weather.outdoor_c[:hours + 24], weather.workday[:hours + 24])
        said = predict_boosted(model, trees, load[:, :hours + 24], ahead)
        blind = load[:, :hours + 24].copy()
        blind[:, -24:] = 1e9
        assert np.array_equal(said, predict_boosted(model, trees, blind, ahead))
        truth = load[0, hours:hours + 24]
        error[k] = [np.mean((f - truth) ** 2) for f in (predict(model, load[:, :hours + 24], ahead)[0], said)]
    assert error[:, 1].mean() < 0.8 * error[:, 0].mean()


def test_a_card_tells_error_interval_and_holes_as_they_are() -> None:
    load, weather = made(150, 6, noise=5.0)
    load[2, 1000:1360] = np.nan
    found = cards(load, weather, boosting=False)
    for p, card in enumerate(found):
        held = load[p, -28 * 24:]
        assert 0.9 * 5.0 < card.cvrmse * held.mean() < 1.3 * 5.0
        assert abs(card.bias) < 0.01
        assert 0.72 <= card.coverage <= 0.88
        assert card.naive_cvrmse > card.cvrmse
        assert card.method == "ridge"
        assert "150 days" in card.en
        assert "150 天" in card.zh
    assert found[2].missing == 360 / 3600


def test_drift_is_told_where_the_building_changed_and_seldom_where_it_did_not() -> None:
    load, weather = made(150, 40, noise=5.0, seed=3)
    changed = load.copy()
    changed[:10, -12 * 24:] *= 1.15
    found = cards(changed, weather, boosting=False)
    assert sum(c.drifting for c in found[:10]) >= 9
    assert sum(c.drifting for c in found[10:]) <= 2
    drifting = next(c for c in found if c.drifting)
    assert "drifts" in drifting.en
    assert "漂移" in drifting.zh


def test_thin_history_gets_a_card_that_says_so() -> None:
    load, weather = made(30, 2)
    found = cards(load, weather)
    assert {c.method for c in found} == {"degree_hours"}
    assert all(np.isfinite(c.cvrmse) and np.isnan(c.coverage) and not c.drifting for c in found)
    one = cards(load[:, :24], Weather(weather.outdoor_c[:24], weather.workday[:24]))
    assert "no unseen day" in one[0].en
