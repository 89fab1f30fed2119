"""`kang attack` against a real portal: nothing forbidden is accepted, and a hole that is there is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from benchmarks.stack import Stack
from cloud.attack import link
from cloud.attack.rows import Row, summary
from cloud.functions.devices.tables import Agent
from cloud.functions.interfaces.tables import ExternalClient
from cloud.functions.system.people_tables import Organisation
from cloud.functions.system.tables import User
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.ledger import open_ledger
from tests.support import community


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("attack"), only=("ca", "nats", "store", "audit", "control", "gateway", "portal")) as running:
        create(ClickHouse(running.settings, threads=1).client().command)
        ledger = open_ledger(running.settings.effective_ledger_url)
        community.register(ledger)
        ledger.close()
        yield running


@pytest.mark.slow
@pytest.mark.point("P1")
def test_nothing_forbidden_is_accepted(stack: Stack, tmp_path: Path) -> None:
    out = tmp_path / "attack.json"
    done = subprocess.run([sys.executable, "-m", "cloud.cli", "--home", str(stack.settings.home), "attack", "--json", str(out)], capture_output=True, text=True, timeout=600, check=False,
                          env={**os.environ, "LC_ALL": "C.UTF-8"})
    rows = json.loads(out.read_text()) if out.exists() else []
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert {r["group"] for r in rows} >= {"no session", "role x operation", "scope", "sessions", "cross-site forgery", "tokens", "input", "traversal", "headers", "edge link", "identity", "factors", "envelope", "command road", "result road", "external systems"}
    assert {r["name"] for r in rows} >= {"a stream whose certificate is revoked", "a genuine certificate that has ended", "a genuine certificate of the zone platform", "a code used twice", "replayed after a restart", "a taken command replayed", "a bound token without its certificate",
                                          "two commands in the wrong order: the older one", "stale: echoes a challenge of another day", "replayed after the box was killed, with a fresh challenge",
                                          "in suite sm, by the platform's genuine key of it", "in suite sm, which this box is not of", "called one of the other suite, suite sm"}
    assert len(rows) > 600
    assert all(r["refused"] for r in rows)
    assert "13 accounts, 2 organisations, 1 clients, 2 agents" in done.stdout and "left behind" not in done.stdout
    ledger = open_ledger(stack.settings.effective_ledger_url)
    with ledger.read() as session:
        left = [session.scalar(select(func.count()).select_from(table).where(name.like("attack-%"))) for table, name in ((User, User.name), (Agent, Agent.agent_id), (ExternalClient, ExternalClient.name), (Organisation, Organisation.code))]
    ledger.close()
    assert left == [0, 0, 0, 0]


@pytest.mark.point("P7")
def test_no_altered_replayed_or_redirected_envelope_opens() -> None:
    rows = list(link.envelopes())
    assert [r for r in rows if not r.refused] == []
    assert sum(int(r.name.split()[0]) for r in rows if "flipped" in r.name) > 1500


def test_what_was_accepted_is_printed() -> None:
    rows = [Row("scope", "a GET /x", True, "403"), Row("scope", "b GET /y", False, "200")]
    text = summary(rows, every=False)
    assert "ACCEPTED scope / b GET /y: 200" in text
    assert "a GET /x" not in text
    assert "2 tried, 1 accepted" in text
