"""The audit chain over real processes: with its writer stopped control is refused within five seconds, safety acts pass, nothing is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from benchmarks.stack import Stack
from cloud.core.clock import now_ms
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.system.sessions import SessionService
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.ledger import Ledger, open_ledger
from cloud.security import keys
from cloud.security.audit_verify import verify
from cloud.security.operations import Role
from tests.support import community

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("audit"), only=("nats", "store", "audit", "control", "portal")) as running:
        create(ClickHouse(running.settings, threads=1).client().command)
        yield running


@pytest.fixture
def operator(stack: Stack) -> Iterator[httpx.Client]:
    ledger = open_ledger(stack.settings.effective_ledger_url)
    community.register(ledger)
    sessions = SessionService(ledger)
    sessions.register_user("shift", "值班员", [Role.OPERATOR])
    code = sessions.issue_code("shift")
    ledger.close()
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.settings.portal_port}/api/v1", timeout=20) as client:
        answer = client.post("/session", json={"code": code})
        answer.raise_for_status()
        client.headers["x-kang-csrf"] = answer.json()["csrf"]
        yield client


def _boiler(ledger: Ledger) -> int:
    directory = LedgerDirectory(ledger)
    return next(d.id for p in directory.projects() for d in directory.devices(p.id) if "boiler" in d.template)


def _send(client: httpx.Client, path: str, key: str, body: dict[str, object]) -> httpx.Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def _until(question: object, seconds: float, what: str) -> float:
    """Seconds until `question()` is true."""
    started = time.monotonic()
    while not question():  # type: ignore[operator]
        assert time.monotonic() - started < seconds, what
        signal.sigtimedwait([], 0.1)
    return time.monotonic() - started


def _freeze(pid: int, file: str) -> None:
    """Stop the writer between its transactions: stopped inside one it would hold SQLite's only write lock, and the test would be about a locked ledger."""
    for _ in range(50):
        os.kill(pid, signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(file, timeout=1.0, isolation_level=None)) as store:
                store.execute("BEGIN IMMEDIATE")
                store.execute("ROLLBACK")
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            signal.sigtimedwait([], 0.05)
            continue
        return
    raise AssertionError("the writer always holds the lock")


@pytest.mark.point("19")
def test_a_stopped_writer_stops_control_but_never_an_emergency_stop(stack: Stack, operator: httpx.Client) -> None:
    ledger = open_ledger(stack.settings.effective_ledger_url)
    device = _boiler(ledger)
    lock = {"device_id": device, "kind": "lock", "reason": "change the pump"}

    def report(**more: object) -> object:
        return verify(ledger, keys.signing_key(stack.settings.credentials / "audit.ed25519").public_key(), stack.settings.home / "audit", now_ms=now_ms(),
                      control=stack.settings.home / "control.sqlite")

    _until(lambda: _send(operator, "/commands", "before-the-stop", lock).status_code == 202, 30, "control with a living writer")
    pid = stack.supervisor.pid("audit")
    _freeze(pid, str(ledger.engine.url.database))
    try:
        number = iter(range(1000))
        took = _until(lambda: _send(operator, "/commands", f"while-stopped-{next(number)}", lock).status_code == 503, 7, "control is refused")
        assert took <= 5.0
        refused = _send(operator, "/commands", "while-stopped-last", lock)
        assert refused.json()["code"] in ("E-AUDIT", "E-AUDIT-LAG")  # the portal, or the command service itself
        stop = _send(operator, "/commands/emergency-stop", "emergency-1", {"device_id": device, "reason": "smoke"})
        assert stop.status_code == 202, stop.text
        command = stop.json()["id"]
        _until(lambda: any(a["rule"] == "audit_behind" and not a["cleared_ms"] for a in operator.get("/alarms").json()), 15, "the alarm is raised")
    finally:
        os.kill(pid, signal.SIGCONT)
    _until(lambda: _send(operator, "/commands", f"after-{next(number)}", lock).status_code == 202, 15, "control is back")
    _until(lambda: all(a["cleared_ms"] for a in operator.get("/alarms").json() if a["rule"] == "audit_behind"), 15, "the alarm is cleared")
    stack.kill("audit")
    _until(lambda: report().ok, 20, "everything is linked")  # type: ignore[attr-defined]
    found = report()
    assert found.commands >= 3  # type: ignore[attr-defined]
    from cloud.functions.system.journal import OperationJournal

    rows = OperationJournal(ledger).rows(operation="remote_control.emergency.stop")
    assert [(r["operator"], r["result"]) for r in rows] == [("shift", "accepted")]
    assert operator.get(f"/commands/{command}").json()["kind"] == "emergency_stop"
    ledger.close()


@pytest.mark.point("19")
def test_an_emergency_stop_passes_a_log_that_cannot_be_written_and_is_merged_later(stack: Stack, operator: httpx.Client) -> None:
    ledger = open_ledger(stack.settings.effective_ledger_url)
    device = _boiler(ledger)
    file = str(ledger.engine.url.database)
    from cloud.functions.system.journal import OperationJournal

    journal = OperationJournal(ledger)
    before = len(journal.rows(operation="remote_control.emergency.stop"))
    refuse = "CREATE TRIGGER full_disk BEFORE INSERT ON operation_log BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    _until(lambda: _send(operator, "/commands", "lock-before", {"device_id": device, "kind": "lock", "reason": "pump"}).status_code == 202, 15, "control works")
    with sqlite3.connect(file, timeout=10) as store:
        store.execute(refuse)
    assert _send(operator, "/commands", "lock-meanwhile", {"device_id": device, "kind": "lock", "reason": "pump"}).status_code == 503
    stop = _send(operator, "/commands/emergency-stop", "emergency-2", {"device_id": device, "reason": "fire"})
    assert stop.status_code == 202, stop.text
    stack.kill("portal")
    with sqlite3.connect(file, timeout=10) as store:
        store.execute("DROP TRIGGER full_disk")
    _until(lambda: len(journal.rows(operation="remote_control.emergency.stop")) == before + 1, 30, "the safety act is merged")
    newest = journal.rows(operation="remote_control.emergency.stop")[0]
    assert (newest["operator"], newest["result"], newest["late"]) == ("shift", "accepted", True)
    assert Path(stack.settings.home / "audit-late.jsonl").exists() is False
    ledger.close()
