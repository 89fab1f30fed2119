"""The whole platform with one live plant and two rig projects, for end-to-end tests: real processes, real sockets, real protocols.

Must not know: what is tested on it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from benchmarks.plants import site as plant_sites
from benchmarks.plants.demo import TEMPLATES
from benchmarks.rig.build import RigAgent, rig
from benchmarks.rig.source import Source, sources
from benchmarks.stack import Stack
from cloud.core.supervision import Child, port_open
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.functions.system.sessions import SessionService
from cloud.historian.client import ClickHouse
from cloud.installation import admit, prepare
from cloud.ledger import open_ledger
from cloud.security.operations import Role

COMMUNITY = "boiler_storage"


class Real:
    """A context manager; everything ends with it."""

    def __init__(self, home: Path) -> None:
        self.stack = Stack(home, heartbeat_s=2, partitions=4, hosts=1)
        self.settings = self.stack.settings
        self.rigs: list[RigAgent] = [rig(self.settings, "rig-grpc", devices=3), rig(self.settings, "rig-nats", devices=3, uplink="nats")]
        ledger = open_ledger(self.settings.effective_ledger_url)
        self.source: Source = sources(self.settings, ledger, 1, devices=2, prefix="hostile")[0]
        ledger.close()
        self.plant_ports = self._plant_ports()
        self.plant = self._register_plant(home)
        prepare(self.settings)

    @staticmethod
    def _plant_ports() -> int:
        """The first of ten free ports in a row, below those the system hands out by itself."""
        return next(base for base in range(21_000 + os.getpid() % 500 * 10, 32_000, 10) if not any(port_open(base + k) for k in range(10)))

    def _register_plant(self, home: Path) -> dict[str, Any]:
        ledger = open_ledger(self.settings.effective_ledger_url)
        service = DeviceService(ledger)
        for file in sorted(TEMPLATES.glob("*.yaml")):
            service.register_template(yaml.safe_load(file.read_text()))
        facts = plant_sites.facts(COMMUNITY)
        service.register_region("bj", "北京", "Beijing")
        project_id = service.register_project(NewProject(facts["code"], facts["name_zh"], facts["name_en"], "bj", facts["latitude"], facts["longitude"], facts["heated_area_m2"], facts["kind"]))
        folder = home / "agents" / "plant-a1"
        credentials = folder / "credentials"
        from edge_agent.keygen import make

        request = make(credentials)
        for name, data in admit(self.settings, request.read_bytes(), agent_id="plant-a1", project_id=project_id, uplink="grpc").files.items():
            (credentials / name).write_bytes(data)
        ids = service.register_devices(project_id, [NewDevice(
            d["code"], d["name_zh"], d["name_en"], "plant-a1", d["template"], d["parent"] or "", d["location"], d["rated_kw"], d["attributes"], tuple(d["absent_points"]))
            for d in plant_sites.devices(COMMUNITY)])
        ledger.close()
        document = plant_sites.site(COMMUNITY, device_ids=ids, project_id=project_id, agent_id="plant-a1", partitions=self.settings.partitions, state_dir=str(folder / "state"),
                                    credentials_dir=str(credentials), uplink={"kind": "grpc", "address": f"127.0.0.1:{self.settings.gateway_port}"}, port_base=self.plant_ports,
                                    cycle_s=0.5, linger_s=1, heartbeat_s=2)
        document["history"] = {"url": f"{plant_sites.control_url(self.plant_ports)}/history", "days": 7, "codes": dict(ids)}
        site_file = folder / "site.yaml"
        site_file.write_text(yaml.safe_dump(document, allow_unicode=True))
        return {"project_id": project_id, "ids": ids, "site": site_file}

    def __enter__(self) -> Self:
        self.stack.__enter__()
        try:
            supervisor = self.stack.supervisor
            log = self.settings.home / "logs" / "plants.log"
            supervisor.start(Child("plants", [sys.executable, "-m", "benchmarks.plants.run", COMMUNITY, "--port-base", str(self.plant_ports)],
                                   lambda: log.exists() and '"ready"' in log.read_text(), ready_s=90))
            supervisor.start(Child("agent-plant", [sys.executable, "-m", "edge_agent.cli", "run", "--site", str(self.plant["site"])]))
            for agent in self.rigs:
                for child in agent.children():
                    supervisor.start(child)
        except BaseException:
            self.stack.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.__exit__()
        with suppress(OSError):
            shutil.rmtree(self.settings.home / "jetstream")

    def client(self, role: Role = Role.ENGINEER) -> httpx.AsyncClient:
        """A signed-in client of the portal."""
        ledger = open_ledger(self.settings.effective_ledger_url)
        sessions = SessionService(ledger)
        sessions.register_user(f"test-{role}", str(role), [role])
        code = sessions.issue_code(f"test-{role}")
        ledger.close()
        base = f"http://127.0.0.1:{self.settings.portal_port}/api/v1"
        with httpx.Client(base_url=base, timeout=20) as first:
            answer = first.post("/session", json={"code": code})
            answer.raise_for_status()
            return httpx.AsyncClient(base_url=base, cookies=dict(first.cookies), headers={"x-kang-csrf": answer.json()["csrf"]}, timeout=30)

    def store(self) -> ClickHouse:
        """The historian."""
        return ClickHouse(self.settings, threads=1, name="test")


async def eventually(question: Callable[[], Awaitable[Any]], seconds: float, what: str, step: float = 0.2) -> Any:
    """The first true answer.

    Raises:
        AssertionError: none came in time; carries the last one.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = await question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; last answer {answer!r}"
        await asyncio.sleep(step)
