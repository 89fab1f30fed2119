"""The platform's alarms about itself, with the real store: raised once, cleared once, taken up again by the next life; what an agent says of the audit log becomes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.stack import Stack
from cloud.functions.system.journal import OperationJournal
from cloud.historian.client import ClickHouse
from cloud.historian.reader import Reader
from cloud.historian.schema import create
from cloud.historian.writer import Writer
from cloud.ledger import Ledger
from cloud.portal.audit_watch import AuditWatch
from cloud.portal.own_alarms import Own, OwnAlarms
from cloud.security.audit_writer import Chainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("own"), only=("store",)) as running:
        create(ClickHouse(running.settings, threads=1).client().command)
        yield running


async def store(stack: Stack) -> ClickHouse:
    client = ClickHouse(stack.settings, threads=1)
    await client.wait()
    return client


async def test_raised_once_and_cleared_by_the_next_life(stack: Stack) -> None:
    client = await store(stack)
    reader = Reader(client)
    first = OwnAlarms(Writer(client), reader)
    for value in (1.0, 2.0):
        first.say(Own("disk", "盘满", "The disk is full", "node-1", value=value))
        await first.settle()
    first.say(Own("disk", "盘满", "The disk is full", "node-2"))
    await first.settle()
    second = OwnAlarms(Writer(client), reader)
    second.say(Own("disk", "盘满", "The disk is full", "node-1"))
    second.over("disk", "node-2")
    await second.settle()
    rows = [a for a in await reader.alarms() if a["rule"] == "disk"]
    assert len(rows) == 2
    assert sorted(bool(a["cleared_ms"]) for a in rows) == [False, True]
    second.over("disk", "node-1")
    await second.settle()
    assert all(a["cleared_ms"] for a in await reader.alarms() if a["rule"] == "disk")
    client.close()


async def test_another_process_says_it_on_the_bus_and_rubbish_is_dropped(stack: Stack) -> None:
    client = await store(stack)
    alarms = OwnAlarms(Writer(client), Reader(client))
    for rubbish in (b"", b"[]", b"{}", b'{"rule": 1, "zh": "", "en": ""}', b'{"rule": "x", "zh": "", "en": "", "more": 1}'):
        alarms.hear(rubbish)
    alarms.hear(json.dumps({"rule": "said", "zh": "出错", "en": "Wrong", "severity": "major"}).encode())
    await alarms.settle()
    assert [(a["severity"], a["cleared_ms"]) for a in await Reader(client).alarms() if a["rule"] == "said"] == [("major", None)]
    alarms.hear(b'{"rule": "said", "wrong": false}')
    await alarms.settle()
    assert all(a["cleared_ms"] for a in await Reader(client).alarms() if a["rule"] == "said")
    client.close()


class Heard:
    """Agents as last heard; one never was."""

    def __init__(self) -> None:
        self.rows: list[dict] = [{"agent_id": name, "project_id": project, "audit_contradictions": 0, "audit_forged": 0} for name, project in (("a1", 7), ("b1", 8))]

    async def agents(self, project_id: int | None = None) -> list[dict]:
        return [*self.rows, {"agent_id": "never-heard", "project_id": 9}]


@pytest.mark.point("P7")
async def test_an_agent_that_holds_a_contradiction_raises_a_critical_alarm_of_its_project(stack: Stack, ledger: Ledger, tmp_path: Path) -> None:
    client = await store(stack)
    Chainer(ledger, Ed25519PrivateKey.generate(), tmp_path / "audit").step()
    heard = Heard()
    watch = AuditWatch(OperationJournal(ledger, late=tmp_path / "late.jsonl"), OwnAlarms(Writer(client), Reader(client)), heard)

    async def found() -> list[tuple[str, int, str, bool]]:
        await watch.look()
        return sorted((a["rule"], a["project_id"], a["severity"], bool(a["cleared_ms"])) for a in await Reader(client).alarms() if a["rule"].startswith("audit_"))

    assert await found() == []
    heard.rows[0]["audit_contradictions"], heard.rows[1]["audit_forged"] = 1, 2
    assert await found() == [("audit_contradiction", 7, "critical", False), ("audit_forged", 8, "major", False)]
    heard.rows[0]["audit_contradictions"], heard.rows[1]["audit_forged"] = 3, 0
    assert await found() == [("audit_contradiction", 7, "critical", False), ("audit_forged", 8, "major", True)]
    client.close()
