"""Who exists in a simulated life: projects, agents, devices, keys. And what is theirs for ever: the device type.

Must not know: time, faults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cloud.core.ports import AgentInfo, AlarmRule, DeviceInfo, PointSetting, ProjectInfo
from edge_agent import templates
from edge_agent.templates import Template
from protos.points import BY_KEY


@cache
def boiler() -> Template:
    """The simulated device type."""
    return templates.load(Path(__file__).with_name("boiler.yaml"))


@cache
def signing(name: str) -> Ed25519PrivateKey:
    """The signing key of somebody; worthless outside this folder."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"simulated signing {name}".encode()).digest())


@cache
def box(name: str) -> X25519PrivateKey:
    """The key-agreement key of somebody."""
    return X25519PrivateKey.from_private_bytes(hashlib.sha256(f"simulated box {name}".encode()).digest())


@cache
def telemetry_public() -> bytes:
    """What agents seal batches to."""
    return box("platform").public_key().public_bytes_raw()


@cache
def agent_info(agent_id: str, project_id: int) -> AgentInfo:
    """An admitted agent."""
    return AgentInfo(agent_id, project_id, signing(agent_id).public_key().public_bytes_raw(), box(agent_id).public_key().public_bytes_raw(), "nats")


@cache
def device_info(device_id: int, project_id: int, agent_id: str) -> DeviceInfo:
    """A registered boiler."""
    template = boiler()
    points = {s.point.id: PointSetting(s.point.id, s.low, s.high, s.resolution, s.max_silent_s, s.write is not None, s.write.verify_within_s if s.write else 0.0) for s in template.points.values()}
    alarms = tuple(AlarmRule(a.id, BY_KEY[a.point].id, a.when, a.limit, a.hysteresis, a.delay_s, a.severity, a.zh, a.en) for a in template.alarms)
    return DeviceInfo(device_id, project_id, agent_id, f"B{device_id}", "锅炉", "Boiler", template.name, template.profile, None, "", 100.0, {}, points, alarms)


class Directory:
    """`core.ports.ProjectDirectory` of a fixed world."""

    def __init__(self, agents: int, projects: int) -> None:
        self._projects = {p: ProjectInfo(p, f"p{p}", "项目", "Project", "", 40.0, 116.0, "Asia/Shanghai", 1000.0, "boiler_storage") for p in range(1, projects + 1)}
        self._agents = {info.agent_id: info for k in range(agents) for info in [agent_info(f"edge{k:02d}", 1 + k % projects)]}
        self._devices = {info.id: info for k, a in enumerate(self._agents.values()) for info in [device_info(k + 1, a.project_id, a.agent_id)]}
        self._of_project = {p: [d for d in self._devices.values() if d.project_id == p] for p in self._projects}

    def version(self) -> int:
        return 1

    def projects(self) -> Sequence[ProjectInfo]:
        return list(self._projects.values())

    def project(self, project_id: int) -> ProjectInfo | None:
        return self._projects.get(project_id)

    def devices(self, project_id: int) -> Sequence[DeviceInfo]:
        return self._of_project.get(project_id, [])

    def device(self, device_id: int) -> DeviceInfo | None:
        return self._devices.get(device_id)

    def agents(self, project_id: int | None = None) -> Sequence[AgentInfo]:
        return [a for a in self._agents.values() if project_id in (None, a.project_id)]

    def agent(self, agent_id: str) -> AgentInfo | None:
        return self._agents.get(agent_id)
