"""Laws that hold under any history of commands, duplicates, reordering, failures and power cuts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.commands.actuation import Outcome
from protos.arbitration import Authority

_spec = importlib.util.spec_from_file_location("edge_bench", Path(__file__).with_name("bench.py"))
assert _spec is not None
assert _spec.loader is not None
bench_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench_module)

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class PowerCutError(Exception):
    pass


def boiler_bench(tmp_path_factory):
    bench = bench_module.Bench(tmp_path_factory.mktemp("law") / "j.db")
    bench.cycle()
    return bench


@SLOW
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["deliver", "again", "cut", "maybe", "not_sent", "cycle"])), max_size=25))
def test_a_pulse_happens_at_most_once(tmp_path_factory, history):
    """Six pulses, delivered in any order, again and again, with power cuts around the write: none goes out twice."""
    bench = boiler_bench(tmp_path_factory)
    pulses = [bench.command("pulse", "reset_command", 1.0, deadline_ms=bench.now.wall_ms + 10_000_000) for _ in range(6)]
    wires = [bench.seal(p) for p in pulses]
    went_out: list[bytes] = []

    def write(act, *, cut: bool) -> None:
        if bench.actuation.begin(act, bench.now, bench.image):
            outcome = bench.plant.write(act.spec.key, act.value)
            if outcome is not Outcome.NOT_SENT:
                went_out.append(act.command)
            if cut:
                raise PowerCutError
            bench.actuation.done(act, outcome, bench.now)

    for which, what in history:
        bench.mono += 3000
        if what == "deliver":
            bench.desk.receive(wires[which], bench.now, {1: bench.image})
        elif what == "again":
            bench.give(pulses[which])
        else:
            bench.plant.answer = {"maybe": Outcome.MAYBE, "not_sent": Outcome.NOT_SENT}.get(what, Outcome.DONE)
            bench.look()
            try:
                for act in bench.actuation.plan(bench.now, {1: bench.image}):
                    write(act, cut=what == "cut")
            except PowerCutError:
                bench.restart()
    assert len(went_out) == len(set(went_out))


@SLOW
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6), st.sets(st.integers(0, 11)))
def test_absolute_writes_are_never_out_of_version_order(tmp_path_factory, order, repeats, cuts):
    """Versions 1..6 arrive in any order, some twice, with restarts between: what is written only ever rises in version."""
    bench = boiler_bench(tmp_path_factory)
    holds = [bench.command("hold", "leaving_temp_setpoint", 40.0 + v, version=v + 1, deadline_ms=bench.now.wall_ms + 10_000_000) for v in range(6)]
    for k, which in enumerate([*order, *repeats]):
        bench.give(holds[which])
        if k in cuts:
            bench.restart()
        bench.run(2)
    values = [v for key, v in bench.plant.writes if key == "leaving_temp_setpoint"]
    assert values == sorted(values)
    assert bench.plant.values["leaving_temp_setpoint"] == 45.0


@SLOW
@given(st.lists(st.tuples(st.sampled_from([Authority.GRID_ORDER, Authority.OPERATOR, Authority.DEMAND_RESPONSE, Authority.RESIDENT, Authority.PLAN]),
                          st.integers(20, 90), st.booleans(), st.integers(1, 40)), max_size=12))
def test_what_is_written_lies_within_every_stronger_bound(tmp_path_factory, wishes):
    bench = boiler_bench(tmp_path_factory)
    for authority, value, cap, seconds in wishes:
        fields = {"high": float(value), "authority": authority, "expires_ms": bench.now.wall_ms + seconds * 1000}
        command = bench.command("hold", "leaving_temp_setpoint", None, **fields) if cap else bench.command("hold", "leaving_temp_setpoint", float(value), **{k: v for k, v in fields.items() if k != "high"})
        bench.give(command)
        bench.run(3)
        standing = bench.desk.standing(bench.device, bench.image, bench.now.wall_ms).get("leaving_temp_setpoint", [])
        decision = bench.desk.preview(bench.device, bench.device.points["leaving_temp_setpoint"], None, bench.now.wall_ms, bench.image)
        if decision.value is not None:
            assert bench.plant.values["leaving_temp_setpoint"] == decision.value
            stronger = [h for h in standing if h.authority < decision.chosen_by.authority and h.high is not None and h not in decision.conflicts]
            assert all(decision.value <= h.high for h in stronger)


@SLOW
@given(st.lists(st.sampled_from(["start", "stop", "hold1", "hold0", "restore_heat", "emergency_stop", "lock", "unlock", "leak", "dry", "cycle", "restart"]), max_size=20))
def test_no_history_writes_start_while_an_interlock_stands_or_somebody_holds_the_tag(tmp_path_factory, history):
    bench = boiler_bench(tmp_path_factory)
    for what in history:
        if what == "leak":
            bench.plant.values["leakage_alarm"] = 1
        elif what == "dry":
            bench.plant.values["leakage_alarm"] = 0
        elif what == "restart":
            bench.restart()
        elif what.startswith("hold"):
            bench.give(bench.command("hold", "enable_command", float(what[-1])))
        elif what != "cycle":
            bench.give(bench.command(what, expires_ms=0 if "lock" in what else bench.now.wall_ms + 600_000, holder="Wang"))
        before = len(bench.plant.writes)
        locked = bench.journal.lockout(1) is not None
        leaking = bench.plant.values["leakage_alarm"] == 1
        bench.run(4)
        started = ("enable_command", 1.0) in bench.plant.writes[before:]
        assert not (started and (locked or leaking))


@SLOW
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_every_taken_command_ends_in_a_final_stage(tmp_path_factory, seed, n):
    """Whatever the device does, nobody waits for ever: each command ends verified, failed, refused, expired, superseded or unknown."""
    import random
    chance = random.Random(seed)
    bench = boiler_bench(tmp_path_factory)
    given_ = []
    for _ in range(n):
        kind, key, value = chance.choice([("hold", "leaving_temp_setpoint", 50.0), ("hold", "enable_command", 1.0), ("pulse", "reset_command", 1.0), ("stop", "", None), ("start", "", None),
                                          ("emergency_stop", "", None), ("restore_heat", "", None), ("release", "enable_command", None)])
        command = bench.command(kind, key, value)
        given_.append(command)
        bench.give(command)
        bench.plant.answer = chance.choice(list(Outcome))
        bench.plant.dead = chance.random() < 0.3
        bench.run(chance.randint(1, 20))
    bench.run(600, 5)
    final = {"verified", "failed", "refused", "expired", "superseded", "unknown"}
    assert all(bench.stage(c).split(":")[0] in final for c in given_)
    assert bench.journal.open_entries() == []
