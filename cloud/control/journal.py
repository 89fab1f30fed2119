"""The command journal: every command, every step, its audit row and the envelope books, in one small SQLite store of its own.

Journal and audit are written in one transaction; audit rows are chained by hash. Sans-IO towards time: `now_ms` is an argument.
Must not know: transports, keys, portal.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud.control.states import State

_SCHEMA = """
CREATE TABLE IF NOT EXISTS command (
  id TEXT PRIMARY KEY, project_id INTEGER NOT NULL, device_id INTEGER NOT NULL, point_id INTEGER NOT NULL, agent_id TEXT NOT NULL, kind TEXT NOT NULL,
  authority INTEGER NOT NULL, value REAL, low REAL, high REAL, version INTEGER NOT NULL, state TEXT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
  work_order TEXT NOT NULL, channel TEXT NOT NULL, created_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, maybe_delivered INTEGER NOT NULL DEFAULT 0, result_index INTEGER NOT NULL DEFAULT 0, readback REAL, code TEXT NOT NULL DEFAULT '',
  detail TEXT NOT NULL DEFAULT '', verify_by_ms INTEGER NOT NULL DEFAULT 0, changed_ms INTEGER NOT NULL, handed INTEGER NOT NULL DEFAULT 0, key TEXT UNIQUE, request TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS command_by_device ON command (device_id, created_ms);
CREATE INDEX IF NOT EXISTS command_by_project ON command (project_id, created_ms);
CREATE INDEX IF NOT EXISTS command_open ON command (state) WHERE state NOT IN ('verified', 'failed', 'expired', 'superseded', 'refused');
CREATE TABLE IF NOT EXISTS step (command_id TEXT NOT NULL, at_ms INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS step_of ON step (command_id);
CREATE TABLE IF NOT EXISTS actuator (device_id INTEGER NOT NULL, point_id INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (device_id, point_id)) STRICT;
CREATE TABLE IF NOT EXISTS outgoing (agent_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, chain BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS incoming (agent_id TEXT NOT NULL, epoch BLOB NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (agent_id, epoch, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS plan (
  agent_id TEXT PRIMARY KEY, project_id INTEGER NOT NULL, version INTEGER NOT NULL, plan_id TEXT NOT NULL, document BLOB NOT NULL, created_ms INTEGER NOT NULL,
  start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, held_ms INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit (
  n INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, type TEXT NOT NULL, level TEXT NOT NULL, point TEXT NOT NULL, process INTEGER NOT NULL, operator TEXT NOT NULL,
  result TEXT NOT NULL, object TEXT NOT NULL, channel TEXT NOT NULL, hash BLOB NOT NULL) STRICT;
"""
GENESIS = bytes(32)


class Journal:
    """Sole writer of the command store."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self.fencing = self._raise_fencing()
        self.epoch = self._meta("epoch") or self._set_meta("epoch", os.urandom(16))

    def close(self) -> None:
        """Close the store."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One durable transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _meta(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def _set_meta(self, name: str, value: bytes) -> bytes:
        self._db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))
        return value

    def _raise_fencing(self) -> int:
        """Each start has a higher fencing number; an agent refuses a lower one than it has seen."""
        with self.transaction():
            fencing = int.from_bytes(self._meta("fencing") or bytes(8), "big") + 1
            self._set_meta("fencing", fencing.to_bytes(8, "big"))
        return fencing

    # -- commands ---------------------------------------------------------------------------------------------------

    def by_key(self, key: str) -> sqlite3.Row | None:
        """The command an idempotency key belongs to."""
        found: sqlite3.Row | None = self._db.execute("SELECT * FROM command WHERE key = ?", (key,)).fetchone()
        return found

    def row(self, command_id: str) -> sqlite3.Row | None:
        """One command."""
        found: sqlite3.Row | None = self._db.execute("SELECT * FROM command WHERE id = ?", (command_id,)).fetchone()
        return found

    def next_version(self, device_id: int, point_id: int) -> int:
        """A version above every one given before for the actuator (inside a transaction)."""
        self._db.execute("INSERT INTO actuator VALUES (?, ?, 1) ON CONFLICT (device_id, point_id) DO UPDATE SET version = version + 1", (device_id, point_id))
        return int(self._db.execute("SELECT version FROM actuator WHERE device_id = ? AND point_id = ?", (device_id, point_id)).fetchone()[0])

    def insert(self, values: dict[str, Any]) -> None:
        """A new command (inside a transaction)."""
        names = ", ".join(values)
        self._db.execute(f"INSERT INTO command ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))  # noqa: S608  names are ours
        self._step(values["id"], values["created_ms"], values["state"], values.get("code", ""), values.get("detail", ""))

    def move(self, command_id: str, state: State, now_ms: int, *, code: str = "", detail: str = "", **more: Any) -> None:
        """A command's new state and its step (inside a transaction)."""
        extra = "".join(f", {name} = ?" for name in more)
        self._db.execute(f"UPDATE command SET state = ?, code = ?, detail = ?, changed_ms = ?{extra} WHERE id = ?",  # noqa: S608  names are ours
                         (state, code, detail, now_ms, *more.values(), command_id))
        self._step(command_id, now_ms, state, code, detail)

    def note(self, command_id: str, **more: Any) -> None:
        """Change fields without a step (inside a transaction)."""
        self._db.execute(f"UPDATE command SET {', '.join(f'{n} = ?' for n in more)} WHERE id = ?", (*more.values(), command_id))  # noqa: S608  names are ours

    def _step(self, command_id: str, at_ms: int, state: str, code: str, detail: str) -> None:
        self._db.execute("INSERT INTO step VALUES (?, ?, ?, ?, ?)", (command_id, at_ms, state, code, detail))

    def open_rows(self) -> list[sqlite3.Row]:
        """Commands not in a final state, strongest first."""
        return self._db.execute("SELECT * FROM command WHERE state NOT IN ('verified', 'failed', 'expired', 'superseded', 'refused') ORDER BY authority, created_ms").fetchall()

    def rivals(self, device_id: int, point_id: int, authority: int, version: int) -> list[sqlite3.Row]:
        """Older commands of the same actuator and authority that surely never left; one that is or was under way tells its own end."""
        return self._db.execute("SELECT * FROM command WHERE device_id = ? AND point_id = ? AND authority = ? AND version < ? AND state IN ('accepted', 'queued') AND maybe_delivered = 0",
                                (device_id, point_id, authority, version)).fetchall()

    def view(self, row: sqlite3.Row) -> dict[str, Any]:
        """A command as the portal sees it."""
        names = ("id", "project_id", "device_id", "point_id", "kind", "value", "low", "high", "authority", "state", "version", "actor", "reason", "work_order", "created_ms",
                 "deadline_ms", "expires_ms", "readback", "code", "detail", "verify_by_ms", "changed_ms", "attempts", "agent_id", "channel")
        steps = self._db.execute("SELECT at_ms, state, code, detail FROM step WHERE command_id = ? ORDER BY rowid", (row["id"],)).fetchall()
        return {**{n: row[n] for n in names}, **({"value": None} if row["kind"] == "unlock" else {}), "handed": bool(row["handed"]), "steps": [dict(s) for s in steps]}

    def select(self, *, project_id: int | None, device_id: int | None, limit: int, before_ms: int | None) -> list[sqlite3.Row]:
        """Commands, newest first."""
        conditions, values = ["1"], list[Any]()
        for name, value in (("project_id", project_id), ("device_id", device_id)):
            if value is not None:
                conditions.append(f"{name} = ?")
                values.append(value)
        if before_ms is not None:
            conditions.append("created_ms < ?")
            values.append(before_ms)
        return self._db.execute(f"SELECT * FROM command WHERE {' AND '.join(conditions)} ORDER BY created_ms DESC, rowid DESC LIMIT ?",  # noqa: S608  names are ours
                                (*values, max(1, min(limit, 1000)))).fetchall()

    def counts(self) -> dict[str, int]:
        """Commands by state."""
        return {str(s): int(n) for s, n in self._db.execute("SELECT state, count(*) FROM command GROUP BY state")}

    # -- plans ------------------------------------------------------------------------------------------------------

    def plans(self) -> list[sqlite3.Row]:
        """The newest plan of every agent."""
        return self._db.execute("SELECT * FROM plan").fetchall()

    def plan(self, agent_id: str) -> bytes:
        """An agent's newest document; empty when there is none."""
        row = self._db.execute("SELECT document FROM plan WHERE agent_id = ?", (agent_id,)).fetchone()
        return bytes(row[0]) if row else b""

    def put_plan(self, agent_id: str, project_id: int, version: int, plan_id: str, document: bytes, created_ms: int, start_ms: int, end_ms: int) -> None:
        """Set or replace it (inside a transaction)."""
        self._db.execute("INSERT OR REPLACE INTO plan VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", (agent_id, project_id, version, plan_id, document, created_ms, start_ms, end_ms))

    def hold_plan(self, agent_id: str, version: int, held_ms: int) -> None:
        """The agent told that it holds it (inside a transaction)."""
        self._db.execute("UPDATE plan SET held_ms = ? WHERE agent_id = ? AND version = ?", (held_ms, agent_id, version))

    # -- envelopes --------------------------------------------------------------------------------------------------

    def next_outgoing(self, agent_id: str) -> tuple[int, bytes]:
        """(sequence, previous chain digest) of the next envelope to an agent (inside a transaction)."""
        row = self._db.execute("SELECT sequence, chain FROM outgoing WHERE agent_id = ?", (agent_id,)).fetchone()
        return (int(row[0]) + 1, bytes(row[1])) if row else (1, GENESIS)

    def sent_outgoing(self, agent_id: str, sequence: int, digest: bytes) -> None:
        """Record the envelope just made (inside the same transaction)."""
        self._db.execute("INSERT INTO outgoing VALUES (?, ?, ?) ON CONFLICT (agent_id) DO UPDATE SET sequence = excluded.sequence, chain = excluded.chain", (agent_id, sequence, digest))

    def seen(self, agent_id: str, epoch: bytes, index: int) -> bool:
        """Record a result's number; True when it was there already (inside a transaction)."""
        return self._db.execute("INSERT INTO incoming VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (agent_id, epoch, index)).rowcount == 0

    # -- audit ------------------------------------------------------------------------------------------------------

    def audit(self, at_ms: int, type_: str, level: str, operating_point: str, operator: str, result: str, subject: str, channel: str) -> None:
        """One audit row in the current transaction, chained to the one before (7.2.5 b: time, type, level, operating point, process id, operator)."""
        last = self._db.execute("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1").fetchone()
        n, previous = (int(last[0]) + 1, bytes(last[1])) if last else (1, GENESIS)
        fields = [n, at_ms, type_, level, operating_point, os.getpid(), operator, result, subject, channel]
        digest = hashlib.sha256(previous + json.dumps(fields, ensure_ascii=False).encode()).digest()
        self._db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*fields, digest))

    def verify_audit(self) -> int | None:
        """Number of the first altered or missing audit row, or None when the chain holds."""
        previous, expected = GENESIS, 1
        for row in self._db.execute("SELECT * FROM audit ORDER BY n"):
            fields = list(row)[:-1]
            digest = hashlib.sha256(previous + json.dumps(fields, ensure_ascii=False).encode()).digest()
            if row["n"] != expected or digest != row["hash"]:
                return expected
            previous, expected = digest, expected + 1
        return None
