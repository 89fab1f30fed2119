"""Network records over real processes: agents of both uplinks, boxes, people and external systems leave theirs."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from benchmarks.rig.build import RigAgent, rig
from benchmarks.stack import Stack
from cloud.functions.interfaces.clients import ClientService
from cloud.functions.system.sessions import SessionService
from cloud.historian.client import ClickHouse
from cloud.historian.flow import FlowReader
from cloud.historian.schema import create
from cloud.ledger import open_ledger
from cloud.portal.app import operation_table
from cloud.security import keys
from cloud.security.operations import Role
from tests.support.real import eventually

pytestmark = [pytest.mark.slow, pytest.mark.point("P8")]
AGENTS = ("rig-grpc-a1", "rig-nats-a1")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("flows"), only=("nats", "store", "audit", "control", "gateway", "portal"), heartbeat_s=2, partitions=2)
    rigs: list[RigAgent] = [rig(running.settings, "rig-grpc", devices=1), rig(running.settings, "rig-nats", devices=1, uplink="nats")]
    with running:
        create(ClickHouse(running.settings, threads=1).client().command)
        for agent in rigs:
            for child in agent.children():
                running.supervisor.start(child)
        yield running


def _ask(stack: Stack, path: str, body: dict[str, Any]) -> int:
    context = ssl.create_default_context(cafile=str(stack.settings.credentials / "edge-ca.pem"))
    context.check_hostname = False
    request = urllib.request.Request(f"https://127.0.0.1:{stack.settings.enrolment_port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_who_connects_calls_signs_in_and_is_refused_is_on_record(stack: Stack) -> None:
    settings = stack.settings
    reader, zone = FlowReader(ClickHouse(settings, threads=1, name="test")), settings.timezone
    today = datetime.now(ZoneInfo(zone)).date().isoformat()

    async def found(site: str = "", kind: str = "") -> list[dict[str, Any]]:
        return await reader.search(today, zone, site=site, kind=kind)

    for agent in AGENTS:
        await eventually(lambda agent=agent: found(agent, "connect"), 30, f"{agent} connected")
    ledger = open_ledger(settings.effective_ledger_url)
    sessions = SessionService(ledger)
    sessions.register_user("shift", "值班员", [Role.OPERATOR])
    code = sessions.issue_code("shift")
    view, secret = ClientService(ledger, keys.signing_pem(settings.credentials / "api-token.ed25519"), operation_table).register("第三方", ["monitoring.latest.read"])
    ledger.close()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.portal_port}/api/v1", timeout=20) as person:
        assert (await person.post("/session", json={"code": "wrong"})).status_code == 401
        assert (await person.post("/session", json={"code": code})).status_code == 200
        token = (await person.post("/oauth/token", data={"grant_type": "client_credentials", "client_id": view["id"], "client_secret": secret})).json()["access_token"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.portal_port}/api/v1", timeout=20, headers={"Authorization": f"Bearer {token}"}) as system:
        assert (await system.get("/alarms")).status_code == 403
        assert (await system.get("/interfaces/self")).status_code == 200
    assert _ask(stack, "/v1/enrol", {"token": "guessed", "hardware_id": "x"}) == 403

    signed = await eventually(lambda: found("shift", "auth"), 15, "the sign-in")
    assert {(r["method"], r["result"], r["address"], r["zone"]) for r in signed} == {("system.session.open", "ok", "127.0.0.1", "platform")}
    refused = [r for r in await found("", "auth") if r["result"] != "ok"]
    assert [r["method"] for r in refused] == ["system.session.open"]
    assert refused[0]["result"].startswith("E-")
    kinds = {(r["kind"], r["method"], r["result"]) for r in await found(view["id"])}
    assert {("auth", "interfaces.token.issue", "ok"), ("call", "interfaces.self.read", "ok")} <= kinds
    assert any(k == "refused" and m == "monitoring.alarms.read" and r.startswith("E-") for k, m, r in kinds)

    async def guessed() -> bool:
        return any(r["method"] == "/v1/enrol" and r["result"].startswith("E-ENROL") for r in await found("127.0.0.1", "refused"))

    await eventually(guessed, 30, "the guessed token")  # others are refused from this address too

    for agent in AGENTS:
        stack.stop(f"agent-{agent}")
    for agent in AGENTS:
        gone = (await eventually(lambda agent=agent: found(agent, "disconnect"), 30, f"{agent} gone"))[0]
        assert gone["bytes_in"] > 0
        assert gone["messages"] > 0
