"""控制参数下发 (7.3.2 b, c) over the real stack: set-points to many devices of several sites at once, confirmed device by device, put back on failure, by two persons when many."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from cloud.security.operations import Role
from protos.points import point
from tests.conformance.test_33_start_stop import ended, online, send
from tests.support.real import Real, eventually

pytestmark = [pytest.mark.slow, pytest.mark.point("34", route="POST /api/v1/command-batches", page="/batches")]
SETPOINT, ROOM = point("leaving_temp_setpoint").id, point("room_temp_setpoint").id


async def submit(client: httpx.AsyncClient, devices: list[int], **more: Any) -> dict[str, Any]:
    answer = await client.post("/command-batches", json={"device_ids": devices, "kind": "hold", "point_id": SETPOINT, "reason": "conformance", **more}, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def over(client: httpx.AsyncClient, batch: str, seconds: float = 60) -> dict[str, Any]:
    async def state() -> dict[str, Any]:
        view: dict[str, Any] = (await client.get(f"/command-batches/{batch}")).json()
        return view if view["state"] in ("done", "failed", "cancelled") else {}

    view: dict[str, Any] = await eventually(state, seconds, f"the end of batch {batch}", 0.2)
    return view


async def holders(client: httpx.AsyncClient, device: int) -> list[dict[str, Any]]:
    return [h for h in (await client.get(f"/devices/{device}")).json()["holders"] if h["point_id"] == SETPOINT]


async def test_a_set_point_reaches_the_devices_of_both_uplinks_is_read_back_and_can_be_put_back(real: Real) -> None:
    devices = [d for agent in real.rigs for d in agent.devices[:2]]
    async with real.client(Role.OPERATOR) as client:
        for agent in real.rigs:
            await online(client, agent.agent_id)
        assert (await ended(client, await send(client, devices[0], "hold", point_id=SETPOINT, value=40.0, hold_s=3600)))["state"] == "verified"

        async def told() -> bool:
            return any(h["value"] == 40.0 for h in await holders(client, devices[0]))

        await eventually(told, 15, "the first hold is heard")
        looked = (await client.post("/command-batches/preview", json={"device_ids": devices, "kind": "hold", "point_id": SETPOINT, "value": 45.0})).json()
        assert looked["possible"] == 4
        assert next(r for r in looked["rows"] if r["device"]["id"] == devices[0])["replaces"][0]["value"] == 40.0
        view = await over(client, (await submit(client, devices, value=45.0))["id"])
        assert view["counts"] == {"verified": 4}, view["items"]
        assert [i["readback"] for i in view["items"]] == [45.0] * 4
        back = await client.post(f"/command-batches/{view['id']}/restore", json={"reason": "conformance"})
        assert back.status_code == 202, back.text
        restored = await over(client, back.json()["id"])
        assert restored["counts"] == {"verified": 4}, restored["items"]
        assert {i["device_id"]: i["wish"]["kind"] for i in restored["items"]} == {devices[0]: "hold", **dict.fromkeys(devices[1:], "release")}

        async def as_before() -> bool:
            return [h["value"] for h in await holders(client, devices[0])] == [40.0] and not await holders(client, devices[2])

        await eventually(as_before, 20, "who held before holds again, the others nobody")


async def test_a_batch_that_fails_half_way_stops_and_puts_back_what_it_did(real: Real) -> None:
    good, dead = real.rigs
    name = f"agent-{dead.agent_id}"
    child = next(c for c in real.stack.supervisor.children() if c.name == name)
    async with real.client(Role.OPERATOR) as client:
        for agent in real.rigs:
            await online(client, agent.agent_id)
        real.stack.stop(name)
        try:
            made = await submit(client, [good.devices[1], dead.devices[1]], value=50.0, deadline_s=6, on_failure="restore")
            view = await over(client, made["id"])
            assert {i["device_id"]: i["state"] for i in view["items"]}[good.devices[1]] == "verified", view["items"]
            assert {i["device_id"]: i["state"] for i in view["items"]}[dead.devices[1]] in ("expired", "unknown")
            assert view["state"] == "failed"
            restored = await over(client, view["restored_by"])
            assert [(i["device_id"], i["state"]) for i in restored["items"]] == [(good.devices[1], "verified")]
        finally:
            real.stack.supervisor.start(child)
        await online(client, dead.agent_id)


async def test_thirty_rooms_at_once_need_a_second_person(real: Real) -> None:
    rooms = [i for code, i in real.plant["ids"].items() if code.startswith("QH-H") and code != "QH-HM"]
    async with real.client(Role.OPERATOR) as client, real.client(Role.ENGINEER) as second:
        await online(client, "plant-a1")
        looked = (await client.post("/command-batches/preview", json={"device_ids": rooms, "kind": "hold", "point_id": ROOM, "value": 19.5, "hold_s": 900.0})).json()
        assert looked["second"] and looked["possible"] == 30
        assert looked["effects"] and looked["effects"][0]["hours"], "the preview tells what rooms and bill will do"
        made = await submit(client, rooms, point_id=ROOM, value=19.5, hold_s=900.0, deadline_s=60)
        assert made["state"] == "pending"
        release = f"/command-batches/{made['id']}/release"
        assert (await client.post(release, headers={"X-Kang-Approval": made["approval_id"]})).json()["code"] == "E-APPROVAL"
        assert (await second.post(f"/approvals/{made['approval_id']}", json={"approve": True, "reason": "agreed"})).json()["state"] == "approved"
        assert (await client.post(release, headers={"X-Kang-Approval": made["approval_id"]})).status_code == 202
        view = await over(client, made["id"], 150)
        assert view["counts"] == {"verified": 30}, view["counts"]
        for item in view["items"]:
            steps = {s["state"]: s["at_ms"] for s in (await client.get(f"/commands/{item['command_id']}")).json()["steps"]}
            assert steps["received"] - steps["accepted"] < 10_000
        await client.post(f"/command-batches/{made['id']}/restore", json={"reason": "conformance"})
