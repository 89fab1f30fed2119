"""The command journal (指令日志): what was received, what is held, who locked what, and the results not yet acknowledged.

SQLite, WAL, synchronous=FULL. A command, the replay window, versions, holds and its first result are one transaction, committed BEFORE anything is
done. It is also the backlog of results for `UplinkSession`: `Result.index` is the envelope's sequence, under the journal's own epoch.
Must not know: drivers, transports, what a decision is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from edge_agent.errors import SpoolError
from edge_agent.spool import connect, one_suite, same_suite, transaction
from protos import envelope, subjects
from protos.arbitration import Authority, Hold
from protos.kang.v1 import command_pb2 as pb
from protos.suites import SigningKey, suite_of

SCHEMA: Final = 1
KEEP_CLOSED: Final = 5000
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS command (
  id BLOB PRIMARY KEY, device INTEGER NOT NULL, point INTEGER NOT NULL, kind INTEGER NOT NULL, authority INTEGER NOT NULL, version INTEGER NOT NULL, created_ms INTEGER NOT NULL,
  stage INTEGER NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL, value REAL, expires_ms INTEGER NOT NULL, verify_by_ms INTEGER NOT NULL, holder TEXT NOT NULL,
  reason TEXT NOT NULL, code TEXT NOT NULL, digest BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS command_open ON command (device) WHERE stage IN (1, 2);
CREATE TABLE IF NOT EXISTS version (device INTEGER NOT NULL, point INTEGER NOT NULL, version INTEGER NOT NULL, created_ms INTEGER NOT NULL, PRIMARY KEY (device, point)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hold (
  device INTEGER NOT NULL, point INTEGER NOT NULL, authority INTEGER NOT NULL, value REAL, low REAL, high REAL, version INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
  holder TEXT NOT NULL, reason TEXT NOT NULL, command BLOB NOT NULL, PRIMARY KEY (device, point, authority)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lockout (device INTEGER PRIMARY KEY, holder TEXT NOT NULL, reason TEXT NOT NULL, work_order TEXT NOT NULL, since_ms INTEGER NOT NULL, command BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS result (sequence INTEGER PRIMARY KEY, signed BLOB NOT NULL);
"""
OPEN: Final = (pb.STAGE_RECEIVED, pb.STAGE_EXECUTING)
WAIT, ACTING, WRITTEN = "wait", "acting", "written"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command as journalled. `phase` of a pulse: wait -> acting (journalled before the write) -> written."""

    id: bytes
    device: int
    point: int
    kind: int
    authority: int
    version: int
    created_ms: int
    stage: int
    phase: str
    step: int
    value: float | None
    expires_ms: int
    verify_by_ms: int
    holder: str
    reason: str
    code: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Lockout:
    """A maintenance tag (检修挂牌)."""

    holder: str
    reason: str
    work_order: str
    since_ms: int


_COLUMNS: Final = ", ".join(f.name for f in fields(Entry))


class Journal:
    """Sole writer of the agent's command store."""

    def __init__(self, path: Path | str, *, project_id: int, agent_id: str, signing_key: SigningKey, new_epoch: bytes) -> None:
        """Open or create; `new_epoch`: 16 random bytes, used only when created.

        Raises:
            SpoolError: version, when a newer agent wrote the file; suite, when results of the other suite wait.
        """
        self._project_id, self._agent_id, self._key = project_id, agent_id, signing_key
        self._sender = envelope.identity_hash(subjects.agent_identity(project_id, agent_id))
        self._receiver = envelope.identity_hash(subjects.PLATFORM_IDENTITY)
        self._lock = threading.RLock()
        # What every cycle asks for every device is kept in memory; any change forgets it all.
        self._holds: dict[int, dict[int, list[Hold]]] = {}
        self._lockouts: dict[int, Lockout | None] = {}
        self._open: list[Entry] | None = None
        self._next_expiry: int | None = None
        self._db = connect(path, _TABLES)
        with transaction(self._db):
            if self._meta("epoch") is None:
                for key, value in (("epoch", new_epoch), ("schema", str(SCHEMA).encode()), ("last", b"0"), ("head", envelope.GENESIS), ("fencing", b"0")):
                    self._set(key, value)
        if int(self._meta("schema") or b"0") > SCHEMA:
            raise SpoolError(reason="version")
        one_suite(self._db, "result", suite_of(signing_key))
        self.epoch: bytes = self._meta("epoch") or b""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on the disk when it ends."""
        try:
            with self._lock, transaction(self._db):
                yield
        finally:
            self._forget()

    @contextmanager
    def still(self) -> Iterator[None]:
        """While held, no result is sealed."""
        with self._lock:
            yield

    def use_key(self, key: SigningKey) -> None:
        """Sign with another key of the same suite from the next result on.

        Raises:
            SpoolError: suite, when it is of the other.
        """
        with self._lock:
            same_suite(self._key, key)
            self._key = key

    def _forget(self) -> None:
        self._holds.clear()
        self._lockouts.clear()
        self._open = self._next_expiry = None

    # --- guards

    @property
    def fencing(self) -> int:
        """The highest epoch of the command service seen."""
        return int(self._meta("fencing") or b"0")

    def set_fencing(self, fencing: int) -> None:
        """Remember a higher one (inside a transaction)."""
        self._set("fencing", str(fencing).encode())

    @property
    def replay(self) -> bytes:
        """State of the replay window."""
        return self._meta("replay") or b""

    def set_replay(self, state: bytes) -> None:
        """Remember it (inside a transaction)."""
        self._set("replay", state)

    def version(self, device: int, point: int) -> tuple[int, int]:
        """(version, created_ms) of the newest command accepted for an actuator; point 0 = the whole device."""
        row = self._db.execute("SELECT version, created_ms FROM version WHERE device = ? AND point = ?", (device, point)).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def newest_created(self, device: int) -> int:
        """`created_ms` of the newest command accepted for any actuator of a device."""
        row = self._db.execute("SELECT max(created_ms) FROM version WHERE device = ?", (device,)).fetchone()
        return int(row[0] or 0)

    def set_version(self, device: int, point: int, version: int, created_ms: int) -> None:
        """Remember it (inside a transaction)."""
        self._db.execute("INSERT INTO version VALUES (?,?,?,?) ON CONFLICT(device, point) DO UPDATE SET version = excluded.version, created_ms = excluded.created_ms",
                         (device, point, version, created_ms))

    @property
    def plan(self) -> bytes:
        """The plan document in force; empty when there is none."""
        return self._meta("plan") or b""

    def set_plan(self, document: bytes) -> None:
        """Keep another one (inside a transaction)."""
        self._set("plan", document)

    # --- commands

    def entry(self, command_id: bytes) -> Entry | None:
        """One command."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM command WHERE id = ?", (command_id,)).fetchone()  # noqa: S608 - names are ours
        return Entry(*row) if row else None

    def open_entries(self, device: int | None = None) -> list[Entry]:
        """Commands received or executing, oldest first."""
        if self._open is None:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM command WHERE stage IN (1, 2) ORDER BY rowid").fetchall()  # noqa: S608 - names are ours
            self._open = [Entry(*row) for row in rows]
        return [entry for entry in self._open if device is None or entry.device == device]

    def insert(self, entry: Entry) -> None:
        """A new command (inside a transaction). Long closed ones are forgotten; the replay window and the versions still guard them."""
        self._forget()
        self._db.execute(f"INSERT INTO command ({_COLUMNS}) VALUES ({','.join('?' * len(fields(Entry)))})", tuple(getattr(entry, f.name) for f in fields(Entry)))  # noqa: S608
        self._db.execute("DELETE FROM command WHERE stage NOT IN (1, 2) AND rowid <= (SELECT max(rowid) FROM command) - ?", (KEEP_CLOSED,))

    def progress(self, command_id: bytes, *, stage: int | None = None, phase: str | None = None, step: int | None = None, value: float | None = None, code: str | None = None) -> None:
        """Change what is given (inside a transaction)."""
        self._forget()
        for column, new in (("stage", stage), ("phase", phase), ("step", step), ("value", value), ("code", code)):
            if new is not None:
                self._db.execute(f"UPDATE command SET {column} = ? WHERE id = ?", (new, command_id))  # noqa: S608 - names are ours

    # --- holds and lockouts

    def holds(self, device: int) -> dict[int, list[Hold]]:
        """Holds of a device by point."""
        known = self._holds.get(device)
        if known is None:
            known = self._holds[device] = {}
            for point, authority, value, low, high, version, expires_ms, holder, reason, command in self._db.execute(
                    "SELECT point, authority, value, low, high, version, expires_ms, holder, reason, command FROM hold WHERE device = ?", (device,)):
                known.setdefault(point, []).append(Hold(Authority(authority), value, low, high, version, expires_ms, holder, reason, command))
        return {point: list(holds) for point, holds in known.items()}

    def put_hold(self, device: int, point: int, hold: Hold) -> None:
        """Set or replace the hold of one authority (inside a transaction)."""
        self._forget()
        self._db.execute("INSERT OR REPLACE INTO hold VALUES (?,?,?,?,?,?,?,?,?,?,?)", (
            device, point, int(hold.authority), hold.value, hold.low, hold.high, hold.version, hold.expires_ms, hold.holder, hold.reason, hold.command_id))

    def drop_hold(self, device: int, point: int, authority: int) -> None:
        """Forget one hold (inside a transaction)."""
        self._forget()
        self._db.execute("DELETE FROM hold WHERE device = ? AND point = ? AND authority = ?", (device, point, authority))

    def drop_holds_of(self, command_id: bytes) -> None:
        """Forget the holds a command made (inside a transaction)."""
        self._forget()
        self._db.execute("DELETE FROM hold WHERE command = ?", (command_id,))

    def drop_expired(self, now_ms: int) -> int:
        """Forget expired holds; returns how many."""
        if self._next_expiry is None:
            row = self._db.execute("SELECT min(expires_ms) FROM hold WHERE expires_ms > 0").fetchone()
            self._next_expiry = int(row[0]) if row[0] is not None else 1 << 62
        if now_ms < self._next_expiry:
            return 0
        with self.transaction():
            return self._db.execute("DELETE FROM hold WHERE expires_ms > 0 AND expires_ms <= ?", (now_ms,)).rowcount

    def lockout(self, device: int) -> Lockout | None:
        """The maintenance tag of a device."""
        if device not in self._lockouts:
            row = self._db.execute("SELECT holder, reason, work_order, since_ms FROM lockout WHERE device = ?", (device,)).fetchone()
            self._lockouts[device] = Lockout(*row) if row else None
        return self._lockouts[device]

    def lock(self, device: int, lockout: Lockout, command_id: bytes) -> None:
        """Hang the tag (inside a transaction)."""
        self._forget()
        self._db.execute("INSERT OR REPLACE INTO lockout VALUES (?,?,?,?,?,?)", (device, lockout.holder, lockout.reason, lockout.work_order, lockout.since_ms, command_id))

    def unlock(self, device: int) -> None:
        """Take it off (inside a transaction)."""
        self._forget()
        self._db.execute("DELETE FROM lockout WHERE device = ?", (device,))

    # --- results

    def emit(self, entry: Entry, stage: int, now_ms: int, *, code: str = "", detail: str = "", readback: float | None = None) -> None:
        """Seal a result into the outbox under the next index (inside a transaction)."""
        index = int(self._meta("last") or b"0") + 1
        result = pb.Result(
            command_id=entry.id, project_id=self._project_id, agent_id=self._agent_id, at_ms=now_ms, code=code, detail=detail[:300], readback=readback, version=entry.version,
            stage=stage,  # type: ignore[arg-type]  # an int is what it is
            request_digest=entry.digest, index=index, verify_by_ms=entry.verify_by_ms if stage == pb.STAGE_EXECUTING else 0)
        header = envelope.Header(envelope.Kind.RESULT, self._sender, self._receiver, self.epoch, index, now_ms, previous=self._meta("head") or envelope.GENESIS, priority=1,
                                 suite=suite_of(self._key))
        signed = envelope.sign(header, result.SerializeToString(), self._key)
        self._db.execute("INSERT INTO result VALUES (?,?)", (index, signed.to_bytes()))
        self._set("last", str(index).encode())
        self._set("head", signed.digest)

    @property
    def last_sequence(self) -> int:
        """The newest result's index."""
        return int(self._meta("last") or b"0")

    def pending(self, after: int, limit: int, *, until: int | None = None) -> list[int]:
        """Unacknowledged results above `after`, ascending."""
        with self._lock:
            rows = self._db.execute("SELECT sequence FROM result WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
                                    (after, self.last_sequence if until is None else until, limit)).fetchall()
        return [int(row[0]) for row in rows]

    def get(self, sequence: int) -> envelope.Signed | None:
        """A result at rest, or None when it was acknowledged."""
        row = self._db.execute("SELECT signed FROM result WHERE sequence = ?", (sequence,)).fetchone()
        return envelope.Signed.from_bytes(row[0]) if row else None

    def free(self, ranges: Iterable[tuple[int, int]]) -> int:
        """Forget acknowledged results."""
        with self._lock, transaction(self._db):
            return sum(self._db.execute("DELETE FROM result WHERE sequence BETWEEN ? AND ?", (first, min(last, self.last_sequence))).rowcount for first, last in ranges)

    def results(self) -> Iterator[pb.Result]:
        """The outbox, for the page of the box itself and for tests."""
        for sequence in self.pending(0, 1_000_000):
            signed = self.get(sequence)
            if signed is not None:
                yield pb.Result.FromString(signed.body)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _meta(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set(self, key: str, value: bytes) -> None:
        self._db.execute("INSERT INTO meta VALUES (?,?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", (key, value))
