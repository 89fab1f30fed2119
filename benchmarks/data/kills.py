"""Row 10: kill -9 of host, nats and store in turn while the road runs full; then the books must agree.

Lost, doubled and wrong readings, the rollup against the raw rows, and how long each kill stopped the acknowledgements. Must not know: recovery's code.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.data import meter, workload
from benchmarks.data.road import Road, span_ms, sweeps_for
from benchmarks.report import QUICK, Report
from cloud.historian.client import ClickHouse
from cloud.historian.seal import Sealer

KILLS = 6 if QUICK else 12
READINGS = 400_000
PAUSE_S = 3.0


def measure(report: Report, home: Path) -> None:
    """One campaign."""
    start, sweeps, expected, made = workload.month_start_ms(), sweeps_for(READINGS), 0, 0.0
    pauses: list[tuple[str, float]] = []
    with Road(home / "road", with_ray=True) as road:
        road.fill(sweeps=sweeps_for(100_000), batch=500, start_ms=start, seed=1).drain()
        expected += _rows(road, sweeps_for(100_000))
        made += _sum(road, sweeps_for(100_000), start, 1)
        start += span_ms(sweeps_for(100_000))
        whom = itertools.cycle(("host", "nats", "store"))
        number = 2
        while len(pauses) < KILLS:
            # A fill for every kill: the road must be full when it is struck.
            filled = road.fill(sweeps=sweeps, batch=500, start_ms=start, seed=number, patience_s=120)
            victim = next(whom)
            struck = threading.Timer(0.6, _kill, (road, victim))
            before = meter.cpu(road.roots)
            struck.start()
            filled.go()
            run = filled.finish(before)
            pauses.append((victim, run.longest_pause_s))
            expected += run.rows
            made += _sum(road, sweeps, start, number)
            start, number = start + span_ms(sweeps), number + 1
        told = asyncio.run(_books(road))
    report.add("data.10.kills", len(pauses), "kill -9", at_least=12, note="host, nats, store in turn, at full rate" + (" (QUICK: half of them)" if QUICK else ""))
    report.add("data.10.lost", expected - told["unique"], "readings", at_most=0, note=f"of {expected:,}")
    report.add("data.10.doubled", told["rows"] - told["unique"], "readings", at_most=0)
    report.add("data.10.sum_off", abs(told["sum"] - made) / max(1.0, abs(made)), "relative", at_most=1e-9, note="sum of all values against what was made")
    report.add("data.10.rollup_off", abs(told["rollup_sum"] - told["sum"]) / max(1.0, abs(told["sum"])), "relative", at_most=1e-9, note="hourly rollup against raw")
    report.add("data.10.rollup_count_off", abs(told["rollup_count"] - told["unique"]), "readings", at_most=0)
    for victim in ("host", "nats", "store"):
        mine = [p for v, p in pauses if v == victim]
        if mine:
            report.add(f"data.10.pause_{victim}", max(mine), "s", at_most=3.0, note="longest silence of acknowledgements in a run with one kill")


def _rows(road: Road, sweeps: int) -> int:
    return sweeps * sum(len(a.devices) for a in road.agents) * len(workload.POINTS)


def _sum(road: Road, sweeps: int, start: int, seed: int) -> float:
    return float(sum(workload.sweeps(list(a.devices), sweeps, start_ms=start, seed=seed * 1000 + k).value.sum() for k, a in enumerate(road.agents)))


def _kill(road: Road, victim: str) -> None:
    if victim != "host":
        road.stack.kill(victim)
        return
    for process in meter.tree(road.roots):
        with contextlib.suppress(Exception):
            if meter.stage(process) == "host":
                os.kill(process.pid, signal.SIGKILL)


async def _books(road: Road) -> dict[str, Any]:
    store = ClickHouse(road.stack.settings, threads=1)
    sealer, passes = Sealer(store, road.stack.settings.timezone), 0
    while (await sealer.run(int(time.time()) + passes)).hours:  # the runtime's own sealer works beside us; another second, another version
        passes += 1
    raw = (await store.query("SELECT count(), uniqExact(project_id, device_id, point_id, ts), sum(value) FROM heat.raw"))[0]
    rollup = (await store.query("SELECT sum(vsum), sum(cnt) FROM heat.r1h FINAL"))[0]
    store.close()
    return {"rows": int(raw[0]), "unique": int(raw[1]), "sum": float(raw[2]), "rollup_sum": float(rollup[0]), "rollup_count": int(rollup[1])}
