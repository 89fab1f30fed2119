"""Forecasts and baselines on made loads whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from optimizers.demand_response.baseline import METHODS, BaselineError, Event, History, mean_of_last
from optimizers.forecast import ForecastError, Weather, calibrated, degree_hours, fit, interval, predict, update


def made(days: int, projects: int = 3, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, Weather]:
    """Loads that follow the outdoor temperature with a day's inertia, an hourly pattern and noise."""
    r = np.random.default_rng(seed)
    hours = days * 24
    outdoor = -2 + 6 * np.sin(np.arange(hours) / 24 * 2 * np.pi) + np.repeat(r.normal(0, 4, days), 24)
    slow = np.empty(hours)
    slow[0] = outdoor[0]
    for k in range(1, hours):
        slow[k] = slow[k - 1] * np.exp(-1 / 24) + outdoor[k] * (1 - np.exp(-1 / 24))
    pattern = 10 * np.sin((np.arange(hours) % 24 - 6) / 12 * np.pi)
    size = np.linspace(1, 3, projects)[:, None]
    return size * (80 - 3 * slow + pattern) + r.normal(0, noise, (projects, hours)), Weather(outdoor, np.arange(hours) // 24 % 7 < 5)


def test_a_day_ahead_forecast_comes_near_the_noise_and_never_looks_at_the_day() -> None:
    load, weather = made(120, noise=1.0)
    history = slice(0, 100 * 24)
    model = fit(load[:, history], Weather(weather.outdoor_c[history], weather.workday[history]))
    seen = slice(0, 101 * 24)
    day = Weather(weather.outdoor_c[seen], weather.workday[seen])
    found = predict(model, load[:, seen], day)
    blind = load[:, seen].copy()
    blind[:, -24:] = 1e9
    assert np.array_equal(found, predict(model, blind, day))
    assert np.sqrt(np.mean((found - load[:, 100 * 24:101 * 24]) ** 2)) < 2.0


def test_a_recursive_update_is_the_fit_with_one_day_more() -> None:
    load, weather = made(60)

    def part(days: int) -> tuple[np.ndarray, Weather]:
        return load[:, :days * 24], Weather(weather.outdoor_c[:days * 24], weather.workday[:days * 24])

    stepped = update(fit(*part(59)), *part(60))
    assert np.allclose(stepped.beta, fit(*part(60)).beta, rtol=1e-6, atol=1e-6)


def test_an_interval_covers_what_it_says_over_a_season() -> None:
    load, weather = made(200, noise=6.0)
    model = fit(load[:, :100 * 24], Weather(weather.outdoor_c[:100 * 24], weather.workday[:100 * 24]))
    spread, inside = 1.0, []
    for day in range(100, 200):
        w = Weather(weather.outdoor_c[:(day + 1) * 24], weather.workday[:(day + 1) * 24])
        low, high = interval(model, predict(model, load[:, :(day + 1) * 24], w), spread=spread)
        actual = load[:, day * 24:(day + 1) * 24]
        inside.append(np.mean((actual >= low) & (actual <= high)))
        spread = calibrated(spread, float(inside[-1]))
        model = update(model, load[:, :(day + 1) * 24], w)
    assert 0.77 <= float(np.mean(inside)) <= 0.83


def test_holes_in_the_history_are_left_out_and_thin_data_is_refused() -> None:
    load, weather = made(60)
    holed = load.copy()
    holed[:, 500:560] = np.nan
    model = fit(holed, weather)
    assert np.isfinite(model.beta).all()
    with pytest.raises(ForecastError):
        fit(load[:, :48], Weather(weather.outdoor_c[:48], weather.workday[:48]))
    ahead = degree_hours(load[:, :48], weather.outdoor_c[:48], np.array([0.0, 16.0]))
    assert (ahead[:, 0] > ahead[:, 1]).all()


def history(days: int = 90, seed: int = 1) -> tuple[History, np.ndarray]:
    load, weather = made(days, 1, 0.5, seed)
    shaped = load[0].reshape(days, 24)
    return History(shaped.copy(), weather.outdoor_c.reshape(days, 24), np.array(weather.workday).reshape(days, 24)[:, 0], np.zeros(days, bool)), shaped


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_baseline_looks_at_the_event_or_at_its_own_preheat(name: str) -> None:
    h, _ = history()
    event = Event(88, 17, 20, 15)
    before = METHODS[name](h, event)
    h.load_kw[88, 15:] = 1e9  # pre-heat and event
    h.load_kw[89] = 1e9  # tomorrow
    assert np.array_equal(before, METHODS[name](h, event))
    assert before.shape == (3,)


def test_the_temperature_baseline_beats_the_rule_of_thumb_where_weather_drives_the_load() -> None:
    h, truth = history(200)
    errors = {}
    for name in ("temperature", "jiangsu_5_workdays"):
        days = [d for d in range(130, 200) if h.workday[d]]
        errors[name] = np.sqrt(np.mean([(METHODS[name](h, Event(d, 17, 20, 15)) - truth[d, 17:20]) ** 2 for d in days]))
    assert errors["temperature"] < 0.5 * errors["jiangsu_5_workdays"]


def test_excluded_days_are_not_learnt_from_and_thin_history_is_named() -> None:
    h, _ = history(30)
    h.excluded[:27] = True
    with pytest.raises(BaselineError) as refused:
        mean_of_last(5)(h, Event(29, 17, 20, 15))
    assert "usable days" in refused.value.en
