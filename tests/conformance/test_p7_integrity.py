"""完整性与身份 (8.3 c-f): every unit and the stream intact, replay refused by a hash chain bound to time, both sides authenticated, sealed, four eyes on what is dangerous."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.rig.source import Source
from cloud.attack.link import rogue
from cloud.bus.connection import connect
from cloud.functions.devices.directory import LedgerDirectory
from cloud.ledger import open_ledger
from cloud.security.operations import Role
from protos import batch, envelope, subjects
from protos.kang.v1 import command_pb2
from protos.points import point
from tests.conformance.test_p6_zones import gateway_says
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
POWER = point("active_power").id


def good(source: Source, at_ms: int, value: float) -> bytes:
    return source.seal([batch.Reading(source.devices[1], POWER, at_ms, value)])


@pytest.mark.point("P7", route="EdgeLink, NATS tel.*", page="/quarantine")
async def test_a_unit_is_stored_once_and_neither_altered_nor_replayed_nor_read_on_the_way(real: Real) -> None:
    source, bus = real.source, await connect(real.settings.effective_nats_url, real.settings.credentials, "test")
    stream, now = bus.jetstream(), int(time.time() * 1000)
    value = 5_400.0 + now % 1000 / 1000

    async def send(sealed: bytes) -> None:
        await stream.publish(source.subject, sealed, timeout=10)

    try:
        async with real.client(Role.ENGINEER) as engineer:
            sequence, previous = source.sequence, source.previous
            altered = bytearray(good(source, now - 2000, value))
            assert b"active_power" not in altered
            altered[len(altered) // 2] ^= 1
            source.sequence, source.previous = sequence, previous
            await send(bytes(altered))
            # Signed by somebody else with the platform's box key, which everybody may know.
            stranger = Source(source.project_id, source.agent_id, source.partition, source.devices, Ed25519PrivateKey.generate(), source.sealer)
            await send(good(stranger, now - 1000, value + 2))
            genuine = good(source, now, value)
            for _ in range(3):
                await send(genuine)

            async def rows() -> list[Any]:
                answer = await engineer.get(f"/projects/{source.project_id}/history",
                                            params={"series": f"{source.devices[1]}:{POWER}", "start_ms": now - 60_000, "end_ms": now + 60_000, "resolution_s": 0})
                return [round(v, 3) for s in answer.json()["series"] for v in s["mean"] if v is not None]

            assert await eventually(rows, 60, "the genuine reading") == [round(value, 3)]

            async def reasons() -> set[str]:
                found = (await engineer.get("/quarantine", params={"project_id": source.project_id})).json()
                return {q["reason"] for q in found if q["received_ms"] >= now - 5000}

            async def both() -> bool:
                told = await reasons()
                return any(r.startswith("envelope_decrypt") for r in told) and any("signature" in r for r in told)

            await eventually(both, 60, "both forgeries set aside with their reasons")
            assert await rows() == [round(value, 3)]
    finally:
        await bus.close()


@pytest.mark.point("P7", route="EdgeLink/Connect", page="/agents")
async def test_both_sides_prove_who_they_are(real: Real) -> None:
    agent = real.rigs[0]
    folder = agent.site_file.parent / "credentials"
    key, chain = (folder / "agent.key").read_bytes(), (folder / "agent.pem").read_bytes()
    identity = subjects.agent_identity(agent.project_id, agent.agent_id)
    assert await gateway_says(real, *rogue(identity), agent.project_id, agent.agent_id) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert await gateway_says(real, key, chain, agent.project_id, "somebody-else") == "PERMISSION_DENIED"
    assert await gateway_says(real, key, chain, agent.project_id + 1, agent.agent_id) == "PERMISSION_DENIED"


@pytest.mark.point("P7", route="POST /api/v1/commands", page="/devices/:id")
async def test_a_command_of_somebody_else_on_the_bus_moves_nothing(real: Real) -> None:
    """Whoever owns the broker and knows the agent's box key still cannot sign a command."""
    agent = real.rigs[1]
    ledger = open_ledger(real.settings.effective_ledger_url)
    info = LedgerDirectory(ledger).agent(agent.agent_id)
    ledger.close()
    assert info is not None
    now = int(time.time() * 1000)
    wish = command_pb2.Command(command_id=uuid.uuid4().bytes, project_id=agent.project_id, device_id=agent.devices[0], kind=command_pb2.COMMAND_KIND_STOP, authority=5, version=10**9,
                               deadline_ms=now + 30_000, expires_ms=now + 600_000, holder="somebody", fencing=10**9, created_ms=now)
    header = envelope.Header(envelope.Kind.COMMAND, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(subjects.agent_identity(agent.project_id, agent.agent_id)),
                             bytes(16), 1, now, now + 30_000, challenge=bytes(12), priority=5)
    sealed = envelope.Sealer(info.box_public).seal(envelope.sign(header, wish.SerializeToString(), Ed25519PrivateKey.generate()))
    bus = await connect(real.settings.effective_nats_url, real.settings.credentials, "test")
    try:
        with_answer = await bus.request(subjects.down(agent.project_id, agent.agent_id, "command"), sealed, timeout=5)
        assert with_answer is not None  # it reached the box
        await asyncio.sleep(3)
        async with real.client(Role.OPERATOR) as operator:
            shown = await operator.get(f"/devices/{agent.devices[0]}")
            assert shown.status_code == 200
            assert "somebody" not in shown.text
            assert (await operator.get("/commands", params={"device_id": agent.devices[0]})).text.count("somebody") == 0
    finally:
        await bus.close()


@pytest.mark.point("P7", route="POST /api/v1/people/{person_id}/reset", page="/approvals")
async def test_a_dangerous_act_needs_a_second_person_for_exactly_what_was_asked(real: Real) -> None:
    async with real.client(Role.SYSTEM_ADMIN) as system, real.client(Role.SECURITY_ADMIN) as security:
        name = f"four-{uuid.uuid4().hex[:8]}"
        made = (await system.post("/people", json={"name": name, "display_name": "Four eyes"})).json()
        other = (await system.post("/people", json={"name": f"{name}x", "display_name": "Four eyes"})).json()
        asked = await system.post(f"/people/{made['id']}/reset")
        assert asked.status_code == 202, asked.text
        approval = asked.json()["approval"]["id"]
        assert (await system.post(f"/approvals/{approval}", json={"approve": True, "reason": "myself"})).status_code == 403
        held = {"x-kang-approval": approval}
        assert _refused(await system.post(f"/people/{made['id']}/reset", headers=held)), "not approved yet"
        assert (await security.post(f"/approvals/{approval}", json={"approve": True, "reason": "lost phone"})).status_code == 200
        assert _refused(await system.post(f"/people/{other['id']}/reset", headers=held)), "approved for somebody else"
        done = await system.post(f"/people/{made['id']}/reset", headers=held)
        assert done.status_code == 200, done.text
        assert done.json()["code"]
        assert _refused(await system.post(f"/people/{made['id']}/reset", headers=held)), "an approval works once"


def _refused(answer: httpx.Response) -> bool:
    return answer.status_code in (401, 403, 404, 409)
