"""What it weighs: the whole demo in memory, the platform's idle and busy processors, and the agent: disk, memory, processor, start.

Must not know: throughput.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.data import meter
from benchmarks.data.cut import rewire
from benchmarks.report import QUICK, Report
from benchmarks.rig.build import rig
from benchmarks.stack import Stack, free_ports
from cloud.core.settings import load
from cloud.core.supervision import Child, port_open
from cloud.historian.client import ClickHouse
from cloud.installation import prepare

PLATFORM = ("nats", "store", "control", "gateway", "portal", "ray", "runtime", "host", "other")
WATCH_S = 20.0 if QUICK else 60.0
SETTLE_S = 20.0 if QUICK else 60.0


def measure(report: Report, home: Path) -> None:
    """All of it."""
    _idle(report, home / "idle")
    _demo(report, home / "demo")
    _install(report)
    _agent(report, home / "agent")


def _share(roots: list[int], seconds: float) -> dict[str, float]:
    """Cores used, by stage, over some seconds."""
    before, began = meter.cpu(roots), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {name: used / took for name, used in meter.spent(before, meter.cpu(roots)).items()}


def _note(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share * 100:.1f} %" for name, share in sorted(shares.items(), key=lambda i: -i[1]) if share > 0.001)


def _idle(report: Report, home: Path) -> None:
    with Stack(home) as stack:
        time.sleep(SETTLE_S)
        roots = [stack.supervisor.pid(c.name) for c in stack.supervisor.children()]
        shares = _share(roots, WATCH_S)
        memory = meter.pss_bytes(roots)
    report.add("footprint.platform_idle_cpu", sum(shares.values()) * 100, "% of a core", at_most=15, note=_note(shares))
    report.add("footprint.platform_idle_memory", sum(memory.values()) / 2**20, "MB PSS", note=", ".join(f"{k} {v >> 20}" for k, v in sorted(memory.items(), key=lambda i: -i[1])))


def _port_base() -> int:
    """Forty ports in a row for the plants, none of them taken."""
    for base in range(16_000, 19_000, 100):
        if not any(port_open(base + k) for k in range(40)):
            return base
    raise RuntimeError("no forty free ports in a row")


def _demo(report: Report, home: Path) -> None:
    portal, gateway, nats, store, ray = free_ports(5)
    load(home, portal_port=portal, gateway_port=gateway, nats_port=nats, store_port=store, ray_port=ray).save()
    with (home / "demo.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.data.demo", str(_port_base()), str(home), "--days", "0.25"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while "http://localhost" not in (home / "demo.log").read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the demo did not come up: {(home / 'demo.log').read_text(errors='replace')[-300:]}")
            time.sleep(0.5)
        time.sleep(SETTLE_S)
        roots = [c.pid for c in psutil.Process(process.pid).children()] + [process.pid]
        shares = _share(roots, WATCH_S)
        memory = meter.pss_bytes(roots)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(20)
    platform = {name: share for name, share in shares.items() if name in PLATFORM}
    report.add("footprint.demo_memory", sum(memory.values()) / 2**20, "MB PSS", at_most=2560, note=", ".join(f"{k} {v >> 20}" for k, v in sorted(memory.items(), key=lambda i: -i[1])))
    report.add("footprint.platform_cpu_with_plants", sum(platform.values()) * 100, "% of a core", at_most=60, note=_note(platform))
    report.add("footprint.plants_and_agents_cpu", (sum(shares.values()) - sum(platform.values())) * 100, "% of a core", note=_note({k: v for k, v in shares.items() if k not in PLATFORM}))


def closure(extra: str) -> set[str]:
    """Distributions that `kang[extra]` brings, by walking requirements of what is installed here."""
    found: set[str] = set()
    import tomllib

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [r for r in (*project["dependencies"], *extras["contract"], *extras["edge"], *extras[extra]) if not r.startswith("kang")]
    while waiting:
        line = waiting.pop()
        if "extra ==" in line or ("implementation_name ==" in line and "cpython" not in line.lower()):
            continue
        name = re.split(r"[\s;<>=!\[(~]", line, maxsplit=1)[0].lower().replace("_", "-")
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a marker of another platform
        found.add(name)
        waiting += distribution.requires or []
    return found


def installed_bytes(names: set[str]) -> int:
    """Size on disk of distributions, without compiled caches."""
    total = 0
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or []:
            path = Path(str(distribution.locate_file(file)))
            if "__pycache__" not in path.parts and path.is_file():
                total += path.stat().st_size
    return total


def _install(report: Report) -> None:
    own = sum(f.stat().st_size for folder in ("edge_agent", "protos") for f in Path(folder).rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    for extra in ("edge-nats", "edge-grpc"):
        names = closure(extra)
        sizes = sorted(((installed_bytes({n}) / 1e6, n) for n in names), reverse=True)
        report.add(f"footprint.agent_install_{extra}", own / 1e6 + sum(s for s, _ in sizes), "MB", at_most=60, note="largest: " + ", ".join(f"{n} {s:.1f}" for s, n in sizes[:4]))


def _agent(report: Report, home: Path) -> None:
    """A thousand points a second from a hundred devices over Modbus TCP, and how fast the agent starts."""
    stack = Stack(home, only=("nats", "store", "control", "gateway", "ray", "runtime"), hosts=1, heartbeat_s=5)
    agents = {uplink: rig(stack.settings, uplink, uplink=uplink, devices=100, poll_s=1.0, linger_s=5.0) for uplink in ("nats", "grpc")}
    prepare(stack.settings)
    with stack:
        for uplink, agent in agents.items():
            port = free_ports(1)[0]
            rewire(agent, port, None)
            stack.supervisor.start(Child(f"field-{uplink}", [sys.executable, "-m", "benchmarks.rig.field", "--port", str(port), "--devices", "100", "--log", str(agent.field_log)],
                                         functools.partial(port_open, port)))
            starts = [_start(agent.site_file) for _ in range(3)]
            report.add(f"footprint.agent_start_{uplink}", median(starts), "s", at_most=2.0, note="process to its first log line, everything loaded and opened; median of 3")
            child = Child(f"agent-{uplink}", [sys.executable, "-m", "edge_agent.cli", "run", "--site", str(agent.site_file), "--log-level", "WARNING"])
            stack.supervisor.start(child)
            time.sleep(SETTLE_S / 2)
            process = psutil.Process(stack.supervisor.pid(child.name))
            before, began = process.cpu_times(), time.monotonic()
            first = int(time.time() * 1000)
            time.sleep(WATCH_S)
            after, took, last = process.cpu_times(), time.monotonic() - began, int(time.time() * 1000)
            time.sleep(8)  # the last readings are on their way
            readings = asyncio.run(_committed(stack, agent.project_id, first, last)) / took
            report.add(f"footprint.agent_points_{uplink}", readings, "readings/s", at_least=950, note="committed in the historian, of the seconds watched")
            share = (after.user + after.system - before.user - before.system) / took
            report.add(f"footprint.agent_cpu_{uplink}", share * 100, "% of a core", at_most=25, note="100 Modbus devices, 10 points each, every second")
            report.add(f"footprint.agent_rss_{uplink}", process.memory_info().rss / 2**20, "MB", at_most=80)
            stack.stop(child.name)
            stack.stop(f"field-{uplink}")


async def _committed(stack: Stack, project: int, first_ms: int, last_ms: int) -> int:
    store = ClickHouse(stack.settings, threads=1)
    rows = await store.query(f"SELECT uniqExact(device_id, point_id, ts) FROM heat.raw WHERE project_id = {project} AND toUnixTimestamp64Milli(ts) >= {first_ms}"
                             f" AND toUnixTimestamp64Milli(ts) < {last_ms}")
    store.close()
    return int(rows[0][0])


def _start(site: Path) -> float:
    """Seconds from starting the process to its line "agent starts"."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "--site", str(site)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "agent starts" in line:
                return time.perf_counter() - started
        raise RuntimeError("the agent ended before it started")
    finally:
        process.terminate()
        process.wait(20)
