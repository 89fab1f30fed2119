"""What the agent does with commands: order of authority, safety acts, truth of effect."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edge_agent.commands.actuation import Outcome
from protos.arbitration import Authority
from protos.kang.v1 import command_pb2 as pb

_spec = importlib.util.spec_from_file_location("edge_bench", Path(__file__).with_name("bench.py"))
assert _spec is not None
assert _spec.loader is not None
bench_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench_module)
Bench, boiler, pump = bench_module.Bench, bench_module.boiler, bench_module.pump


@pytest.fixture
def bench(tmp_path):
    b = Bench(tmp_path / "journal.db")
    b.cycle()
    return b


def test_a_hold_is_journalled_written_and_verified_by_read_back(bench):
    command = bench.do("hold", "leaving_temp_setpoint", 55.0)
    assert bench.results(command) == ["received", "executing", "verified"]
    assert bench.plant.writes == [("leaving_temp_setpoint", 55.0)]
    assert bench.last(command).readback == 55.0


def test_result_indices_rise_and_are_signed_in_a_chain(bench):
    bench.do("hold", "leaving_temp_setpoint", 55.0)
    results = list(bench.journal.results())
    assert [r.index for r in results] == [1, 2, 3]
    from protos import envelope
    previous = envelope.GENESIS
    for r in results:
        signed = bench.journal.get(r.index)
        header = envelope.Header.unpack(signed.header)
        assert (header.previous, header.sequence, header.epoch, header.kind) == (previous, r.index, bench.journal.epoch, envelope.Kind.RESULT)
        envelope.Opened(header, signed).verify(bench_module.SIGNING.public_key(), bench_module.AGENT)
        previous = signed.digest


def test_effect_is_executing_until_the_templates_limit_then_failed(bench):
    bench.plant.follows = {}
    command = bench.do("hold", "enable_command", 1.0, seconds=50)
    assert bench.stage(command) == "executing"
    assert bench.last(command).verify_by_ms > 0
    bench.run(20)
    assert bench.stage(command) == "failed:not_verified"
    assert bench.journal.holds(1) == {}


def test_without_a_read_back_the_end_is_unknown_never_guessed(bench):
    command = bench.command("hold", "leaving_temp_setpoint", 55.0)
    bench.give(command)
    bench.cycle()
    bench.plant.dead = True
    bench.run(15)
    assert bench.stage(command) == "unknown:no_readback"


def test_a_device_that_says_no_is_reported_and_the_hold_forgotten(bench):
    bench.plant.answer = Outcome.REFUSED
    command = bench.do("hold", "leaving_temp_setpoint", 55.0)
    assert bench.results(command) == ["received", "failed:device_refused"]
    assert bench.journal.holds(1) == {}


def test_an_offline_device_fails_without_pretence(bench):
    bench.plant.answer = Outcome.NOT_SENT
    command = bench.do("hold", "leaving_temp_setpoint", 55.0, seconds=15)
    assert bench.results(command) == ["received", "failed:device_offline"]


# --- who may


@pytest.mark.parametrize(("change", "reason"), [
    ({"key": bench_module.SIGNING}, "signature"), ({"challenge": b"old-old-old!"}, "challenge"), ({"receiver": "kang://project/7/agent/other"}, "addressee")])
def test_what_cannot_be_believed_is_dropped_counted_and_not_answered(bench, change, reason):
    assert not bench.give(bench.command("emergency_stop"), **change)
    assert bench.desk.dropped[reason] == 1
    assert bench.results() == []


def test_no_bytes_crash_the_desk(bench):
    wire = bench.seal(bench.command("hold", "leaving_temp_setpoint", 55.0))
    for k in range(len(wire)):
        damaged = bytearray(wire)
        damaged[k] ^= 0xFF
        assert not bench.desk.receive(bytes(damaged), bench.now, {})
    assert bench.desk.receive(wire, bench.now, {})


def test_a_replayed_envelope_is_dropped_across_a_restart(bench):
    wire = bench.seal(bench.command("pulse", "reset_command", 1.0))
    assert bench.desk.receive(wire, bench.now, {1: bench.image})
    bench.restart()
    assert not bench.desk.receive(wire, bench.now, {1: bench.image})
    assert bench.desk.dropped["replay"] == 1


@pytest.mark.parametrize(("fields", "key", "value", "result"), [
    ({}, "leaving_temp_setpoint", 95.0, "refused:range"), ({}, "leaving_temp_setpoint", float("nan"), "refused:value"), ({}, "leaving_temp_setpoint", None, "refused:value"),
    ({}, "leaving_temp", 50.0, "refused:point"), ({"authority": Authority.FROST}, "leaving_temp_setpoint", 50.0, "refused:authority"),
    ({"authority": 77}, "leaving_temp_setpoint", 50.0, "refused:authority"), ({"expires_ms": 0}, "leaving_temp_setpoint", 50.0, "refused:expiry"),
    ({"expires_ms": 2**52}, "leaving_temp_setpoint", 50.0, "refused:expiry"), ({"deadline_ms": 5}, "leaving_temp_setpoint", 50.0, "expired:deadline"),
    ({}, "reset_command", 1.0, "refused:kind")])
def test_a_wrong_hold_is_refused_with_its_reason(bench, fields, key, value, result):
    command = bench.do("hold", key, value, **fields)
    assert bench.results(command) == [result]
    assert bench.plant.writes == []


def test_without_a_trusted_clock_only_safety_acts_pass(bench):
    bench.trusted = False
    assert bench.stage(bench.do("hold", "leaving_temp_setpoint", 55.0)) == "refused:clock"
    bench.do("emergency_stop")
    assert ("enable_command", 0.0) in bench.plant.writes


def test_an_older_command_service_is_fenced_off(bench):
    bench.do("hold", "leaving_temp_setpoint", 55.0, fencing=5)
    bench.restart()
    assert bench.stage(bench.do("hold", "leaving_temp_setpoint", 60.0, fencing=4)) == "refused:fencing"
    assert bench.stage(bench.do("emergency_stop", fencing=4)) == "verified"


# --- order


def test_an_older_version_is_never_applied_after_a_newer(bench):
    newer = bench.do("hold", "leaving_temp_setpoint", 60.0, version=9)
    older = bench.do("hold", "leaving_temp_setpoint", 50.0, version=8)
    assert (bench.stage(newer), bench.stage(older)) == ("verified", "superseded:superseded")
    assert bench.plant.writes == [("leaving_temp_setpoint", 60.0)]


def test_a_late_hold_does_not_undo_a_newer_stop_of_the_whole_device(bench):
    bench.plant.values |= {"enable_command": 1, "run_state": 1}
    stop = bench.do("stop", created_ms=2000, seconds=5)
    late = bench.do("hold", "enable_command", 1.0, created_ms=1000)
    assert (bench.stage(stop), bench.stage(late)) == ("verified", "superseded:superseded")
    assert bench.plant.values["enable_command"] == 0


def test_a_newer_hold_of_the_same_authority_supersedes_the_one_in_progress(bench):
    first = bench.command("hold", "leaving_temp_setpoint", 50.0)
    bench.give(first)
    second = bench.do("hold", "leaving_temp_setpoint", 60.0)
    assert (bench.stage(first), bench.stage(second)) == ("superseded:superseded", "verified")
    assert bench.plant.values["leaving_temp_setpoint"] == 60.0


def test_the_same_command_delivered_again_only_says_where_it_stands(bench):
    command = bench.do("hold", "leaving_temp_setpoint", 55.0)
    bench.give(command)
    bench.run(3)
    assert bench.results(command) == ["received", "executing", "verified", "verified"]
    assert bench.plant.writes == [("leaving_temp_setpoint", 55.0)]


# --- authority


def test_a_weaker_authority_is_refused_and_told_who_holds(bench):
    bench.do("hold", "leaving_temp_setpoint", 60.0, authority=Authority.OPERATOR, holder="Li")
    resident = bench.do("hold", "leaving_temp_setpoint", 40.0, authority=Authority.RESIDENT)
    assert bench.stage(resident) == "refused:held"
    assert "Li" in bench.last(resident).detail


def test_a_stronger_bound_limits_a_weaker_choice_and_says_so(bench):
    cap = bench.do("hold", "power_limit_setpoint", None, low=0.0, high=300.0, authority=Authority.GRID_ORDER)
    wish = bench.do("hold", "power_limit_setpoint", 800.0)
    assert bench.stage(cap) == "verified"
    assert bench.results(wish) == ["received", "executing:limited", "verified:limited"]
    assert bench.plant.values["power_limit_setpoint"] == 300.0


def test_a_bare_cap_corrects_the_present_value_and_only_if_it_exceeds(bench):
    bench.do("hold", "power_limit_setpoint", None, high=400.0, authority=Authority.DEMAND_RESPONSE)
    bench.do("hold", "leaving_temp_setpoint", None, high=80.0, authority=Authority.DEMAND_RESPONSE)
    assert bench.plant.writes == [("power_limit_setpoint", 400.0)]


def test_an_expired_hold_gives_way_to_the_weaker_one_below(bench):
    bench.do("hold", "leaving_temp_setpoint", 50.0, authority=Authority.PLAN)
    bench.do("hold", "leaving_temp_setpoint", 60.0, authority=Authority.OPERATOR, expires_ms=bench.now.wall_ms + 10_000)
    assert bench.plant.values["leaving_temp_setpoint"] == 60.0
    bench.run(10)
    assert bench.plant.values["leaving_temp_setpoint"] == 50.0


def test_release_gives_the_actuator_back(bench):
    bench.do("hold", "leaving_temp_setpoint", 50.0, authority=Authority.PLAN)
    bench.do("hold", "leaving_temp_setpoint", 60.0)
    assert bench.stage(bench.do("release", "leaving_temp_setpoint")) == "verified"
    assert bench.plant.values["leaving_temp_setpoint"] == 50.0


def test_a_stop_whose_hold_is_released_is_over_at_once(tmp_path):
    bench = Bench(tmp_path / "j.db", "circulation_pump_modbus", pump(run_state=1, enable_command=1, speed=80, speed_setpoint=80))
    bench.cycle()
    stop = bench.do("stop", seconds=1)
    assert bench.stage(stop) in ("received", "executing")
    assert bench.stage(bench.do("release", "speed_setpoint")) == "verified"
    assert bench.stage(stop) == "superseded:superseded"
    assert bench.journal.holds(1) == {}


def test_holds_survive_a_restart_and_are_asserted_again(bench):
    bench.do("hold", "leaving_temp_setpoint", 60.0)
    bench.plant.values["leaving_temp_setpoint"] = 45
    bench.restart()
    bench.run(2)
    assert bench.plant.values["leaving_temp_setpoint"] == 60.0


def test_a_device_that_forgot_is_told_again(bench):
    bench.do("hold", "leaving_temp_setpoint", 60.0)
    bench.plant.values["leaving_temp_setpoint"] = 45
    bench.run(35)
    assert bench.plant.values["leaving_temp_setpoint"] == 60.0


# --- interlocks and frost


def test_an_interlock_refuses_a_start_with_its_name(bench):
    bench.plant.values["low_water_alarm"] = 1
    bench.cycle()
    assert bench.stage(bench.do("start")) == "refused:interlock.low_water"
    assert bench.stage(bench.do("hold", "enable_command", 1.0)) in {"refused:interlock.low_water", "refused:held"}
    assert ("enable_command", 1.0) not in bench.plant.writes


def test_an_unreadable_interlock_input_forbids_starting_but_not_stopping(bench):
    del bench.plant.values["water_level"]
    bench.cycle()
    assert bench.stage(bench.do("hold", "enable_command", 1.0)) == "refused:interlock.water_level"
    assert bench.stage(bench.do("hold", "enable_command", 0.0)) == "verified"


def test_interlocks_are_judged_at_the_instant_of_writing(bench):
    command = bench.command("hold", "enable_command", 1.0)
    bench.give(command)
    bench.plant.values["leakage_alarm"] = 1     # after the last look
    bench.cycle(look=False)
    assert bench.stage(command) == "refused:interlock.leakage"
    assert bench.plant.writes == []


def test_a_trip_forces_the_device_off_and_it_does_not_restart_by_itself(bench):
    bench.do("hold", "enable_command", 1.0)
    bench.plant.values["leaving_temp"] = 97
    bench.run(3)
    assert bench.plant.values["enable_command"] == 0
    bench.plant.values["leaving_temp"] = 60
    bench.run(60)
    assert bench.plant.values["enable_command"] == 0


def test_frost_protection_starts_without_the_cloud_and_lets_go_with_hysteresis(bench):
    bench.plant.values["entering_temp"] = 4
    bench.run(2)
    assert (bench.plant.values["enable_command"], bench.plant.values["leaving_temp_setpoint"]) == (1, 35)
    bench.plant.values["entering_temp"] = 7
    bench.run(2)
    assert 1 in bench.desk.frost
    bench.plant.values["entering_temp"] = 12
    bench.run(2)
    assert 1 not in bench.desk.frost


def test_an_operators_stop_does_not_stop_a_pump_under_frost(tmp_path):
    bench = Bench(tmp_path / "j.db", "circulation_pump_modbus", pump(return_temp=4))
    bench.run(2)
    assert bench.plant.values["enable_command"] == 1
    assert bench.stage(bench.do("stop")) == "refused:held"
    assert bench.plant.values["enable_command"] == 1


def test_an_emergency_stop_beats_frost_and_is_flagged(bench):
    bench.plant.values["entering_temp"] = 4
    bench.run(2)
    stop = bench.do("emergency_stop")
    assert bench.stage(stop) == "verified"
    assert bench.plant.values["enable_command"] == 0
    assert bench.actuation.suppressed_frost == {1}


# --- lockout and local control


def test_a_lockout_refuses_every_remote_class_survives_a_restart_and_only_its_holder_lifts_it(bench):
    assert bench.stage(bench.do("lock", holder="Wang", reason="pump repair", expires_ms=0, authority=Authority.LOCKOUT)) == "verified"
    bench.restart()
    for authority in (Authority.GRID_ORDER, Authority.OPERATOR, Authority.PLAN):
        refused = bench.do("hold", "enable_command", 1.0, authority=authority)
        assert bench.stage(refused) == "refused:lockout"
        assert "Wang" in bench.last(refused).detail
    assert bench.stage(bench.do("unlock", holder="Li", expires_ms=0, authority=Authority.LOCKOUT)) == "refused:tag"
    assert bench.stage(bench.do("unlock", holder="Wang", expires_ms=0, authority=Authority.LOCKOUT)) == "verified"
    assert bench.stage(bench.do("hold", "enable_command", 1.0)) == "verified"


def test_two_named_persons_may_lift_a_lockout(bench):
    bench.do("lock", holder="Wang", expires_ms=0)
    assert bench.stage(bench.do("unlock", holder="Li + Zhao", expires_ms=0)) == "verified"


def test_nothing_starts_by_itself_when_a_lockout_is_lifted(bench):
    bench.do("hold", "enable_command", 1.0)
    bench.do("lock", holder="Wang", expires_ms=0)
    bench.plant.values |= {"enable_command": 0, "run_state": 0}
    bench.do("unlock", holder="Wang", expires_ms=0, seconds=60)
    assert bench.plant.values["enable_command"] == 0


def test_an_emergency_stop_passes_a_lockout_and_a_full_house(bench):
    bench.do("hold", "enable_command", 1.0)
    bench.do("lock", holder="Wang", expires_ms=0)
    assert bench.stage(bench.do("emergency_stop", deadline_ms=1)) == "verified"
    assert bench.plant.values["enable_command"] == 0


def test_local_control_refuses_remote_commands(bench):
    bench.plant.values["local_manual"] = 1
    bench.cycle()
    assert bench.stage(bench.do("hold", "leaving_temp_setpoint", 55.0)) == "refused:local_manual"


# --- sequences


def test_a_stop_follows_its_sequence_and_is_held(tmp_path):
    bench = Bench(tmp_path / "j.db", "circulation_pump_modbus", pump(run_state=1, enable_command=1, speed=80, speed_setpoint=80))
    bench.cycle()
    stop = bench.do("stop", seconds=8)
    assert bench.plant.writes == [("speed_setpoint", 30.0), ("enable_command", 0.0)]
    assert bench.results(stop) == ["received", "executing", "verified"]
    bench.plant.values |= {"enable_command": 1, "run_state": 1}
    bench.run(40)
    assert bench.plant.values["enable_command"] == 0


def test_a_start_after_a_stop_lets_go_of_what_the_stop_held(tmp_path):
    bench = Bench(tmp_path / "j.db", "circulation_pump_modbus", pump(run_state=1, enable_command=1, speed=80, speed_setpoint=80))
    bench.cycle()
    bench.do("stop", seconds=8)
    start = bench.do("start", seconds=8)
    assert bench.stage(start) == "verified"
    assert bench.plant.values["enable_command"] == 1
    assert "speed_setpoint" not in {bench_module.point_name(p) for p in bench.journal.holds(1)}


def test_a_start_that_does_not_run_fails_at_its_limit(bench):
    bench.plant.follows = {}
    start = bench.do("start", seconds=70)
    assert bench.stage(start) == "failed:wait_timeout"
    assert bench.journal.holds(1) == {}


def test_a_sequence_goes_on_after_a_restart(tmp_path):
    bench = Bench(tmp_path / "j.db", "circulation_pump_modbus", pump(run_state=1, enable_command=1, speed=80, speed_setpoint=80))
    bench.plant.follows = {"enable_command": "run_state"}
    bench.cycle()
    stop = bench.do("stop", seconds=3)
    bench.restart()
    bench.plant.values["speed"] = 30
    bench.run(6)
    assert bench.stage(stop) == "verified"
    assert bench.plant.values["enable_command"] == 0


def test_restore_heat_lifts_stops_and_starts(bench):
    bench.do("emergency_stop")
    assert bench.stage(bench.do("start")) == "refused:held"
    restore = bench.do("restore_heat", deadline_ms=1, seconds=6)
    assert bench.stage(restore) == "verified"
    assert bench.plant.values["enable_command"] == 1


def test_an_unlock_agreed_upon_for_one_tag_takes_off_no_other(bench):
    bench.do("lock", holder="wang")
    tag = bench.journal.lockout(1)
    assert bench.stage(bench.do("unlock", holder="a + b", value=float(tag.since_ms - 1000))) == "refused:tag_other"
    assert bench.journal.lockout(1) == tag
    assert bench.stage(bench.do("unlock", holder="a + b", value=float(tag.since_ms))) == "verified"
    assert bench.journal.lockout(1) is None


def test_a_restore_that_fails_under_a_tag_leaves_the_emergency_stop_where_it_is(bench):
    bench.do("lock")
    bench.do("emergency_stop", seconds=5)
    held = bench.journal.holds(1)
    assert held
    assert bench.stage(bench.do("restore_heat")) == "failed:lockout"
    assert bench.journal.holds(1) == held, "or it would start when the tag comes off"


def test_restore_heat_never_starts_a_device_somebody_works_on(bench):
    bench.do("lock", holder="Wang", expires_ms=0)
    restore = bench.do("restore_heat")
    assert bench.stage(restore) == "failed:lockout"
    assert bench.plant.writes == []


# --- pulses


def test_a_pulse_is_done_once_and_proven_by_its_effect(bench):
    bench.plant.values["fault_code"] = 7
    command = bench.do("pulse", "reset_command", 1.0)
    bench.give(command)
    bench.run(5)
    assert bench.plant.writes == [("reset_command", 1.0)]
    assert bench.results(command)[:3] == ["received", "executing", "verified"]


def test_an_unanswered_pulse_is_unknown_and_never_repeated(bench):
    bench.plant.answer = Outcome.MAYBE
    command = bench.do("pulse", "reset_command", 1.0, seconds=60)
    assert bench.plant.writes == [("reset_command", 1.0)]
    assert bench.stage(command) == "unknown:pulse_unanswered"


def test_a_pulse_that_surely_was_not_sent_goes_when_the_channel_is_back(bench):
    bench.plant.answer = Outcome.NOT_SENT
    command = bench.do("pulse", "reset_command", 1.0)
    bench.plant.answer = Outcome.DONE
    bench.run(5)
    assert (bench.plant.writes, bench.stage(command)) == ([("reset_command", 1.0)], "verified")


def test_after_a_crash_between_journal_and_act_a_pulse_is_unknown(bench):
    command = bench.command("pulse", "reset_command", 1.0)
    bench.give(command)
    (act,) = bench.actuation.plan(bench.now, {1: bench.image})
    assert bench.actuation.begin(act, bench.now, bench.image)
    bench.restart()
    bench.run(5)
    assert bench.plant.writes == []
    assert bench.stage(command) == "unknown:restart_while_acting"


def test_results_are_freed_only_by_their_own_epochs_acknowledgement(bench):
    from edge_agent.session import UplinkSession
    from protos.kang.v1 import link_pb2
    bench.do("hold", "leaving_temp_setpoint", 55.0)
    session = UplinkSession(bench.journal, live_first=False)
    session.connected()
    assert session.due(0) == [1, 2, 3]
    session.acked(link_pb2.Ack(epoch=b"x" * 16, ranges=[link_pb2.Ack.Range(first=1, last=3)]))
    assert len(bench.results()) == 3
    session.acked(link_pb2.Ack(epoch=bench.journal.epoch, ranges=[link_pb2.Ack.Range(first=1, last=2)]))
    assert bench.results() == ["verified"]
    assert next(iter(bench.journal.results())).stage == pb.STAGE_VERIFIED
