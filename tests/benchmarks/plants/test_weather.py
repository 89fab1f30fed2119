"""The measured winter falls on today, the measured meter counts upwards for ever."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plants import measured_meter, weather

instants = st.floats(1.6e9, 2.2e9)


@given(instants)
def test_weather_is_a_january_at_the_same_hour(utc_s: float) -> None:
    now = weather.at(utc_s)
    assert -25 < now.temperature < 12
    assert 0 < now.humidity <= 100
    local_hour = (utc_s / 3600 + 8) % 24
    assert (now.sun > 0) <= (7 < local_hour < 17.5)
    assert weather.source_day(int((utc_s + weather.UTC_OFFSET_S) // 86400)).month == 1


@given(instants)
def test_weather_has_no_jump(utc_s: float) -> None:
    assert abs(weather.at(utc_s + 60).temperature - weather.at(utc_s).temperature) < 0.2


def test_the_cold_wave_is_the_measured_one() -> None:
    day = next(d for d in range(20_000, 20_031) if weather.source_day(d).day == 23)
    temperatures = [weather.at(day * 86400 + h * 3600 - weather.UTC_OFFSET_S).temperature for h in range(24)]
    assert abs(np.mean(temperatures) - -15.3) < 0.1
    assert weather.measured()[1] == {"temperature": 51, "dew_point": 54, "wind": 44}


@given(instants, st.integers(0, 29))
def test_replayed_meter_never_counts_down(utc_s: float, k: int) -> None:
    meter = measured_meter.ReplayedMeter(k)
    a, b = meter.at(utc_s), meter.at(utc_s + 1800)
    assert b.energy >= a.energy and b.volume >= a.volume
    assert a.supply > a.back > 10


def test_replayed_hours_are_the_measured_hours() -> None:
    rows = measured_meter.measured()
    first = measured_meter.FIRST_ROW + 24 * 3
    start = measured_meter.EPOCH_DAY * 86400 - measured_meter.UTC_OFFSET_S
    meter = measured_meter.ReplayedMeter(3)
    for h in (0, 1, 100, 743):
        assert abs(meter.at(start + h * 3600).energy - rows[first + h, 0]) < 1e-6
