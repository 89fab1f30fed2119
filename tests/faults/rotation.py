"""Rotation of every agent's certificate and signing key under load, then revocation: 0 readings lost, live sessions cut within a second.

`python -m tests.faults.rotation [--agents N]`; QUICK=1 takes 50 agents instead of 1,000. Half of them speak gRPC, half NATS, in four processes with
real TLS. Prints a table and writes build/results/faults-rotation.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rig.build import TEMPLATE
from benchmarks.stack import Stack, wait_until
from cloud.functions.devices.agents_service import AgentService, BoxKeys
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.gateways.enrolment import platform_facts
from cloud.historian.client import ClickHouse
from cloud.ledger import open_ledger
from cloud.security.authority import AuthorityClient
from edge_agent import keygen
from protos.subjects import partition_of
from protos.suites import Suite

RESULTS = Path("build/results/faults-rotation.json")
PROCESSES = 4
PROJECTS = 4
REVOKED = 5
#: Processes whose memory is looked at, and the most each may have had with a thousand agents (MB).
MEMORY = {"gateway": 400, "enrolment": 250, "control": 300, "nats": 600}


class Rotation:
    """A platform, agents in four processes, books."""

    def __init__(self, home: Path, count: int) -> None:
        self.stack = Stack(home, only=("ca", "nats", "store", "control", "gateway", "ray", "runtime"), heartbeat_s=10, partitions=4, hosts=1)
        self.settings = self.stack.settings
        self.count = count
        self.plans: list[Path] = []
        self.uplinks: dict[str, str] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.rows: list[dict[str, Any]] = []

    def admit(self) -> None:
        """Register projects, make every agent's keys, admit it as `kang admit` does."""
        ledger = open_ledger(self.settings.effective_ledger_url)
        devices, agents = DeviceService(ledger), AgentService(ledger)
        devices.register_region("rig", "试验区", "Rig")
        devices.register_template(yaml.safe_load(TEMPLATE.read_text()))
        projects = [devices.register_project(NewProject(f"rot{k}", f"轮换{k}", f"Rotation {k}", "rig", 40.0, 116.0, 1000.0, "boiler_storage")) for k in range(PROJECTS)]
        names = [f"r{k}" for k in range(self.count)]
        placed = {name: projects[k % PROJECTS] for k, name in enumerate(names)}
        self.uplinks = {name: "nats" if k % 2 else "grpc" for k, name in enumerate(names)}
        roots, facts = (self.settings.credentials / "edge-ca.pem").read_bytes(), json.dumps(platform_facts(self.settings, Suite.STD)).encode()
        with AuthorityClient(self.settings.home, spawn=True) as authority:
            for name, project_id in placed.items():
                folder = self.settings.home / "agents" / name / "credentials"
                asked = json.loads(keygen.make(folder).read_text())
                issued = authority.agent(asked["csr"].encode(), project_id, name)
                agents.admit(name, project_id, BoxKeys(bytes.fromhex(asked["signing_public"]), bytes.fromhex(asked["box_public"]), asked["nkey"], asked["hardware_id"]), uplink=self.uplinks[name],
                             serial=issued.serial, not_after_ms=issued.not_after_ms)
                files = {"agent.pem": issued.chain, "zone-ca.pem": roots, "platform.json": facts}
                if self.uplinks[name] == "nats":
                    files["nats.jwt"] = authority.nats_user(asked["nkey"], project_id, name, partition_of(project_id, self.settings.partitions)).encode()
                for file, data in files.items():
                    (folder / file).write_bytes(data)
        ids: dict[str, int] = {}
        for project_id in projects:
            ids |= devices.register_devices(project_id, [NewDevice(f"d-{n}", n, n, n, "rig_device") for n in names if placed[n] == project_id])
        ledger.close()
        shares: list[list[dict[str, Any]]] = [[] for _ in range(PROCESSES)]
        for k, name in enumerate(names):
            shares[k % PROCESSES].append(self._site(name, placed[name], ids[f"d-{name}"]))
        for k, share in enumerate(shares):
            plan = self.settings.home / f"share{k}.json"
            plan.write_text(json.dumps({"agents": share}))
            self.plans.append(plan)

    def _site(self, name: str, project_id: int, device: int) -> dict[str, Any]:
        folder = self.settings.home / "agents" / name
        uplink = {"kind": "nats", "url": self.settings.effective_nats_url} if self.uplinks[name] == "nats" else {"kind": "grpc", "address": f"127.0.0.1:{self.settings.gateway_port}"}
        site = {"project_id": project_id, "agent_id": name, "partitions": self.settings.partitions, "state_dir": "state", "credentials_dir": "credentials", "heartbeat_s": 10, "cycle_s": 30,
                "uplink": {**uplink, "partition": partition_of(project_id, self.settings.partitions)}, "linger_s": 30}
        (folder / "state").mkdir()
        (folder / "site.yaml").write_text(yaml.safe_dump(site))
        return {"agent_id": name, "site": str(folder / "site.yaml"), "device": device}

    # -- the campaign -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything."""
        started = time.monotonic()
        self.admit()
        print(f"{self.count} agents admitted in {time.monotonic() - started:.0f} s", flush=True)
        with self.stack:
            try:
                self.processes = [subprocess.Popen([sys.executable, "-m", "tests.faults.rotation_agents", str(p)], stdin=subprocess.PIPE) for p in self.plans]
                wait_until(lambda: self._count()["up"] == self.count, 60 + self.count / 4, "every agent connected", 1.0)
                self._memory("connected")
                print(f"all connected after {time.monotonic() - started:.0f} s; renewing", flush=True)
                begun = time.monotonic()
                self._tell("renew")
                wait_until(lambda: self._count()["renewed"] == self.count, 120 + self.count / 2, "every agent renewed", 1.0)
                took = time.monotonic() - begun
                wait_until(lambda: self._count()["up"] == self.count, 120, "every agent connected with its new certificate", 1.0)
                self._memory("renewed")
                self._tell("rest")
                wait_until(lambda: self._count()["waiting"] == 0, 240, "every spool drained", 1.0)
                self._books(took)
                self._revocations()
                for name, most in self._memory("end").items():
                    self._row(f"memory_{name}", most, "MB", MEMORY[name], most <= MEMORY[name])
            finally:
                self._tell("stop")
                for process in self.processes:
                    process.wait(60)

    def _memory(self, when: str) -> dict[str, float]:
        """Print what the processes have; returns the most each had, MB."""
        most = {}
        for name in MEMORY:
            words = Path(f"/proc/{self.stack.supervisor.pid(name)}/status").read_text().split()
            now, most[name] = (round(int(words[words.index(field) + 1]) / 1024, 1) for field in ("VmRSS:", "VmHWM:"))
            print(f"  memory, {when}: {name} {now} MB, at most {most[name]} MB", flush=True)
        return most

    def _tell(self, order: str) -> None:
        for process in self.processes:
            if process.poll() is None and process.stdin is not None:
                process.stdin.write(f"{order}\n".encode())
                process.stdin.flush()

    def _said(self, what: str) -> list[dict[str, Any]]:
        found = []
        for plan in self.plans:
            out = plan.with_suffix(".out")
            lines = out.read_text().splitlines() if out.exists() else []
            found += [row for row in (json.loads(line) for line in lines if line.endswith("}")) if row["what"] == what]
        return found

    def _count(self) -> dict[str, Any]:
        before = len(self._said("count"))
        self._tell("count")
        wait_until(lambda: len(self._said("count")) == before + PROCESSES, 90, "the processes' answers", 0.2)
        newest = sorted(self._said("count"), key=lambda r: r["at"])[-PROCESSES:]
        total: dict[str, Any] = {name: sum(r[name] for r in newest) for name in ("waiting", "up", "sent", "renewed", "refused", "connections")}
        total["failures"] = [f for r in newest for f in r["failures"]]
        print(f"  {total}", flush=True)
        return total

    def _books(self, took: float) -> None:
        total = self._count()

        async def stored() -> tuple[int, int]:
            client = ClickHouse(self.settings, threads=1, name="rotation")
            rows = await client.query("SELECT uniqExact(device_id, point_id, ts) FROM heat.raw")
            aside = await client.query("SELECT count() FROM heat.quarantine")
            client.close()
            return int(rows[0][0]), int(aside[0][0])

        unique, aside = asyncio.run(stored())
        ledger = open_ledger(self.settings.effective_ledger_url)
        service = AgentService(ledger)
        confirmed = len({e["agent_id"] for e in service.events(limit=100_000) if e["kind"] == "renewed"})
        ledger.close()
        self._row("agents_renewed", confirmed, "agents", self.count, confirmed == self.count)
        self._row("readings_sent", total["sent"], "readings", 1, total["sent"] > 0)
        self._row("readings_lost", total["sent"] - unique, "readings", 0, unique == total["sent"])
        self._row("batches_set_aside", aside, "batches", 0, aside == 0)
        self._row("failures", len(total["failures"]), "agents", 0, not total["failures"])
        self._row("rotation", round(took, 1), "s", 0, True)

    def _revocations(self) -> None:
        ledger = open_ledger(self.settings.effective_ledger_url)
        service = AgentService(ledger)
        for kind in ("grpc", "nats"):
            times = []
            chosen = [n for n, u in self.uplinks.items() if u == kind][:REVOKED]
            for name in chosen:
                began = time.time()
                service.revoke(name, by="rotation", reason="measured")
                wait_until(lambda n=name, b=began: any(r["agent"] == n and r["at"] >= b for r in self._said("down")), 20, f"{name} cut", 0.05)  # type: ignore[misc]
                times.append(min(r["at"] for r in self._said("down") if r["agent"] == name and r["at"] >= began) - began)
            time.sleep(5)
            back = [n for n in chosen if any(r["agent"] == n and r["at"] > began + 1 for r in self._said("up"))]
            self._row(f"revocation_{kind}_worst", round(max(times), 3), "s", 1, max(times) <= 1)
            self._row(f"revocation_{kind}_median", round(statistics.median(times), 3), "s", 1, statistics.median(times) <= 1)
            self._row(f"revoked_{kind}_back", len(back), "agents", 0, not back)
        ledger.close()

    def _row(self, name: str, value: float, unit: str, goal: float, ok: bool) -> None:
        self.rows.append({"id": f"rotation.{name}", "value": value, "unit": unit, "goal": goal, "ok": ok})
        print(f"{name:<26} {value:>10} {unit:<9} goal {goal:<8} {'ok' if ok else 'NOT OK'}", flush=True)


def main() -> int:
    """Entry point; exit code 1 when a goal is missed."""
    quick = os.environ.get("QUICK") == "1"
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rotation", description=__doc__)
    parser.add_argument("--agents", type=int, default=50 if quick else 1000)
    parser.add_argument("--home", type=Path, default=Path("build/rotation"))
    args = parser.parse_args()
    shutil.rmtree(args.home, ignore_errors=True)
    campaign = Rotation(args.home.resolve(), args.agents)
    campaign.run()
    for row in campaign.rows:
        row |= {"quick": args.agents < 1000, "agents": args.agents}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(campaign.rows, indent=1))
    good = all(row["ok"] for row in campaign.rows)
    print(f"rotation of {args.agents} agents: {'ok' if good else 'NOT OK'}; written to {RESULTS}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
