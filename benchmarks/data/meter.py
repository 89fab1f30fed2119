"""Processor time and memory of groups of processes, by what they are in the stack. Must not know: what is measured."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import psutil

#: words of a command line -> stage, first match wins
STAGES = (("ray::ProjectHost", "host"), ("benchmarks.data.host", "host"), ("benchmarks.data.edge", "edge"), ("nats-server", "nats"), ("cloud.historian.store", "store"),
          ("cloud.gateways.edge", "gateway"), ("cloud.control.service", "control"), ("cloud.app", "portal"), ("cloud.runtime.main", "runtime"), ("raylet", "ray"), ("gcs_server", "ray"),
          ("ray", "ray"), ("benchmarks.plants.run", "plants"), ("edge_agent.cli", "agents"), ("benchmarks.rig", "rig"))


def stage(process: psutil.Process) -> str:
    """What a process is."""
    words = " ".join(process.cmdline()) or process.name()
    return next((name for key, name in STAGES if key in words), "other")


def tree(roots: Iterable[int]) -> list[psutil.Process]:
    """The processes and all their descendants that are alive."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                found[process.pid] = process
    return list(found.values())


def cpu(roots: Iterable[int]) -> dict[str, float]:
    """Processor seconds used so far, by stage."""
    used: dict[str, float] = defaultdict(float)
    for process in tree(roots):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[stage(process)] += times.user + times.system
    return dict(used)


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Difference of two readings of `cpu`."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


def pss_bytes(roots: Iterable[int]) -> dict[str, int]:
    """Proportional memory by stage (shared pages divided among their users)."""
    used: dict[str, int] = defaultdict(int)
    for process in tree(roots):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, PermissionError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    used[stage(process)] += int(line.split()[1]) * 1024
    return dict(used)
