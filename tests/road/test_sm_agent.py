"""An agent of suite SM (国密) on the real road: its readings are stored, a command is verified, and nothing in its name counts in the other suite."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from typing import Any

import pytest

from benchmarks.rig.build import rig
from benchmarks.rig.source import Source
from cloud.bus.connection import connect
from cloud.functions.devices.agents_service import AgentService
from cloud.ledger import open_ledger
from cloud.security import keys
from cloud.security.operations import Role
from protos import batch, checkpoint, envelope, suites
from protos.points import point
from protos.suites import Suite
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
POWER, SETPOINT = point("active_power").id, point("leaving_temp_setpoint").id


@pytest.mark.point("P7", route="EdgeLink", page="/agents")
async def test_readings_and_commands_of_an_sm_agent_travel_and_the_other_suite_is_refused_in_its_name(real: Real) -> None:
    mine = await asyncio.to_thread(lambda: rig(real.settings, "rig-sm", devices=1, suite=Suite.SM))
    children, device = mine.children(ledger=False), mine.devices[0]
    bus = await connect(real.settings.effective_nats_url, real.settings.credentials, "test")
    try:
        for child in children:
            await asyncio.to_thread(real.stack.supervisor.start, child)
        async with real.client(Role.ENGINEER) as client:
            async def shown() -> dict[str, Any]:
                return next((a for a in (await client.get("/agents")).json() if a["agent_id"] == mine.agent_id and a["online"] and a["devices_online"]), {})

            assert (await eventually(shown, 60, "the agent online"))["suite"] == "sm"

            async def stored() -> bool:
                return any(row[:2] == [device, POWER] for row in (await client.get(f"/projects/{mine.project_id}/latest")).json()["rows"])

            await eventually(stored, 60, "its readings in the historian")

            # In its name and under its subject, well signed and sealed, but in suite std: set aside, whatever the key.
            sealer = envelope.Sealer(suites.raw_public(keys.box_keys(real.settings.credentials, "telemetry")[Suite.STD]))
            liar = Source(mine.project_id, mine.agent_id, mine.project_id % real.settings.partitions, mine.devices, suites.signing_key(Suite.STD), sealer, epoch=os.urandom(16))  # type: ignore[arg-type]
            await bus.jetstream().publish(liar.subject, liar.seal([batch.Reading(device, POWER, time.time_ns() // 1_000_000, 6_000.0)]), timeout=10)

            async def aside() -> bool:
                return any(q["agent_id"] == mine.agent_id and q["reason"] == "envelope_suite" for q in (await client.get("/quarantine", params={"project_id": mine.project_id})).json())

            await eventually(aside, 60, "the downgrade set aside")
            held, public = mine.state / "audit-checkpoints.jsonl", suites.verifying_key((real.settings.credentials / "audit.sm2.pub").read_bytes())

            async def witnessed() -> list[dict[str, Any]]:
                return [json.loads(line) for line in held.read_text().splitlines()] if held.exists() else []

            points = await eventually(witnessed, 60, "a checkpoint of the audit log at the agent")
            assert all(suites.verifies(public, bytes.fromhex(p["signature_sm2"]), checkpoint.body(p)) for p in points)
        async with real.client(Role.OPERATOR) as client:
            answer = await client.post("/commands", json={"device_id": device, "kind": "hold", "point_id": SETPOINT, "value": 41.5, "hold_s": 60, "reason": "sm"}, headers={"Idempotency-Key": uuid.uuid4().hex})
            answer.raise_for_status()

            async def verified() -> dict[str, Any]:
                view: dict[str, Any] = (await client.get(f"/commands/{answer.json()['id']}")).json()
                return view if view["state"] in ("verified", "refused", "failed", "expired", "unknown") else {}

            view = await eventually(verified, 60, "the command's end", 0.1)
            assert (view["state"], view["readback"]) == ("verified", 41.5), view
    finally:
        await bus.close()
        for child in reversed(children):
            await asyncio.to_thread(real.stack.supervisor.stop, child.name)
        ledger = open_ledger(real.settings.effective_ledger_url)
        AgentService(ledger).revoke(mine.agent_id, by="test", reason="ended")
        ledger.close()
