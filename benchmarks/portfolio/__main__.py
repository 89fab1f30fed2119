"""`python -m benchmarks.portfolio`: one market event over a thousand simulated projects by the real desk, ledger and allocation; then how the split grows with their number.

QUICK=1 runs two hundred. Must not know: how the desk decides.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.portfolio.town import FLOOR_C, KINDS, SET_C, STEP_S, Array, Town, community
from benchmarks.report import QUICK, Report
from cloud.core.ports import DeviceInfo, PointSetting, ProjectInfo, Series
from cloud.functions.demand_response.desk import Desk
from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.service import ResponseService
from cloud.ledger import migrate, open_ledger
from optimizers.demand_response.flexibility import DURATIONS_H, envelope
from protos.points import point

START_MS, MINUTE = 1_795_000_200_000 // 900_000 * 900_000, 60_000
POWER = point("active_power").id
BEFORE_MIN, EVENT_MIN, AFTER_MIN, RAMP_MIN, SHARE = 20, 120, 60, 5, 0.6


class Directory:
    """Projects with one meter each."""

    def __init__(self, count: int) -> None:
        self._projects = [ProjectInfo(n + 1, f"P{n + 1}", "", "", "bj", 40.0, 116.0, "Asia/Shanghai", 1000.0, "boiler_storage") for n in range(count)]

    def projects(self) -> list[ProjectInfo]:
        """All of them."""
        return self._projects

    def project(self, project_id: int) -> ProjectInfo | None:
        """One of them."""
        return self._projects[project_id - 1] if 0 < project_id <= len(self._projects) else None

    def devices(self, project_id: int) -> Sequence[DeviceInfo]:
        """Its grid meter."""
        return [DeviceInfo(project_id, project_id, "a", "TR", "", "", "t", "transformer", None, "", 1e4, {}, {POWER: PointSetting(POWER, 0.0, 1e6, 0.1, 60.0)})]


class Meters:
    """Minute means of the town's meters, as the historian gives them."""

    def __init__(self) -> None:
        self.at: list[int] = []
        self.kw: list[Array] = []

    async def history(self, project_id: int, series: Any, start_ms: int, end_ms: int, *, resolution_s: int | None = None, max_points: int = 2000) -> list[Series]:  # noqa: ARG002
        """What was metered in [start, end)."""
        if not self.at:
            return [Series(d, p, 60, [], [], [], [], [], []) for d, p in series]
        first, last = max(0, (start_ms - self.at[0] + MINUTE - 1) // MINUTE), min(len(self.at), (end_ms - self.at[0]) // MINUTE)
        return [Series(d, p, 60, self.at[first:last], [float(k[project_id - 1]) for k in self.kw[first:last]], [], [], [], []) for d, p in series]


class World:
    """A town, the desk over it, and a clock."""

    def __init__(self, count: int, folder: Path, town: Town | None = None) -> None:
        self.now = START_MS
        self.ledger = open_ledger(f"sqlite:///{folder / f'dr{count}.db'}")
        migrate(self.ledger)
        self.town, self.directory, self.meters = town or Town(count), Directory(count), Meters()
        self.service, self.records = ResponseService(self.ledger, lambda: self.now), Records(self.ledger)
        self.desk = Desk(self.service, self.records, self.directory, self.meters, lambda: self.now, self._told)  # type: ignore[arg-type]

    async def _told(self, event: dict[str, Any]) -> None:
        """Nobody looks."""

    def publish(self) -> float:
        """Resources of all projects from their own optimiser: one of each kind is solved, the others are its size times as large. Thermostats run the town, so what can be given is
        what they draw above the lowest level the optimiser can hold. Returns the seconds one takes.
        """
        began, kinds = time.perf_counter(), {}
        for n in range(min(KINDS, self.town.count)):
            c = community(self.town, n)
            kinds[n] = (self.town.area[n], envelope(c, 1))
        each = (time.perf_counter() - began) / len(kinds)
        for n in range(self.town.count):
            area, found = kinds[int(self.town.kind[n])]
            size, base = float(self.town.area[n] / area), float(self.town.loss[n] * (SET_C - self.town.outdoor) / self.town.cop[n] + self.town.other[n])
            rows = [{"duration_s": round(f.duration_h * 3600), "down_kw": round(max(0.0, base - (f.base_kw - f.down_kw) * size), 2), "up_kw": round(f.up_kw * size, 2), "down_micro": round(max(0.0, f.down_yuan) * size * 1e6), "up_micro": 0} for f in found]
            self.service.keep_resource(n + 1, {"at_ms": self.now, "start_ms": self.now, "base_kw": base, "forced_kw": base, "ramp_s": 300, "notice_s": 60, "how": "optimised", "rows": rows,
                                               "base": {"start_ms": self.now, "step_s": 900, "kw": [base] * 32, "step_kw": float(self.town.stage[n]), "other_kw": float(self.town.other[n])}})
            self.service.change_strategy(n + 1, {"participates": True, "joins": True, "depth": 1.0, "longest_s": round(DURATIONS_H[-1] * 3600), "rebound_share": 1.15, "rebound_s": AFTER_MIN * 60}, "bench")
        return each

    def able(self, seconds: int) -> float:
        """KW of all together."""
        return float(sum(c.down_kw(seconds) for c in self.service.capabilities(self.directory.projects(), "market").values()))

    async def ask(self, kw: float) -> dict[str, Any]:
        """A market event, published, bid and cleared."""
        start = self.now + 5 * MINUTE
        event = self.service.submit({"event_id": f"B-{start}", "version": 1, "kind": "market", "kw": kw, "start_ms": start, "end_ms": start + EVENT_MIN * MINUTE, "bid_until_ms": start - 1000, "ramp_s": RAMP_MIN * 60, "micro_kwh": 1_500_000}, "grid",
                                    self.directory.projects())
        await self.desk.tick()
        bid = self.service.event(event["id"])
        assert bid is not None
        self.service.clear(event["event_id"], "grid", float(bid["outcome"]["bid"]["kw"]), 1_500_000)
        return bid

    async def minute(self) -> None:
        """One minute of everything: boxes keep the caps they were last given."""
        held = await self.desk.commitments()
        self.town.cap[:] = np.inf
        for project, commitments in held.items():
            for commitment in commitments:
                for begin, end, kw in commitment.pieces:
                    if begin <= self.now < end:
                        self.town.cap[project - 1] = min(self.town.cap[project - 1], kw)
        self.meters.at.append(self.now)
        self.meters.kw.append(np.mean([self.town.step() for _ in range(60 // STEP_S)], axis=0))
        self.now += MINUTE
        await self.desk.tick()


async def one(count: int, folder: Path, report: Report) -> None:
    """The event, beside a town of the same seed that nobody asks for anything."""
    town, free = Town(count), Town(count)
    for _ in range(24 * 3600 // STEP_S):
        town.step()
        free.step()
    world = World(count, folder, town)
    each = world.publish()
    for _ in range(BEFORE_MIN):
        await world.minute()
        for _ in range(60 // STEP_S):
            free.step()
    able = world.able(EVENT_MIN * 60)
    event = await world.ask(SHARE * able)
    began = time.perf_counter()
    await world.desk.tick()
    wall = time.perf_counter() - began
    held = world.service.commitments(event["id"])
    report.add("allocation, wall", wall, "s", at_most=10.0, note=f"{count} projects, {len(held)} held, {SHARE:.0%} of {able / 1000:.1f} MW")
    start, asked = event["start_ms"], sum(c["kw"] for c in held)
    report.add("allocated of what was asked", asked / (SHARE * able), "", at_least=0.995)
    base = np.array([sum(s[3] for s in c["segments"]) / len(c["segments"]) for c in held])
    who = np.array([c["project_id"] - 1 for c in held])
    coldest, coldest_free, draw, draw_free = [], [], [], []
    while world.now < start + (EVENT_MIN + AFTER_MIN + 2) * MINUTE:
        await world.minute()
        seen = [free.step() for _ in range(60 // STEP_S)]
        draw.append(world.meters.kw[-1][who].sum())
        draw_free.append(np.mean(seen, axis=0)[who].sum())
        coldest.append(town.room_c.min(axis=1))
        coldest_free.append(free.room_c.min(axis=1))
    at = np.array(world.meters.at[-len(draw):])
    inside = (at >= start + RAMP_MIN * MINUTE) & (at < start + EVENT_MIN * MINUTE)
    delivered = base.sum() - np.array(draw)
    minute = np.abs(delivered[inside] / asked - 1)
    five = np.abs(np.convolve(delivered[inside], np.ones(5) / 5, "valid") / asked - 1)
    report.add("off target, worst 5-minute mean", float(five.max()), "", at_most=0.05, note="after the ramp; 65 % of the projects are stage-limited")
    report.add("off target, worst minute", float(minute.max()), "", note=f"p95 {np.quantile(minute, 0.95):.3f}, mean {minute.mean():.3f}")
    report.add("against the same town unasked", float(np.mean((np.array(draw_free) - np.array(draw))[inside]) / asked), "", note="delivered by the truth, not by the baseline")
    short = np.minimum(FLOOR_C, np.array(coldest_free)) - np.array(coldest)
    report.add("coldest room below min(floor, unasked)", float(max(0.0, short.max())), "K", at_most=0.2, note=f"coldest {np.min(coldest):.2f}, unasked {np.min(coldest_free):.2f} degC")
    rebound = (at >= start + EVENT_MIN * MINUTE) & (at < start + (EVENT_MIN + AFTER_MIN) * MINUTE)
    limit = sum(float(c["rebound_kw"]) for c in held if c["rebound_kw"] is not None)
    report.add("highest draw in the rebound hour, of its limit", float(np.array(draw)[rebound].max() / limit), "", at_most=1.0, note=f"{np.array(draw)[rebound].max() / base.sum():.2f} of the base")
    steps = [s["happening"] for s in world.service.steps(event["id"])]
    report.add("allocated anew", steps.count("reallocate"), "times")
    report.add("one project's capability, five durations", each, "s", note="prepared ahead, every quarter of an hour")
    world.ledger.close()


async def growth(counts: Sequence[int], folder: Path, report: Report) -> None:
    """Wall time from a cleared bid to commitments in the ledger."""
    for count in counts:
        town = Town(count)
        for _ in range(3600 // STEP_S):
            town.step()
        world = World(count, folder, town)
        world.publish()
        for _ in range(16):
            world.meters.at.append(world.now)
            world.meters.kw.append(town.step().copy())
            world.now += MINUTE
        await world.ask(SHARE * world.able(EVENT_MIN * 60))
        began = time.perf_counter()
        await world.desk.tick()
        report.add(f"allocation over {count} projects", time.perf_counter() - began, "s", at_most=10.0 if count <= 1000 else None)
        world.ledger.close()


def main() -> int:
    """The event, then the curve."""
    report = Report("bench-portfolio")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(one(200 if QUICK else 1000, Path(folder), report))
        asyncio.run(growth((50, 100) if QUICK else (250, 500, 2000, 5000), Path(folder), report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
