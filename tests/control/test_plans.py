"""Plans on their way: the newest counts, it is sent until the heartbeat tells its hash, and a wrong one changes nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from cloud.control.errors import PlanRefusedError
from cloud.control.journal import Journal
from cloud.control.plans import Plans
from protos import envelope, suites
from protos.kang.v1 import plan_pb2, telemetry_pb2
from protos.suites import Suite

_spec = importlib.util.spec_from_file_location("control_desk", Path(__file__).with_name("test_desk.py"))
assert _spec is not None
assert _spec.loader is not None
desk = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(desk)
ONLINE = lambda *_: True  # noqa: E731


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sqlite"


def plans(path: Path) -> Plans:
    return Plans(Journal(path), desk.Directory(), {Suite.STD: desk.KEY})


def body(**more: Any) -> dict[str, Any]:
    return {"project_id": 1, "plan_id": "p", "start_ms": 1_000_000, "step_s": 900, "actor": "op", "tracks": [track()], **more}


def track(**more: Any) -> dict[str, Any]:
    return {"device_id": 7, "point_id": desk.SETPOINT, "authority": 8, "value": [50.0, None, 60.0], **more}


def beat(**more: Any) -> telemetry_pb2.Heartbeat:
    return telemetry_pb2.Heartbeat(agent_id="a1", project_id=1, **more)


def test_a_plan_goes_out_in_the_suite_of_its_agent(path: Path) -> None:
    box, key = suites.box_key(Suite.SM), suites.signing_key(Suite.SM)
    mine = Plans(Journal(path), desk.Directory(), {Suite.STD: desk.KEY, Suite.SM: key})
    mine.submit(body(), 1_000)
    (standing,) = mine.due(1_000, ONLINE)
    agent = desk.AgentInfo("a1", 1, suites.raw_public(key), suites.raw_public(box), "grpc")
    opened = envelope.Opener("kang://project/1/agent/a1", box).open(mine.seal(standing, agent, b"c" * 12, 1_000), envelope.Kind.PLAN)
    opened.verify(suites.verifying_key(suites.raw_public(key)), "kang://platform/command")


def test_a_plan_is_sent_until_the_heartbeat_tells_its_hash(path: Path) -> None:
    mine = plans(path)
    (view,) = mine.submit(body(), 1_000)
    (standing,) = mine.due(1_000, ONLINE)
    wire = mine.seal(standing, desk.AGENT, b"c" * 12, 1_000)
    opened = envelope.Opener("kang://project/1/agent/a1", desk.BOX).open(wire, envelope.Kind.PLAN)
    opened.verify(desk.KEY.public_key(), "kang://platform/command")
    document = plan_pb2.Plan.FromString(plan_pb2.PlanDelivery.FromString(opened.body).document)
    assert (document.version, document.plan_id, document.step_s, len(document.tracks[0].value)) == (view["version"], "p", 900, 24)
    assert mine.due(1_001, ONLINE) == []
    assert mine.due(60_000, ONLINE), "nobody has said that it is held"
    assert mine.heard(beat(plan_version=standing.version, plan_digest=bytes(32)), 2_000) is None, "another document of that number is not ours"
    assert mine.heard(beat(plan_version=standing.version, plan_digest=standing.digest), 2_000)["state"] == "held"  # type: ignore[index]
    assert mine.due(500_000, ONLINE) == []
    again = plans(path)
    assert again.views(1)[0]["state"] == "held"


def test_the_newest_wins_and_versions_rise_even_if_the_clock_goes_back(path: Path) -> None:
    mine = plans(path)
    first = mine.submit(body(), 5_000)[0]["version"]
    second = mine.submit(body(plan_id="q"), 4_000)[0]["version"]
    assert second > first
    assert [s.plan_id for s in mine.due(5_000, ONLINE)] == ["q"]
    third = plans(path).submit(body(), 1)[0]["version"]
    assert third > second


def test_a_box_that_lost_its_memory_is_told_again(path: Path) -> None:
    mine = plans(path)
    mine.submit(body(), 1_000)
    (standing,) = mine.due(1_000, ONLINE)
    mine.heard(beat(plan_version=standing.version, plan_digest=standing.digest), 2_000)
    assert mine.heard(beat(), 3_000)["state"] == "waiting"  # type: ignore[index]
    assert mine.due(3_000, ONLINE)


def test_a_refusal_of_the_agent_is_shown(path: Path) -> None:
    mine = plans(path)
    mine.submit(body(), 1_000)
    mine.seal(mine.due(1_000, ONLINE)[0], desk.AGENT, b"c" * 12, 1_000)
    view = mine.heard(beat(plan_refused="E-PLAN.device tracks.0.device_id"), 2_000)
    assert view is not None
    assert (view["state"], view["refused"]) == ("refused", "E-PLAN.device tracks.0.device_id")


def test_nothing_is_sent_to_a_silent_agent_or_after_the_end(path: Path) -> None:
    mine = plans(path)
    mine.submit(body(), 1_000)
    assert mine.due(1_000, lambda *_: False) == []
    assert mine.due(1_000_000 + 3 * 900_000, ONLINE) == []


@pytest.mark.parametrize(("more", "field"), [
    ({"step_s": 0}, "step_s"), ({"step_s": True}, "step_s"), ({"start_ms": "now"}, "start_ms"), ({"tracks": None}, "tracks"), ({"tracks": [7]}, "tracks.0"),
    ({"tracks": [track(device_id=99)]}, "tracks.0.point_id"), ({"tracks": [track(point_id=desk.POWER)]}, "tracks.0.point_id"), ({"tracks": [track(authority=5)]}, "tracks.0.authority"),
    ({"tracks": [track(value=[50.0, 500.0])]}, "tracks.0.value.1"), ({"tracks": [track(value=[float("nan")])]}, "tracks.0.value.0"), ({"tracks": [track(value=["50"])]}, "tracks.0.value.0"),
    ({"tracks": [track(value="50")]}, "tracks.0.value"), ({"tracks": [track(value=[])]}, "tracks.0.value"), ({"tracks": [track(value=None)]}, "tracks.0.value"),
    ({"tracks": [track(), track(value=[50.0])]}, "tracks.1"), ({"tracks": [track(low=[20.0])]}, "tracks.0.low"), ({"project_id": 2}, "tracks.0.point_id")])
def test_a_wrong_plan_names_its_field_and_changes_nothing(path: Path, more: dict[str, Any], field: str) -> None:
    mine = plans(path)
    mine.submit(body(), 1_000)
    before = mine.views(1)
    with pytest.raises(PlanRefusedError) as refused:
        mine.submit(body(**more), 2_000)
    assert refused.value.values["field"] == field
    assert mine.views(1) == before
    assert plans(path).views(1) == before


def test_only_an_activation_is_audited(path: Path) -> None:
    mine = plans(path)
    mine.submit(body(), 1_000)
    mine.submit(body(activation=True), 2_000)
    rows = mine._journal._db.execute("SELECT type, operator FROM audit").fetchall()
    assert [tuple(r) for r in rows] == [("plan.activate", "op")]
