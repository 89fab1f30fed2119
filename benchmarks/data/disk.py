"""Rows 4, 7 and 9: bytes on disk, the sealing job against views that do the same at insert, and the store's HTTP door against the engine in process.

Must not know: JetStream, agents.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.data import workload
from benchmarks.data.bare import Bare, blocks
from benchmarks.peers.packages import PeerMissingError
from benchmarks.peers.victoria import Victoria
from benchmarks.report import QUICK, Report
from benchmarks.stack import Stack
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.historian.seal import Sealer
from cloud.historian.writer import RAW

ROUNDS = 4
PROJECTS, DEVICES = 8, 25
SWEEPS = 1250 if QUICK else 5000
HOUR_SWEEPS = 240
HOUR_DEVICES = 150 if QUICK else 1250


def measure(report: Report, home: Path) -> None:
    """All three."""
    _bytes(report, home)
    _views(report, home)
    _door(report, home)


def _parts(count: int, devices: int, seed: int) -> list[dict[str, object]]:
    return [{"project": k + 1, "devices": list(range(1 + k * devices, 1 + (k + 1) * devices)), "seed": seed * 1000 + k} for k in range(count)]


def _bytes(report: Report, home: Path) -> None:
    start = workload.month_start_ms()
    with Bare(home / "bytes") as bare:
        bare.ask("insert", parts=_parts(PROJECTS, DEVICES, 1), sweeps=SWEEPS, start_ms=start, batch=1000, rows=50_000)
        create_like = ("project_id UInt32 CODEC(ZSTD(1)), device_id UInt32 CODEC(Delta, ZSTD(1)), point_id UInt16 CODEC(Delta, ZSTD(1)), ts DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),"
                       " value Float64 CODEC({codec}), quality UInt8 CODEC(ZSTD(1)), batch UInt64 CODEC(Delta, ZSTD(1))")
        sizes = {}
        for name, codec in (("gorilla", "Gorilla, ZSTD(1)"), ("alp", "ALP, ZSTD(1)"), ("delta6", "Delta, ZSTD(6)")):
            try:
                bare.sql(f"CREATE TABLE heat.{name} ({create_like.format(codec=codec)}) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (project_id, device_id, point_id, ts)"
                         + (" SETTINGS allow_experimental_codecs = 1, enable_alp_codec = 1" if name == "alp" else ""))
                bare.sql(f"INSERT INTO heat.{name} SELECT * FROM heat.raw")
            except RuntimeError as error:
                report.add(f"data.4.{name}_refused", 0, "", note=str(error)[:120])
        for table in ("raw", "gorilla", "alp", "delta6"):
            try:
                bare.sql(f"OPTIMIZE TABLE heat.{table} FINAL")
            except RuntimeError:
                continue
            told = bare.sql(f"SELECT sum(bytes_on_disk) / sum(rows), sum(rows) FROM system.parts WHERE database = 'heat' AND table = '{table}' AND active").split()
            sizes[table] = float(told[0])
        columns = bare.sql("SELECT column, round(sum(column_data_compressed_bytes) / sum(rows), 3) AS b FROM system.parts_columns WHERE database = 'heat' AND table = 'raw' AND active"
                           " GROUP BY column ORDER BY b DESC").replace("\t", " ").replace("\n", ", ").rstrip(", ")
    report.add("data.4.bytes_per_reading", sizes["raw"], "B", at_most=1.05, note=f"stretch 0.8; {columns}")
    for name in ("gorilla", "alp", "delta6"):
        if name in sizes:
            report.add(f"data.4.bytes_per_reading_{name}", sizes[name], "B", note="the same rows, other codec of the value")
    if "gorilla" in sizes:
        report.add("data.4.over_gorilla", sizes["raw"] / sizes["gorilla"], "x", at_most=0.6)
    folder = Path(tempfile.mkdtemp(prefix="kang-peers-"))
    try:
        with Victoria(folder / "vm") as victoria:
            made = [workload.sweeps(p["devices"], SWEEPS, start_ms=start, seed=p["seed"]) for p in _parts(PROJECTS, DEVICES, 1)]  # type: ignore[arg-type]
            rows, _ = victoria.load(made, 10_000)
            report.add("data.4.victoriametrics_bytes_per_reading", victoria.bytes_on_disk() / rows, "B")
            report.add("data.4.over_victoriametrics", sizes["raw"] / (victoria.bytes_on_disk() / rows), "x", at_most=2.5)
    except (PeerMissingError, TimeoutError, RuntimeError, OSError) as error:
        report.missing("data.4.over_victoriametrics", str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_VIEW = ("CREATE MATERIALIZED VIEW heat.mv_{t} TO heat.v_{t} AS SELECT project_id, device_id, point_id, {f}(ts) AS t, min(value) AS vmin, max(value) AS vmax, sum(value) AS vsum,"
         " argMin(value, r.ts) AS first, argMax(value, r.ts) AS last, count() AS cnt FROM heat.raw AS r GROUP BY project_id, device_id, point_id, t")


def _views(report: Report, home: Path) -> None:
    """One hour of one project, inserted with and without views for hour and day; then the job that seals the same hour."""
    start = workload.month_start_ms() // 3_600_000 * 3_600_000
    part = {"project": 1, "devices": list(range(1, HOUR_DEVICES + 1)), "seed": 7}
    bare_s, with_s, job_s = list[float](), list[float](), list[float]()
    with Stack(home / "views", only=("store",)) as stack, Bare(home / "plainviews") as bare:
        for t in ("r1h", "r1d"):
            bare.sql(f"CREATE TABLE heat.v_{t} (project_id UInt32, device_id UInt32, point_id UInt16, t DateTime('UTC'), vmin Float64, vmax Float64, vsum Float64, first Float64, last Float64, cnt UInt64)"
                     " ENGINE = MergeTree ORDER BY (project_id, device_id, point_id, t)")
        for number in range(ROUNDS):
            at = start + number * 3_600_000
            bare_s.append(bare.ask("insert", parts=[part], sweeps=HOUR_SWEEPS, start_ms=at, batch=10_000, rows=10_000)["wall_s"])
            for t, f in (("r1h", "toStartOfHour"), ("r1d", "toStartOfDay")):
                bare.sql(_VIEW.format(t=t, f=f))
            with_s.append(bare.ask("insert", parts=[part], sweeps=HOUR_SWEEPS, start_ms=at + 100 * 3_600_000, batch=10_000, rows=10_000)["wall_s"])
            for t in ("r1h", "r1d"):
                bare.sql(f"DROP VIEW heat.mv_{t}")
            job_s.append(asyncio.run(_seal(stack, part, at)))
    report.add("data.7.insert_of_an_hour", median(bare_s), "s", note=f"{HOUR_SWEEPS} sweeps of {HOUR_DEVICES * 8} series")
    report.add("data.7.views_add", median(b - a for a, b in zip(bare_s, with_s, strict=True)), "s")
    report.add("data.7.sealing_job", median(job_s), "s", note="by the production job, over HTTP, the day included")
    report.add("data.7.job_over_views", median(j / max(1e-9, b - a) for j, a, b in zip(job_s, bare_s, with_s, strict=True)), "x", at_most=0.05)


async def _seal(stack: Stack, part: dict[str, object], at: int) -> float:
    store = ClickHouse(stack.settings, threads=1)
    await store.wait()
    await store.run(lambda c: create(c.command))
    made = workload.sweeps(part["devices"], HOUR_SWEEPS, start_ms=at, seed=7)  # type: ignore[arg-type]
    for k, (_, block) in enumerate(blocks([(1, made)], batch=10_000, rows=50_000)):
        await store.insert("heat.raw", block, RAW, f"seal:{at}:{k}")
    await store.command(f"INSERT INTO heat.touched (project_id, hour, ref) VALUES (1, {at // 1000}, {at})")
    started = time.perf_counter()
    done = await Sealer(store, stack.settings.timezone).run(at // 1000 + 7200)
    took = time.perf_counter() - started
    store.close()
    assert done.hours == 1, "nothing was sealed"
    return took


def _door(report: Report, home: Path) -> None:
    """The store process over HTTP against the engine called in process."""
    over, small = list[float](), list[float]()
    start = workload.month_start_ms()
    with Stack(home / "door", only=("store",)) as stack, Bare(home / "inside") as bare:
        for number in range(ROUNDS):
            at = start + number * 100 * 15_000
            inside = bare.ask("insert", parts=_parts(PROJECTS, DEVICES, number), sweeps=250, start_ms=at, batch=1000, rows=50_000)["wall_s"]
            outside, queries = asyncio.run(_outside(stack, number, at))
            over.append(outside / inside)
            bare.sql("SELECT 1")
            mine = [bare.ask("sql", sql="SELECT max(value) FROM heat.raw WHERE project_id = 1 AND device_id = 3 AND point_id = 1")["wall_s"] for _ in range(50)]
            small.append(median(queries) / median(mine))
    report.add("data.9.http_over_in_process_insert", median(over), "x", at_most=1.5, note="50,000 rows a block, token, latest view, fsync")
    report.add("data.9.http_over_in_process_query", median(small), "x", at_most=1.4, note="small query through clickhouse-connect")


async def _outside(stack: Stack, number: int, at: int) -> tuple[float, list[float]]:
    store = ClickHouse(stack.settings, threads=1)
    await store.wait()
    await store.run(lambda c: create(c.command))
    made = blocks([(int(p["project"]), workload.sweeps(p["devices"], 250, start_ms=at, seed=p["seed"])) for p in _parts(PROJECTS, DEVICES, number)],  # type: ignore[call-overload,arg-type]
                  batch=1000, rows=50_000, first_sequence=number * 1000 + 1)
    started = time.perf_counter()
    for k, (_, block) in enumerate(made):
        await store.insert("heat.raw", block, RAW, f"door:{number}:{k}")
    took = time.perf_counter() - started
    sql, times = "SELECT max(value) FROM heat.raw WHERE project_id = 1 AND device_id = 3 AND point_id = 1", list[float]()
    for _ in range(50):
        began = time.perf_counter()
        await store.query(sql)
        times.append(time.perf_counter() - began)
    store.close()
    return took, times
