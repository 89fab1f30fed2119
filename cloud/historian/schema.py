"""Tables of the historian and why they look as they do. Idempotent: run at every start.

- `raw` is never overwritten: of two rows with one key the first arrival wins (ReplacingMergeTree keeps the largest `batch`, which is
  2^63 - reference, so earlier arrivals are larger). Charts read without FINAL where doubles do no harm, sealing and bills with it.
- Rollups are sealed by a job (`cloud.historian.seal`), not by views: 1/29 of the cost at insert.
- A token window guards replays; the row key guards what the window cannot.
Must not know: who writes.
"""

from __future__ import annotations

from collections.abc import Callable

DATABASE = "heat"
_WINDOW = "non_replicated_deduplication_window = 10000"
_SAFE = f"SETTINGS {_WINDOW}, fsync_after_insert = 1, fsync_part_directory = 1"
#: Reference of a batch: generation << 51 | partition << 40 | stream sequence (12, 11 and 40 bits). Stored as FIRST_WINS - reference.
FIRST_WINS = 1 << 63

STATEMENTS: tuple[str, ...] = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.raw (
        project_id UInt32 CODEC(ZSTD(1)), device_id UInt32 CODEC(Delta, ZSTD(1)), point_id UInt16 CODEC(Delta, ZSTD(1)),
        ts DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)), value Float64 CODEC(Delta, ZSTD(3)), quality UInt8 CODEC(ZSTD(1)),
        batch UInt64 CODEC(Delta, ZSTD(3))
    ) ENGINE = ReplacingMergeTree(batch) PARTITION BY toYYYYMM(ts) ORDER BY (project_id, device_id, point_id, ts)
    TTL toDateTime(ts) + INTERVAL 4 YEAR {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.latest (
        project_id UInt32, device_id UInt32, point_id UInt16, ts DateTime64(3, 'UTC'), value Float64, quality UInt8
    ) ENGINE = ReplacingMergeTree(ts) ORDER BY (project_id, device_id, point_id) SETTINGS {_WINDOW}""",
    f"""CREATE MATERIALIZED VIEW IF NOT EXISTS {DATABASE}.latest_of_raw TO {DATABASE}.latest AS
        SELECT project_id, device_id, point_id, max(r.ts) AS ts, argMax(r.value, r.ts) AS value, argMax(r.quality, r.ts) AS quality
        FROM {DATABASE}.raw AS r GROUP BY project_id, device_id, point_id""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.batch (
        ref UInt64, stream FixedString(16), project_id UInt32, agent_id LowCardinality(String), epoch FixedString(16), agent_seq UInt64,
        received DateTime64(3, 'UTC'), origin UInt8, clock_state UInt8, rows UInt32, first_ts DateTime64(3, 'UTC'), last_ts DateTime64(3, 'UTC'), bytes UInt32
    ) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(received) ORDER BY (project_id, agent_id, epoch, agent_seq, ref) {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.agent_cursor (project_id UInt32, agent_id String, epoch FixedString(16), high UInt64)
    ENGINE = ReplacingMergeTree(high) ORDER BY (project_id, agent_id, epoch) {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.stream (partition UInt32, identity FixedString(16), generation UInt32, first_seen DateTime64(3, 'UTC'))
    ENGINE = ReplacingMergeTree(generation) ORDER BY (partition, identity) {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.quarantine (
        id UUID, project_id UInt32, agent_id String, reason LowCardinality(String), detail String, rows UInt32, received DateTime64(3, 'UTC'),
        payload String CODEC(ZSTD(1)), state LowCardinality(String), actor String, ver UInt64
    ) ENGINE = ReplacingMergeTree(ver) ORDER BY id {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.alarm (
        id UUID, project_id UInt32, device_id UInt32, point_id UInt16, rule String, severity LowCardinality(String), zh String, en String,
        raised DateTime64(3, 'UTC'), cleared DateTime64(3, 'UTC'), value Float64, threshold Float64, ver UInt64
    ) ENGINE = ReplacingMergeTree(ver) ORDER BY (project_id, id) {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.gap (
        project_id UInt32, agent_id String, epoch FixedString(16), first_seq UInt64, last_seq UInt64, seen DateTime64(3, 'UTC'), healed DateTime64(3, 'UTC'), ver UInt64
    ) ENGINE = ReplacingMergeTree(ver) ORDER BY (project_id, agent_id, epoch, first_seq) {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.touched (project_id UInt32, hour DateTime('UTC'), ref UInt64, at DateTime('UTC') DEFAULT now())
    ENGINE = ReplacingMergeTree(ref) ORDER BY (project_id, hour) TTL at + INTERVAL 60 DAY {_SAFE}""",
    f"""CREATE TABLE IF NOT EXISTS {DATABASE}.sealed (project_id UInt32, hour DateTime('UTC'), ref UInt64, at DateTime('UTC') DEFAULT now())
    ENGINE = ReplacingMergeTree(ref) ORDER BY (project_id, hour) {_SAFE}""",
    *(f"""CREATE TABLE IF NOT EXISTS {DATABASE}.{name} (
        project_id UInt32 CODEC(ZSTD(1)), device_id UInt32 CODEC(Delta, ZSTD(1)), point_id UInt16 CODEC(Delta, ZSTD(1)), t DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
        vmin Float64 CODEC(Delta, ZSTD(1)), vmax Float64 CODEC(Delta, ZSTD(1)), vsum Float64 CODEC(Delta, ZSTD(1)),
        first Float64 CODEC(Delta, ZSTD(1)), last Float64 CODEC(Delta, ZSTD(1)), cnt UInt32 CODEC(T64, ZSTD(1)), good UInt32 CODEC(T64, ZSTD(1)), ver UInt64 CODEC(Delta, ZSTD(1))
    ) ENGINE = ReplacingMergeTree(ver) PARTITION BY {part}(t) ORDER BY (project_id, device_id, point_id, t) {_SAFE}"""
      for name, part in (("r1h", "toYYYYMM"), ("r1d", "toYear"))),
)


def create(command: Callable[[str], object]) -> None:
    """Create what is missing; `command` runs one statement."""
    for statement in STATEMENTS:
        command(statement)
