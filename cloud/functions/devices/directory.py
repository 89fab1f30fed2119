"""The project directory over the ledger: a frozen picture in memory, drawn again when a revision counter has moved.

Implements `cloud.core.ports.ProjectDirectory`. Reads cost a dictionary look-up; at most once per `refresh_s` two rows are read to see
whether anything changed: when only agents' identities did (a thousand renew at once), only they are read. Must not know: FastAPI, Ray.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.core.ports import AgentInfo, AlarmRule, DeviceInfo, FormerKey, PointSetting, ProjectInfo
from cloud.functions.devices.agents_tables import AgentCertificate, AgentFormerKey, AgentTrust
from cloud.functions.devices.service import AGENTS, DIRECTORY
from cloud.functions.devices.tables import Agent, Device, DeviceTemplate, Project, Region, TemplatePoint
from cloud.functions.devices.templates import alarm_rules
from cloud.ledger import Ledger, revision


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """A region (区域)."""

    code: str
    name_zh: str
    name_en: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class _Picture:
    version: int = 0
    agents_version: int = 0
    projects: Mapping[int, ProjectInfo] = field(default_factory=dict)
    devices: Mapping[int, DeviceInfo] = field(default_factory=dict)
    by_project: Mapping[int, tuple[DeviceInfo, ...]] = field(default_factory=dict)
    agents: Mapping[str, AgentInfo] = field(default_factory=dict)
    regions: Mapping[str, RegionInfo] = field(default_factory=dict)
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class LedgerDirectory:
    """`ProjectDirectory` over the ledger; safe to use from several threads."""

    def __init__(self, ledger: Ledger, *, refresh_s: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._refresh_s = refresh_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._picture = _Picture()
        self._checked = -float("inf")

    def version(self) -> int:
        """The revision of regions, projects and devices in the picture; agents' identities change without it."""
        return self._now().version

    def projects(self) -> Sequence[ProjectInfo]:
        """All projects, by id."""
        return tuple(self._now().projects.values())

    def project(self, project_id: int) -> ProjectInfo | None:
        """A project, or None."""
        return self._now().projects.get(project_id)

    def devices(self, project_id: int) -> Sequence[DeviceInfo]:
        """The devices of a project, by id."""
        return self._now().by_project.get(project_id, ())

    def device(self, device_id: int) -> DeviceInfo | None:
        """A device, or None."""
        return self._now().devices.get(device_id)

    def agents(self, project_id: int | None = None) -> Sequence[AgentInfo]:
        """Admitted agents, revoked ones included (and marked)."""
        return tuple(a for a in self._now().agents.values() if project_id is None or a.project_id == project_id)

    def agent(self, agent_id: str) -> AgentInfo | None:
        """An agent, or None."""
        return self._now().agents.get(agent_id)

    def regions(self) -> Sequence[RegionInfo]:
        """All regions."""
        return tuple(self._now().regions.values())

    def template(self, name: str) -> Mapping[str, Any] | None:
        """A template document by "key@version" (`DeviceInfo.template`)."""
        return self._now().documents.get(name)

    def refresh(self) -> int:
        """Look for changes now; returns the version."""
        with self._lock:
            self._checked = self._monotonic()
            with self._ledger.read() as session:
                now, identities = revision(session, DIRECTORY), revision(session, AGENTS)
                if now == self._picture.version and identities != self._picture.agents_version:
                    self._picture = replace(self._picture, agents=_agents(session), agents_version=identities)
            if now != self._picture.version:
                self._picture = _draw(self._ledger)
            return self._picture.version

    def _now(self) -> _Picture:
        if self._monotonic() - self._checked >= self._refresh_s:
            self.refresh()
        return self._picture


def _agents(session: Session) -> dict[str, AgentInfo]:
    """Admitted agents, by columns: as rows of the mapper a thousand would cost several times as much, and renewals make them read every second."""
    serials: dict[str, list[str]] = {}
    for serial, agent_id in session.execute(select(AgentCertificate.serial, AgentCertificate.agent_id).where(AgentCertificate.state.in_(("issued", "active")))):
        serials.setdefault(agent_id, []).append(serial)
    former: dict[str, list[FormerKey]] = {}
    keys = select(AgentFormerKey.agent_id, AgentFormerKey.stream, AgentFormerKey.signing_public, AgentFormerKey.epoch, AgentFormerKey.last_sequence)
    for agent_id, stream, signing, epoch, last in session.execute(keys.where(AgentFormerKey.retired_ms.is_(None)).order_by(AgentFormerKey.id)):
        former.setdefault(agent_id, []).append(FormerKey(stream, signing, epoch, last))
    cloned = set(session.scalars(select(AgentTrust.agent_id).where(AgentTrust.clone_ms.is_not(None))))
    rows = session.execute(select(Agent.agent_id, Agent.project_id, Agent.signing_public, Agent.box_public, Agent.uplink, Agent.revoked, Agent.certificate_serial).order_by(Agent.agent_id))
    return {name: AgentInfo(name, project_id, signing, box, uplink, revoked, serial, frozenset(serials.get(name, ())), tuple(former.get(name, ())), name in cloned)
            for name, project_id, signing, box, uplink, revoked, serial in rows}


def _draw(ledger: Ledger) -> _Picture:
    """Read everything in one transaction, so that the picture is one moment."""
    with ledger.read() as session:
        version, identities = revision(session, DIRECTORY), revision(session, AGENTS)
        regions = {r.code: RegionInfo(r.code, r.name_zh, r.name_en, r.parent_code) for r in session.scalars(select(Region))}
        projects = {p.id: ProjectInfo(
            p.id, p.code, p.name_zh, p.name_en, p.region_code, p.latitude, p.longitude, p.timezone, p.heated_area_m2, p.kind, p.dedicated_host,
            p.attributes) for p in session.scalars(select(Project).order_by(Project.id))}
        agents = _agents(session)
        settings: dict[int, dict[int, PointSetting]] = {}
        for t in session.scalars(select(TemplatePoint)):
            settings.setdefault(t.template_id, {})[t.point_id] = PointSetting(
                t.point_id, t.low, t.high, t.resolution, t.max_silent_s, t.writable, t.verify_within_s)
        templates = {t.id: t for t in session.scalars(select(DeviceTemplate))}
        rows = list(session.scalars(select(Device).order_by(Device.id)))
    shapes: dict[tuple[int, tuple[int, ...]], tuple[dict[int, PointSetting], tuple[AlarmRule, ...]]] = {}
    devices: dict[int, DeviceInfo] = {}
    by_project: dict[int, list[DeviceInfo]] = {}
    for d in rows:
        template, shape = templates[d.template_id], (d.template_id, tuple(d.absent_points))
        if shape not in shapes:  # devices of one shape share one mapping: a hundred thousand valves cost one
            points = {k: v for k, v in settings.get(d.template_id, {}).items() if k not in shape[1]}
            shapes[shape] = (points, alarm_rules(template.document, points))
        points, alarms = shapes[shape]
        info = DeviceInfo(d.id, d.project_id, d.agent_id, d.code, d.name_zh, d.name_en, f"{template.key}@{template.version}", template.profile,
                          d.parent_id, d.location, d.rated_kw, d.attributes, points, alarms)
        devices[d.id] = info
        by_project.setdefault(d.project_id, []).append(info)
    return _Picture(version, identities, projects, devices, {k: tuple(v) for k, v in by_project.items()}, agents, regions,
                    {f"{t.key}@{t.version}": t.document for t in templates.values()})
