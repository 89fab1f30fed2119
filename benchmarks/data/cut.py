"""A cut uplink: one agent loses the platform for minutes, its twin reads the same field uncut. Live data come back first, then the backlog, and the hourly rollups agree.

The cut is made in a proxy on the way, so that nothing else of the platform is touched. Must not know: spools, sessions.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import QUICK, Report
from benchmarks.rig.build import RigAgent, rig
from benchmarks.stack import Stack, free_ports
from cloud.core.supervision import Child, port_open
from cloud.historian.client import ClickHouse
from cloud.historian.seal import Sealer
from cloud.installation import prepare

CUT_S = 60.0 if QUICK else 600.0
DEVICES = 17  # 10 points each 2 s: 85 readings a second, 51,000 in ten minutes
PERIOD_S = 2


class Proxy:
    """A TCP relay that can be cut."""

    def __init__(self, target: int) -> None:
        self.port = free_ports(1)[0]
        self._target, self._open = target, True
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Break what stands, refuse what comes."""
        self._open = False
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections pass again."""
        self._open = True

    async def close(self) -> None:
        """End."""
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, onward}
        await asyncio.gather(self._copy(reader, onward), self._copy(there, writer))
        self._writers -= {writer, onward}

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            writer.transport.abort()


def rewire(agent: RigAgent, field_port: int, gateway_port: int | None) -> None:
    """Let an agent read a given field, and reach the gateway through the proxy."""
    site = yaml.safe_load(agent.site_file.read_text())
    site["channels"][0]["port"] = field_port
    if gateway_port is not None:
        site["uplink"]["address"] = f"127.0.0.1:{gateway_port}"
    agent.site_file.write_text(yaml.safe_dump(site, sort_keys=False))


def measure(report: Report, home: Path) -> None:
    """One cut."""
    stack = Stack(home, only=("nats", "store", "control", "gateway", "ray", "runtime"), hosts=1, heartbeat_s=2)
    cut, whole = (rig(stack.settings, name, devices=DEVICES, poll_s=PERIOD_S, linger_s=1.0) for name in ("cut", "whole"))
    prepare(stack.settings)
    with stack:
        port = free_ports(1)[0]
        stack.supervisor.start(Child("field", [sys.executable, "-m", "benchmarks.data.steady", "--port", str(port), "--devices", str(DEVICES), "--log", str(home / "field.jsonl")],
                                     lambda: port_open(port)))
        asyncio.run(_measure(report, stack, cut, whole, port))


async def _measure(report: Report, stack: Stack, cut: RigAgent, whole: RigAgent, field_port: int) -> None:
    proxy = Proxy(stack.settings.gateway_port)
    await proxy.start()
    rewire(cut, field_port, proxy.port)
    rewire(whole, field_port, None)
    for agent in (cut, whole):
        stack.supervisor.start(agent.children(ledger=False)[1])
    store = ClickHouse(stack.settings, threads=1)
    await store.wait()
    await _until(lambda: _both(store, cut, whole), 90, "first readings of both agents")
    await asyncio.sleep(5)
    proxy.cut()
    cut_ms = int(time.time() * 1000)
    await asyncio.sleep(CUT_S)
    spooled = await _count(store, whole.project_id, cut_ms)
    mended_ms = int(time.time() * 1000)
    proxy.mend()
    live_s = drained_s = connected_s = 0.0
    began = time.monotonic()
    while not drained_s:
        await asyncio.sleep(0.05)
        now = time.monotonic() - began
        if now > 240:
            raise TimeoutError("the backlog did not drain in 240 s")
        got = await _count(store, cut.project_id, cut_ms, mended_ms)
        if not live_s and await _count(store, cut.project_id, mended_ms - 3000) > 0:
            live_s = now
        if not connected_s and (got > 0 or live_s):
            connected_s = now
        if got >= spooled:
            drained_s = now
    order = [int(r[0]) for r in await store.query(f"SELECT agent_seq FROM heat.batch WHERE project_id = {cut.project_id} AND toUnixTimestamp64Milli(received) >= {mended_ms} AND rows > 0 ORDER BY ref")]
    agree, hours, compared, off = await _rollups(stack, store, cut, whole)
    store.close()
    await proxy.close()
    note = f"cut for {CUT_S:.0f} s; {spooled:,} readings spooled"
    report.add("cut.spooled", float(spooled), "readings", at_least=None if QUICK else 50_000, note=note)
    report.add("cut.live_resumes", live_s, "s", note="after the link came back, reconnecting included")
    report.add("cut.live_before_backlog", float(order[0] > min(order)), "", at_least=1,
               note=f"the first batch after the cut was number {order[0]}; the backlog began at {min(order)}")
    report.add("cut.drain", drained_s - connected_s, "s", note=f"from the first reading that came; link back to drained {drained_s:.1f} s")
    report.add("cut.drain_over_real_time", CUT_S / max(0.05, drained_s - connected_s), "x", at_least=20)
    report.add("cut.rollup_rows_compared", float(compared), "", at_least=1, note=f"{hours} hours sealed; {off}")
    report.add("cut.rollups_equal_uncut", agree, "of all", at_least=1.0, note="min, max, sum, first, last, count of every point and hour against the twin that was not cut")


async def _until(condition: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {seconds:.0f} s")
        await asyncio.sleep(0.2)


async def _count(store: ClickHouse, project: int, first_ms: int, last_ms: int = 1 << 42) -> int:
    sql = f"SELECT uniqExact(device_id, point_id, ts) FROM heat.raw WHERE project_id = {project} AND toUnixTimestamp64Milli(ts) >= {first_ms} AND toUnixTimestamp64Milli(ts) < {last_ms}"
    try:
        return int((await store.query(sql))[0][0])
    except Exception:  # noqa: BLE001  the tables are made by the runtime, which starts beside us
        return 0


async def _both(store: ClickHouse, cut: RigAgent, whole: RigAgent) -> bool:
    return await _count(store, cut.project_id, 0) > 0 and await _count(store, whole.project_id, 0) > 0


async def _rollups(stack: Stack, store: ClickHouse, cut: RigAgent, whole: RigAgent) -> tuple[float, int, int, str]:
    """End both agents, keep of each only instants both were alive for, seal, compare row by row."""
    for agent in (cut, whole):
        stack.stop(f"agent-{agent.agent_id}")
    await asyncio.sleep(4)
    edges = await store.query(f"SELECT project_id, toUnixTimestamp64Milli(min(ts)), toUnixTimestamp64Milli(max(ts)) FROM heat.raw WHERE project_id IN ({cut.project_id}, {whole.project_id}) GROUP BY project_id")
    first, last = max(int(e[1]) for e in edges) + 3000, min(int(e[2]) for e in edges) - 3000
    # Start and end of the two agents differ by seconds: those seconds are not what is compared. The platform never deletes; a benchmark's own store may.
    await store.command(f"DELETE FROM heat.raw WHERE toUnixTimestamp64Milli(ts) < {first} OR toUnixTimestamp64Milli(ts) > {last}")
    sealer, hours = Sealer(store, stack.settings.timezone), 0
    await store.command(f"INSERT INTO heat.touched (project_id, hour, ref) SELECT DISTINCT project_id, toStartOfHour(ts), {1 << 62} FROM heat.raw")
    hours = (await sealer.run(int(time.time()) + 7200)).hours
    points = {d: k for agent in (cut, whole) for k, d in enumerate(agent.devices)}
    rows = await store.query("SELECT project_id, device_id, point_id, toUnixTimestamp(t), vmin, vmax, vsum, first, last, cnt, good FROM heat.r1h FINAL")
    sides: dict[int, dict[tuple[int, int, int], tuple[Any, ...]]] = {cut.project_id: {}, whole.project_id: {}}
    for project, device, point, t, *values in rows:
        sides[project][points[device], point, t] = tuple(values)
    mine, theirs = sides[cut.project_id], sides[whole.project_id]
    keys = set(mine) | set(theirs)
    # Readings of a backlog come in another order, so sums may differ in the last bits of a double; nothing else may.
    wrong = [k for k in keys if k not in mine or k not in theirs or not all(math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-9) for a, b in zip(mine[k], theirs[k], strict=True))]
    off = f"first difference {wrong[0]}: {mine.get(wrong[0])} / {theirs.get(wrong[0])}" if wrong else "no difference"
    return 1 - len(wrong) / max(1, len(keys)), hours, len(keys), off
