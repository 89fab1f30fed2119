"""Names, numbers and units of the contract."""

from __future__ import annotations

import pytest

from protos import subjects
from protos.errors import KangError
from protos.points import BY_ID, BY_KEY, POINTS, Kind, point
from protos.units import TO_CANONICAL, UnitError, conversion


def test_point_numbers_and_names_are_unique_and_fit():
    assert len(BY_ID) == len(BY_KEY) == len(POINTS)
    assert all(0 < p.id < 2**16 and p.low < p.high and p.resolution > 0 and p.zh and p.en for p in POINTS)


def test_numbers_already_given_never_change():
    known = {"active_power": 1, "energy_import": 20, "heat_energy": 40, "supply_temp": 45, "run_state": 60, "enable_command": 62, "leaving_temp_setpoint": 65, "soc": 100, "valve_command": 133,
             "room_temp": 134, "outdoor_temp": 160, "layer_temp_1": 201, "layer_temp_30": 230}
    assert {k: point(k).id for k in known} == known


def test_units_of_points_are_canonical():
    canonical = {row[0] for row in TO_CANONICAL.values()} | {""}
    assert {p.unit for p in POINTS} <= canonical
    assert all(p.unit == "" for p in POINTS if p.kind is Kind.ALARM)


@pytest.mark.parametrize(("unit", "canonical", "value", "expected"), [
    ("GJ", "kWh", 3.6, 1000.0), ("MWh", "kWh", 1, 1000.0), ("degF", "degC", 212, 100.0), ("bar", "kPa", 1, 100.0), ("L/s", "m3/h", 1, 3.6), ("W", "kW", 1500, 1.5), ("J/h", "kW", 3.6e6, 1.0)])
def test_conversions(unit, canonical, value, expected):
    factor, offset = conversion(unit, canonical)
    assert value * factor + offset == pytest.approx(expected)


@pytest.mark.parametrize(("unit", "canonical"), [("kW", "kWh"), ("furlong", "m"), ("degC", "K")])
def test_a_unit_of_another_dimension_is_refused(unit, canonical):
    with pytest.raises(UnitError) as caught:
        conversion(unit, canonical)
    assert unit in caught.value.message("zh")


def test_names_on_the_wire():
    assert subjects.telemetry(3, 7, "a1") == "tel.003.7.a1"
    assert subjects.telemetry_stream(3) == "TEL_003"
    assert subjects.down(7, "a1", "ack") == "down.7.a1.ack"
    assert subjects.partition_of(21, 16) == 5


def test_an_error_text_never_raises_for_want_of_a_value():
    class OddError(KangError):
        code, zh, en = "E-ODD", "缺 {a}", "missing {a} {b!r:>3"

    assert "E-ODD" in str(OddError(c=1))
