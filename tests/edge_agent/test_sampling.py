"""Report by exception, honest about what is bad."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.driver import Value
from edge_agent.sampling import Sampler
from edge_agent.templates import builtin
from protos.points import Quality, point

BOILER = builtin("electric_boiler_modbus")
T0 = 1_795_000_000_000


def sampler() -> Sampler:
    return Sampler(1, BOILER.points, 5000)


def one(s: Sampler, key: str, value: float, at_s: float, quality: Quality = Quality.GOOD):
    return s.take({key: Value(value, quality)}, T0 + int(at_s * 1000), int(at_s * 1000))


def test_timestamps_stand_on_the_grid_and_values_at_the_instruments_resolution():
    (reading,) = one(sampler(), "leaving_temp", 65.34999, 3.2)
    assert (reading.at_ms, reading.value, reading.point_id) == (T0, 65.3, point("leaving_temp").id)


def test_small_moves_are_silent_until_the_longest_silence():
    s = sampler()
    spec = BOILER.points["leaving_temp"]
    assert one(s, "leaving_temp", 60.0, 0)
    assert not one(s, "leaving_temp", 60.1, 5)
    assert one(s, "leaving_temp", 60.2, 10)
    assert not one(s, "leaving_temp", 60.2, 10 + spec.max_silent_s - 5)
    assert one(s, "leaving_temp", 60.2, 10 + spec.max_silent_s)


def test_an_effect_is_never_stamped_more_than_a_second_before_its_cause():
    s = sampler()
    one(s, "leaving_temp_setpoint", 50, 0)
    (effect,) = one(s, "leaving_temp_setpoint", 60, 3.4)  # written at 3.2 s, looked at on purpose between two instants of the grid
    assert effect.at_ms == T0 + 3000
    (back,) = one(s, "leaving_temp_setpoint", 50, 4.1)
    assert back.at_ms == T0 + 4000
    stale = s.silent(T0 + 4900, 4900)
    assert not stale, "nothing is stamped twice"
    assert [r.at_ms for r in s.silent(T0 + 7000, 7000)] == [T0 + 7000], "and never before what was said already"


def test_a_state_is_reported_the_moment_it_changes():
    s = sampler()
    assert one(s, "run_state", 0, 0)
    assert not one(s, "run_state", 0, 5)
    assert one(s, "run_state", 1, 10)


def test_two_looks_within_one_grid_instant_make_one_reading():
    s = sampler()
    assert one(s, "active_power", 100, 0)
    assert not one(s, "active_power", 900, 1)
    assert one(s, "active_power", 900, 5)


def test_out_of_range_is_bad_and_counted():
    s = sampler()
    (reading,) = one(s, "leaving_temp", 200.0, 0)
    assert (reading.value, reading.quality) == (200.0, Quality.BAD)
    assert s.counts["range"] == 1


def test_not_a_number_never_travels():
    s = sampler()
    assert one(s, "leaving_temp", math.nan, 0) == []
    one(s, "leaving_temp", 60.0, 5)
    (reading,) = one(s, "leaving_temp", math.inf, 10)
    assert (reading.value, reading.quality) == (60.0, Quality.BAD)
    assert s.counts["nan"] == 2


def test_a_silent_device_goes_stale_once_and_recovers():
    s = sampler()
    one(s, "leaving_temp", 60.0, 0)
    (stale,) = s.silent(T0 + 5000, 5000)
    assert (stale.value, stale.quality) == (60.0, Quality.STALE)
    assert s.silent(T0 + 10_000, 10_000) == []
    (back,) = one(s, "leaving_temp", 60.0, 15)
    assert back.quality == Quality.GOOD


@given(st.lists(st.floats(-100, 300), min_size=1, max_size=60))
def test_the_reported_curve_never_strays_by_more_than_the_dead_band(values):
    s = sampler()
    spec = BOILER.points["leaving_temp"]
    seen = math.nan
    for k, value in enumerate(values):
        for reading in one(s, "leaving_temp", value, 5 * k):
            seen = reading.value
        assert abs(value - seen) < spec.deadband + spec.resolution
