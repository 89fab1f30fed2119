"""Registers a rig project on a platform and writes its agents' site files: N agents with M devices each.

Must not know: what is measured or broken.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.stack import free_ports
from cloud.core.settings import Settings
from cloud.core.supervision import Child, port_open
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.installation import admit
from cloud.ledger import open_ledger
from protos.suites import Suite

TEMPLATE = Path(__file__).parent / "device.yaml"


@dataclass(frozen=True, slots=True)
class RigAgent:
    """One agent with its field."""

    agent_id: str
    project_id: int
    devices: tuple[int, ...]
    site_file: Path
    state: Path
    field_port: int
    field_log: Path

    def children(self, *, ledger: bool = True) -> list[Child]:
        """The field and the agent as processes."""
        module = "benchmarks.rig.agent" if ledger else "edge_agent.cli"
        run = ["--site", str(self.site_file)] if ledger else ["run", "--site", str(self.site_file)]
        return [Child(f"field-{self.agent_id}", [sys.executable, "-m", "benchmarks.rig.field", "--port", str(self.field_port), "--devices", str(len(self.devices)), "--log", str(self.field_log)],
                      lambda: port_open(self.field_port)),
                Child(f"agent-{self.agent_id}", [sys.executable, "-m", module, *run])]


def rig(settings: Settings, name: str, *, uplink: str = "grpc", devices: int = 10, dedicated: bool = False, linger_s: float = 1.0, poll_s: float = 1.0,
        suite: Suite = Suite.STD) -> RigAgent:
    """Register one project with one agent and `devices` rig devices."""
    ledger = open_ledger(settings.effective_ledger_url)
    service = DeviceService(ledger)
    service.register_region("rig", "试验区", "Rig")
    service.register_template(yaml.safe_load(TEMPLATE.read_text()))
    project_id = service.register_project(NewProject(name, f"试验 {name}", f"Rig {name}", "rig", 40.0, 116.0, 1000.0, "boiler_storage", dedicated_host=dedicated))
    agent_id = f"{name}-a1"
    folder = settings.home / "rig" / agent_id
    credentials = folder / "credentials"
    if not credentials.exists():
        subprocess.run([sys.executable, "-m", "edge_agent.cli", "keygen", str(credentials), "--suite", suite.text], check=True, stdout=subprocess.DEVNULL)
    admission = admit(settings, (credentials / "agent.request.json").read_bytes(), agent_id=agent_id, project_id=project_id, uplink=uplink)
    for file_name, data in admission.files.items():
        (credentials / file_name).write_bytes(data)
    ids = service.register_devices(project_id, [NewDevice(f"{name}-d{k}", f"装置{k}", f"Device {k}", agent_id, "rig_device") for k in range(1, devices + 1)])
    ledger.close()
    port = free_ports(1)[0]
    address = {"kind": "grpc", "address": f"127.0.0.1:{settings.gateway_port}"} if uplink == "grpc" else {"kind": "nats", "url": settings.effective_nats_url}
    site = {"project_id": project_id, "agent_id": agent_id, "partitions": settings.partitions, "state_dir": str(folder / "state"), "credentials_dir": str(credentials), "suite": suite.text,
            "uplink": {**address, "partition": admission.partition}, "cycle_s": 0.5, "linger_s": linger_s, "batch_readings": 500, "heartbeat_s": 2,
            "channels": [{"name": "bus", "protocol": "modbus", "transport": "tcp", "host": "127.0.0.1", "port": port}],
            "devices": [{"id": ids[f"{name}-d{k}"], "template": str(TEMPLATE), "channel": "bus", "unit": k, "poll_s": poll_s} for k in range(1, devices + 1)]}
    site_file = folder / "site.yaml"
    site_file.write_text(yaml.safe_dump(site, sort_keys=False))
    return RigAgent(agent_id, project_id, tuple(ids[f"{name}-d{k}"] for k in range(1, devices + 1)), site_file, folder / "state", port, folder / "field.jsonl")
