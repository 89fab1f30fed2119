"""The command service's desk: what it accepts, in which order it moves, and that no state is ever guessed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.control.desk import Desk
from cloud.control.errors import CommandConflictError, CommandGoneError, CommandTargetError, CommandValueError, CommandWritableError
from cloud.control.journal import Journal
from cloud.control.states import FINAL, State
from cloud.core.ports import AgentInfo, DeviceInfo, PointSetting
from protos import envelope, subjects, suites
from protos.kang.v1 import command_pb2 as pb
from protos.points import point
from protos.sm2 import Sm2MissingError
from protos.suites import Suite

SETPOINT, POWER = point("leaving_temp_setpoint").id, point("active_power").id
BOX, KEY = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
AGENT = AgentInfo("a1", 1, bytes(32), BOX.public_key().public_bytes_raw(), "grpc")
DEVICE = DeviceInfo(7, 1, "a1", "B1", "", "", "t", "p", None, "", 0, {}, {SETPOINT: PointSetting(SETPOINT, 20, 90, 0.1, 60, True, 5), POWER: PointSetting(POWER, 0, 500, 0.1, 60)})
EPOCH = bytes(16)


class Directory:
    def version(self) -> int:
        return 1

    def projects(self) -> list[Any]:
        return []

    def project(self, project_id: int) -> None:
        return None

    def devices(self, project_id: int) -> list[DeviceInfo]:
        return [DEVICE]

    def device(self, device_id: int) -> DeviceInfo | None:
        return DEVICE if device_id == 7 else None

    def agents(self, project_id: int | None = None) -> list[AgentInfo]:
        return [AGENT]

    def agent(self, agent_id: str) -> AgentInfo | None:
        return AGENT if agent_id == "a1" else None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Journal(tmp_path / "control.sqlite"), Directory(), {Suite.STD: KEY})


def wish(**more: Any) -> dict[str, Any]:
    return {"project_id": 1, "device_id": 7, "kind": "hold", "point_id": SETPOINT, "value": 50.0, "actor": "op", "deadline_s": 30, "hold_s": 600, **more}


def report(desk: Desk, command_id: str, stage: int, index: int, now: int = 0, **more: Any) -> str | None:
    return desk.take(pb.Result(command_id=bytes.fromhex(command_id), project_id=1, agent_id="a1", stage=stage, index=index, **more), EPOCH, now)  # type: ignore[arg-type]


def state(desk: Desk, command_id: str) -> str:
    return str(desk.view(command_id)["state"])


@pytest.mark.parametrize(("body", "error"), [
    ({"device_id": 8}, CommandTargetError), ({"project_id": 2}, CommandTargetError), ({"kind": "explode"}, CommandTargetError), ({"point_id": 999}, CommandTargetError),
    ({"point_id": POWER}, CommandWritableError), ({"value": 91}, CommandValueError), ({"value": float("nan")}, CommandValueError), ({"value": "hot"}, CommandValueError),
    ({"value": None}, CommandValueError), ({"low": 60, "high": 50}, CommandValueError), ({"hold_s": -1}, CommandValueError), ({"hold_s": 0}, CommandValueError), ({"deadline_s": 0}, CommandValueError), ({"deadline_s": 1e9}, CommandValueError),
    ({"authority": 0}, CommandValueError), ({"authority": 3}, CommandValueError), ({"authority": 99}, CommandValueError)])
def test_what_cannot_be_done_is_refused_by_name_and_audited_but_never_journalled(desk: Desk, body: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        desk.submit(wish(**body), 0)
    assert desk.journal.counts() == {}
    assert desk.journal._db.execute("SELECT type FROM audit").fetchall()[0][0] == "command.refused"


def test_the_same_key_gives_the_same_command_and_another_request_with_it_is_refused(desk: Desk) -> None:
    first, _ = desk.submit(wish(idempotency_key="k"), 0)
    again, _ = desk.submit(wish(idempotency_key="k"), 5)
    assert again["id"] == first["id"]
    with pytest.raises(CommandConflictError):
        desk.submit(wish(idempotency_key="k", value=51.0), 5)


def test_two_persons_are_named_and_no_name_can_pretend_to_be_two(desk: Desk) -> None:
    both, _ = desk.submit(wish(kind="unlock", point_id=0, value=None, actor="li", second="wang"), 0)
    alone, _ = desk.submit(wish(kind="unlock", point_id=0, value=None, actor="li + wang"), 1)
    assert both["actor"] == "li + wang"
    assert "+" not in alone["actor"]


def test_a_newer_wish_of_the_same_authority_supersedes_one_that_still_waits(desk: Desk) -> None:
    old, _ = desk.submit(wish(), 0)
    new, superseded = desk.submit(wish(value=51.0), 1)
    assert superseded == [old["id"]]
    assert state(desk, old["id"]) == State.SUPERSEDED
    assert new["version"] > old["version"]


@pytest.mark.parametrize("kind", ["hold", "pulse"])
def test_what_is_under_way_is_neither_superseded_nor_expired_by_what_happens_meanwhile(desk: Desk, kind: str) -> None:
    first, _ = desk.submit(wish(kind=kind), 0)
    desk.attempted(first["id"], "offline", 1)
    desk.seal(desk.journal.row(first["id"]), AGENT, bytes(12), 2)  # published, not yet answered
    _, superseded = desk.submit(wish(kind=kind), 3)
    assert superseded == []
    assert state(desk, first["id"]) == State.QUEUED
    desk.tick(30_000)
    assert state(desk, first["id"]) == State.QUEUED, "it may have arrived: two seconds more, then unknown"
    desk.tick(32_001)
    assert state(desk, first["id"]) == State.UNKNOWN
    report(desk, first["id"], pb.STAGE_VERIFIED, 1, 32_100)
    assert state(desk, first["id"]) == State.VERIFIED
    # One that nobody was there to take is superseded as before.
    third, _ = desk.submit(wish(kind=kind), 40_000)
    desk.seal(desk.journal.row(third["id"]), AGENT, bytes(12), 40_001)
    desk.attempted(third["id"], "offline", 40_002)
    _, superseded = desk.submit(wish(kind=kind), 40_003)
    assert superseded == [third["id"]]
    assert not desk.waits(third["id"])


def test_an_agent_that_was_never_reached_gives_queued_then_expired(desk: Desk) -> None:
    view, _ = desk.submit(wish(), 0)
    desk.attempted(view["id"], "offline", 10)
    assert state(desk, view["id"]) == State.QUEUED
    assert desk.tick(29_999) == []
    assert desk.tick(30_000) == [view["id"]]
    assert state(desk, view["id"]) == State.EXPIRED


@pytest.mark.parametrize(("outcome", "gone"), [("", True), ("offline", True), ("maybe", False), ("sent", False)])
def test_only_what_surely_has_not_left_can_be_called_back(desk: Desk, outcome: str, gone: bool) -> None:
    view, _ = desk.submit(wish(), 0)
    if outcome:
        desk.attempted(view["id"], outcome, 10)
    assert desk.cancel(view["id"], actor="op", now_ms=20) is gone
    assert desk.waits(view["id"]) is not gone
    if gone:
        assert (state(desk, view["id"]), desk.view(view["id"])["code"]) == (State.REFUSED, "E-CMD-CANCELLED")
        assert desk.cancel(view["id"], actor="op", now_ms=30) is False
    with pytest.raises(CommandGoneError):
        desk.cancel("nothing", actor="op", now_ms=40)


@pytest.mark.parametrize("outcome", ["sent", "maybe"])
def test_what_may_have_arrived_is_unknown_then_handed_to_a_person_then_told_by_the_agent(desk: Desk, outcome: str) -> None:
    view, _ = desk.submit(wish(), 0)
    desk.attempted(view["id"], outcome, 10)
    desk.tick(33_000)
    assert state(desk, view["id"]) == State.UNKNOWN
    assert not desk.view(view["id"])["handed"]
    desk.tick(63_001)
    assert desk.view(view["id"])["handed"]
    report(desk, view["id"], pb.STAGE_VERIFIED, 2, 70_000, readback=50.0)
    assert state(desk, view["id"]) == State.VERIFIED


def test_a_person_resolves_an_unknown_once(desk: Desk) -> None:
    view, _ = desk.submit(wish(), 0)
    with pytest.raises(CommandGoneError):
        desk.resolve(view["id"], verified=True, actor="op", reason="looked", now_ms=1)
    desk.attempted(view["id"], "sent", 10)
    desk.tick(33_000)
    assert desk.resolve(view["id"], verified=False, actor="op", reason="looked", now_ms=34_000)["state"] == State.FAILED
    with pytest.raises(CommandGoneError):
        desk.resolve(view["id"], verified=True, actor="op", reason="again", now_ms=35_000)


@given(st.permutations([(pb.STAGE_RECEIVED, 1), (pb.STAGE_EXECUTING, 2), (pb.STAGE_VERIFIED, 3), (pb.STAGE_EXECUTING, 2), (pb.STAGE_RECEIVED, 1), (pb.STAGE_VERIFIED, 3)]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_late_doubled_and_reordered_reports_never_move_a_state_back(tmp_path: Path, reports: list[tuple[int, int]]) -> None:
    desk = Desk(Journal(tmp_path / f"{uuid.uuid4().hex}.sqlite"), Directory(), {Suite.STD: KEY})
    view, _ = desk.submit(wish(), 0)
    desk.attempted(view["id"], "sent", 1)
    highest = 0
    for stage, index in reports:
        report(desk, view["id"], stage, index)
        highest = max(highest, index)
        assert state(desk, view["id"]) == {1: "received", 2: "executing", 3: "verified"}[highest]
    assert state(desk, view["id"]) in FINAL
    desk.journal.close()


def test_a_report_of_another_agent_moves_nothing(desk: Desk) -> None:
    view, _ = desk.submit(wish(), 0)
    assert desk.take(pb.Result(command_id=bytes.fromhex(view["id"]), agent_id="a2", stage=pb.STAGE_VERIFIED, index=1), EPOCH, 1) is None
    assert state(desk, view["id"]) == State.ACCEPTED


def test_the_strongest_authority_is_sent_first_and_a_try_waits_longer_each_time(desk: Desk) -> None:
    weak, _ = desk.submit(wish(authority=8), 0)
    strong, _ = desk.submit(wish(kind="emergency_stop", point_id=0, value=None), 1)
    assert [r["id"] for r in desk.due(2, lambda *_: True)] == [strong["id"], weak["id"]]
    waits, now = [], 2
    for _ in range(4):
        desk.attempted(weak["id"], "sent", now)
        later = next(t for t in range(now, now + 20_000, 100) if weak["id"] in [r["id"] for r in desk.due(t, lambda *_: True)])
        waits.append(later - now)
        now = later
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]


def test_a_command_goes_out_in_the_suite_of_its_agent(tmp_path: Path) -> None:
    box, keys = suites.box_key(Suite.SM), {suite: suites.signing_key(suite) for suite in Suite}
    agent = AgentInfo("a1", 1, suites.raw_public(suites.signing_key(Suite.SM)), suites.raw_public(box), "grpc")
    desk = Desk(Journal(tmp_path / "control.sqlite"), Directory(), keys)
    row = desk.journal.row(desk.submit(wish(), 0)[0]["id"])
    assert row is not None
    opened = envelope.Opener(subjects.agent_identity(1, "a1"), box).open(desk.seal(row, agent, bytes(12), 5), envelope.Kind.COMMAND)
    opened.verify(suites.verifying_key(suites.raw_public(keys[Suite.SM])), subjects.COMMAND_IDENTITY)
    with pytest.raises(envelope.EnvelopeError, match="signature"):
        opened.verify(suites.verifying_key(suites.raw_public(keys[Suite.STD])), subjects.COMMAND_IDENTITY)
    assert desk.seal(row, AGENT, bytes(12), 5)[3] == Suite.STD
    poor = Desk(desk.journal, Directory(), {Suite.STD: KEY})
    before = desk.journal.next_outgoing("a1")
    with pytest.raises(Sm2MissingError, match="a1"):
        poor.seal(row, agent, bytes(12), 5)
    assert desk.journal.next_outgoing("a1") == before, "what cannot be sealed uses no number up"


def test_each_envelope_is_fresh_chained_and_opens_only_for_its_agent(desk: Desk) -> None:
    view, _ = desk.submit(wish(), 0)
    row = desk.journal.row(view["id"])
    assert row is not None
    identity = subjects.agent_identity(1, "a1")
    opener = envelope.Opener(identity, BOX)
    opened = [opener.open(desk.seal(row, AGENT, bytes(12), 5), envelope.Kind.COMMAND) for _ in range(3)]
    for one in opened:
        one.verify(KEY.public_key(), subjects.COMMAND_IDENTITY)
        assert pb.Command.FromString(one.body).command_id.hex() == view["id"]
    assert [o.header.sequence for o in opened] == [1, 2, 3]
    assert [o.header.previous for o in opened[1:]] == [o.digest for o in opened[:-1]]
    with pytest.raises(envelope.EnvelopeError):
        envelope.Opener(subjects.agent_identity(1, "a2"), BOX).open(desk.seal(row, AGENT, bytes(12), 5), envelope.Kind.COMMAND)


def test_fencing_rises_with_every_start_and_everything_survives_it(tmp_path: Path) -> None:
    first = Desk(Journal(tmp_path / "c.sqlite"), Directory(), {Suite.STD: KEY})
    view, _ = first.submit(wish(idempotency_key="k"), 0)
    first.attempted(view["id"], "sent", 1)
    before = first.journal.fencing
    first.journal.close()
    second = Desk(Journal(tmp_path / "c.sqlite"), Directory(), {Suite.STD: KEY})
    assert second.journal.fencing == before + 1
    assert state(second, view["id"]) == State.SENT
    assert second.submit(wish(idempotency_key="k"), 9)[0]["id"] == view["id"]


@pytest.mark.parametrize("damage", ["UPDATE audit SET operator = 'x' WHERE n = 2", "DELETE FROM audit WHERE n = 2", "UPDATE audit SET n = 9 WHERE n = 3"])
def test_an_altered_audit_row_is_named(desk: Desk, damage: str) -> None:
    for k in range(4):
        desk.submit(wish(value=50 + k), k)
    assert desk.journal.verify_audit() is None
    desk.journal._db.execute(damage)
    assert desk.journal.verify_audit() in (2, 3)
