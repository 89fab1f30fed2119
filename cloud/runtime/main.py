"""The runtime process: keeps the Ray project hosts alive and runs the scheduled jobs (sealing). Holds nothing durable.

Must not know: HTTP, commands, envelopes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from cloud.bus.connection import connect
from cloud.core.log import configure
from cloud.core.settings import Settings, load, ray_directory
from cloud.core.supervision import port_open
from cloud.functions.devices.directory import LedgerDirectory
from cloud.historian.client import ClickHouse, HistorianQueryError, HistorianUnavailableError
from cloud.historian.schema import create
from cloud.historian.seal import Sealer
from cloud.ledger import open_ledger
from cloud.runtime.host import ProjectHost
from cloud.runtime.loopback import stay_here
from cloud.runtime.placement import plan_hosts

log = logging.getLogger("kang.runtime")
NAMESPACE = "kang"


def hosts_wanted(settings: Settings) -> int:
    """Shared hosts: as set, else one less than the cores, at least one."""
    return settings.hosts or max(1, (os.cpu_count() or 2) - 1)


class Supervisor:
    """Creates missing hosts, retires those no longer planned, asks each for its figures."""

    def __init__(self, settings: Settings, directory: LedgerDirectory) -> None:
        self._settings = settings
        self._directory = directory
        self._hosts: dict[str, Any] = {}
        self._plan: dict[str, list[int]] = {}

    async def tick(self) -> dict[str, Any]:
        """One round; returns the figures of every host that answered."""
        plan = plan_hosts(self._directory.projects(), self._settings.partitions, hosts_wanted(self._settings))
        for name in [n for n in self._hosts if plan.get(n) != self._plan.get(n)]:
            ray.kill(self._hosts.pop(name), no_restart=True)
            await asyncio.sleep(0.5)
        self._plan = plan
        for name, partitions in plan.items():
            if name not in self._hosts:
                self._hosts[name] = ray.remote(ProjectHost).options(
                    name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, max_restarts=-1, max_task_retries=-1,
                    num_cpus=0 if name.startswith("host-d") else 1, max_concurrency=32).remote(str(self._settings.home), partitions, name)
        figures: dict[str, Any] = {}
        for name, host in list(self._hosts.items()):
            try:
                await asyncio.wait_for(_reference(host.start.remote()), 60)
                figures[name] = await asyncio.wait_for(_reference(host.stats.remote()), 10)
            except (TimeoutError, RayError) as error:
                log.warning("host %s does not answer: %s", name, type(error).__name__)
                figures[name] = {"name": name, "state": "unreachable"}
        return figures


async def _reference(reference: Any) -> Any:
    return await reference


async def seal_for_ever(settings: Settings, *, every_s: float = 20.0) -> None:
    """Seal finished and re-touched hours."""
    store = ClickHouse(settings, threads=1, name="seal")
    sealer = Sealer(store, settings.timezone)
    while True:
        try:
            done = await sealer.run(int(time.time()))
            if done.hours:
                log.info("sealed %d project hours, %d rows", done.hours, done.rows)
                if done.hours >= 1000:
                    continue
        except (HistorianUnavailableError, HistorianQueryError) as error:
            log.warning("sealing waits: %s", error)
        await asyncio.sleep(every_s)


async def serve(settings: Settings) -> None:
    """Run until the Ray cluster is lost; the process supervisor starts us again."""
    store = ClickHouse(settings, threads=1, name="runtime")
    await store.wait()
    await store.run(lambda c: create(c.command))
    store.close()
    directory = LedgerDirectory(open_ledger(settings.effective_ledger_url))
    client = await connect(settings.effective_nats_url, settings.credentials, "runtime")
    sealing = asyncio.create_task(seal_for_ever(settings))
    supervisor = Supervisor(settings, directory)
    failures = 0
    while failures < 3:
        started = time.monotonic()
        figures = await supervisor.tick()
        failures = failures + 1 if figures and all(f.get("state") == "unreachable" for f in figures.values()) else 0
        await client.publish("stats.runtime", json.dumps(figures).encode())
        if sealing.done():
            sealing.result()
        await asyncio.sleep(max(0.2, 2.0 - (time.monotonic() - started)))
    log.error("no host answers; starting again")
    sys.exit(1)


def _raylet_up(settings: Settings) -> bool:
    """Has our own head's raylet made its socket?"""
    return any(ray_directory(settings).glob("session_latest/sockets/raylet"))


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.runtime.main --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-runtime")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("runtime")
    settings = load(args.home)
    deadline = time.monotonic() + 120
    while not settings.ray_address and not (port_open(settings.ray_port) and _raylet_up(settings)):
        # Asking a head that is not there yet would block for half a minute.
        if time.monotonic() > deadline:
            sys.exit("the Ray head does not come up")
        time.sleep(0.2)
    while True:
        try:
            stay_here()
            ray.init(address=settings.ray_address or f"127.0.0.1:{settings.ray_port}", namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
            break
        except (ConnectionError, RuntimeError, RayError) as error:
            if time.monotonic() > deadline:
                raise
            log.info("waiting for the Ray head: %s", error)
            time.sleep(0.5)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
