"""接口配置 (7.3.1 b, c): scopes and priority class per client; under overload the high class keeps its latency, the low class is told to come again."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from cloud.security.operations import Role
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
SCOPE = ["devices.project.read", "monitoring.latest.read", "monitoring.history.read"]
FLOOD_S, MEASURED_S = 6.0, 4.0


async def registered(security: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await security.post("/interfaces/clients", json={"name": f"conf-{uuid.uuid4().hex[:8]}", "operations": SCOPE, "rate": 10_000.0, "burst": 100_000, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def token_of(real: Real, made: dict[str, Any]) -> str:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.settings.portal_port}/api/v1/", timeout=30) as client:
        answer = await client.post("oauth/token", data={"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]})
        return str(answer.json()["access_token"])


def outside(real: Real, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.settings.portal_port}/api/v1/", headers={"authorization": f"Bearer {token}"}, timeout=60)


@pytest.mark.point("32", route="PATCH /api/v1/interfaces/clients/{client_id}", page="/interfaces")
async def test_scope_fields_and_rate_are_set_on_the_page_and_hold_from_the_next_call_on(real: Real) -> None:
    async with real.client(Role.SECURITY_ADMIN) as security:
        made = await registered(security, operations=["devices.project.read"], project_ids=[real.plant["project_id"]])
        async with outside(real, await token_of(real, made)) as client:
            assert [p["id"] for p in (await client.get("projects")).json()] == [real.plant["project_id"]]
            refused = await client.get("alarms")
            assert (refused.status_code, refused.json()["code"]) == (403, "E-CLIENT-SCOPE")
            assert (await security.patch(f"/interfaces/clients/{made['id']}", json={"operations": ["devices.project.read", "monitoring.alarms.read"], "hidden_fields": ["name_en"],
                                                                                  "rate": 0.2, "burst": 2})).status_code == 200

            async def ended() -> bool:
                return (await client.get("projects")).status_code == 401

            await eventually(ended, 5, "the token of before is nobody's")
        async with outside(real, await token_of(real, made)) as client:
            assert "name_en" not in (await client.get("projects")).json()[0]
            assert (await client.get("alarms")).status_code == 200
            limited = await client.get("projects")
            assert (limited.status_code, limited.json()["code"]) == (429, "E-RATE")
            assert int(limited.headers["retry-after"]) >= 1
        tried = await security.post(f"/interfaces/clients/{made['id']}/test")
        assert tried.status_code == 200, tried.text
        assert (await security.get("/interfaces/operations")).json()


@pytest.mark.point("32", route="POST /api/v1/interfaces/clients", page="/interfaces")
async def test_under_a_flood_the_high_class_keeps_its_latency_and_the_low_class_is_told_to_come_again(real: Real) -> None:
    project = real.plant["project_id"]
    async with real.client(Role.SECURITY_ADMIN) as security:
        high, low = await registered(security, priority=0), await registered(security, priority=9)
        url = f"http://127.0.0.1:{real.settings.portal_port}/api/v1/"
        async with outside(real, await token_of(real, high)) as client:
            rows = (await client.get(f"projects/{project}/latest")).json()["rows"]
            now = int(time.time() * 1000)
            path = f"projects/{project}/history?series={rows[0][0]}:{rows[0][1]}&start_ms={now - 3_600_000}&end_ms={now}&resolution_s=60"

            async def measured(seconds: float) -> tuple[list[float], Counter[int]]:
                took, statuses, until = list[float](), Counter[int](), time.monotonic() + seconds
                while time.monotonic() < until:
                    started = time.monotonic()
                    statuses[(await client.get(path)).status_code] += 1
                    took.append(time.monotonic() - started)
                    await asyncio.sleep(0.05)
                return sorted(took), statuses

            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.priority", "--flood", url, await token_of(real, low), path, str(FLOOD_S), stdout=asyncio.subprocess.PIPE)
            assert process.stdout is not None
            await asyncio.wait_for(process.stdout.readline(), 60)  # 400 callers stand in the queue
            took, statuses = await measured(MEASURED_S)
            told = json.loads(await asyncio.wait_for(process.stdout.read(), 120))
            await process.wait()
            # More at once than the queue holds: the least urgent are sent away, and told when to come again.
            answers = await burst(url, await token_of(real, low), path, 700)
        assert set(statuses) == {200}, "the high class is never sent away"
        p95 = took[int(len(took) * 0.95)]
        assert p95 * 1000 < told["p50"] / 3, f"high p95 {p95 * 1000:.0f} ms, low p50 {told['p50']:.0f} ms"
        assert told["statuses"].get("200", 0) > 0, "the low class does not starve"
        assert {status for status, _, _ in answers} == {200, 429}, Counter(status for status, _, _ in answers)
        assert all(after >= 1 and code == "E-BUSY" for status, after, code in answers if status == 429)
        shown = {c["id"]: c for c in (await security.get("/interfaces/clients")).json()}
        assert shown[low["id"]]["priority"] == 9
        assert shown[low["id"]]["errors"] >= sum(status == 429 for status, _, _ in answers)


async def burst(url: str, token: str, path: str, count: int) -> list[tuple[int, int, str]]:
    """(status, Retry-After, code) of as many callers at once."""
    parts = urlsplit(url)

    async def one() -> tuple[int, int, str]:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        writer.close()
        return int(head[0].split(" ")[1]), int(fields.get("retry-after", "0")), str(body.get("code", ""))

    return await asyncio.wait_for(asyncio.gather(*(one() for _ in range(count))), 120)
