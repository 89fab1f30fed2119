"""The plan at the edge: followed interval by interval, with or without the cloud, under every stronger authority; never half-taken."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.arbitration import Authority

_spec = importlib.util.spec_from_file_location("edge_bench", Path(__file__).with_name("bench.py"))
assert _spec is not None
assert _spec.loader is not None
bench_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench_module)
SETPOINT = "leaving_temp_setpoint"


@pytest.fixture
def bench(tmp_path):
    b = bench_module.Bench(tmp_path / "journal.db")
    b.cycle()
    return b


def test_each_interval_is_written_when_it_begins_and_nothing_after_the_end(bench):
    assert bench.plan([{"key": SETPOINT, "value": [50.0, 60.0, 60.0]}], step_s=10)
    bench.run(60)
    assert bench.plant.writes == [(SETPOINT, 50.0), (SETPOINT, 60.0)]
    bench.plant.values[SETPOINT] = 45.0
    bench.run(60)
    assert len(bench.plant.writes) == 2, "after its end the plan wishes nothing"


def test_a_plan_survives_a_restart_and_its_hash_is_told(bench):
    bench.plan([{"key": SETPOINT, "value": [55.0] * 10}])
    digest = bench.desk.plan.digest
    bench.restart()
    bench.run(3)
    assert bench.plant.writes == [(SETPOINT, 55.0)]
    assert (bench.desk.plan.version, bench.desk.plan.digest) == (1, digest)


def test_an_operator_stands_above_the_plan_and_the_plan_comes_back_when_he_lets_go(bench):
    bench.plan([{"key": SETPOINT, "value": [55.0] * 10}])
    bench.run(3)
    bench.do("hold", SETPOINT, 40.0, expires_ms=bench.now.wall_ms + 20_000)
    assert bench.plant.values[SETPOINT] == 40.0
    bench.run(30)
    assert bench.plant.values[SETPOINT] == 55.0


def test_a_grid_cap_in_the_plan_limits_the_operators_choice(bench):
    bench.plan([{"key": "power_limit_setpoint", "high": [300.0] * 10, "authority": Authority.GRID_ORDER}])
    command = bench.do("hold", "power_limit_setpoint", 900.0)
    assert bench.plant.values["power_limit_setpoint"] == 300.0
    assert any("limited" in r for r in bench.results(command))


def test_who_starts_or_stops_a_device_is_not_held_back_by_the_plans_stages(bench):
    bench.plan([{"key": "stage_command", "value": [0.0] * 10}, {"key": SETPOINT, "value": [40.0] * 10}])
    bench.run(3)
    assert bench.plant.values["stage_command"] == 0.0
    bench.plant.values["stage_command"] = 3.0  # what the local controller does when nobody holds it
    command = bench.do("start", seconds=10, expires_ms=bench.now.wall_ms + 60_000)
    assert bench.stage(command) == "verified"
    bench.run(40)
    assert bench.plant.values["stage_command"] == 3.0, "a start that gives no heat is none"
    bench.run(60)
    assert bench.plant.values["stage_command"] == 0.0, "when the start expires the plan rules again"


def test_a_lockout_silences_the_plan(bench):
    bench.do("lock", holder="Wang", authority=Authority.LOCKOUT)
    bench.plan([{"key": SETPOINT, "value": [55.0] * 10}])
    bench.run(5)
    assert bench.plant.writes == []


def test_an_interlock_is_judged_against_the_plan_too(bench):
    bench.plan([{"key": "enable_command", "value": [1.0] * 10}])
    bench.plant.values["low_water_alarm"] = 1.0
    bench.run(5)
    assert ("enable_command", 1.0) not in bench.plant.writes


def test_an_older_version_never_comes_back(bench):
    bench.plan([{"key": SETPOINT, "value": [55.0] * 10}], version=5)
    bench.plan([{"key": SETPOINT, "value": [45.0] * 10}], version=4)
    bench.run(3)
    assert bench.plant.writes == [(SETPOINT, 55.0)]


@pytest.mark.parametrize(("tracks", "reason"), [
    ([{"key": SETPOINT, "value": [55.0]}, {"key": SETPOINT, "value": [999.0]}], "range"),
    ([{"key": SETPOINT, "value": [math.inf]}], "range"),
    ([{"key": SETPOINT, "value": [55.0] * 3}, {"key": "power_limit_setpoint", "value": [1.0] * 2}], "length"),
    ([{"key": SETPOINT, "value": []}], "length"),
    ([{"key": SETPOINT, "value": [50.0], "device": 9}], "device"),
    ([{"key": "active_power", "value": [50.0]}], "point"),
    ([{"key": "reset_command", "value": [1.0]}], "point"),
    ([{"point": 60_000, "value": [1.0]}], "point"),
    ([{"key": SETPOINT, "value": [50.0], "authority": Authority.OPERATOR}], "authority"),
    ([{"key": SETPOINT, "value": [50.0], "authority": Authority.EMERGENCY_STOP}], "authority")])
def test_a_document_with_one_wrong_track_is_refused_whole_and_named(bench, tracks, reason):
    bench.plan([{"key": SETPOINT, "value": [52.0] * 10}], version=1)
    bench.plan(tracks, version=2)
    assert bench.desk.plan_refused.startswith(f"E-PLAN.{reason}")
    bench.run(3)
    assert bench.plant.writes == [(SETPOINT, 52.0)], "the plan before it stays in force"
    bench.plan([{"key": SETPOINT, "value": [53.0] * 10}], version=3)
    assert bench.desk.plan_refused == ""


def test_who_may_not_plan(bench):
    assert not bench.plan([{"key": SETPOINT, "value": [55.0]}], key=Ed25519PrivateKey.generate()), "a forger gets no answer"
    bench.plan([{"key": SETPOINT, "value": [55.0]}], agent="another")
    assert bench.desk.plan_refused.startswith("E-PLAN.addressee")
    bench.plan([{"key": SETPOINT, "value": [50.0] * 9}], fencing=5)
    bench.plan([{"key": SETPOINT, "value": [55.0] * 9}], version=9, fencing=4)
    assert bench.desk.plan_refused.startswith("E-PLAN.fencing")
    bench.trusted = False
    bench.plan([{"key": SETPOINT, "value": [55.0] * 9}], version=10, fencing=5)
    assert bench.desk.plan_refused.startswith("E-PLAN.clock")
    bench.trusted = True
    bench.run(2)
    assert bench.plant.writes == [(SETPOINT, 50.0)]


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_document_crashes_the_reader(document):
    from edge_agent.commands.plan import read
    from edge_agent.errors import PlanError
    try:
        read(document, {}, 7, "a1")
    except PlanError as error:
        assert error.reason
