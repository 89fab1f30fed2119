"""The command service looks at the audit chain itself: when it is behind nothing but safety acts passes, whoever asks. Real service, real NATS, real ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.msg import Msg
from sqlalchemy import delete

from benchmarks.stack import Stack
from cloud.bus.connection import connect
from cloud.control.audit_guard import AGAIN_MS, START_MS, AuditGuard
from cloud.control.client import ControlClient, ControlRefusedError
from cloud.control.service import Service
from cloud.core.clock import now_ms
from cloud.core.ports import CommandRequest
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.system.journal import AuditLagError
from cloud.ledger import Ledger, open_ledger
from cloud.security.audit import AuditState, record
from cloud.security.audit_writer import Chainer
from tests.support import community


def beat(ledger: Ledger, at_ms: int) -> None:
    """What the chainer says when it lives."""
    with ledger.write() as session:
        session.merge(AuditState(id=1, beat_ms=at_ms, process_id=1))


@pytest.mark.point("19")
def test_behind_silent_or_never_run_counts_as_not_written(ledger: Ledger) -> None:
    clock = [1_000_000]
    guard = AuditGuard(ledger, lambda: clock[0])

    def passes() -> bool:
        try:
            guard.permit()
        except AuditLagError as error:
            assert error.code == "E-AUDIT-LAG"
            return False
        return True

    assert not passes()  # has not looked yet
    guard.look()
    assert not passes()  # no chainer has ever run
    beat(ledger, clock[0])
    guard.look()
    assert passes()
    clock[0] += 3_900
    guard.look()
    assert passes()
    clock[0] += 200
    guard.look()
    assert not passes()  # the chainer is silent
    beat(ledger, clock[0])
    with ledger.write() as session:
        record(session, "test.change", at_ms=clock[0])
    guard.look()
    assert passes()
    clock[0] += 5_001
    beat(ledger, clock[0])
    guard.look()
    assert not passes()  # it lives, yet a row has waited for more than five seconds
    assert guard.lag_ms == 5_001
    assert guard.refused == 4


def test_a_ledger_that_no_longer_answers_stops_control_too(ledger: Ledger, tmp_path: Path) -> None:
    clock = [1_000_000]
    guard = AuditGuard(ledger, lambda: clock[0])
    beat(ledger, clock[0])
    guard.look()
    guard.permit()
    (tmp_path / "gone").mkdir()
    broken = AuditGuard(open_ledger(f"sqlite:///{tmp_path / 'gone'}"), lambda: clock[0])
    broken.look()
    with pytest.raises(AuditLagError):
        broken.permit()
    clock[0] += 4_001  # the first has not been able to look since
    with pytest.raises(AuditLagError):
        guard.permit()


def test_the_alarm_is_said_when_it_changes_and_again_while_it_stands(ledger: Ledger) -> None:
    clock = [1_000_000]
    guard = AuditGuard(ledger, lambda: clock[0])
    guard.look()
    assert guard.alarm() is None  # everything is starting
    clock[0] += START_MS
    guard.look()
    assert (guard.alarm() or {}).get("severity") == "critical"
    assert guard.alarm() is None
    clock[0] += AGAIN_MS
    guard.look()
    assert (guard.alarm() or {}).get("rule") == "control_suspended"
    beat(ledger, clock[0])
    guard.look()
    assert guard.alarm() == {"rule": "control_suspended", "wrong": False}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("guard"), only=("nats",), heartbeat_s=1, partitions=2) as running:
        yield running


@pytest.fixture
async def service(stack: Stack) -> AsyncIterator[tuple[ControlClient, Ledger, int, list[dict[str, Any]]]]:
    """The service in this process, a client of it, and the alarms it says."""
    ledger = open_ledger(stack.settings.effective_ledger_url)
    community.register(ledger, rooms=2)
    directory = LedgerDirectory(ledger)
    boiler = next(d.id for p in directory.projects() for d in directory.devices(p.id) if "boiler" in d.template)
    bus = await connect(stack.settings.effective_nats_url, stack.settings.credentials, "test")
    said: list[dict[str, Any]] = []

    async def hear(message: Msg) -> None:
        said.append(json.loads(message.data))

    await bus.subscribe("alarm.own", cb=hear)
    Chainer(ledger, Ed25519PrivateKey.generate(), stack.settings.home / "audit").step()  # links what registering left, and lives no more
    with ledger.write() as session:
        session.execute(delete(AuditState))
    running = Service(stack.settings, bus)
    await running.start()
    work = asyncio.create_task(running.run())
    yield ControlClient(bus), ledger, boiler, said
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    for task in running._tasks:
        task.cancel()
    running.desk.journal.close()
    await bus.close()
    ledger.close()


@pytest.mark.slow
@pytest.mark.point("19")
async def test_a_silent_chainer_stops_control_within_five_seconds_and_never_a_safety_act(service: tuple[ControlClient, Ledger, int, list[dict[str, Any]]]) -> None:
    control, ledger, boiler, said = service
    project = LedgerDirectory(ledger).device(boiler).project_id  # type: ignore[union-attr]

    async def ask(kind: str) -> str:
        try:
            view = await control.submit(CommandRequest(project_id=project, device_id=boiler, kind=kind, actor="test", reason="guard"))
        except ControlRefusedError as error:
            return error.code
        return str(view["state"])

    async def until(wanted: str, seconds: float) -> float:
        started = time.monotonic()
        while await ask("lock") != wanted:
            assert time.monotonic() - started < seconds, f"not {wanted} within {seconds} s"
            await asyncio.sleep(0.1)
        return time.monotonic() - started

    beat(ledger, now_ms())
    await until("accepted", 3)
    assert await until("E-AUDIT-LAG", 7) <= 5.0  # from the last beat on, which came before
    assert await ask("emergency_stop") == "accepted"
    assert await ask("restore_heat") == "accepted"
    with pytest.raises(ControlRefusedError) as refusal:
        await control.resolve("0" * 32, verified=True, actor="test", reason="guard")
    assert refusal.value.code == "E-AUDIT-LAG"
    assert "audit" in refusal.value.message("en")
    stats = await control.stats()
    assert stats["suspended"] is True
    assert stats["audit_refused"] >= 2
    assert stats["audit_broken_at"] is None
    assert any(a["rule"] == "control_suspended" and a.get("severity") == "critical" for a in said)
    beat(ledger, now_ms())
    await until("accepted", 3)
    async with asyncio.timeout(3):
        while said[-1] != {"rule": "control_suspended", "wrong": False}:  # noqa: ASYNC110 - it comes over the bus
            await asyncio.sleep(0.05)
