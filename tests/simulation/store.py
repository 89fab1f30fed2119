"""ClickHouse as the historian uses it, in memory: decodes the Native blocks of the real Writer, keeps token windows and replacing keys.

One insert is atomic, several are not; a token is forgotten when its window is full; materialised views follow their insert. At times it does not answer,
before or after it did the work. Must not know: who writes, and why.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cloud.core.ports import Latest
from cloud.functions.monitoring.live import LastAlarm
from cloud.historian.client import HistorianUnavailableError
from cloud.historian.schema import FIRST_WINS
from tests.simulation.world import Process, World

_WIDTH = {"UInt8": ("u1", 1), "UInt16": ("<u2", 2), "UInt32": ("<u4", 4), "UInt64": ("<u8", 8), "Float64": ("<f8", 8), "DateTime64(3, 'UTC')": ("<i8", 8), "DateTime('UTC')": ("<u4", 4)}
#: ORDER BY and version column of each ReplacingMergeTree, as in cloud/historian/schema.py.
_KEYS: dict[str, tuple[tuple[str, ...], str]] = {
    "batch": (("project_id", "agent_id", "epoch", "agent_seq", "ref"), ""), "agent_cursor": (("project_id", "agent_id", "epoch"), "high"),
    "stream": (("partition", "identity"), "generation"), "quarantine": (("id",), "ver"), "alarm": (("project_id", "id"), "ver"),
    "gap": (("project_id", "agent_id", "epoch", "first_seq"), "ver"), "touched": (("project_id", "hour"), "ref"),
}


def decode_native(block: bytes) -> dict[str, list[Any]]:
    """One block of ClickHouse's Native format -> columns."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = block[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def blob() -> bytes:
        nonlocal at
        n = varint()
        at += n
        return block[at - n:at]

    columns, rows = varint(), varint()
    out: dict[str, list[Any]] = {}
    for _ in range(columns):
        name, kind = blob().decode(), blob().decode()
        if kind == "String":
            out[name] = [blob() for _ in range(rows)]
        elif kind in _WIDTH:
            dtype, width = _WIDTH[kind]
            out[name] = np.frombuffer(block, dtype, rows, at).tolist()
            at += width * rows
        elif kind == "FixedString(16)":
            out[name] = [block[at + 16 * k:at + 16 * k + 16] for k in range(rows)]
            at += 16 * rows
        elif kind == "UUID":
            out[name] = [uuid.UUID(bytes=b"".join(struct.pack(">Q", v) for v in struct.unpack_from("<QQ", block, at + 16 * k))) for k in range(rows)]
            at += 16 * rows
        else:
            raise AssertionError(f"type {kind} is not played")
    assert at == len(block), "the block is longer or shorter than it says"
    return out


@dataclass(slots=True)
class Row:
    """The winning row of one key of `raw`."""

    value: float
    quality: int
    batch: int
    copies: int = 1


@dataclass(slots=True)
class Engine:
    """The data, shared by all connections; survives everybody."""

    world: World
    window: int
    down: bool = False
    raw: dict[tuple[int, int, int, int], Row] = field(default_factory=dict)
    latest: dict[tuple[int, int, int], tuple[int, float, int]] = field(default_factory=dict)
    tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = field(default_factory=lambda: {name: {} for name in _KEYS})
    tokens: dict[str, OrderedDict[str, None]] = field(default_factory=dict)
    committed: dict[tuple[int, str, bytes], set[int]] = field(default_factory=dict)

    def insert(self, table: str, block: bytes, names: list[str], token: str) -> None:
        """One atomic insert."""
        name = table.removeprefix("heat.")
        columns = decode_native(block)
        assert list(columns) == names, f"{table}: block has {list(columns)}, statement names {names}"
        if token:
            seen = self.tokens.setdefault(name, OrderedDict())
            if token in seen:
                self.world.count("deduplicated by token")
                return
            seen[token] = None
            if len(seen) > self.window:
                seen.popitem(last=False)
        if name == "raw":
            self._raw(columns)
            return
        key, version = _KEYS[name]
        rows = self.tables[name]
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            at = tuple(row[k] for k in key)
            old = rows.get(at)
            if old is None or not version or row[version] >= old[version]:
                rows[at] = row
            if name == "batch":
                self.committed.setdefault((row["project_id"], row["agent_id"].decode(), row["epoch"]), set()).add(row["agent_seq"])

    def _raw(self, columns: dict[str, list[Any]]) -> None:
        for project, device, point, at, value, quality, batch in zip(*columns.values(), strict=True):
            key = (project, device, point, at)
            old = self.raw.get(key)
            if old is None:
                self.raw[key] = Row(value, quality, batch)
            else:
                old.copies += 1
                if batch >= old.batch:
                    old.value, old.quality, old.batch = value, quality, batch
            newest = self.latest.get((project, device, point))
            if newest is None or at >= newest[0]:
                self.latest[project, device, point] = (at, value, quality)

    def high(self, project_id: int, agent_id: str, epoch: bytes) -> int:
        """The highest contiguous cursor written down."""
        row = self.tables["agent_cursor"].get((project_id, agent_id.encode(), epoch))
        return row["high"] if row else 0

    def holds(self, project_id: int, agent_id: str, epoch: bytes, sequence: int) -> bool:
        """Is a batch committed (accepted, or set aside)?"""
        return sequence in self.committed.get((project_id, agent_id, epoch), ())


class SimClickHouse:
    """`cloud.historian.client.ClickHouse`, as far as Writer asks, for one process."""

    def __init__(self, process: Process, engine: Engine) -> None:
        self._process, self._engine = process, engine
        self._random = process.world.chance(f"store:{process.name}")

    async def _trip(self, where: str) -> None:
        await self._process.point(where, self._random.uniform(0.002, 0.03))
        if self._engine.down:
            await asyncio.sleep(0.5)
            raise HistorianUnavailableError(problem="connection refused")

    async def insert(self, table: str, block: bytes, names: list[str], token: str) -> None:
        await self._trip(f"store.insert {table}")
        self._engine.insert(table, block, names, token)
        if self._process.world.faults and self._random.random() < 0.01:
            raise HistorianUnavailableError(problem="the answer was lost")
        await self._process.point(f"store.inserted {table}", self._random.uniform(0.001, 0.01))

    async def query(self, sql: str, parameters: dict[str, Any] | None = None, settings: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        await self._trip("store.query")
        p, tables = parameters or {}, self._engine.tables
        if "FROM heat.stream" in sql:
            return [(r["identity"].decode(), r["generation"]) for r in tables["stream"].values() if r["partition"] == p["p"]]
        if "max(ref) FROM heat.batch" in sql:
            return [(max((r["ref"] for r in tables["batch"].values() if p["a"] < r["ref"] < p["b"]), default=0),)]
        key = (p["p"], p["a"], bytes.fromhex(p["e"]))
        if "max(high) FROM heat.agent_cursor" in sql:
            return [(self._engine.high(*key),)]
        if "row_number() OVER" in sql:
            ranges: list[tuple[int, int]] = []
            for s in sorted(s for s in self._engine.committed.get(key, ()) if s > p["h"]):
                if ranges and ranges[-1][1] == s - 1:
                    ranges[-1] = (ranges[-1][0], s)
                else:
                    ranges.append((s, s))
            return list(ranges)
        if "FROM heat.gap" in sql:
            return [(r["first_seq"], r["last_seq"], r["seen"]) for r in tables["gap"].values()
                    if (r["project_id"], r["agent_id"].decode(), r["epoch"]) == key and not r["healed"]]
        raise AssertionError(f"this question is not played: {sql}")


class SimRecall:
    """What a project remembers after a restart (`cloud.runtime.host.HistorianRecall`)."""

    def __init__(self, client: SimClickHouse) -> None:
        self._client = client

    async def latest(self, project_id: int) -> list[Latest]:
        await self._client._trip("recall.latest")
        return [Latest(d, p, at, value, quality) for (project, d, p), (at, value, quality) in self._client._engine.latest.items() if project == project_id]

    async def alarms(self, project_id: int) -> list[LastAlarm]:
        await self._client._trip("recall.alarms")
        newest: dict[tuple[int, str], LastAlarm] = {}
        for r in self._client._engine.tables["alarm"].values():
            key = (r["device_id"], r["rule"].decode())
            if r["project_id"] == project_id and (key not in newest or r["raised"] > newest[key].raised_ms):
                newest[key] = LastAlarm(*key, r["raised"], r["cleared"], r["value"])
        return list(newest.values())


def reference_of(row: Row) -> int:
    """The batch reference of a raw row."""
    return FIRST_WINS - row.batch
