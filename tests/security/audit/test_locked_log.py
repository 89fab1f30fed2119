"""A log whose lock somebody holds does not hold up a safety act."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from cloud.functions.system.journal import OperationJournal
from cloud.ledger import Ledger
from cloud.security.operations import Operation, Role

STOP = Operation("remote_control.emergency.stop", "紧急停机", "Emergency stop", frozenset({Role.OPERATOR}), changes=True, label="control", level="warning", safety=True, priority=0)


async def test_an_emergency_stop_goes_into_the_file_beside_while_the_log_is_locked_and_is_merged_later(ledger: Ledger, tmp_path: Path) -> None:
    journal = OperationJournal(ledger, late=tmp_path / "late.jsonl")
    with closing(sqlite3.connect(str(ledger.engine.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        number = await journal.begin(STOP, operator="li", target="device/7", request_id="r1", address="10.0.0.9")
        await journal.settle(number, result="accepted")
        assert time.monotonic() - began < 4.0, "the lock is given back after that"
        assert number < 0
        other.execute("ROLLBACK")
    await asyncio.to_thread(journal.merge)
    told = journal.rows(operation="remote_control.emergency.stop")
    assert any(r["late"] and r["operator"] == "li" and r["result"] == "accepted" for r in told), told
