"""Kill campaigns over the real stack: every process, at random moments, under load; then the books are compared.

`python -m tests.faults.campaign [--targets a,b] [--kills N] [--seed S]`; QUICK=1 kills three times each instead of thirty. Prints the table and
writes build/results/faults.json. Load: two agents (gRPC and NATS), twenty field devices, 200 readings a second, a command twice a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rig.build import RigAgent, rig
from benchmarks.stack import Stack, wait_until
from cloud.installation import prepare
from tests.faults.books import Books, ReadingBooks
from tests.faults.commander import Commander

TARGETS = ("agent", "nats", "host", "gcs", "raylet", "store", "control", "gateway", "portal", "audit", "planner", "stack", "jetstream")
RESULTS = Path("build/results/faults.json")


@dataclass
class Row:
    """One target's line in the table."""

    target: str
    kills: int = 0
    recoveries: list[float] = field(default_factory=list)
    readings: list[ReadingBooks] = field(default_factory=list)
    commands: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing lost, nothing doubled, every command true."""
        return self.kills > 0 and not self.problems and all(r.ok for r in self.readings)


class Campaign:
    """Load, kills, books."""

    def __init__(self, home: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.stack = Stack(home, heartbeat_s=2, partitions=4, hosts=1)
        self.agents: list[RigAgent] = [rig(self.stack.settings, "alpha"), rig(self.stack.settings, "beta", uplink="nats")]
        prepare(self.stack.settings)
        self.books = Books(self.stack.settings)
        self.commander = Commander(self.stack.settings, self.agents, self.random)

    def run(self, targets: list[str], kills: int) -> list[Row]:
        """All campaigns, one after the other on the same stack."""
        rows = []
        with self.stack:
            for agent in self.agents:
                for child in agent.children():
                    self.stack.supervisor.start(child)
            self.commander.start()
            wait_until(lambda: all(self.books.committed_rows(a) > 0 for a in self.agents), 90, "the first readings committed")
            for target in targets:
                row = Row(target)
                self._one(row, 1 if target == "jetstream" else kills)
                rows.append(row)
                print(line(row), flush=True)
            self.commander.stop()
        return rows

    def _one(self, row: Row, kills: int) -> None:
        for _ in range(kills):
            time.sleep(self.random.uniform(0.2, 2.5))
            before = {a.agent_id: self.books.last_sealed(a) for a in self.agents}
            self._strike(row.target)
            struck = time.monotonic()
            row.kills += 1
            try:
                wait_until(lambda: all(self.books.committed_after(a, before[a.agent_id]) for a in self.agents), 120, f"readings sealed after {row.target} was killed", 0.1)  # noqa: B023
                row.recoveries.append(time.monotonic() - struck)
            except TimeoutError as error:
                row.problems.append(str(error))
                return
        self._judge(row)

    def _strike(self, target: str) -> None:
        supervisor = self.stack.supervisor
        if target == "agent":
            self.stack.kill(f"agent-{self.random.choice(self.agents).agent_id}")
        elif target in ("host", "gcs", "raylet"):
            wait_until(lambda: self._ray(target) is not None, 60, f"a {target} to kill")
            process = self._ray(target)
            if process is not None:
                os.kill(process, signal.SIGKILL)
        elif target == "stack":
            for name in ("nats", "store", "control", "gateway", "ray", "runtime", "portal", "audit", "planner", *(f"agent-{a.agent_id}" for a in self.agents)):
                self._quietly(lambda n=name: os.killpg(supervisor.pid(n), signal.SIGKILL))  # type: ignore[misc]
        elif target == "jetstream":
            child = next(c for c in supervisor.children() if c.name == "nats")
            self.stack.stop("nats")
            shutil.rmtree(self.stack.settings.home / "jetstream")
            supervisor.start(child)
        else:
            self.stack.kill(target)

    @staticmethod
    def _quietly(act: Callable[[], None]) -> None:
        try:
            act()
        except (ProcessLookupError, KeyError):
            return

    def _ray(self, target: str) -> int | None:
        wanted = {"host": "ray::ProjectHost", "gcs": "gcs_server", "raylet": "raylet"}[target]
        try:
            family = psutil.Process(self.stack.supervisor.pid("ray")).children(recursive=True)
        except (psutil.Error, KeyError):
            return None
        for process in family:
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words and Path(words[0]).name.startswith(wanted):
                return int(process.pid)
        return None

    def _judge(self, row: Row) -> None:
        wait_until(self.commander.settled, 150, "every command in a final state, or handed to a person", 0.5)
        row.commands, problems = self.commander.judge()
        row.problems += problems
        row.readings = [self.books.compare(agent) for agent in self.agents]


def line(row: Row) -> str:
    """One line of the table."""
    worst = f"{max(row.recoveries):5.1f}" if row.recoveries else "    -"
    median = f"{sorted(row.recoveries)[len(row.recoveries) // 2]:5.1f}" if row.recoveries else "    -"
    total = sum(r.sent for r in row.readings)
    lost, doubled, surplus = (sum(getattr(r, n) for r in row.readings) for n in ("lost", "doubled", "surplus"))
    checksum = "equal" if row.readings and all(r.checksum_ok for r in row.readings) else "DIFFERS"
    return (f"{row.target:<10} kills {row.kills:>3}  recovery median {median} worst {worst} s  N {total:>8}  lost {lost}  doubled {doubled}  raw surplus {surplus:>5}  checksum {checksum:<7}"
            f"  commands {row.commands}  {'ok' if row.ok else 'NOT OK ' + '; '.join(row.problems)}")


def save(rows: list[Row], *, quick: bool, wanted: int) -> None:
    """Write the results file."""
    out: list[dict[str, Any]] = []
    for row in rows:
        goal = 1 if row.target == "jetstream" else wanted
        out += [
            {"id": f"faults.{row.target}.kills", "value": row.kills, "unit": "kills", "goal": goal, "ok": row.kills >= goal, "quick": quick},
            {"id": f"faults.{row.target}.lost", "value": sum(r.lost for r in row.readings), "unit": "readings", "goal": 0, "ok": row.ok, "quick": quick},
            {"id": f"faults.{row.target}.doubled", "value": sum(r.doubled for r in row.readings), "unit": "readings", "goal": 0, "ok": row.ok, "quick": quick},
            {"id": f"faults.{row.target}.untrue_commands", "value": len(row.problems), "unit": "commands", "goal": 0, "ok": not row.problems, "quick": quick},
            {"id": f"faults.{row.target}.recovery_worst", "value": round(max(row.recoveries, default=-1), 2), "unit": "s", "goal": 60, "ok": bool(row.recoveries) and max(row.recoveries) <= 60, "quick": quick},
        ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(out, indent=1))


def main() -> int:
    """Entry point; exit code 1 when anything was lost, doubled or untrue."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--kills", type=int, default=3 if quick else 30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--home", type=Path, default=Path("build/faults"))
    args = parser.parse_args()
    shutil.rmtree(args.home, ignore_errors=True)
    print(f"kill campaigns, seed {args.seed}, {args.kills} kills each{' (a smaller run: QUICK=1)' if quick else ''}", flush=True)
    rows = Campaign(args.home.resolve(), args.seed).run(args.targets.split(","), args.kills)
    save(rows, quick=quick, wanted=30)
    print(f"{sum(r.ok for r in rows)} of {len(rows)} campaigns clean; written to {RESULTS}")
    return 0 if all(r.ok for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
