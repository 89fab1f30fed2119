"""Writes one flush of a partition: alarms, quarantine and gaps, then raw blocks split by month, touched hours, the cursor last.

Alarms stand before the values they were judged from: a host that starts in between takes a stored value for judged.
Every block carries a token made of stream identity, partition and sequence range, so that the same flush written again is no write.
Must not know: how a flush came about.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cloud.historian.client import ClickHouse
from cloud.historian.columns import Array, Columns, native_block
from cloud.historian.schema import DATABASE, FIRST_WINS

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class BatchRow:
    """The books of one accepted batch."""

    ref: int
    project_id: int
    agent_id: str
    epoch: bytes
    agent_seq: int
    received_ms: int
    origin: int
    clock_state: int
    columns: Columns
    size: int


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """A raise or a clear of one alarm; `cleared_ms` 0 while active. The same alarm always has the same id."""

    id: uuid.UUID
    project_id: int
    device_id: int
    point_id: int
    rule: str
    severity: str
    zh: str
    en: str
    raised_ms: int
    cleared_ms: int
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Something set aside, with the reason and the bytes to release it from."""

    id: uuid.UUID
    project_id: int
    agent_id: str
    reason: str
    detail: str
    rows: int
    received_ms: int
    payload: bytes
    state: str = "held"
    actor: str = ""


@dataclass(frozen=True, slots=True)
class GapRow:
    """Missing sequences of an agent's stream; `healed_ms` 0 while open."""

    project_id: int
    agent_id: str
    epoch: bytes
    first_seq: int
    last_seq: int
    seen_ms: int
    healed_ms: int


@dataclass(slots=True)
class Flush:
    """What one partition commits at once: messages first..last of one stream."""

    partition: int
    identity: str
    first: int
    last: int
    batches: list[BatchRow] = field(default_factory=list)
    alarms: list[AlarmRow] = field(default_factory=list)
    quarantine: list[QuarantineRow] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)
    touched: dict[tuple[int, int], int] = field(default_factory=dict)  # (project, hour since 1970) -> reference
    cursors: dict[tuple[int, str, bytes], int] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """Stream identity, partition, sequence range."""
        return f"{self.identity}:{self.partition}:{self.first}-{self.last}"

    @property
    def rows(self) -> int:
        """Readings in the flush."""
        return sum(len(b.columns) for b in self.batches)


def reference(generation: int, partition: int, sequence: int) -> int:
    """A batch's reference: rises with arrival within a partition, across lost and recreated streams."""
    return generation << 51 | partition << 40 | sequence


class Writer:
    """Commits flushes."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def commit(self, flush: Flush) -> None:
        """Write everything; the batch rows go last and are the historian's cursor, so a crash in between repeats the same tokens.

        Raises:
            HistorianUnavailableError: nothing is lost; commit again with the same flush.
        """
        token = flush.token
        await self.books(flush.alarms, flush.quarantine, flush.gaps, token)
        for month, block in raw_blocks(flush.batches):
            await self._insert("raw", block, RAW, f"{token}:{month}")
        if flush.touched:
            await self._insert("touched", _touched_block(flush.touched), ["project_id", "hour", "ref"], f"{token}:touched")
        if flush.cursors:
            await self._insert("agent_cursor", _cursor_block(flush.cursors), ["project_id", "agent_id", "epoch", "high"], f"{token}:agents")
        await self._insert("batch", _batch_block(flush.identity, flush.batches), BATCH, f"{token}:batch")

    async def _insert(self, table: str, block: bytes, names: list[str], token: str) -> None:
        """The content takes part in the token: the same token with other rows would be dropped in silence."""
        await self._store.insert(f"{DATABASE}.{table}", block, names, f"{token}:{zlib.crc32(block):08x}")

    async def books(self, alarms: Sequence[AlarmRow], quarantine: Sequence[QuarantineRow], gaps: Sequence[GapRow], token: str) -> None:
        """Write rows that are upserts by key."""
        if alarms:
            await self._insert("alarm", _alarm_block(alarms), ALARM, f"{token}:alarm")
        if quarantine:
            await self._insert("quarantine", quarantine_block(quarantine), QUARANTINE, f"{token}:quarantine")
        if gaps:
            await self._insert("gap", _gap_block(gaps), GAP, f"{token}:gap")

    async def generation(self, partition: int, identity: str, now_ms: int) -> int:
        """The small number of a stream identity; the next free one of the partition when it is new."""
        rows = await self._store.query(
            f"SELECT toString(identity), max(generation) FROM {DATABASE}.stream WHERE partition = {{p:UInt32}} GROUP BY identity", {"p": partition})
        known = {str(name).rstrip("\0"): int(g) for name, g in rows}
        if identity in known:
            return known[identity]
        generation = max(known.values(), default=0) + 1
        await self._insert("stream", native_block([
            ("partition", "UInt32", np.array([partition], "<u4")), ("identity", "FixedString(16)", np.array([identity.encode()], "S16")),
            ("generation", "UInt32", np.array([generation], "<u4")), ("first_seen", "DateTime64(3, 'UTC')", np.array([now_ms], "<i8")),
        ], 1), ["partition", "identity", "generation", "first_seen"], f"stream:{partition}:{identity}")
        return generation

    async def cursor(self, partition: int, generation: int) -> int:
        """Highest stream sequence the historian holds of a partition's stream generation; 0 when none."""
        base = reference(generation, partition, 0)
        for recent in (" AND received > now() - INTERVAL 3 DAY", ""):
            rows = await self._store.query(f"SELECT max(ref) FROM {DATABASE}.batch WHERE ref > {{a:UInt64}} AND ref < {{b:UInt64}}{recent}", {"a": base, "b": base + (1 << 40)})
            if rows[0][0]:
                return int(rows[0][0]) - base
        return 0

    async def committed(self, project_id: int, agent_id: str, epoch: bytes) -> tuple[int, list[tuple[int, int]]]:
        """(high, ranges above it): every sequence <= high is committed, and those in `ranges` (inclusive)."""
        where = "project_id = {p:UInt32} AND agent_id = {a:String} AND epoch = unhex({e:String})"
        parameters = {"p": project_id, "a": agent_id, "e": epoch.hex()}
        rows = await self._store.query(f"SELECT max(high) FROM {DATABASE}.agent_cursor WHERE {where}", parameters)
        high = int(rows[0][0] or 0)
        above = await self._store.query(
            f"SELECT min(s), max(s) FROM (SELECT s, s - row_number() OVER (ORDER BY s) AS g FROM (SELECT DISTINCT agent_seq AS s FROM {DATABASE}.batch"
            f" WHERE {where} AND agent_seq > {{h:UInt64}})) GROUP BY g ORDER BY 1", {**parameters, "h": high})
        return high, [(int(a), int(b)) for a, b in above]

    async def open_gaps(self, project_id: int, agent_id: str, epoch: bytes) -> list[tuple[int, int, int]]:
        """(first, last, seen_ms) of gaps that were reported and not closed yet."""
        rows = await self._store.query(
            f"SELECT first_seq, last_seq, toUnixTimestamp64Milli(g.seen) FROM {DATABASE}.gap AS g FINAL WHERE project_id = {{p:UInt32}} AND agent_id = {{a:String}}"
            " AND epoch = unhex({e:String}) AND toUnixTimestamp64Milli(g.healed) = 0", {"p": project_id, "a": agent_id, "e": epoch.hex()})
        return [(int(first), int(last), int(seen)) for first, last, seen in rows]


RAW = ["project_id", "device_id", "point_id", "ts", "value", "quality", "batch"]
BATCH = ["ref", "stream", "project_id", "agent_id", "epoch", "agent_seq", "received", "origin", "clock_state", "rows", "first_ts", "last_ts", "bytes"]
ALARM = ["id", "project_id", "device_id", "point_id", "rule", "severity", "zh", "en", "raised", "cleared", "value", "threshold", "ver"]
QUARANTINE = ["id", "project_id", "agent_id", "reason", "detail", "rows", "received", "payload", "state", "actor", "ver"]
GAP = ["project_id", "agent_id", "epoch", "first_seq", "last_seq", "seen", "healed", "ver"]
_STATE_VER = {"held": 1, "released": 2, "discarded": 2}
_MS = "DateTime64(3, 'UTC')"


def raw_blocks(batches: Sequence[BatchRow]) -> list[tuple[str, bytes]]:
    """(month, Native block) pairs: an insert is atomic per partition only, so a block never crosses a month."""
    if not batches:
        return []
    columns = Columns.join([b.columns for b in batches])
    lengths = [len(b.columns) for b in batches]
    project = np.repeat(np.array([b.project_id for b in batches], "<u4"), lengths)
    ref = np.repeat(np.array([FIRST_WINS - b.ref for b in batches], "<u8"), lengths)
    low, high = (np.array([columns.at_ms.min(), columns.at_ms.max()]) if len(columns) else np.zeros(2, "<i8")).astype("datetime64[ms]").astype("datetime64[M]")
    one = low == high  # nearly always: then no row needs a calendar
    month = np.array([low]) if one else columns.at_ms.astype("datetime64[ms]").astype("datetime64[M]")
    out = []
    for value in np.unique(month) if len(columns) else ():
        which = slice(None) if one else np.flatnonzero(month == value)
        part = (project[which], columns.device[which], columns.point[which], columns.at_ms[which], columns.value[which], columns.quality[which], ref[which])
        kinds = ("UInt32", "UInt32", "UInt16", _MS, "Float64", "UInt8", "UInt64")
        out.append((str(value), native_block(list(zip(RAW, kinds, part, strict=True)), len(part[0]))))
    return out


def _fixed(values: Sequence[bytes]) -> Array:
    return np.frombuffer(b"".join(v.ljust(16, b"\0") for v in values), "V16")


def _uuids(ids: Sequence[uuid.UUID]) -> Array:
    """ClickHouse keeps a UUID as two little-endian u64, high half first."""
    return np.frombuffer(b"".join(i.bytes[7::-1] + i.bytes[:7:-1] for i in ids), "V16")


def _batch_block(identity: str, rows: Sequence[BatchRow]) -> bytes:
    return native_block([
        ("ref", "UInt64", np.array([r.ref for r in rows], "<u8")), ("stream", "FixedString(16)", _fixed([identity.encode()] * len(rows))),
        ("project_id", "UInt32", np.array([r.project_id for r in rows], "<u4")), ("agent_id", "String", [r.agent_id for r in rows]),
        ("epoch", "FixedString(16)", _fixed([r.epoch for r in rows])), ("agent_seq", "UInt64", np.array([r.agent_seq for r in rows], "<u8")),
        ("received", _MS, np.array([r.received_ms for r in rows], "<i8")), ("origin", "UInt8", np.array([r.origin for r in rows], "u1")),
        ("clock_state", "UInt8", np.array([r.clock_state for r in rows], "u1")), ("rows", "UInt32", np.array([len(r.columns) for r in rows], "<u4")),
        ("first_ts", _MS, np.array([r.columns.at_ms.min() if len(r.columns) else r.received_ms for r in rows], "<i8")),
        ("last_ts", _MS, np.array([r.columns.at_ms.max() if len(r.columns) else r.received_ms for r in rows], "<i8")),
        ("bytes", "UInt32", np.array([r.size for r in rows], "<u4"))], len(rows))


def _touched_block(touched: dict[tuple[int, int], int]) -> bytes:
    keys = list(touched)
    return native_block([
        ("project_id", "UInt32", np.array([k[0] for k in keys], "<u4")), ("hour", "DateTime('UTC')", np.array([k[1] * 3600 for k in keys], "<u4")),
        ("ref", "UInt64", np.array([touched[k] for k in keys], "<u8"))], len(keys))


def _cursor_block(cursors: dict[tuple[int, str, bytes], int]) -> bytes:
    keys = list(cursors)
    return native_block([
        ("project_id", "UInt32", np.array([k[0] for k in keys], "<u4")), ("agent_id", "String", [k[1] for k in keys]),
        ("epoch", "FixedString(16)", _fixed([k[2] for k in keys])), ("high", "UInt64", np.array([cursors[k] for k in keys], "<u8"))], len(keys))


def _alarm_block(rows: Sequence[AlarmRow]) -> bytes:
    return native_block([
        ("id", "UUID", _uuids([r.id for r in rows])), ("project_id", "UInt32", np.array([r.project_id for r in rows], "<u4")),
        ("device_id", "UInt32", np.array([r.device_id for r in rows], "<u4")), ("point_id", "UInt16", np.array([r.point_id for r in rows], "<u2")),
        ("rule", "String", [r.rule for r in rows]), ("severity", "String", [r.severity for r in rows]), ("zh", "String", [r.zh for r in rows]),
        ("en", "String", [r.en for r in rows]), ("raised", _MS, np.array([r.raised_ms for r in rows], "<i8")),
        ("cleared", _MS, np.array([r.cleared_ms for r in rows], "<i8")), ("value", "Float64", np.array([r.value for r in rows], "<f8")),
        ("threshold", "Float64", np.array([r.threshold for r in rows], "<f8")), ("ver", "UInt64", np.array([max(r.cleared_ms, 1) for r in rows], "<u8"))], len(rows))


def quarantine_block(rows: Sequence[QuarantineRow]) -> bytes:
    """Native block of quarantine rows; a later state outranks `held`."""
    return native_block([
        ("id", "UUID", _uuids([r.id for r in rows])), ("project_id", "UInt32", np.array([r.project_id for r in rows], "<u4")),
        ("agent_id", "String", [r.agent_id for r in rows]), ("reason", "String", [r.reason for r in rows]), ("detail", "String", [r.detail for r in rows]),
        ("rows", "UInt32", np.array([r.rows for r in rows], "<u4")), ("received", _MS, np.array([r.received_ms for r in rows], "<i8")),
        ("payload", "String", [r.payload for r in rows]), ("state", "String", [r.state for r in rows]), ("actor", "String", [r.actor for r in rows]),
        ("ver", "UInt64", np.array([_STATE_VER[r.state] for r in rows], "<u8"))], len(rows))


def _gap_block(rows: Sequence[GapRow]) -> bytes:
    return native_block([
        ("project_id", "UInt32", np.array([r.project_id for r in rows], "<u4")), ("agent_id", "String", [r.agent_id for r in rows]),
        ("epoch", "FixedString(16)", _fixed([r.epoch for r in rows])), ("first_seq", "UInt64", np.array([r.first_seq for r in rows], "<u8")),
        ("last_seq", "UInt64", np.array([r.last_seq for r in rows], "<u8")), ("seen", _MS, np.array([r.seen_ms for r in rows], "<i8")),
        ("healed", _MS, np.array([r.healed_ms for r in rows], "<i8")), ("ver", "UInt64", np.array([max(r.healed_ms, 1) for r in rows], "<u8"))], len(rows))
