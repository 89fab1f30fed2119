"""Network and flow records (8.3 g): connections, calls, sign-ins, with sizes, never payloads. Written in batches, kept 400 days.

A floor of 183 days is held in code: less is refused. Must not know: who reports, FastAPI.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from cloud.core.clock import now_ms
from cloud.core.retention import DAY_MS, network_days
from cloud.historian.client import ClickHouse
from cloud.historian.schema import DATABASE
from protos.errors import KangError

log = logging.getLogger("kang.flow")
KEEP_DAYS: Final = 400
_MOST = 50_000


class DayError(KangError):
    """Not a day."""

    code = "E-INPUT-DAY"
    zh = "“{day}”不是有效日期。请使用 YYYY-MM-DD。"
    en = "'{day}' is not a day. Write YYYY-MM-DD."


def statements(days: int = KEEP_DAYS) -> tuple[str, ...]:
    """The table, kept `days`.

    Raises:
        RetentionError: fewer than 183.
    """
    network_days(days)
    return (
        f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic",
        f"""CREATE TABLE IF NOT EXISTS {DATABASE}.flow (
            at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)), kind LowCardinality(String), zone LowCardinality(String), site String, address String, method String,
            result LowCardinality(String), bytes_in UInt64, bytes_out UInt64, messages UInt64, seconds Float64, detail String
        ) ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (site, at) TTL toDateTime(at) + INTERVAL {days} DAY""",
        f"ALTER TABLE {DATABASE}.flow MODIFY TTL toDateTime(at) + INTERVAL {days} DAY")


@dataclass(frozen=True, slots=True)
class Flow:
    """One record.

    Attributes:
        kind: connect, disconnect, call, auth, refused.
        zone: monitoring, platform, third-party.
        site: agent id, client id or account; "" when nobody is known.
        method: RPC or route template.
        result: ok, or the code of the refusal.
    """

    kind: str
    zone: str
    site: str
    address: str
    method: str
    result: str = "ok"
    bytes_in: int = 0
    bytes_out: int = 0
    messages: int = 0
    seconds: float = 0.0
    detail: str = ""
    at_ms: int = 0


class FlowLog:
    """Collects records and writes them every few seconds; when the historian is away the oldest go first, counted."""

    def __init__(self, store: ClickHouse, *, every_s: float = 3.0, days: int = KEEP_DAYS) -> None:
        self._store, self._every_s, self._days = store, every_s, network_days(days)
        self._waiting: deque[dict[str, Any]] = deque()
        self._ready = False
        self.dropped = 0
        self.written = 0

    def note(self, flow: Flow) -> None:
        """One record; returns at once."""
        if len(self._waiting) >= _MOST:
            self._waiting.popleft()
            self.dropped += 1
        row = asdict(flow)
        at = row.pop("at_ms") or now_ms()
        row["at"] = at / 1000
        row["detail"] = row["detail"][:200]
        self._waiting.append(row)

    async def run(self, look: Callable[[], None] | None = None) -> None:
        """Write until cancelled; `look` is asked before each write whether there is more to say."""
        while True:
            await asyncio.sleep(self._every_s)
            if look is not None:
                look()
            await self.flush()

    async def last(self) -> None:
        """At the end of a process: what waits is written if the historian answers at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self.flush()

    async def flush(self) -> None:
        """Write what waits; on failure it waits on."""
        if not self._waiting:
            return
        rows = list(self._waiting)
        before = self.dropped
        try:
            if not self._ready:
                for statement in statements(self._days):
                    await self._store.command(statement)
                self._ready = True
            block = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
            await self._store.run(lambda c: c.raw_insert(f"{DATABASE}.flow", insert_block=block, fmt="JSONEachRow", settings={"date_time_input_format": "best_effort"}))
        except KangError as error:
            log.warning("%d flow records wait: %s", len(rows), error.code)
            return
        for _ in range(len(rows) - (self.dropped - before)):  # what was dropped meanwhile was written, too
            self._waiting.popleft()
        self.dropped = before
        self.written += len(rows)


class FlowRetention:
    """Deletes records past their retention: whole months at once; what is left of a month goes with the table's own expiry.

    Raises:
        RetentionError: fewer than 183 days.
    """

    def __init__(self, store: ClickHouse, days: int, now: Callable[[], int] = now_ms) -> None:
        self._store, self.days, self._now = store, network_days(days), now

    async def run_once(self) -> int:
        """Delete what is due; returns how many records.

        Raises:
            KangError: the historian is away.
        """
        *table, expiry = statements(self.days)
        for statement in table:
            await self._store.command(statement)
        before = (self._now() - self.days * DAY_MS) // 1000
        parts = await self._store.query(
            "SELECT partition, sum(rows) FROM system.parts WHERE database = {d:String} AND table = 'flow' AND active"
            " GROUP BY partition HAVING addMonths(toDate(concat(partition, '01'), 'UTC'), 1) <= toDate(toDateTime({b:Int64}, 'UTC'))", {"d": DATABASE, "b": before})
        for partition, _ in parts:
            if not re.fullmatch(r"\d{6}", str(partition)):
                raise ValueError(f"not a month: {partition}")
            await self._store.command(f"ALTER TABLE {DATABASE}.flow DROP PARTITION ID '{partition}'")
        await self._store.command(expiry)
        await self._store.command(f"ALTER TABLE {DATABASE}.flow MATERIALIZE TTL")
        return sum(int(rows) for _, rows in parts)


class FlowReader:
    """Searches the records."""

    def __init__(self, store: ClickHouse, *, days: int = KEEP_DAYS) -> None:
        self._store, self._days = store, network_days(days)
        self._ready = False

    async def search(self, day: str, timezone: str, *, site: str = "", kind: str = "", limit: int = 500) -> list[dict[str, Any]]:
        """Records of one local day, newest first.

        Raises:
            DayError: `day` is no date.
        """
        try:
            start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=ZoneInfo(timezone))
            since, until = int(start.timestamp() * 1000), int((start + timedelta(days=1)).timestamp() * 1000)
        except (ValueError, OverflowError):
            raise DayError(day=re.sub(r"[^0-9-]", "", day)) from None
        if not self._ready:
            for statement in statements(self._days):
                await self._store.command(statement)
            self._ready = True
        rows = await self._store.query(
            f"SELECT toUnixTimestamp64Milli(at), kind, zone, site, address, method, result, bytes_in, bytes_out, messages, seconds, detail FROM {DATABASE}.flow"
            " WHERE at >= fromUnixTimestamp64Milli({s:Int64}) AND at < fromUnixTimestamp64Milli({u:Int64}) AND ({n:String} = '' OR site = {n:String} OR address = {n:String})"
            " AND ({k:String} = '' OR kind = {k:String}) ORDER BY at DESC LIMIT {l:UInt32}", {"s": since, "u": until, "n": site, "k": kind, "l": limit})
        names = ("at_ms", "kind", "zone", "site", "address", "method", "result", "bytes_in", "bytes_out", "messages", "seconds", "detail")
        return [dict(zip(names, row, strict=True)) for row in rows]
