"""The edge of the road: real agents without devices, whose spools are filled first and drained on "go".

`python -m benchmarks.data.edge --batch 500 --sweeps N --start-ms T --seed S SITE...` prints one line of JSON when the spools are full, reads "go", prints the acknowledged
readings over time when everything was committed, and ends on end of input or at the next "fill T". Must not know: the platform.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.data import workload
from edge_agent import logs
from edge_agent.agent import Agent
from edge_agent.config import load_credentials, load_site
from edge_agent.uplink.link import Link


def fill(agent: Agent, made: workload.Sweeps, batch: int) -> dict[str, float]:
    """Seal everything into the spool with the production code; returns processor seconds and bytes."""
    rows = list(workload.readings(made))
    used, started = time.process_time(), time.perf_counter()
    for k in range(0, len(rows), batch):
        part = rows[k:k + batch]
        taken = agent.spool.append(part, now_ms=int(time.time() * 1000), boot_id=agent.boot_id, monotonic_ms=agent.mono_ms())
        assert taken == len(part), "the spool is full"
    return {"rows": len(rows), "cpu_s": time.process_time() - used, "wall_s": time.perf_counter() - started, "bytes": agent.spool.stored_bytes, "batches": agent.spool.batches}


def _hold(link: Link, line: asyncio.Event) -> None:
    """Nothing is sent before everybody is connected: the clock measures the road, not the handshakes."""
    due = link.due
    link.due = lambda limit=32: due(limit) if line.is_set() else []  # type: ignore[method-assign]


async def drain(agents: list[Agent], *, patience_s: float) -> list[tuple[float, int]]:
    """Run the agents until every spool is empty; returns (seconds since all were connected, readings acknowledged) as it grew."""
    total = sum(a.spool.readings for a in agents)
    line = asyncio.Event()
    for agent in agents:
        _hold(agent.link, line)
    tasks = [asyncio.create_task(a.run()) for a in agents]
    curve: list[tuple[float, int]] = []
    started = time.perf_counter()
    try:
        while not all(a.link.up for a in agents) and time.perf_counter() - started < 60:  # noqa: ASYNC110  a link has no event for it
            await asyncio.sleep(0.01)
        started = time.perf_counter()
        line.set()
        for agent in agents:
            agent.link.wake.set()
        while not curve or curve[-1][1] < total:
            await asyncio.sleep(0.02)
            acked = total - sum(a.spool.readings for a in agents)
            if not curve or acked > curve[-1][1]:
                curve.append((time.perf_counter() - started, acked))
            failed = [t for t in tasks if t.done()]
            for task in failed:
                task.result()
            if time.perf_counter() - started > patience_s:
                raise TimeoutError(f"{total - acked} of {total} readings were not committed in {patience_s:.0f} s")
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return curve


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--sweeps", type=int, required=True)
    parser.add_argument("--start-ms", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--patience-s", type=float, default=180)
    parser.add_argument("sites", type=Path, nargs="+")
    args = parser.parse_args()
    logs.configure("ERROR")
    asyncio.run(_main(args))


async def _main(args: argparse.Namespace) -> None:
    agents, made = [], list[dict[str, Any]]()
    for k, file in enumerate(args.sites):
        site = load_site(file)
        agents.append(Agent(site, load_credentials(site.credentials_dir), units=lambda _site: {}))
        made.append(fill(agents[-1], workload.sweeps(list(site.devices), args.sweeps, start_ms=args.start_ms, seed=args.seed * 1000 + k), args.batch))
    print(json.dumps({key: sum(m[key] for m in made) for key in made[0]}), flush=True)
    if not await asyncio.to_thread(sys.stdin.readline):
        return  # whoever started us is gone
    used = time.process_time()
    curve = await drain(agents, patience_s=args.patience_s)
    print(json.dumps({"curve": curve, "cpu_s": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
