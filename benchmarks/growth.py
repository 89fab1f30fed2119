"""The growth curve: 10 to 10,000 logical projects on one host, 15 s sampling, one batch per agent and cycle; and the losing way, one Ray actor per project.

At this size messages are the limit, not readings. Per step: messages per second carried, processor and memory per project, p99 of a command while it runs.
Projects are made-up agents that seal with production code (`benchmarks.rig.source`); one real agent takes the commands. Must not know: the road's inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import SETPOINT, sign_in
from benchmarks.commands import one as one_command
from benchmarks.data import meter, workload
from benchmarks.report import QUICK, Report, quantile
from benchmarks.rig.build import RigAgent, rig
from benchmarks.rig.source import Source, sources
from benchmarks.stack import Stack
from cloud.bus.connection import connect
from cloud.bus.streams import STREAM_BYTES, ensure_stream
from cloud.historian.client import ClickHouse
from cloud.installation import prepare
from cloud.ledger import open_ledger
from protos import subjects

SIZES = (10, 100, 1_000) if QUICK else (10, 100, 1_000, 10_000)
ACTORS = (10,) if QUICK else (10, 50)
CYCLE_S = 15.0
CYCLES = 2
COMMANDS = 100 if QUICK else 200
ONLY = ("nats", "store", "audit", "control", "gateway", "ray", "runtime", "portal")
PLATFORM = ("nats", "store", "audit", "control", "gateway", "portal", "host", "ray", "runtime")


def measure(report: Report, home: Path) -> None:
    """The curve, then the losing baseline, with the curve's own figures beside it."""
    per_project: dict[int, float] = {}
    for size in SIZES:
        found = _step(home / f"shared-{size}", size, dedicated=False)
        per_project[size] = found["host_mb"] / size
        _report(report, f"growth.{size}", found, size)
    if 10_000 not in SIZES:
        report.add("growth.10000", 0, "", note="left out of the smaller run (QUICK=1)")
    for size in ACTORS:
        found = _step(home / f"actors-{size}", size, dedicated=True)
        _report(report, f"growth.actor_per_project.{size}", found, size, goals=False)
        if size in per_project:
            report.add(f"growth.actor_per_project.{size}.memory_over_shared", found["host_mb"] / size / per_project[size], "x", note="the losing way: a Ray actor for every project")
    if 50 not in ACTORS:
        report.add("growth.actor_per_project.50", 0, "", note="left out of the smaller run (QUICK=1)")


def _report(report: Report, name: str, found: dict[str, float], size: int, *, goals: bool = True) -> None:
    report.add(f"{name}.messages_per_s", found["messages"] / found["seconds"], "1/s", at_least=0.95 * found["offered"] / found["seconds"] if goals else None, note=f"{size} projects, committed against offered")
    report.add(f"{name}.host_cpu_per_project", found["cpu_host"] / found["seconds"] / size * 1e3, "millicores")
    report.add(f"{name}.platform_cpu", found["cpu_platform"] / found["seconds"], "cores", note=", ".join(f"{k} {found[f'cpu_{k}'] / found['seconds']:.2f}" for k in PLATFORM if f"cpu_{k}" in found))
    report.add(f"{name}.host_memory", found["host_mb"], "MB PSS")
    report.add(f"{name}.platform_memory", found["platform_mb"], "MB PSS")
    report.add(f"{name}.first_contact", found["first_contact_s"], "s", note="from the first batch of every project to the last of these committed")
    if "command_p99" in found:
        report.add(f"{name}.command_p99", found["command_p99"], "s", at_most=2.0 if goals else None, note=f"click to verified; p50 {found['command_p50']:.3f}")
        report.add(f"{name}.command_received_p99", found["received_p99"], "s", at_most=10.0 if goals else None, note="clause 9.3: 10 s")


def _step(home: Path, size: int, *, dedicated: bool) -> dict[str, float]:
    stack = Stack(home, only=ONLY, hosts=1, heartbeat_s=5)
    agent = rig(stack.settings, "hand", devices=5, uplink="grpc", linger_s=5, poll_s=5)
    ledger = open_ledger(stack.settings.effective_ledger_url)
    made = sources(stack.settings, ledger, size, devices=2 if size > 1000 else 5, prefix="g", dedicated=dedicated)
    ledger.close()
    prepare(stack.settings)
    with stack:
        for child in agent.children(ledger=False):
            stack.supervisor.start(child)
        return asyncio.run(_run(stack, made, agent))


async def _run(stack: Stack, made: list[Source], agent: RigAgent) -> dict[str, float]:
    settings = stack.settings
    client = await connect(settings.effective_nats_url, settings.credentials, "growth")
    js = client.jetstream(publish_async_max_pending=2000)
    for partition in sorted({s.partition for s in made}):
        await ensure_stream(js, subjects.telemetry_stream(partition), f"tel.{partition:03d}.>", max_bytes=STREAM_BYTES)
    acked: set[int] = set()
    counts = {"acks": 0}

    async def on_ack(message: Any) -> None:
        counts["acks"] += 1
        acked.add(int(message.subject.split(".")[1]))

    await client.subscribe("down.*.*.ack", cb=on_ack)
    store = ClickHouse(settings, threads=1)
    mine = {s.project_id for s in made}
    await _publish(js, made, int(time.time() * 1000), over_s=0)
    started = time.monotonic()
    while not mine <= acked:
        if time.monotonic() - started > 600:
            raise TimeoutError(f"{len(mine - acked)} of {len(made)} projects were not committed after {time.monotonic() - started:.0f} s")
        await asyncio.sleep(0.1)
    first_contact = time.monotonic() - started
    roots = [stack.supervisor.pid(c.name) for c in stack.supervisor.children()]
    await asyncio.sleep(2)
    before, rows_before, began = meter.cpu(roots), await _rows(store, made), time.monotonic()
    feeding = asyncio.create_task(_feed(js, made))
    commands = asyncio.create_task(_commands(stack, agent))
    with contextlib.suppress(asyncio.CancelledError):
        await feeding
    used, seconds = meter.spent(before, meter.cpu(roots)), time.monotonic() - began
    rows = 0
    for _ in range(75):
        rows = await _rows(store, made) - rows_before
        if rows >= CYCLES * len(made):
            break
        await asyncio.sleep(0.2)
    found = {"messages": float(rows), "offered": float(CYCLES * len(made)), "seconds": seconds, "first_contact_s": first_contact, **await commands}
    memory = meter.pss_bytes(roots)
    store.close()
    await client.close()
    for stage in PLATFORM:
        found[f"cpu_{stage}"] = used.get(stage, 0.0)
    found["cpu_platform"] = sum(used.get(s, 0.0) for s in PLATFORM)
    found["host_mb"] = memory.get("host", 0) / 2**20
    found["platform_mb"] = sum(memory.get(s, 0) for s in PLATFORM) / 2**20
    return found


async def _rows(store: ClickHouse, made: Sequence[Source]) -> int:
    low, high = min(s.project_id for s in made), max(s.project_id for s in made)
    return int((await store.query(f"SELECT count() FROM heat.batch WHERE project_id BETWEEN {low} AND {high}"))[0][0])


async def _feed(js: Any, made: list[Source]) -> None:
    for _ in range(CYCLES):
        began = time.monotonic()
        await _publish(js, made, int(time.time() * 1000), over_s=CYCLE_S - 1)
        await asyncio.sleep(max(0.0, CYCLE_S - (time.monotonic() - began)))


async def _publish(js: Any, made: list[Source], at_ms: int, *, over_s: float) -> None:
    """One batch of every project, spread evenly over some seconds."""
    began, waiting = time.monotonic(), list[Any]()
    at_ms = at_ms // workload.GRID_MS * workload.GRID_MS
    order = random.Random(at_ms).sample(made, len(made))
    for k, source in enumerate(order):
        sweep = workload.sweeps(source.devices, 1, start_ms=at_ms, seed=source.project_id)
        waiting.append(await js.publish_async(source.subject, source.seal(list(workload.readings(sweep)))))
        ahead = over_s * k / len(made) - (time.monotonic() - began)
        if ahead > 0.002:
            await asyncio.sleep(ahead)
        elif k % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)


async def _commands(stack: Stack, agent: RigAgent) -> dict[str, float]:
    """Commands through the page's API while the feed runs."""
    times, received, rng = list[float](), list[float](), random.Random(3)
    async with sign_in(stack) as client:
        deadline = time.monotonic() + 60
        while not any(a["online"] and a["devices_online"] == len(agent.devices) for a in (await client.get("/agents")).json()):
            if time.monotonic() > deadline:
                raise TimeoutError("the agent that takes commands did not come online")
            await asyncio.sleep(0.2)
        until = time.monotonic() + CYCLE_S * CYCLES
        for k in range(COMMANDS):
            took, steps, state = await one_command(client, rng.choice(agent.devices), (k % 11_000 + 100) / 100)
            if state == "verified":
                times.append(took)
                received.append(steps.get("received", took))
            if time.monotonic() > until:
                break
    assert times, f"no command on point {SETPOINT} was verified"
    return {"command_p50": quantile(times, 0.5), "command_p99": quantile(times, 0.99), "received_p99": quantile(received, 0.99), "commands": float(len(times))}
