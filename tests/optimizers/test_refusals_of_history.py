"""History, forecasts, fits, emissions and portfolios: what cannot be is refused in the library's own words, what nobody knows stays unknown."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.boosting import boost, corrected, learn, verdict
from optimizers.cop import fit_cop
from optimizers.emissions import Ratio, displaced, efficiency, factor, grade, ledger, round_trip
from optimizers.errors import InputError, OptimizerError, SpecificationError
from optimizers.forecast import ForecastError, Weather, calibrated, degree_hours, design, fit, interval, low_pass, predict, update
from optimizers.forecast_card import cards
from optimizers.identification import NotIdentifiedError, identify
from optimizers.methods.pools import shares_of
from optimizers.methods.portfolio import Column, LocalPool, Master, ProcessPool, master, split, whole_split
from optimizers.specification import Performance
from tests.optimizers.test_refusals import COMMUNITY, VALUES, judged

HOURS = 10 * 24
RANDOM = np.random.default_rng(0)
OUTDOOR = -3 + 5 * np.sin(np.arange(HOURS) / 24) + RANDOM.normal(0, 1, HOURS)
LOAD = 100 - 4 * OUTDOOR + RANDOM.normal(0, 2, (2, HOURS))
WEATHER = Weather(OUTDOOR, np.arange(HOURS) // 24 % 7 < 5)
MODEL = fit(LOAD, WEATHER)
SAID = predict(MODEL, LOAD, WEATHER)
BOOSTER = boost(RANDOM.normal(0, 1, (200, 3)), RANDOM.normal(0, 1, 200), trees=3)
ROOM = 20 + 0.5 * np.sin(np.arange(HOURS) / 10)
POOL = LocalPool([COMMUNITY, COMMUNITY], np.arange(2, 5))
RELAXED = split(POOL, np.full(3, 200.0), 0.25)
ENERGY = np.ones(4)
GIVEN: dict[Any, dict[str, Any]] = {
    fit: {"load": LOAD, "weather": WEATHER, "half_life_days": 120.0, "ridge": 1e-3}, update: {"model": MODEL, "load": LOAD, "weather": WEATHER, "half_life_days": 120.0, "ridge": 1e-3},
    predict: {"model": MODEL, "load": LOAD, "weather": WEATHER}, design: {"load": LOAD, "weather": WEATHER}, interval: {"model": MODEL, "forecast": SAID, "share": 0.8, "spread": 1.0},
    calibrated: {"spread": 1.0, "inside": 0.7, "share": 0.8, "rate": 0.05}, degree_hours: {"load": LOAD, "outdoor_c": OUTDOOR, "ahead_c": np.zeros(24), "base_c": 16.0}, low_pass: {"outdoor_c": OUTDOOR, "hours": 24.0},
    cards: {"load": LOAD, "weather": WEATHER}, boost: {"features": np.ones((50, 2)), "target": np.ones(50), "trees": 2, "rate": 0.1, "least": 5}, corrected: {"booster": BOOSTER, "features": np.ones((4, 3))},
    learn: {"model": MODEL, "load": LOAD, "weather": WEATHER, "project": 0}, verdict: {"load": LOAD[0], "weather": WEATHER, "folds": 3, "fold_days": 14},
    identify: {"room_c": ROOM, "heat_kw": LOAD[0], "outdoor_c": OUTDOOR, "sun_kw_m2": np.zeros(HOURS), "step_h": 1.0, "order": 1, "largest": 0.35},
    fit_cop: {"power_kw": LOAD[0], "heat_kw": 3 * LOAD[0], "source_c": OUTDOOR, "supply_c": np.full(HOURS, 40.0), "step_h": 1.0, "before": Performance()},
    factor: {"year": 2023, "region": "CN", "kind": "average", "table": ()}, ledger: {"grid_kwh": ENERGY, "pv_kwh": ENERGY, "green_kwh": ENERGY, "kg_kwh": 0.5},
    displaced: {"heat_kwh": 10.0, "actual_kg": 1.0, "boiler_efficiency": 0.7, "coal_kg_kwh": 0.3}, efficiency: {"out_kwh": 3.0, "in_kwh": 1.0, "out_class": 0.03, "in_class": 0.01},
    round_trip: {"charged_kwh": ENERGY, "discharged_kwh": ENERGY, "content_first_kwh": 1.0, "content_last_kwh": 1.0}, grade: {"found": Ratio(3.0, 0.1), "limits": {"1": 2.0}},
    split: {"pool": POOL, "target_kw": np.full(3, 200.0), "step_h": 0.25, "shortfall_yuan_kwh": 10.0, "gap": 1e-4, "rounds": 5},
    whole_split: {"pool": POOL, "relaxed": RELAXED, "target_kw": np.full(3, 200.0), "step_h": 0.25, "shortfall_yuan_kwh": 10.0, "gap": 0.01, "seconds": 2.0},
    LocalPool: {"communities": [COMMUNITY], "steps": np.arange(2, 5)}, master: {"columns": RELAXED.columns, "target_kw": np.full(3, 200.0), "rho": 2.5, "seconds": 2.0}}
CASES = [(f, a) for f, arguments in GIVEN.items() for a in arguments]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CASES), st.sampled_from(range(len(VALUES))))
def test_any_argument_is_refused_or_used(case: tuple[Any, str], value: int) -> None:
    function, field = case
    judged(lambda: function(**{**GIVEN[function], field: VALUES[value]}))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([fit, update, predict, cards]), st.sampled_from([f.name for f in dataclasses.fields(Weather)]), st.sampled_from(range(len(VALUES))))
def test_any_weather_is_refused_or_used(function: Any, field: str, value: int) -> None:
    judged(lambda: function(**{**GIVEN[function], "weather": dataclasses.replace(WEATHER, **{field: VALUES[value]})}))


def test_a_hole_in_the_weather_is_named_and_too_little_history_too() -> None:
    holed = dataclasses.replace(WEATHER, outdoor_c=np.where(np.arange(HOURS) == 7, np.nan, OUTDOOR))
    with pytest.raises(InputError) as refused:
        fit(LOAD, holed)
    assert "step 7" in refused.value.en
    assert "第 7 步" in refused.value.zh
    with pytest.raises(ForecastError):
        fit(LOAD[:, :100], Weather(OUTDOOR[:100], WEATHER.workday[:100]))
    with pytest.raises(InputError):
        predict(MODEL, LOAD[:1], WEATHER)


def test_a_project_nobody_metered_is_forecast_as_unknown_and_spoils_no_other() -> None:
    dead = np.stack([LOAD[0], np.full(HOURS, np.nan)])
    model = fit(dead, WEATHER)
    said = predict(model, dead, WEATHER)
    assert np.isnan(said[1]).all()
    assert said[0] == pytest.approx(predict(fit(LOAD[:1], WEATHER), LOAD[:1], WEATHER)[0])
    low, high = interval(model, said)
    assert np.isnan(low[1]).all()
    assert (low[0] <= high[0]).all()
    assert np.isnan(degree_hours(dead, OUTDOOR, np.zeros(24))[1]).all()


def test_a_day_without_a_meter_is_bridged_by_the_other_lags() -> None:
    holed = LOAD.copy()
    holed[:, -48:-24] = np.nan  # yesterday, as seen from the day to forecast
    assert predict(MODEL, holed, WEATHER) == pytest.approx(SAID, rel=0.25)


def test_a_hole_in_the_heat_is_not_fitted_over() -> None:
    with pytest.raises(NotIdentifiedError) as refused:
        identify(ROOM, np.where(np.arange(HOURS) == 9, np.nan, LOAD[0]), OUTDOOR, np.zeros(HOURS), 1.0)
    assert "step 9" in refused.value.en


def test_a_worker_s_refusal_arrives_with_its_words() -> None:
    with ProcessPool([COMMUNITY, dataclasses.replace(COMMUNITY, transformer_kw=np.nan)], np.arange(2, 5), workers=1) as pool, pytest.raises(SpecificationError) as refused:
        pool.price(np.zeros(3))
    assert refused.value.facts["field"] == "transformer_kw"


def test_columns_of_another_event_or_project_are_refused() -> None:
    mix = Master([0], np.full(3, 10.0), 2.5)
    for wrong in (Column(1, 1.0, np.zeros(3), True), Column(0, 1.0, np.zeros(2), True), Column(0, np.nan, np.zeros(3), True), "x"):
        with pytest.raises(InputError):
            mix.add([wrong])  # type: ignore[list-item]
    with pytest.raises(OptimizerError):
        mix.mixed()  # project 0 has no column


@pytest.mark.parametrize("call", [
    lambda: split(POOL, np.full(3, 50.0), 0.25, stored=["x"]), lambda: split(POOL, np.full(3, 50.0), 0.25, stored="x"), lambda: split(POOL, np.full(3, 50.0), 0.25, stored=[Column("a", 1.0, np.zeros(3), True)]),  # type: ignore[list-item,arg-type]
    lambda: master([Column(0, "x", np.zeros(3), True)], np.zeros(3), 1.0), lambda: master([Column(0, 1.0, ["a"] * 3, True)], np.zeros(3), 1.0), lambda: master([Column(0, 1.0, [[1], 2, 3], True)], np.zeros(3), 1.0),  # type: ignore[arg-type,list-item]
    lambda: LocalPool([COMMUNITY], np.arange(2), first="x"), lambda: LocalPool([COMMUNITY], np.arange(2), stride=0), lambda: LocalPool(None, np.arange(2)), lambda: LocalPool([None], np.arange(2)),  # type: ignore[arg-type,list-item]
    lambda: shares_of(None, 2), lambda: shares_of(["x"], 2), lambda: shares_of([COMMUNITY], 0), lambda: ProcessPool("x", np.arange(2)), lambda: POOL.price("x")])  # type: ignore[arg-type,list-item]
def test_a_portfolio_of_what_is_none_is_refused(call: Any) -> None:
    with pytest.raises(InputError):
        call()
