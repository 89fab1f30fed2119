"""Rows 1, 2, 3, 11, 12: the durable road against the bare engine, against itself without Ray and without syncing, and against three peers.

Round r runs every engine once, so that a noisy minute hits all of them; figures are medians of ratios taken within a round. Must not know: how an engine works.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.data import meter, workload
from benchmarks.data.bare import Bare
from benchmarks.data.road import AGENTS, DEVICES, Road, Run, span_ms, sweeps_for
from benchmarks.peers.engine import Peer
from benchmarks.peers.influx import Influx
from benchmarks.peers.packages import PeerMissingError
from benchmarks.peers.postgres import Postgres
from benchmarks.peers.victoria import Victoria
from benchmarks.report import QUICK, Report

ROUNDS = 4
#: Enough that the last flush, which lingers for more that never comes, does not decide the rate.
READINGS = 1_600_000 if QUICK else 4_000_000
BLOCK = 50_000
#: How much of the readings each peer is given, so that all take about as long; rates are per second.
PEERS: tuple[tuple[type[Any], float], ...] = ((Victoria, 1.0), (Influx, 0.5), (Postgres, 0.2))


def measure(report: Report, home: Path) -> None:
    """All rounds, then the figures."""
    rates: dict[str, list[float]] = defaultdict(list)
    runs: dict[str, list[Run]] = defaultdict(list)
    sweeps = sweeps_for(READINGS)
    peers_home = Path(tempfile.mkdtemp(prefix="kang-peers-"))
    peers_home.chmod(0o755)  # PostgreSQL runs as another user
    try:
        with contextlib.ExitStack() as stack:
            bare = stack.enter_context(Bare(home / "bare"))
            roads = {"ray": stack.enter_context(Road(home / "ray", with_ray=True)), "plain": stack.enter_context(Road(home / "plain", with_ray=False)),
                     "relaxed": stack.enter_context(Road(home / "relaxed", with_ray=False, sync=False))}
            peers = list(_peers(report, stack, peers_home))
            start = workload.month_start_ms()
            _warm_up(roads, start, sweeps_for(100_000))
            start += span_ms(sweeps_for(100_000))
            for number in range(ROUNDS):
                for name, batch in (("ray", 500), ("ray", 5000), ("plain", 500), ("plain", 5000), ("relaxed", 500)):
                    seed = number * 10 + (batch == 5000)
                    run = roads[name].fill(sweeps=sweeps, batch=batch, start_ms=start + (batch == 5000) * span_ms(sweeps), seed=seed).drain()
                    runs[f"{name}_{batch}"].append(run)
                    rates[f"{name}_{batch}"].append(run.rate)
                for batch, rows in ((500, BLOCK), (5000, BLOCK), (500, 2 * BLOCK)):
                    # Times of its own: the same block twice would be no insert.
                    told = bare.ask("insert", parts=roads["plain"].parts(number * 10 + batch), sweeps=sweeps, start_ms=start, batch=batch, rows=rows)
                    rates[f"bare_{batch}" if rows == BLOCK else "bare_100k"].append(told["rows"] / told["wall_s"])
                for peer, share in peers:
                    made = _made(sweeps, share, number)
                    rows, took = peer.load(made, 10_000)
                    rates[peer.name].append(rows / took)
                start += 2 * span_ms(sweeps)
                print(f"  round {number + 1}: " + ", ".join(f"{name} {found[-1] / 1e3:,.0f}k/s" for name, found in rates.items()), file=sys.stderr, flush=True)
            memory = meter.pss_bytes(roads["ray"].roots)
            _disk(report, roads["ray"])
    finally:
        shutil.rmtree(peers_home, ignore_errors=True)
    _figures(report, rates, runs, memory)


def _peers(report: Report, stack: contextlib.ExitStack, home: Path) -> Any:
    for make, share in PEERS:
        try:
            peer: Peer = stack.enter_context(make(home / make.name))
        except (PeerMissingError, TimeoutError, RuntimeError, OSError) as error:
            report.missing(f"peer.{make.name}", str(error))
        else:
            yield peer, share


def _made(sweeps: int, share: float, number: int) -> list[workload.Sweeps]:
    count = max(1, round(sweeps * share))
    start = workload.month_start_ms() + number * span_ms(sweeps)
    return [workload.sweeps(range(1 + k * DEVICES, 1 + (k + 1) * DEVICES), count, start_ms=start, seed=number * 1000 + k) for k in range(AGENTS)]


def _warm_up(roads: dict[str, Road], start: int, sweeps: int) -> None:
    for road in roads.values():
        road.fill(sweeps=sweeps, batch=500, start_ms=start, seed=999).drain()


def _ratio(rates: dict[str, list[float]], over: str, under: str) -> float:
    return median(a / b for a, b in zip(rates[over], rates[under], strict=True))


def _disk(report: Report, road: Road) -> None:
    """Bytes per reading of what the road wrote, merged."""
    import asyncio

    from cloud.historian.client import ClickHouse

    async def ask() -> list[tuple[Any, ...]]:
        store = ClickHouse(road.stack.settings, threads=1)
        await store.command("OPTIMIZE TABLE heat.raw FINAL")
        found = await store.query("SELECT column, sum(column_data_compressed_bytes) / sum(rows) FROM system.parts_columns WHERE database = 'heat' AND table = 'raw' AND active GROUP BY column")
        whole = await store.query("SELECT sum(bytes_on_disk) / sum(rows), sum(rows) FROM system.parts WHERE database = 'heat' AND table = 'raw' AND active")
        store.close()
        return [*found, ("all", *whole[0])]

    rows = asyncio.run(ask())
    columns = ", ".join(f"{name} {float(size):.3f}" for name, size in sorted(rows[:-1], key=lambda r: -float(r[1])))
    report.add("data.4.road_bytes_per_reading", float(rows[-1][1]), "B", at_most=1.05, note=f"stretch 0.8; by column: {columns}")


def bottleneck(run: Run) -> str:
    """Names what a run waited for, from its own figures."""
    parts = sorted(run.cpu.items(), key=lambda item: -item[1])
    busy = sum(run.cpu.values()) / run.wall_s
    name, most = parts[0]
    shares = ", ".join(f"{stage} {seconds / run.wall_s:.0%}" for stage, seconds in parts[:4])
    if busy >= 1.7:
        return f"the two cores are full; most is {name} ({shares})"
    if most / run.wall_s >= 0.8:
        return f"{name} fills one core ({shares})"
    return f"waiting for each other (windows, commits, other load of the machine): {busy:.2f} cores busy, most {name} ({shares})"


def _figures(report: Report, rates: dict[str, list[float]], runs: dict[str, list[Run]], memory: dict[str, int]) -> None:
    for name, found in rates.items():
        report.add(f"data.rate.{name}", median(found), "readings/s", note=f"rounds {', '.join(f'{x / 1e3:,.0f}k' for x in found)}")
    report.add("data.1.ray_over_bare_500", _ratio(rates, "ray_500", "bare_500"), "x", at_least=0.35)
    report.add("data.1.ray_over_bare_5000", _ratio(rates, "ray_5000", "bare_5000"), "x", at_least=0.5)
    report.add("data.1.plain_over_bare_500", _ratio(rates, "plain_500", "bare_500"), "x")
    report.add("data.1.plain_over_bare_5000", _ratio(rates, "plain_5000", "bare_5000"), "x")
    if Victoria.name in rates:
        report.add("data.2.plain_over_victoriametrics", _ratio(rates, "plain_500", Victoria.name), "x", at_least=0.55)
        report.add("data.2.ray_5000_over_victoriametrics", _ratio(rates, "ray_5000", Victoria.name), "x")
        report.add("data.2.bare_100k_over_victoriametrics", _ratio(rates, "bare_100k", Victoria.name), "x", at_least=1.5)
    if Postgres.name in rates:
        report.add("data.3.ray_over_ts_kv", _ratio(rates, "ray_500", Postgres.name), "x", at_least=6.0)
        report.add("data.3.ray_5000_over_ts_kv", _ratio(rates, "ray_5000", Postgres.name), "x", at_least=6.0, note="like batches: ts_kv is given 10,000 readings a statement")
        report.add("data.3.plain_over_ts_kv", _ratio(rates, "plain_500", Postgres.name), "x", at_least=8.0)
    if Influx.name in rates:
        report.add("data.3.plain_over_influxdb", _ratio(rates, "plain_500", Influx.name), "x", at_least=2.0)
    report.add("data.11.sync_always_over_default", _ratio(rates, "plain_500", "relaxed_500"), "x", at_least=0.6)
    report.add("data.12.ray_over_plain_500", _ratio(rates, "ray_500", "plain_500"), "x", at_least=0.75)
    report.add("data.12.ray_over_plain_5000", _ratio(rates, "ray_5000", "plain_5000"), "x", at_least=0.75)
    for batch in (500, 5000):
        chosen = runs[f"ray_{batch}"]
        for stage in ("edge", "nats", "host", "store", "gateway", "ray", "runtime"):
            report.add(f"data.cpu.{batch}.{stage}", median(r.cpu.get(stage, 0.0) / r.rows * 1e6 for r in chosen), "us/reading")
        report.add(f"data.cpu.{batch}.edge_seal", median(r.seal_cpu_s / r.rows * 1e6 for r in chosen), "us/reading", note="encode, sign, chain, store in the spool; before the clock starts")
        report.add(f"data.bottleneck.{batch}", max(sum(r.cpu.values()) / r.wall_s for r in chosen), "cores busy", note=bottleneck(sorted(chosen, key=lambda r: r.rate)[len(chosen) // 2]))
    report.add("data.memory.ingest_stack", sum(memory.values()) / 2**20, "MB PSS", note=", ".join(f"{k} {v / 2**20:.0f}" for k, v in sorted(memory.items(), key=lambda i: -i[1])))
