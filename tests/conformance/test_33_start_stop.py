"""电供暖设备的启停 (7.3.2 a, c) over the real stack: page and REST to the device and back, verified by read-back."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from cloud.security.operations import Role
from protos.points import point
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
POINT = pytest.mark.point("33", route="POST /api/v1/commands", page="/devices/:id")
ENDED = {"verified", "failed", "refused", "expired", "unknown", "superseded"}


async def send(client: httpx.AsyncClient, device_id: int, kind: str, **more: Any) -> httpx.Response:
    return await client.post("/commands", json={"device_id": device_id, "kind": kind, "reason": "conformance", **more}, headers={"Idempotency-Key": uuid.uuid4().hex})


async def ended(client: httpx.AsyncClient, answer: httpx.Response, seconds: float = 90) -> dict[str, Any]:
    answer.raise_for_status()
    command_id = answer.json()["id"]

    async def state() -> dict[str, Any]:
        view: dict[str, Any] = (await client.get(f"/commands/{command_id}")).json()
        return view if view["state"] in ENDED else {}

    view: dict[str, Any] = await eventually(state, seconds, f"the end of command {command_id}", 0.05)
    return view


async def turned_down(client: httpx.AsyncClient, answer: httpx.Response) -> None:
    """Refused with a reason: by the portal, when the heartbeat has told it already, or by the agent, who always has the last word."""
    if answer.status_code == 409:
        assert answer.json()["code"].startswith("E-"), answer.text
        return
    view = await ended(client, answer)
    assert view["state"] == "refused", view
    assert view["code"], "a refusal names its reason"


async def online(client: httpx.AsyncClient, agent_id: str) -> None:
    async def up() -> bool:
        return any(a["agent_id"] == agent_id and a["online"] and a["devices_online"] for a in (await client.get("/agents")).json())

    await eventually(up, 90, f"{agent_id} online")


@POINT
@pytest.mark.parametrize("which", [0, 1], ids=["grpc", "nats"])
async def test_start_and_stop_are_received_within_ten_seconds_and_verified(real: Real, which: int) -> None:
    agent = real.rigs[which]
    async with real.client(Role.OPERATOR) as client:
        await online(client, agent.agent_id)
        for kind, switch in (("start", 1.0), ("stop", 0.0)):
            view = await ended(client, await send(client, agent.devices[0], kind))
            assert view["state"] == "verified", view
            assert view["readback"] == switch
            steps = {s["state"]: s["at_ms"] for s in view["steps"]}
            assert steps["received"] - steps["accepted"] < 10_000


@pytest.mark.minutes
@POINT
async def test_a_boiler_is_started_and_stopped_by_its_own_sequence(real: Real) -> None:
    async with real.client(Role.OPERATOR) as client:
        await online(client, "plant-a1")
        boiler = real.plant["ids"]["QH-B1"]
        assert (await ended(client, await send(client, boiler, "start")))["state"] == "verified"
        assert (await ended(client, await send(client, boiler, "stop"), 200))["state"] == "verified"


@POINT
async def test_lockout_refuses_every_remote_start_until_its_holder_removes_it(real: Real) -> None:
    device = real.rigs[0].devices[1]
    async with real.client(Role.ENGINEER) as client:
        await online(client, real.rigs[0].agent_id)
        assert (await ended(client, await send(client, device, "lock", work_order="WO-1")))["state"] == "verified"
        await turned_down(client, await send(client, device, "start"))
        assert (await ended(client, await send(client, device, "unlock")))["state"] == "verified"
        assert (await ended(client, await send(client, device, "start")))["state"] == "verified"


@POINT
async def test_two_named_persons_take_off_anothers_tag(real: Real) -> None:
    device = real.rigs[0].devices[1]
    async with real.client(Role.ENGINEER) as holder, real.client(Role.OPERATOR) as asker, real.client(Role.DISPATCHER) as second:
        await online(holder, real.rigs[0].agent_id)
        tagged = await ended(holder, await send(holder, device, "lock"))
        assert tagged["state"] == "verified"
        alone = await ended(asker, await send(asker, device, "unlock"))
        assert (alone["state"], alone["code"]) == ("refused", "tag"), "one other person is not enough"

        async def hangs() -> dict[str, Any]:
            """The tag as the platform heard of it after it was hung: the last heartbeat may still tell of an earlier one."""
            beat = next(a for a in (await asker.get("/agents")).json() if a["agent_id"] == real.rigs[0].agent_id)
            view: dict[str, Any] = (await asker.get(f"/devices/{device}")).json()
            return {"device_id": device, "holder": view["lockout_holder"], "locked_ms": view["lockout_ms"], "reason": "holder fell ill"} if beat["last_heard_ms"] > tagged["steps"][-1]["at_ms"] + 300 else {}

        body, key = await eventually(hangs, 20, "the tag is heard of"), {"Idempotency-Key": uuid.uuid4().hex}
        assert (await asker.post("/commands/remove-tag", json={**body, "locked_ms": body["locked_ms"] - 1}, headers=key)).json()["code"] == "E-COMMAND-TAG", "nobody is asked about a tag that does not hang"
        asked = await asker.post("/commands/remove-tag", json=body, headers=key)
        assert asked.status_code == 202
        approval = {"X-Kang-Approval": asked.json()["approval"]["id"]}
        assert (await asker.post("/commands/remove-tag", json=body, headers=key | approval)).json()["code"] == "E-APPROVAL", "nobody approved it yet"
        assert (await second.post(f"/approvals/{approval['X-Kang-Approval']}", json={"approve": True, "reason": "seen on site"})).json()["state"] == "approved"
        view = await ended(asker, await asker.post("/commands/remove-tag", json=body, headers=key | approval))
        assert view["state"] == "verified", (view["state"], view["code"], view["detail"], view["actor"], view["steps"])
        again = await asker.post("/commands/remove-tag", json=body, headers=key | approval)
        assert (again.status_code, again.json()["id"]) == (202, view["id"]), "the same call again is the same command"
        other = await asker.post("/commands/remove-tag", json=body, headers={"Idempotency-Key": uuid.uuid4().hex} | approval)
        assert other.json()["code"] == "E-APPROVAL", "an approval is good for one act"
        assert len(view["actor"].split(" + ")) == 2, "both answer for it by name"
        started = await send(asker, device, "start")
        assert started.status_code == 202, "the verified unlock counts at once, whatever the last heartbeat said"
        assert (await ended(asker, started))["state"] == "verified"


@POINT
async def test_higher_authority_wins_and_an_emergency_stop_is_never_refused(real: Real) -> None:
    agent = real.rigs[0]
    device = agent.devices[2]
    async with real.client(Role.OPERATOR) as client:
        await online(client, agent.agent_id)
        assert (await ended(client, await send(client, device, "start", hold_s=600)))["state"] == "verified"
        stop = await client.post("/commands/emergency-stop", json={"device_id": device, "reason": "conformance"}, headers={"Idempotency-Key": uuid.uuid4().hex})
        assert (await ended(client, stop))["state"] == "verified"
        await turned_down(client, await send(client, device, "start"))
        restore = await client.post("/commands/restore-heat", json={"device_id": device, "reason": "conformance"}, headers={"Idempotency-Key": uuid.uuid4().hex})
        restored = await ended(client, restore)
        assert restored["state"] == "verified", restored


@POINT
async def test_an_offline_agent_gives_queued_then_expired_never_delivered(real: Real) -> None:
    agent = real.rigs[1]
    name = f"agent-{agent.agent_id}"
    child = next(c for c in real.stack.supervisor.children() if c.name == name)
    async with real.client(Role.OPERATOR) as client:
        await online(client, agent.agent_id)
        real.stack.stop(name)

        async def gone() -> bool:
            return any(a["agent_id"] == agent.agent_id and not a["online"] for a in (await client.get("/agents")).json())

        try:
            await eventually(gone, 40, "the agent is seen offline")
            view = await ended(client, await send(client, agent.devices[0], "start", deadline_s=6), 30)
        finally:
            real.stack.supervisor.start(child)
        assert [s["state"] for s in view["steps"]] == ["accepted", "queued", "expired"]
        await online(client, agent.agent_id)
        again = (await client.get(f"/commands/{view['id']}")).json()
        assert again["state"] == "expired"


@POINT
async def test_what_may_not_be_done_is_refused_with_a_code(real: Real) -> None:
    device = real.rigs[0].devices[0]
    setpoint = point("leaving_temp_setpoint").id
    async with real.client(Role.OPERATOR) as client:
        for body, status in (({"kind": "hold", "point_id": setpoint, "value": 500}, 422), ({"kind": "hold", "point_id": point("active_power").id, "value": 1}, 422),
                             ({"kind": "hold", "point_id": setpoint}, 422), ({"kind": "explode"}, 422), ({"kind": "start", "deadline_s": -1}, 422)):
            answer = await client.post("/commands", json={"device_id": device, "reason": "x", **body}, headers={"Idempotency-Key": uuid.uuid4().hex})
            assert answer.status_code == status, answer.text
            assert answer.json()["code"].startswith("E-")
        assert (await send(client, 999_999, "start")).status_code == 404
    async with real.client(Role.AUDITOR) as client:
        assert (await send(client, device, "start")).status_code == 403
