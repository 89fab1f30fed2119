"""Rules of the box: what they wish, when they keep silent, and that the grid limit holds whatever the load does."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.algorithms.configure import configure
from edge_agent.algorithms.grid_limit import GridLimit, Shed
from edge_agent.algorithms.rotation import Member, Rotation
from edge_agent.algorithms.rule import Given, Look, Reach, Rules, local_hour
from edge_agent.algorithms.valley_charge import ValleyCharge
from edge_agent.algorithms.weather_curve import WeatherCurve, between
from edge_agent.clock import Now
from edge_agent.commands.desk import Device, Image
from edge_agent.errors import SiteError
from edge_agent.templates import builtin
from protos.arbitration import Authority, decide

T0 = 1_795_000_000_000
CURVE = ((-20.0, 60.0), (0.0, 48.0), (15.0, 35.0))


def device(number: int, template: str) -> Device:
    return Device(number, builtin(template), builtin(template).points)


BOILERS = {k: device(k, "electric_boiler_modbus") for k in (1, 2)}
TANK, WEATHER, TRAFO = device(5, "heat_storage_modbus"), device(7, "weather_station_modbus"), device(9, "transformer_modbus")
SITE = {**BOILERS, 5: TANK, 7: WEATHER, 9: TRAFO}


def at(mono_s: float = 100.0, *, hour: float | None = 12.0, cap: float | None = None, by: Authority = Authority.PLAN, age_s: float = 0.0, **values: float) -> Given:
    """A moment; values as d<device>_<key>."""
    now = Now(T0 + int(mono_s * 1000), int(mono_s * 1000), True)
    images: dict[int, dict[str, float]] = {}
    for name, value in values.items():
        number, _, key = name[1:].partition("_")
        images.setdefault(int(number), {})[key] = value
    return Given(now, {d: Image(v, now.mono_ms - int(age_s * 1000)) for d, v in images.items()}, hour, cap, by)


def reach(number: int, key: str) -> Reach:
    return Reach(number, SITE[number].points[key])


# --- weather curve


def curve(**more: float) -> WeatherCurve:
    return WeatherCurve("curve", Look(7, "outdoor_temp"), reach(5, "leaving_temp_setpoint"), CURVE, **more)


def test_the_set_point_follows_the_weather_and_stands_level_beyond_the_curve() -> None:
    for outdoor, wanted in ((-30, 60), (-20, 60), (-10, 54), (0, 48), (15, 35), (25, 35)):
        (hold,) = curve().decide(at(d7_outdoor_temp=float(outdoor))).values()
        assert hold.value == wanted
        assert hold.authority == Authority.SCHEDULE


@given(st.floats(-60, 60), st.floats(-60, 60))
def test_colder_outside_never_means_colder_supply(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert between(CURVE, low) >= between(CURVE, high)


def test_without_an_outdoor_temperature_it_is_warm_enough_and_a_wish_ends_by_itself() -> None:
    given = at(age_s=7200.0, d7_outdoor_temp=10.0)
    (hold,) = curve().decide(given).values()
    assert hold.value == 60.0
    assert given.now.wall_ms < hold.expires_ms <= given.now.wall_ms + 300_000
    (hold,) = curve(without=50.0).decide(at()).values()
    assert hold.value == 50.0


def test_a_breath_of_wind_writes_nothing() -> None:
    rule = curve()
    values = {next(iter(rule.decide(at(d7_outdoor_temp=x)).values())).value for x in (0.0, 0.3, -0.4, 0.2)}
    assert values == {48.0}


# --- valley charge


def charge() -> ValleyCharge:
    return ValleyCharge("valley", Look(5, "soc"), reach(5, "charge_enable"), ((22.0, 6.0),))


@pytest.mark.parametrize(("hour", "soc", "on"), [(23.0, 50.0, 1.0), (3.0, 50.0, 1.0), (12.0, 50.0, 0.0), (12.0, 5.0, 1.0), (23.0, 99.0, 0.0)])
def test_it_charges_in_the_valley_and_when_nearly_empty(hour: float, soc: float, on: float) -> None:
    (hold,) = charge().decide(at(hour=hour, d5_soc=soc)).values()
    assert hold.value == on


def test_it_does_not_flutter_when_full() -> None:
    rule = charge()
    seen = [next(iter(rule.decide(at(hour=23.0, d5_soc=x)).values())).value for x in (80, 97, 98, 97, 95, 91, 89)]
    assert seen == [1, 1, 0, 0, 0, 0, 1]


def test_without_time_or_content_it_keeps_silent() -> None:
    assert charge().decide(at(hour=None, d5_soc=50.0)) == {}
    assert charge().decide(at(hour=23.0)) == {}


# --- rotation


def rotation(**more: float) -> Rotation:
    members = tuple(Member(reach(k, "stage_command"), 6, Look(k, "run_hours"), Look(k, "fault_code")) for k in (1, 2))
    return Rotation("rotation", Look(5, "supply_temp"), Look(5, "leaving_temp_setpoint"), members, step_s=60.0, **more)


def stages(rule: Rotation, **values: float) -> list[float]:
    wishes = rule.decide(at(**values))
    return [wishes[k, "stage_command"].value for k in (1, 2)]


def test_stages_come_one_by_one_and_the_least_used_boiler_first() -> None:
    rule = rotation()
    cold = {"d5_supply_temp": 46.0, "d5_leaving_temp_setpoint": 50.0, "d1_run_hours": 900.0, "d2_run_hours": 100.0}
    seen = [stages(rule, mono_s=1000 + 30 * k, **cold) for k in range(20)]
    assert seen[0] == [0, 1]
    totals = [sum(s) for s in seen]
    assert all(b - a in (0, 1) for a, b in pairwise(totals))
    assert totals[-1] == 8
    assert seen[-1] == [2, 6]


def test_a_faulty_boiler_gives_its_stages_to_the_other() -> None:
    rule = rotation()
    for k in range(20):
        seen = stages(rule, mono_s=1000 + 60 * k, d5_supply_temp=48.0, d5_leaving_temp_setpoint=50.0, d1_fault_code=3.0)
    assert seen == [0, 4]


# --- grid limit


def limit(**more: float) -> GridLimit:
    members = tuple(Shed(reach(k, "power_limit_setpoint"), Look(k, "active_power"), 180.0, floor_kw=20.0, first=k) for k in (1, 2))
    return GridLimit("limit", Look(9, "active_power"), members, **more)


def test_without_a_cap_it_wishes_nothing() -> None:
    assert limit().decide(at(d9_active_power=300.0, d1_active_power=100.0, d2_active_power=100.0)) == {}


def test_the_plans_cap_is_kept_in_its_authority_and_the_first_to_go_goes_first() -> None:
    wishes = limit().decide(at(cap=300.0, by=Authority.GRID_ORDER, d9_active_power=380.0, d1_active_power=180.0, d2_active_power=180.0))
    one, two = wishes[1, "power_limit_setpoint"], wishes[2, "power_limit_setpoint"]
    assert one.authority == Authority.GRID_ORDER
    assert one.value is None
    assert two.high == 180.0
    assert one.high == pytest.approx(0.98 * 300 - 20 - 180, abs=0.2)


@given(st.floats(0, 800), st.lists(st.tuples(st.floats(0, 300), st.floats(0, 180), st.floats(0, 180), st.booleans()), min_size=1, max_size=20), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_the_members_may_draw_fits_below_the_cap_or_they_stand_at_their_floors(cap: float, looks: list[tuple[float, float, float, bool]], staged: bool) -> None:
    members = tuple(Shed(reach(k, "stage_command" if staged else "power_limit_setpoint"), Look(k, "active_power"), 180.0, 6 if staged else 0, 30.0, k) for k in (1, 2))
    rule = GridLimit("limit", Look(9, "active_power"), members)
    for n, (other, one, two, silent) in enumerate(looks):
        values = {} if silent else {"d9_active_power": other + one + two, "d1_active_power": one, "d2_active_power": two}
        wishes = rule.decide(at(mono_s=100 + 5 * n, cap=cap, **values))
        allowed = [wishes[m.target.slot].high * (30.0 if staged else 1.0) for m in members]
        assert all(30.0 - 1e-6 <= a <= 180.0 + 1e-6 for a in allowed)
        known = rule._base_kw or 0.0
        assert sum(allowed) + known <= max(cap, 60.0 + known) + 0.2
        if not silent:
            assert sum(allowed) <= max(60.0, cap - other) + 0.2


def test_caps_rise_slowly_so_that_there_is_no_rebound() -> None:
    rule = limit()
    rule.decide(at(mono_s=100, cap=200.0, d9_active_power=380.0, d1_active_power=180.0, d2_active_power=180.0))
    before = sum(h.high for h in rule.decide(at(mono_s=105, cap=200.0, d9_active_power=190.0, d1_active_power=20.0, d2_active_power=150.0)).values())
    after = sum(h.high for h in rule.decide(at(mono_s=110, cap=400.0, d9_active_power=190.0, d1_active_power=20.0, d2_active_power=150.0)).values())
    assert before < after <= before + 0.25 * 400 * 5 / 60 + 0.5


def test_limits_follow_a_cap_that_rises_and_are_put_back_when_it_is_gone() -> None:
    rules = Rules([limit()])
    drawn = {"d9_active_power": 300.0, "d1_active_power": 100.0, "d2_active_power": 180.0}
    for n in range(60):
        rules.run(at(mono_s=100 + 5 * n, cap=300.0 if n < 30 else 360.0, by=Authority.GRID_ORDER, **drawn))
    bound, follows = rules.holds(1)["power_limit_setpoint"]
    assert (bound.authority, follows.authority) == (Authority.GRID_ORDER, Authority.EDGE_ALGORITHM)
    decision = decide(rules.holds(1)["power_limit_setpoint"], T0)
    assert (decision.value, decision.limited_by) == (bound.high, bound)
    assert (bound.high or 0.0) > 100.0
    rules.run(at(mono_s=500, **drawn))
    assert [h.value for h in rules.holds(1)["power_limit_setpoint"]] == [180.0], "a device keeps what was written last"
    rules.run(at(mono_s=900, **drawn))
    assert rules.holds(1) == {}


def test_a_limit_of_a_staged_source_is_whole_stages_in_kw() -> None:
    members = tuple(Shed(reach(k, "power_limit_setpoint"), Look(k, "active_power"), 180.0, 6) for k in (1, 2))
    wishes = GridLimit("limit", Look(9, "active_power"), members).decide(at(cap=130.0, d9_active_power=360.0, d1_active_power=180.0, d2_active_power=180.0))
    assert sorted(h.high or 0.0 for h in wishes.values()) == [60.0, 60.0]


def test_a_standing_contract_is_kept_without_any_plan_and_the_lower_cap_counts() -> None:
    values = {"d9_active_power": 380.0, "d1_active_power": 180.0, "d2_active_power": 180.0}
    assert sum(h.high for h in limit(contract_kw=250.0).decide(at(**values)).values()) <= 250
    assert sum(h.high for h in limit(contract_kw=250.0).decide(at(cap=100.0, **values)).values()) <= 100
    assert all(h.authority == Authority.EDGE_ALGORITHM for h in limit(contract_kw=250.0).decide(at(cap=900.0, **values)).values())


# --- all of them


def test_a_rule_that_breaks_is_put_aside_and_the_others_go_on() -> None:
    class Broken:
        id = "broken"

        def decide(self, _given: Given) -> dict[tuple[int, str], object]:
            raise ZeroDivisionError("x")

    rules = Rules([Broken(), curve()])
    rules.run(at(d7_outdoor_temp=0.0))
    assert rules.failed == {"broken": "ZeroDivisionError: x"}
    assert rules.holds(5)["leaving_temp_setpoint"][0].value == 48.0


def test_local_hours_are_the_sites() -> None:
    assert local_hour(1_795_000_000_000, "Asia/Shanghai") == pytest.approx((local_hour(1_795_000_000_000, "UTC") + 8) % 24)


GOOD = {"kind": "weather_curve", "outdoor": {"device": 7, "point": "outdoor_temp"}, "target": {"device": 5, "point": "leaving_temp_setpoint"}, "curve": [[-20, 60], [15, 35]]}


def test_a_site_file_describes_every_kind() -> None:
    rows = [GOOD, {"kind": "valley_charge", "soc": {"device": 5, "point": "soc"}, "target": {"device": 5, "point": "charge_enable"}, "hours": [[22, 6]]},
            {"kind": "rotation", "temperature": {"device": 5, "point": "supply_temp"}, "setpoint": {"device": 5, "point": "leaving_temp_setpoint"},
             "members": [{"target": {"device": 1, "point": "stage_command"}, "stages": 6, "hours": {"device": 1, "point": "run_hours"}, "fault": {"device": 1, "point": "fault_code"}}]},
            {"kind": "grid_limit", "meter": {"device": 9, "point": "active_power"}, "contract_kw": 400,
             "members": [{"target": {"device": 1, "point": "power_limit_setpoint"}, "power": {"device": 1, "point": "active_power"}, "rated_kw": 180}]}]
    assert [type(r).__name__ for r in configure(rows, SITE)] == ["WeatherCurve", "ValleyCharge", "Rotation", "GridLimit"]


@pytest.mark.parametrize(("change", "field"), [
    ({"kind": "magic"}, "rules.0.kind"), ({"outdoor": {"device": 99, "point": "outdoor_temp"}}, "rules.0.outdoor"), ({"outdoor": "north"}, "rules.0.outdoor"),
    ({"target": {"device": 7, "point": "outdoor_temp"}}, "rules.0.target"), ({"target": {"device": 1, "point": "reset_command"}}, "rules.0.target"), ({"curve": [[5, 40], [0, 50]]}, "rules.0.curve"),
    ({"curve": []}, "rules.0.curve"), ({"curve": [[0, math.nan]]}, "rules.0.curve"), ({"night_k": True}, "rules.0.night_k"), ({"without": 500}, "rules.0.without")])
def test_a_mistake_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(SiteError) as refused:
        configure([{**GOOD, **change}], SITE)
    assert refused.value.values["field"] == field


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="stands twice"):
        configure([GOOD, GOOD], SITE)
