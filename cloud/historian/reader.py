"""Telemetry queries: last values, history at a resolution that fits the range, alarms, quarantine. Implements `core.ports.Historian`.

Raw answers and rollups are never mixed in one series without saying so: the open end of a rolled-up range is filled from raw.
Must not know: HTTP, who asks.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cloud.core.ports import Latest, Series
from cloud.historian.client import ClickHouse
from cloud.historian.schema import DATABASE
from cloud.historian.writer import QUARANTINE, QuarantineRow, quarantine_block
from protos.errors import KangError

RESOLUTIONS = (0, 60, 900, 3600, 86400)
MAX_RANGE_MS = 40 * 366 * 86_400_000
Release = Callable[[QuarantineRow, int], Awaitable[int]]


class RangeError(KangError):
    """A query's range or size makes no sense."""

    code = "E-RANGE"
    zh = "查询范围无效：{problem}。请选择结束晚于开始、测点不超过 {limit} 个的范围。"
    en = "The range makes no sense: {problem}. Choose an end after the start and at most {limit} points."


class QuarantineError(KangError):
    """The quarantined item is gone or was decided already."""

    code = "E-QUARANTINE"
    zh = "隔离记录 {id} {problem}。请刷新列表。"
    en = "Quarantine record {id} {problem}. Refresh the list."


class Reader:
    """Reads the historian."""

    LIMIT = 200

    def __init__(self, store: ClickHouse, timezone: str = "Asia/Shanghai", release: Release | None = None) -> None:
        self._store = store
        self._zone = timezone
        self._release = release

    async def latest(self, project_id: int, device_ids: Sequence[int] | None = None) -> list[Latest]:
        """Newest stored value of every point of a project, or of some devices."""
        only = " AND device_id IN {d:Array(UInt32)}" if device_ids is not None else ""
        rows = await self._store.query(
            f"SELECT device_id, point_id, toUnixTimestamp64Milli(max(l.ts)), argMax(l.value, l.ts), argMax(l.quality, l.ts) FROM {DATABASE}.latest AS l"
            f" WHERE project_id = {{p:UInt32}}{only} GROUP BY device_id, point_id", {"p": project_id, "d": list(device_ids or [])})
        return [Latest(int(d), int(p), int(t), float(v), int(q)) for d, p, t, v, q in rows]

    async def history(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, *, resolution_s: int | None = None,
                      max_points: int = 2000) -> list[Series]:
        """History of points over [start, end).

        Args:
            project_id: the project.
            series: (device_id, point_id) pairs, at most 200.
            start_ms: UTC milliseconds.
            end_ms: UTC milliseconds.
            resolution_s: 0 (raw), 60, 900, 3600, 86400; None picks the finest that stays within `max_points`.
            max_points: per series.

        Raises:
            RangeError: reversed, absurdly long, too many series or an unknown resolution.
        """
        if not start_ms < end_ms or end_ms - start_ms > MAX_RANGE_MS or not 0 < len(series) <= self.LIMIT or abs(start_ms) > 1 << 50:
            raise RangeError(problem=f"{start_ms}..{end_ms}, {len(series)} points", limit=self.LIMIT)
        chosen = await self._choose(project_id, series, start_ms, end_ms, max_points) if resolution_s is None else resolution_s
        if chosen not in RESOLUTIONS:
            raise RangeError(problem=f"resolution {chosen} s", limit=self.LIMIT)
        if chosen in (3600, 86400):
            found = await self._rolled(project_id, series, start_ms, end_ms, chosen)
        else:
            found = await self._from_raw(project_id, series, start_ms, end_ms, chosen)
        return [found.get(key) or Series(key[0], key[1], chosen, [], [], [], [], [], []) for key in series]

    async def _choose(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, max_points: int) -> int:
        span_s = (end_ms - start_ms) / 1000
        if span_s <= 86_400 * 2:
            rows = await self._store.query(
                f"SELECT max(n) FROM (SELECT count() AS n FROM {DATABASE}.raw WHERE project_id = {{p:UInt32}} AND (device_id, point_id) IN {{s:Array(Tuple(UInt32, UInt16))}}"
                " AND ts >= fromUnixTimestamp64Milli({a:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({b:Int64}, 'UTC') GROUP BY device_id, point_id)",
                {"p": project_id, "s": [tuple(k) for k in series], "a": start_ms, "b": end_ms})
            if int(rows[0][0] or 0) <= max_points:
                return 0
        return next((r for r in RESOLUTIONS[1:] if span_s / r <= max_points), 86400)

    async def _from_raw(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, step_s: int) -> dict[tuple[int, int], Series]:
        where = ("project_id = {p:UInt32} AND (device_id, point_id) IN {s:Array(Tuple(UInt32, UInt16))}"
                 " AND ts >= fromUnixTimestamp64Milli({a:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({b:Int64}, 'UTC')")
        parameters: dict[str, Any] = {"p": project_id, "s": [tuple(k) for k in series], "a": start_ms, "b": end_ms}
        if step_s == 0:
            sql = (f"SELECT device_id, point_id, toUnixTimestamp64Milli(r.ts) AS t, argMax(r.value, r.batch) AS v, v, v, 1, argMax(r.quality, r.batch) FROM {DATABASE}.raw AS r"
                   f" WHERE {where} GROUP BY device_id, point_id, r.ts ORDER BY device_id, point_id, t")
        else:
            sql = (f"SELECT device_id, point_id, intDiv(toUnixTimestamp64Milli(r.ts), {step_s * 1000}) * {step_s * 1000} AS t, avg(r.value), min(r.value), max(r.value), count(), max(r.quality)"
                   f" FROM {DATABASE}.raw AS r WHERE {where} AND isFinite(r.value) GROUP BY device_id, point_id, t ORDER BY device_id, point_id, t")
        return _group(await self._store.query(sql, parameters), step_s)

    async def _rolled(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, step_s: int) -> dict[tuple[int, int], Series]:
        table = "r1h" if step_s == 3600 else "r1d"
        parameters: dict[str, Any] = {"p": project_id, "s": [tuple(k) for k in series], "a": start_ms // 1000 - step_s + 1, "b": math.ceil(end_ms / 1000)}
        rows = await self._store.query(
            f"SELECT device_id, point_id, toUnixTimestamp(r.t) * 1000 AS at, r.vsum / r.cnt, r.vmin, r.vmax, r.cnt, if(r.good = r.cnt, 0, 1) FROM {DATABASE}.{table} AS r FINAL"
            " WHERE project_id = {p:UInt32} AND (device_id, point_id) IN {s:Array(Tuple(UInt32, UInt16))} AND r.t >= toDateTime({a:Int64}, 'UTC') AND r.t < toDateTime({b:Int64}, 'UTC')"
            " ORDER BY device_id, point_id, at", parameters)
        found = _group(rows, step_s)
        # The newest hours are not sealed yet: fill the open end from raw.
        last = max((s.at_ms[-1] for s in found.values()), default=start_ms - step_s * 1000)
        tail_start = max(start_ms, last + step_s * 1000, end_ms - 3 * 86_400_000)
        if tail_start < end_ms:
            bucket = f"intDiv(toUnixTimestamp64Milli(r.ts), {step_s * 1000}) * {step_s * 1000}" if step_s == 3600 else \
                f"toUnixTimestamp(toStartOfDay(toTimeZone(r.ts, '{self._zone}'))) * 1000"
            tail = _group(await self._store.query(
                f"SELECT device_id, point_id, {bucket} AS t, avg(r.value), min(r.value), max(r.value), count(), max(r.quality) FROM {DATABASE}.raw AS r"
                " WHERE project_id = {p:UInt32} AND (device_id, point_id) IN {s:Array(Tuple(UInt32, UInt16))} AND ts >= fromUnixTimestamp64Milli({a:Int64}, 'UTC')"
                " AND ts < fromUnixTimestamp64Milli({b:Int64}, 'UTC') AND isFinite(r.value) GROUP BY device_id, point_id, t ORDER BY device_id, point_id, t",
                {**parameters, "a": tail_start, "b": end_ms}), step_s)
            for key, extra in tail.items():
                head = found.get(key)
                if head is None:
                    found[key] = extra
                else:
                    for name in ("at_ms", "mean", "low", "high", "count", "quality"):
                        getattr(head, name).extend(getattr(extra, name))
        return found

    async def alarms(self, *, project_id: int | None = None, active: bool | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        """Alarms, newest first."""
        conditions = ["1"]
        if project_id is not None:
            conditions.append("project_id = {p:UInt32}")
        if active is not None:
            conditions.append("toUnixTimestamp64Milli(a.cleared) = 0" if active else "toUnixTimestamp64Milli(a.cleared) > 0")
        if before_ms is not None:
            conditions.append("a.raised < fromUnixTimestamp64Milli({b:Int64}, 'UTC')")
        rows = await self._store.query(
            f"SELECT toString(a.id), project_id, device_id, point_id, rule, severity, zh, en, toUnixTimestamp64Milli(a.raised) AS r, toUnixTimestamp64Milli(a.cleared), value, threshold"
            f" FROM {DATABASE}.alarm AS a FINAL WHERE {' AND '.join(conditions)} ORDER BY r DESC LIMIT {{n:UInt32}}",
            {"p": project_id or 0, "b": before_ms or 0, "n": max(1, min(limit, 10_000))})
        names = ("id", "project_id", "device_id", "point_id", "rule", "severity", "zh", "en", "raised_ms", "cleared_ms", "value", "limit")
        return [{**dict(zip(names, row, strict=True)), "cleared_ms": row[9] or None} for row in rows]

    async def quarantine(self, *, project_id: int | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        """What was set aside, newest first."""
        conditions = ["1"]
        if project_id is not None:
            conditions.append("project_id = {p:UInt32}")
        if before_ms is not None:
            conditions.append("q.received < fromUnixTimestamp64Milli({b:Int64}, 'UTC')")
        rows = await self._store.query(
            f"SELECT toString(q.id), project_id, agent_id, reason, detail, rows, toUnixTimestamp64Milli(q.received) AS r, state, actor FROM {DATABASE}.quarantine AS q FINAL"
            f" WHERE {' AND '.join(conditions)} ORDER BY r DESC LIMIT {{n:UInt32}}", {"p": project_id or 0, "b": before_ms or 0, "n": max(1, min(limit, 10_000))})
        names = ("id", "project_id", "agent_id", "reason", "detail", "rows", "received_ms", "state", "actor")
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def release(self, quarantine_id: str, *, offset_ms: int, actor: str) -> int:
        """Put a held batch on the road again, its timestamps shifted by `offset_ms`; returns its rows.

        Raises:
            QuarantineError: unknown, decided already, or not releasable.
        """
        row = await self._held(quarantine_id)
        if self._release is None:
            raise QuarantineError(id=quarantine_id, problem="cannot be released here / 此处无法放行")
        count = await self._release(row, offset_ms)
        await self._decide(row, "released", actor)
        return count

    async def discard(self, quarantine_id: str, *, actor: str) -> None:
        """Mark a held batch as discarded; its bytes stay.

        Raises:
            QuarantineError: unknown or decided already.
        """
        await self._decide(await self._held(quarantine_id), "discarded", actor)

    async def _held(self, quarantine_id: str) -> QuarantineRow:
        try:
            wanted = uuid.UUID(quarantine_id)
        except ValueError:
            raise QuarantineError(id=quarantine_id, problem="does not exist / 不存在") from None
        rows = await self._store.query(
            f"SELECT project_id, agent_id, reason, detail, rows, toUnixTimestamp64Milli(q.received), hex(payload), state FROM {DATABASE}.quarantine AS q FINAL WHERE id = {{i:UUID}}", {"i": str(wanted)})
        if not rows:
            raise QuarantineError(id=quarantine_id, problem="does not exist / 不存在")
        project, agent, reason, detail, count, received, payload, state = rows[0]
        if state != "held":
            raise QuarantineError(id=quarantine_id, problem=f"was already {state} / 已处理")
        return QuarantineRow(wanted, project, agent, reason, detail, count, received, bytes.fromhex(payload))

    async def _decide(self, row: QuarantineRow, state: str, actor: str) -> None:
        decided = QuarantineRow(row.id, row.project_id, row.agent_id, row.reason, row.detail, row.rows, row.received_ms, row.payload, state, actor)
        await self._store.insert(f"{DATABASE}.quarantine", quarantine_block([decided]), QUARANTINE, f"{row.id}:{state}")


def _group(rows: list[tuple[Any, ...]], step_s: int) -> dict[tuple[int, int], Series]:
    found: dict[tuple[int, int], Series] = {}
    for device, point, at, mean, low, high, count, quality in rows:
        key = (int(device), int(point))
        series = found.get(key)
        if series is None:
            series = found[key] = Series(key[0], key[1], step_s, [], [], [], [], [], [])
        series.at_ms.append(int(at))
        series.mean.append(float(mean))
        series.low.append(float(low))
        series.high.append(float(high))
        series.count.append(int(count))
        series.quality.append(int(quality))
    return found
