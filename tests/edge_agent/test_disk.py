"""A disk that fails for a while costs nothing that is still in memory."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path

import pytest

from protos.batch import Reading
from protos.points import point

_spec = importlib.util.spec_from_file_location("edge_agent_peers", Path(__file__).with_name("test_agent.py"))
assert _spec is not None
assert _spec.loader is not None
whole = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(whole)


class FullDisk:
    """The real connection; inserts find no room until `full` is False."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.full = db, True

    def execute(self, sql: str, args=()):
        if self.full and sql.startswith("INSERT INTO batch"):
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(sql, args)

    def close(self) -> None:
        self.db.close()


async def test_readings_wait_in_memory_while_the_disk_is_full_and_are_kept_in_order(tmp_path):
    agent = whole.Box(tmp_path).agent({"kind": "grpc", "address": "127.0.0.1:1"}, 1, clock="system")
    disk = agent.spool._db = FullDisk(agent.spool._db)
    rows = [Reading(1, point("active_power").id, 1_795_000_000_000 + k, float(k)) for k in range(4)]
    agent._dated = rows[:2]
    await agent._flush()
    assert (agent.counts["spool_errors"], agent.spool.batches, agent._dated) == (1, 0, rows[:2])
    agent._dated += rows[2:]
    disk.full = False
    await agent._flush()
    assert (agent.spool.readings, agent._dated) == (4, [])
    with pytest.raises(sqlite3.Error):
        disk.full = True
        disk.execute("INSERT INTO batch VALUES (1,1,1,1,x'')")
    agent.spool.close()
    agent.journal.close()
