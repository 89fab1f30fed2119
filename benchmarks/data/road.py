"""The whole road as a measured thing: a platform, its agents with full spools, and one run from "go" to committed and acknowledged.

Must not know: baselines, goals.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from benchmarks.data import meter
from benchmarks.data.workload import GRID_MS, POINTS
from benchmarks.rig.build import RigAgent, rig
from benchmarks.stack import Stack
from cloud.core.supervision import Child
from cloud.installation import prepare
from edge_agent.keygen import make as make_keys

AGENTS, DEVICES = 16, 25


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        rows: readings.
        rate: readings per second, taken when nine tenths were acknowledged (the last flush lingers for more that never comes).
        cpu: processor seconds by stage.
        wire: sealed bytes at rest in the spool.
        seal_cpu_s: processor seconds of encoding, signing and storing at the edge, before "go".
        batches: messages.
        wall_s: until everything was acknowledged.
        longest_pause_s: longest silence between two acknowledgements.
    """

    rows: int
    rate: float
    cpu: dict[str, float]
    wire: int
    seal_cpu_s: float
    batches: int
    wall_s: float
    longest_pause_s: float


class Road:
    """A platform of its own: with Ray, or with the same host class in a plain process; JetStream syncing always, or as it would by default."""

    def __init__(self, home: Path, *, with_ray: bool, sync: bool = True, agents: int = AGENTS, devices: int = DEVICES, partitions: int = 4) -> None:
        only = ("nats", "store", "control", "gateway", *(("ray", "runtime") if with_ray else ()))
        self.home, self.with_ray = home, with_ray
        self.stack = Stack(home, only=only, partitions=partitions, hosts=1)
        for k in range(agents):
            make_keys(self.stack.settings.home / "rig" / f"r{k:02d}-a1" / "credentials")  # in process: a process for each would take minutes
        self.agents: list[RigAgent] = [rig(self.stack.settings, f"r{k:02d}", uplink="nats", devices=devices) for k in range(agents)]
        for agent in self.agents:
            site = yaml.safe_load(agent.site_file.read_text())
            site["cycle_s"] = 5.0  # there is nothing to decide: no devices are read
            agent.site_file.write_text(yaml.safe_dump(site, sort_keys=False))
        prepare(self.stack.settings)
        if not sync:
            file = home / "nats.conf"
            loaded = json.loads(file.read_text())
            del loaded["jetstream"]["sync_interval"]
            file.write_text(json.dumps(loaded, indent=1))

    def __enter__(self) -> Self:
        self.stack.__enter__()
        try:
            if not self.with_ray:
                log = self.home / "logs" / "host.log"
                self.stack.supervisor.start(Child("host", [sys.executable, "-m", "benchmarks.data.host", "--home", str(self.home)],
                                                  lambda: log.exists() and "host stands" in log.read_text(errors="replace")))
        except BaseException:
            self.stack.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.__exit__()

    @property
    def roots(self) -> list[int]:
        """Process ids of the platform's children."""
        return [self.stack.supervisor.pid(c.name) for c in self.stack.supervisor.children()]

    def parts(self, seed: int) -> list[dict[str, Any]]:
        """What a run with this seed holds, per project, for the bare engine."""
        return [{"project": a.project_id, "devices": list(a.devices), "seed": seed * 1000 + k} for k, a in enumerate(self.agents)]

    def fill(self, *, sweeps: int, batch: int, start_ms: int, seed: int, patience_s: float = 180) -> Filled:
        """Start the edge process and let it fill its spools."""
        return Filled(self, sweeps, batch, start_ms, seed, patience_s)


class Filled:
    """Full spools that wait for "go"."""

    def __init__(self, road: Road, sweeps: int, batch: int, start_ms: int, seed: int, patience_s: float) -> None:
        self._road = road
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.data.edge", "--batch", str(batch), "--sweeps", str(sweeps), "--start-ms", str(start_ms), "--seed", str(seed),
             "--patience-s", str(patience_s), *(str(a.site_file) for a in road.agents)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})
        self.made = self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the edge ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> None:
        """Let the agents connect and drain."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def finish(self, before: dict[str, float]) -> Run:
        """Wait for the last acknowledgement."""
        told = self._line()
        after = meter.cpu(self._road.roots)
        used = {**meter.spent(before, after), "edge": told["cpu_s"]}
        self._process.wait(30)
        curve, rows = told["curve"], int(self.made["rows"])
        at, acked = next((t, n) for t, n in curve if n >= 0.9 * rows)
        return Run(rows, acked / at, used, int(self.made["bytes"]), float(self.made["cpu_s"]), int(self.made["batches"]), curve[-1][0],
                   max(b - a for (a, _), (b, _) in itertools.pairwise([(0.0, 0), *curve])))

    def drain(self) -> Run:
        """Go, and wait."""
        before = meter.cpu(self._road.roots)
        self.go()
        return self.finish(before)


def sweeps_for(readings: int, agents: int = AGENTS, devices: int = DEVICES) -> int:
    """Sweeps per agent that make about so many readings in all, a whole number of 5,000-reading batches."""
    per_sweep = devices * len(POINTS)
    step = 5000 // per_sweep if 5000 % per_sweep == 0 else 25
    return max(step, round(readings / agents / per_sweep / step) * step)


def span_ms(sweeps: int) -> int:
    """How much time so many sweeps cover."""
    return sweeps * GRID_MS
