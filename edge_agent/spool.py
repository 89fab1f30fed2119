"""The spool (本地缓存): sealed batches wait here until the platform has committed them.

SQLite, WAL, synchronous=FULL. Appending encodes, signs, chains and stores in ONE transaction together with the chain head; only an
acknowledged range frees batches. Readings of an untrusted clock wait undated and are re-dated by boot id and monotonic time.

When full (policy): nothing unsent is ever thinned. New telemetry is refused, except counters and alarms, which have a tenth of the limit
as a reserve; past that everything is refused. Every refused reading is counted by reason and reported.

Must not know: transports, drivers. Time, randomness and the path are arguments.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge_agent.errors import SpoolError
from edge_agent.sampling import safety
from protos import batch, envelope, subjects
from protos.batch import Reading, Stamp
from protos.kang.v1 import telemetry_pb2 as pb
from protos.points import BY_ID, Quality
from protos.suites import SigningKey, Suite, suite_of

SCHEMA: Final = 1
RESERVE: Final = 0.1
_KINDS: Final = {p.id: p.kind for p in BY_ID.values()}
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (sequence INTEGER PRIMARY KEY, base_ms INTEGER NOT NULL, readings INTEGER NOT NULL, size INTEGER NOT NULL, signed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS undated (id INTEGER PRIMARY KEY, boot BLOB NOT NULL, wall_minus_mono INTEGER NOT NULL, readings INTEGER NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL);
"""


def connect(path: Path | str, tables: str) -> sqlite3.Connection:
    """Open a store of the agent: WAL, every commit on the disk before it returns, mode 0600."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA wal_autocheckpoint=500")
    db.executescript(tables)
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def one_suite(db: sqlite3.Connection, table: str, suite: Suite) -> None:
    """What waits in a store must be of the suite of its key: a link speaks one suite, and the platform knows the agent by one.

    Raises:
        SpoolError: suite.
    """
    row = db.execute(f"SELECT signed FROM {table} ORDER BY sequence DESC LIMIT 1").fetchone()  # noqa: S608 - names are ours
    if row is not None and envelope.Header.unpack(row[0]).suite != suite:
        raise SpoolError(reason="suite")


def same_suite(old: SigningKey, new: SigningKey) -> None:
    """A renewed key is of the suite of the one before.

    Raises:
        SpoolError: suite.
    """
    if suite_of(old) is not suite_of(new):
        raise SpoolError(reason="suite")


class Spool:
    """Batches of one agent, in order, until acknowledged."""

    def __init__(self, path: Path | str, *, project_id: int, agent_id: str, signing_key: SigningKey, new_epoch: bytes, limit_bytes: int = 2 << 30,
                 batch_readings: int = 5000) -> None:
        """Open or create.

        Args:
            path: file, or ":memory:" in the simulator.
            project_id: of every batch.
            agent_id: of every batch.
            signing_key: the agent's; its suite is the suite of every message.
            new_epoch: 16 random bytes, used only when the spool is created.
            limit_bytes: stored batches and undated readings together.
            batch_readings: largest batch; longer appends are split.

        Raises:
            SpoolError: version, when a newer agent wrote the file; suite, when batches of the other suite wait.
        """
        self.refused: Counter[str] = Counter()
        self._project_id, self._agent_id, self._key = project_id, agent_id, signing_key
        self._limit, self._batch_readings = limit_bytes, batch_readings
        self._sender = envelope.identity_hash(subjects.agent_identity(project_id, agent_id))
        self._receiver = envelope.identity_hash(subjects.PLATFORM_IDENTITY)
        self._lock = threading.RLock()
        self._db = connect(path, _TABLES)
        with transaction(self._db):
            if self._meta("epoch") is None:
                self._set("epoch", new_epoch)
                self._set("schema", str(SCHEMA).encode())
                self._set("last", b"0")
                self._set("head", envelope.GENESIS)
        if int(self._meta("schema") or b"0") > SCHEMA:
            raise SpoolError(reason="version")
        one_suite(self._db, "batch", suite_of(signing_key))
        self.epoch: bytes = self._meta("epoch") or b""
        self._last = int(self._meta("last") or b"0")
        self._head: bytes = self._meta("head") or envelope.GENESIS
        self._batches, self._readings, self._bytes = self._db.execute("SELECT count(*), coalesce(sum(readings),0), coalesce(sum(size),0) FROM batch").fetchone()
        undated_readings, undated_bytes = self._db.execute("SELECT coalesce(sum(readings),0), coalesce(sum(size),0) FROM undated").fetchone()
        self._undated = int(undated_readings)
        self._bytes += undated_bytes

    @contextmanager
    def still(self) -> Iterator[None]:
        """While held, nothing is sealed."""
        with self._lock:
            yield

    def use_key(self, key: SigningKey) -> None:
        """Sign with another key of the same suite from the next batch on; what is sealed keeps its signature and its place in the chain.

        Raises:
            SpoolError: suite, when it is of the other.
        """
        with self._lock:
            same_suite(self._key, key)
            self._key = key

    # --- what is in it

    @property
    def last_sequence(self) -> int:
        """The newest sequence ever sealed, 0 = none."""
        return self._last

    @property
    def batches(self) -> int:
        """Sealed and not acknowledged."""
        return int(self._batches)

    @property
    def readings(self) -> int:
        """Readings sealed and not acknowledged, and those that wait for a date."""
        return int(self._readings) + self._undated

    @property
    def undated(self) -> int:
        """Readings that wait for a date."""
        return self._undated

    @property
    def stored_bytes(self) -> int:
        """Bytes of all that is stored."""
        return int(self._bytes)

    def oldest_ms(self) -> int:
        """Base time of the oldest unacknowledged batch; 0 = none."""
        with self._lock:
            row = self._db.execute("SELECT base_ms FROM batch ORDER BY sequence LIMIT 1").fetchone()
        return int(row[0]) if row else 0

    def pending(self, after: int, limit: int, *, until: int | None = None) -> list[int]:
        """Unacknowledged sequences above `after` (and not above `until`), ascending."""
        with self._lock:
            rows = self._db.execute("SELECT sequence FROM batch WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
                                    (after, self._last if until is None else until, limit)).fetchall()
        return [int(row[0]) for row in rows]

    def get(self, sequence: int) -> envelope.Signed | None:
        """A batch at rest, or None when it was freed meanwhile."""
        with self._lock:
            row = self._db.execute("SELECT signed FROM batch WHERE sequence = ?", (sequence,)).fetchone()
        return envelope.Signed.from_bytes(row[0]) if row else None

    # --- in

    def append(self, readings: Sequence[Reading], *, now_ms: int, boot_id: bytes, monotonic_ms: int, clock_state: int = pb.CLOCK_STATE_TRUSTED,
               origin: int = pb.ORIGIN_MEASURED) -> int:
        """Seal readings that carry trusted times.

        Args:
            readings: canonical, UTC milliseconds.
            now_ms: UTC milliseconds, goes into the header.
            boot_id: 16 B.
            monotonic_ms: monotonic clock of that boot at `now_ms`.
            clock_state: who vouches for the times.
            origin: where the readings come from.

        Returns:
            How many readings were taken; the rest was refused because the spool is full, and counted.
        """
        with self._lock:
            kept = self._admit(readings)
            for chunk in _chunks(kept, self._batch_readings):
                with transaction(self._db):
                    size, head = self._seal(chunk, now_ms, boot_id, monotonic_ms, clock_state, origin)
                self._grown(len(chunk), size, head)
            return len(kept)

    def hold(self, readings: Sequence[Reading], *, boot_id: bytes, wall_minus_mono_ms: int) -> int:
        """Keep readings whose `at_ms` is the monotonic clock of `boot_id`, because no trusted time is known.

        Args:
            readings: stamped with monotonic milliseconds.
            boot_id: 16 B.
            wall_minus_mono_ms: what the untrusted wall clock would add; used only if nothing better is ever known.

        Returns:
            How many were taken.
        """
        with self._lock:
            kept = self._admit(readings)
            for chunk in _chunks(kept, self._batch_readings):
                body = batch.encode(Stamp(self._project_id, self._agent_id, self.epoch, 1, boot_id), chunk)
                with transaction(self._db):
                    self._db.execute("INSERT INTO undated(boot, wall_minus_mono, readings, size, body) VALUES (?,?,?,?,?)",
                                     (boot_id, wall_minus_mono_ms, len(chunk), len(body), body))
                self._undated += len(chunk)
                self._bytes += len(body)
            return len(kept)

    def redate(self, *, boot_id: bytes, offset_ms: int, now_ms: int, monotonic_ms: int, limit: int = 100) -> int:
        """A trusted time is known: date what waited.

        Readings of this boot get monotonic + offset (REDATED). Those of earlier boots cannot be reconstructed: they are sealed UNTRUSTED under the
        time their wall clock claimed, and the platform sets them aside. One transaction per stored row: a crash leaves a row waiting or sealed, never both.

        Args:
            boot_id: of the running boot.
            offset_ms: UTC minus monotonic of this boot.
            now_ms: UTC.
            monotonic_ms: of this boot, at `now_ms`.
            limit: rows per call.

        Returns:
            Rows done; call again while it equals `limit`.
        """
        with self._lock:
            rows = self._db.execute("SELECT id, boot, wall_minus_mono, size, body FROM undated ORDER BY id LIMIT ?", (limit,)).fetchall()
            for row, boot, wall_minus_mono, old_size, body in rows:
                known = boot == boot_id
                shift = _off_grid(offset_ms) if known else wall_minus_mono
                dated = [replace(r, at_ms=r.at_ms + shift, quality=Quality.REDATED if known and r.quality == Quality.GOOD else r.quality)
                         for r in batch.readings(batch.parse(body))]
                with transaction(self._db):
                    size, head = self._seal(dated, now_ms, boot, min(r.at_ms for r in dated) - shift if known else monotonic_ms,
                                            pb.CLOCK_STATE_REDATED if known else pb.CLOCK_STATE_UNTRUSTED, pb.ORIGIN_MEASURED)
                    self._db.execute("DELETE FROM undated WHERE id = ?", (row,))
                self._grown(len(dated), size, head)
                self._undated -= len(dated)
                self._bytes -= old_size
            return len(rows)

    # --- out

    def free(self, ranges: Iterable[tuple[int, int]]) -> int:
        """Forget acknowledged ranges (inclusive). Returns the batches freed."""
        freed = readings = size = 0
        with self._lock:
            with transaction(self._db):
                for first, last in ranges:
                    rows = self._db.execute("DELETE FROM batch WHERE sequence BETWEEN ? AND ? RETURNING readings, size", (first, min(last, self._last))).fetchall()
                    freed += len(rows)
                    readings += sum(row[0] for row in rows)
                    size += sum(row[1] for row in rows)
            self._batches -= freed
            self._readings -= readings
            self._bytes -= size
        return freed

    # --- the clock's floor

    @property
    def floor_ms(self) -> int:
        """No trusted time is ever before this ("time never before")."""
        return int(self._meta("floor") or b"0")

    def raise_floor(self, now_ms: int) -> None:
        """Persist a trusted time; lower ones are ignored."""
        with self._lock:
            if now_ms > self.floor_ms:
                self._set("floor", str(now_ms).encode())

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # --- inside

    def _admit(self, readings: Sequence[Reading]) -> list[Reading]:
        if self._bytes < self._limit * (1 - RESERVE):
            return list(readings)
        kept = safety(readings, _KINDS) if self._bytes < self._limit else []
        self.refused["full"] += len(readings) - len(kept)
        return kept

    def _seal(self, readings: Sequence[Reading], now_ms: int, boot_id: bytes, monotonic_ms: int, clock_state: int, origin: int) -> tuple[int, bytes]:
        """Inside a transaction: encode, sign, chain, store, move the head on disk. Returns (size, digest) for `_grown` after the commit."""
        sequence = self._last + 1
        body = batch.encode(Stamp(self._project_id, self._agent_id, self.epoch, sequence, boot_id, monotonic_ms, clock_state, origin), readings)
        header = envelope.Header(envelope.Kind.BATCH, self._sender, self._receiver, self.epoch, sequence, now_ms, previous=self._head, suite=suite_of(self._key))
        signed = envelope.sign(header, body, self._key)
        data = signed.to_bytes()
        self._db.execute("INSERT INTO batch VALUES (?,?,?,?,?)", (sequence, min(r.at_ms for r in readings), len(readings), len(data), data))
        self._set("last", str(sequence).encode())
        self._set("head", signed.digest)
        return len(data), signed.digest

    def _grown(self, readings: int, size: int, head: bytes) -> None:
        """After the commit: memory follows the disk."""
        self._last += 1
        self._head = head
        self._batches += 1
        self._readings += readings
        self._bytes += size

    def _meta(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set(self, key: str, value: bytes) -> None:
        self._db.execute("INSERT INTO meta VALUES (?,?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", (key, value))


def _chunks(readings: Sequence[Reading], size: int) -> Iterator[list[Reading]]:
    """Pieces of at most `size` readings whose times lie within what a batch can express."""
    ordered = sorted(readings, key=lambda r: r.at_ms)
    start = 0
    for k in range(1, len(ordered) + 1):
        if k == len(ordered) or k - start >= size or ordered[k].at_ms - ordered[start].at_ms >= batch.MAX_SPAN_MS:
            yield ordered[start:k]
            start = k


def _off_grid(offset_ms: int) -> int:
    """The shift of re-dated readings, never a whole tenth of a second: dated readings stand on that grid, and two readings with one time would be one."""
    return offset_ms + (offset_ms % 100 == 0)
