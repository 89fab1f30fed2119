"""The demo's plants and their agents: registers four communities, admits an agent for each, and starts all of them beside the platform.

Everything takes the real road: agents make their own keys, the platform signs their requests, seven days come in by the agents' history
read-back. Called by `kang demo`. Must not know: how the platform works inside.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509

from benchmarks.plants import site as sites
from benchmarks.plants.communities import COMMUNITIES
from cloud.core.clock import now_ms
from cloud.core.settings import Settings
from cloud.core.supervision import Child, Supervisor
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.functions.economic_operation.service import EconomicService
from cloud.ledger import open_ledger

PORT_BASE: Final = 15_000
REGIONS: Final = {
    "北京市海淀区": ("bj-haidian", "Haidian, Beijing"), "北京市延庆区": ("bj-yanqing", "Yanqing, Beijing"),
    "河北省廊坊市": ("he-langfang", "Langfang, Hebei"), "河北省张家口市": ("he-zhangjiakou", "Zhangjiakou, Hebei"),
}
#: One agent in the demo uses NATS, the others gRPC: both uplinks are always alive.
NATS_COMMUNITY: Final = "metered_district"
#: Plants that economic operation runs from the first minute, and by which tariff.
PLANNED: Final = {"boiler_storage": "beijing_business_pattern", "heat_pump": "beijing_coal_to_electricity"}
TEMPLATES: Final = Path(__file__).parents[2] / "edge_agent" / "devices"


@dataclass(frozen=True, slots=True)
class PreparedAgent:
    """An agent ready to run."""

    key: str
    agent_id: str
    site_file: Path


def register(settings: Settings, admit: Callable[..., Any], *, backfill_days: float) -> list[PreparedAgent]:
    """Register projects, templates, devices and agents of every community; safe to run again."""
    ledger = open_ledger(settings.effective_ledger_url)
    service, economic, response = DeviceService(ledger), EconomicService(ledger, now_ms), ResponseService(ledger, now_ms)
    for file in sorted(TEMPLATES.glob("*.yaml")):
        service.register_template(yaml.safe_load(file.read_text()))
    prepared = []
    for number, key in enumerate(COMMUNITIES):
        facts = sites.facts(key)
        region, english = REGIONS[facts["region"]]
        service.register_region(region, facts["region"], english)
        project_id = service.register_project(NewProject(
            facts["code"], facts["name_zh"], facts["name_en"], region, facts["latitude"], facts["longitude"], facts["heated_area_m2"], facts["kind"], facts["timezone"],
            attributes={**facts["attributes"], "tariff": facts["tariff"]}))
        if key in PLANNED and economic.setting(project_id).version == 0:
            economic.change(project_id, {"mode": "act", "tariff": PLANNED[key]}, "demo")
        if key in PLANNED and response.strategy(project_id).version == 0:
            response.change_strategy(project_id, {"participates": True, "joins": True, "preset": "balanced"}, "demo")
        agent_id = f"{facts['code']}-a1".lower()
        uplink = "nats" if key == NATS_COMMUNITY else "grpc"
        folder = settings.home / "agents" / agent_id
        credentials = folder / "credentials"
        if not (credentials / "agent.request.json").exists():
            subprocess.run([sys.executable, "-m", "edge_agent.cli", "keygen", str(credentials)], check=True, stdout=subprocess.DEVNULL)
        partition = _admitted(settings, admit, credentials, agent_id, project_id, uplink)
        ids = service.register_devices(project_id, [NewDevice(
            d["code"], d["name_zh"], d["name_en"], agent_id, d["template"], d["parent"] or "", d["location"], d["rated_kw"], d["attributes"], tuple(d["absent_points"])) for d in sites.devices(key)])
        address: dict[str, Any] = {"kind": "nats", "url": settings.effective_nats_url} if uplink == "nats" else {"kind": "grpc", "address": f"127.0.0.1:{settings.gateway_port}"}
        port_base = PORT_BASE + 10 * number
        document = sites.site(key, device_ids=ids, project_id=project_id, agent_id=agent_id, partitions=settings.partitions, state_dir=str(folder / "state"),
                              credentials_dir=str(credentials), uplink=address, port_base=port_base, heartbeat_s=settings.heartbeat_s)
        document["uplink"]["partition"] = partition
        if backfill_days > 0:
            document["history"] = {"url": f"{sites.control_url(port_base)}/history", "days": backfill_days, "codes": dict(ids)}
        file = folder / "site.yaml"
        file.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
        prepared.append(PreparedAgent(key, agent_id, file))
    ledger.close()
    (settings.home / "demo.json").write_text(json.dumps([p.agent_id for p in prepared]))
    return prepared


def _admitted(settings: Settings, admit: Callable[..., Any], credentials: Path, agent_id: str, project_id: int, uplink: str) -> int:
    """Admit an agent, unless it holds a certificate it renews by itself (or was revoked by hand); returns its partition."""
    kept = credentials / "partition"
    present = credentials / "agent.pem"
    if kept.exists() and present.exists() and x509.load_pem_x509_certificates(present.read_bytes())[0].not_valid_after_utc > dt.datetime.now(dt.UTC):
        return int(kept.read_text())
    admission = admit(settings, (credentials / "agent.request.json").read_bytes(), agent_id=agent_id, project_id=project_id, uplink=uplink)
    for name, data in admission.files.items():
        (credentials / name).write_bytes(data)
    kept.write_text(str(admission.partition))
    return int(admission.partition)


def start(settings: Settings, supervisor: Supervisor, prepared: list[PreparedAgent]) -> None:
    """Start the plants in one process, a dispatch centre, then one agent per plant."""
    log = settings.home / "logs" / "plants.log"
    seen = log.stat().st_size if log.exists() else 0

    def ready() -> bool:
        with log.open("rb") as file:
            file.seek(seen)
            return file.read().count(b'"ready"') >= len(prepared)

    supervisor.start(Child("plants", [sys.executable, "-m", "benchmarks.plants.run", "all", "--port-base", str(PORT_BASE), "--state", str(settings.home / "plants")], ready, ready_s=90))
    supervisor.start(Child("dispatcher", [sys.executable, "-m", "benchmarks.plants.dispatcher", "--home", str(settings.home)]))
    for agent in prepared:
        supervisor.start(Child(f"agent-{agent.agent_id}", [sys.executable, "-m", "edge_agent.cli", "run", "--site", str(agent.site_file)]))
