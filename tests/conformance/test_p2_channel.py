"""双向安全通道与人机对话 (5 b): commands in real time and verified, messages and questions in both directions with delivered, read and answered states; both uplinks."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloud.security.operations import Role
from tests.conformance.test_33_start_stop import ended, online, send
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def on_site(real: Real, which: int, *arguments: str) -> str:
    """What somebody at the box types."""
    run = subprocess.run([sys.executable, "-m", "edge_agent.cli", "notes", "--site", str(real.rigs[which].site_file), "--by", "li", *arguments], capture_output=True, text=True, timeout=60,
                         check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


def seen_on_site(real: Real, which: int) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, on_site(real, which).splitlines())}


@pytest.mark.point("P2", route="POST /api/v1/commands", page="/devices/:id")
@pytest.mark.parametrize("which", [0, 1], ids=["grpc", "nats"])
async def test_a_command_arrives_at_once_over_the_secure_channel_and_is_verified(real: Real, which: int) -> None:
    agent = real.rigs[which]
    async with real.client(Role.OPERATOR) as operator:
        await online(operator, agent.agent_id)
        shown = next(a for a in (await operator.get("/agents")).json() if a["agent_id"] == agent.agent_id)
        assert shown["certificate_serial"], "the channel stands on a certificate"
        view = await ended(operator, await send(operator, agent.devices[0], "start"), 60)
        assert view["state"] == "verified", view
        steps = {step["state"]: step["at_ms"] for step in view["steps"]}
        assert steps["received"] - steps["accepted"] < 10_000


@pytest.mark.point("P2", route="POST /api/v1/dialogue", page="/dialogue")
@pytest.mark.parametrize("which", [0, 1], ids=["grpc", "nats"])
async def test_platform_and_site_ask_and_answer_each_other(real: Real, which: int) -> None:
    agent = real.rigs[which]
    async with real.client(Role.OPERATOR) as operator:
        await online(operator, agent.agent_id)

        async def state(note: str, wanted: str) -> dict[str, Any] | None:
            rows = (await operator.get("/dialogue", params={"agent_id": agent.agent_id})).json()
            return next((n for n in rows if n["id"] == note and n["state"] == wanted), None)

        asked = (await operator.post("/dialogue", json={"agent_id": agent.agent_id, "text": "3号泵何时修好？", "question": True, "choices": ["今天", "明天"]})).json()
        assert asked["state"] == "written"
        await eventually(lambda: state(asked["id"], "delivered"), 30, "delivered")
        on_site(real, which, "--read", asked["id"])
        await eventually(lambda: state(asked["id"], "read"), 30, "read")
        on_site(real, which, "--answer", asked["id"], "明天")
        answered = await eventually(lambda: state(asked["id"], "answered"), 30, "answered")
        assert (answered["answer"], answered["answered_by"], answered["read_by"]) == ("明天", "li", "li")
        # The other way round.
        mine = on_site(real, which, "--ask", "可以提高供水温度吗？").strip()
        await eventually(lambda: state(mine, "delivered"), 30, "the site's question")
        assert (await operator.post(f"/dialogue/{mine}/read")).status_code == 200
        assert (await operator.post(f"/dialogue/{mine}/answer", json={"answer": "可以，55 度"})).status_code == 200

        async def told() -> dict[str, Any] | None:
            row = (await asyncio.to_thread(seen_on_site, real, which)).get(mine)
            return row if row is not None and row["state"] == 3 else None

        assert (await eventually(told, 30, "the answer, on site", 1.0))["answer"] == "可以，55 度"
    async with real.client(Role.AUDIT_ADMIN) as auditor:
        rows = (await auditor.get("/audit", params={"name": "system.dialogue", "about": agent.agent_id})).json()
        assert {r["operation"] for r in rows} >= {"system.dialogue.send", "system.dialogue.read", "system.dialogue.answer"}
