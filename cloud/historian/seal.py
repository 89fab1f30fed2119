"""Sealing: hours touched by new or late rows are rolled up from raw, days from hours. Idempotent: a newer `ver` replaces.

The watermark is `now - grace`; an hour touched again after it was sealed is sealed again (backfill re-seals its hours).
Must not know: who schedules it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud.historian.client import ClickHouse
from cloud.historian.schema import DATABASE

HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one pass did."""

    hours: int
    rows: int


class Sealer:
    """Runs the job."""

    def __init__(self, store: ClickHouse, timezone: str) -> None:
        self._store = store
        self._zone = timezone

    async def run(self, now_s: int, *, grace_s: int = 300, limit: int = 5000) -> Sealed:
        """Seal every (project, hour) that ended before now - grace and was touched since it was last sealed.

        Args:
            now_s: UTC seconds.
            grace_s: how long after its end an hour stays open for stragglers.
            limit: hours of projects in one pass; the rest waits for the next.
        """
        before = (now_s - grace_s) // HOUR_S * HOUR_S
        due = await self._store.query(
            f"SELECT t.project_id, toUnixTimestamp(t.hour) AS h, t.r FROM"
            f" (SELECT project_id, hour, max(ref) AS r FROM {DATABASE}.touched WHERE hour < toDateTime({{b:UInt32}}, 'UTC') GROUP BY project_id, hour) AS t LEFT JOIN"
            f" (SELECT project_id, hour, max(ref) AS s FROM {DATABASE}.sealed GROUP BY project_id, hour) AS d ON t.project_id = d.project_id AND t.hour = d.hour"
            " WHERE t.r > d.s ORDER BY h LIMIT {n:UInt32}",
            {"b": before, "n": limit})
        if not due:
            return Sealed(0, 0)
        hours = sorted({int(h) for _, h, _ in due})
        projects = sorted({int(p) for p, _, _ in due})
        pairs = ", ".join(f"({int(p)}, {int(h)})" for p, h, _ in due)
        refs = ", ".join(f"({int(p)}, {int(h)}, {int(r)})" for p, h, r in due)
        where = (f"project_id IN ({', '.join(map(str, projects))}) AND ts >= toDateTime64({hours[0]}, 3, 'UTC') AND ts < toDateTime64({hours[-1] + HOUR_S}, 3, 'UTC')"
                 f" AND (project_id, toUnixTimestamp(toStartOfHour(ts))) IN ({pairs})")
        ver = now_s << 20
        await self._store.command(
            f"INSERT INTO {DATABASE}.r1h SELECT project_id, device_id, point_id, toStartOfHour(ts) AS t, min(value), max(value), sum(value), argMin(value, ts), argMax(value, ts),"
            f" count(), countIf(quality IN (0, 6)), {ver} FROM {DATABASE}.raw FINAL WHERE quality != 2 AND isFinite(value) AND {where} GROUP BY project_id, device_id, point_id, t")
        rows = await self._store.query(f"SELECT count() FROM {DATABASE}.r1h WHERE ver = {ver}")
        await self._days(projects, hours, ver)
        await self._store.command(f"INSERT INTO {DATABASE}.sealed (project_id, hour, ref) SELECT x.1, toDateTime(x.2, 'UTC'), x.3 FROM (SELECT arrayJoin([{refs}]) AS x)")
        return Sealed(len(due), int(rows[0][0]))

    async def _days(self, projects: list[int], hours: list[int], ver: int) -> None:
        zone = self._zone
        days = ", ".join(str(h) for h in hours)
        await self._store.command(
            f"INSERT INTO {DATABASE}.r1d SELECT project_id, device_id, point_id, toDateTime(toStartOfDay(toTimeZone(t, '{zone}')), 'UTC') AS d, min(vmin), max(vmax), sum(vsum),"
            f" argMin(first, t), argMax(last, t), sum(cnt), sum(good), {ver} FROM {DATABASE}.r1h FINAL WHERE project_id IN ({', '.join(map(str, projects))})"
            f" AND toStartOfDay(toTimeZone(t, '{zone}')) IN (SELECT DISTINCT toStartOfDay(toDateTime(arrayJoin([{days}]), '{zone}')))"
            " GROUP BY project_id, device_id, point_id, d")
