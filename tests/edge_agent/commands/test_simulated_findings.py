"""What the simulator found at the edge, one by one: a pulse taken back, a write after a lockout, a proof without a write."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edge_agent.commands.actuation import Outcome

_spec = importlib.util.spec_from_file_location("edge_bench", Path(__file__).with_name("bench.py"))
assert _spec is not None
assert _spec.loader is not None
bench_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench_module)


@pytest.fixture
def bench(tmp_path):
    b = bench_module.Bench(tmp_path / "journal.db")
    b.cycle()
    return b


def test_a_pulse_that_went_out_is_not_called_superseded(bench):
    pulse = bench.command("pulse", "reset_command", 1.0)
    bench.give(pulse)
    (act,) = bench.actuation.plan(bench.now, {1: bench.image})
    assert bench.actuation.begin(act, bench.now, bench.image)
    bench.do("lock", seconds=0)
    bench.actuation.done(act, bench.plant.write(act.spec.key, act.value), bench.now)
    bench.run(3)
    assert bench.stage(pulse) == "verified"


def test_a_write_planned_before_a_lockout_does_not_go_out_after_it(bench):
    bench.give(bench.command("hold", "leaving_temp_setpoint", 55.0))
    (act,) = bench.actuation.plan(bench.now, {1: bench.image})
    bench.do("lock", seconds=0)
    assert not bench.actuation.begin(act, bench.now, bench.image)


def test_a_write_planned_for_an_older_command_does_not_go_out_after_a_newer_one_was_taken(bench):
    bench.give(bench.command("hold", "leaving_temp_setpoint", 55.0))
    (act,) = bench.actuation.plan(bench.now, {1: bench.image})
    bench.give(bench.command("hold", "leaving_temp_setpoint", 60.0))
    assert not bench.actuation.begin(act, bench.now, bench.image)


def test_a_hold_that_expired_before_it_was_written_is_not_verified(bench):
    bench.plant.answer = Outcome.NOT_SENT
    hold = bench.command("hold", "leaving_temp_setpoint", 55.0, expires_ms=bench.now.wall_ms + 3_000)
    bench.give(hold)
    bench.run(20)
    assert bench.stage(hold).startswith("failed")
    assert bench.plant.writes == []


def test_what_may_have_been_written_is_failed_and_not_refused_when_an_interlock_comes_in_between(bench):
    bench.plant.answer = Outcome.MAYBE
    hold = bench.command("hold", "enable_command", 1.0)
    bench.give(hold)
    bench.cycle()
    bench.plant.values["phase_loss_alarm"] = 1  # forbids, and forces nothing
    bench.run(5)
    assert bench.stage(hold) == "failed:interlock.phase_loss"


def test_after_a_restart_nobody_says_surely_not_written(bench):
    hold = bench.command("hold", "enable_command", 1.0)
    bench.give(hold)
    bench.restart()  # perhaps between the write and its journal entry
    bench.plant.values["phase_loss_alarm"] = 1
    bench.run(5)
    assert bench.stage(hold) == "failed:interlock.phase_loss"


def test_a_superseded_hold_does_not_come_back_when_the_stop_above_it_ends(bench):
    hold = bench.command("hold", "enable_command", 1.0)
    bench.give(hold)
    bench.do("emergency_stop", expires_ms=bench.now.wall_ms + 5_000)
    assert bench.stage(hold).startswith("superseded")
    bench.run(20)
    assert ("enable_command", 1.0) not in bench.plant.writes
