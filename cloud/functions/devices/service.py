"""Registers who exists (设备接入): regions, projects, agents, templates, devices. Registering the same code again updates it.

Every change raises the directory's revision, leaves a domain event and an audit row with digests of before and after, in one transaction.
Must not know: FastAPI, Ray, who reads the directory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.core.clock import now_ms
from cloud.functions.devices.errors import RegistrationError, TemplateFrozen
from cloud.functions.devices.tables import Agent, Device, DeviceTemplate, Project, Region, TemplatePoint
from cloud.functions.devices.templates import read_template
from cloud.ledger import Base, Ledger, announce, bump
from cloud.security import audit
from protos.points import BY_KEY
from protos.suites import Suite, suite_of_public, verifying_key

DIRECTORY = "directory"
#: More devices than this registered at once leave one audit row together.
EACH = 50
AGENTS = "agents"


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device to register; `template` is a key of which the newest version is taken, or "key@version".

    Attributes:
        parent_code: code of the device above it in the same project, or "".
        rated_kw: rated electric or heating power, kW.
        absent_points: canonical keys of the template that this device lacks (a room without a sensor).
    """

    code: str
    name_zh: str
    name_en: str
    agent_id: str
    template: str
    parent_code: str = ""
    location: str = ""
    rated_kw: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    absent_points: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project to register; degrees WGS-84, m2."""

    code: str
    name_zh: str
    name_en: str
    region: str
    latitude: float
    longitude: float
    heated_area_m2: float
    kind: str
    timezone: str = "Asia/Shanghai"
    dedicated_host: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


class DeviceService:
    """Writes the directory (设备档案)."""

    def __init__(self, ledger: Ledger, now_ms: Callable[[], int] = now_ms) -> None:
        self._ledger = ledger
        self._now_ms = now_ms

    def register_region(self, code: str, name_zh: str, name_en: str, parent: str | None = None) -> None:
        """Register or rename a region."""
        _code("region", code)
        with self._ledger.write() as session:
            if parent is not None and session.get(Region, parent) is None:
                raise _refuse("region", code, f"没有上级区域“{parent}”", f"there is no parent region '{parent}'")
            before = _document(session.get(Region, code))
            row = session.merge(Region(code=code, name_zh=name_zh, name_en=name_en, parent_code=parent))
            self._changed(session, "region", code)
            self._audit(session, "region", code, before, _document(row))

    def register_project(self, new: NewProject) -> int:
        """Register or update a project.

        Returns:
            Its id.

        Raises:
            RegistrationError: unknown region or time zone, coordinates or area out of range.
        """
        _code("project", new.code)
        if not (-90 <= new.latitude <= 90 and -180 <= new.longitude <= 180):
            raise _refuse("project", new.code, "坐标超出范围（WGS-84 度）", "coordinates are out of range (WGS-84 degrees)")
        if not (math.isfinite(new.heated_area_m2) and new.heated_area_m2 > 0):
            raise _refuse("project", new.code, "供暖面积应为正数", "the heated area must be positive")
        try:
            ZoneInfo(new.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise _refuse("project", new.code, f"没有时区“{new.timezone}”", f"there is no time zone '{new.timezone}'") from None
        with self._ledger.write() as session:
            if session.get(Region, new.region) is None:
                raise _refuse("project", new.code, f"没有区域“{new.region}”", f"there is no region '{new.region}'")
            row = session.scalar(select(Project).where(Project.code == new.code))
            before = _document(row)
            if row is None:
                row = Project(code=new.code, created_ms=self._now_ms())
                session.add(row)
            row.name_zh, row.name_en, row.region_code, row.kind = new.name_zh, new.name_en, new.region, new.kind
            row.latitude, row.longitude, row.timezone, row.heated_area_m2 = new.latitude, new.longitude, new.timezone, new.heated_area_m2
            row.dedicated_host, row.attributes = new.dedicated_host, dict(new.attributes)
            session.flush()
            self._changed(session, "project", row.id)
            self._audit(session, "project", row.id, before, _document(row))
            return row.id

    def register_agent(self, agent_id: str, project_id: int, *, signing_public: bytes, box_public: bytes, uplink: str,
                       certificate_serial: str = "") -> None:
        """Admit an agent, or renew its keys.

        Raises:
            RegistrationError: unknown project, keys of no or of two suites, wrong uplink, or the agent belongs to another project.
            Sm2MissingError: keys of suite SM, and this machine has no SM2.
        """
        _code("agent", agent_id)
        try:
            one_suite(signing_public, box_public)
        except ValueError as error:
            raise _refuse("agent", agent_id, "公钥应为同一套件：各 32 字节（std），或各 64 字节且在 SM2 曲线上（sm）", f"public keys must be of one suite, 32 bytes each (std) or 64 (sm): {error}") from None
        if uplink not in ("grpc", "nats"):
            raise _refuse("agent", agent_id, "上行方式应为 grpc 或 nats", "the uplink must be grpc or nats")
        with self._ledger.write() as session:
            if session.get(Project, project_id) is None:
                raise _refuse("agent", agent_id, f"没有项目 {project_id}", f"there is no project {project_id}")
            row = session.get(Agent, agent_id)
            before = _document(row)
            if row is None:
                row = Agent(agent_id=agent_id, project_id=project_id, created_ms=self._now_ms())
                session.add(row)
            elif row.project_id != project_id:
                raise _refuse("agent", agent_id, f"已属于项目 {row.project_id}", f"it already belongs to project {row.project_id}")
            row.signing_public, row.box_public, row.uplink = signing_public, box_public, uplink
            row.certificate_serial, row.revoked = certificate_serial, False
            self._changed(session, "agent", agent_id)
            self._audit(session, "agent", agent_id, before, _document(row))

    def revoke_agent(self, agent_id: str) -> None:
        """Refuse an agent from now on (吊销)."""
        with self._ledger.write() as session:
            row = session.get(Agent, agent_id)
            if row is None:
                raise _refuse("agent", agent_id, "未登记", "it is not registered")
            before = _document(row)
            row.revoked = True
            self._changed(session, "agent", agent_id)
            self._audit(session, "agent", agent_id, before, _document(row))

    def register_template(self, document: Mapping[str, Any]) -> str:
        """Register a template document (the edge's YAML, parsed).

        Returns:
            "key@version".

        Raises:
            TemplateError: the document is malformed.
            TemplateFrozen: this version is registered with other content.
        """
        template = read_template(document)
        name = f"{template.key}@{template.version}"
        with self._ledger.write() as session:
            row = session.scalar(select(DeviceTemplate).where(DeviceTemplate.key == template.key, DeviceTemplate.version == template.version))
            if row is not None:
                if row.digest != template.digest:
                    raise TemplateFrozen(what="template", name=template.key, version=template.version)
                return name
            row = DeviceTemplate(key=template.key, version=template.version, profile=template.profile, document=dict(template.document),
                                 digest=template.digest, created_ms=self._now_ms())
            session.add(row)
            session.flush()
            session.add_all(TemplatePoint(
                template_id=row.id, point_id=p.point_id, low=p.low, high=p.high, resolution=p.resolution, max_silent_s=p.max_silent_s,
                writable=p.writable, verify_within_s=p.verify_within_s) for p in template.points.values())
            self._changed(session, "template", name)
            self._audit(session, "template", name, None, _document(row))
        return name

    def register_device(self, project_id: int, new: NewDevice) -> int:
        """Register or update one device; see `register_devices`."""
        return self.register_devices(project_id, [new])[new.code]

    def register_devices(self, project_id: int, devices: Iterable[NewDevice]) -> dict[str, int]:
        """Register or update devices of a project, all or none; parents come before their children.

        Returns:
            Device id by code.

        Raises:
            RegistrationError: names the device and what is wrong.
        """
        with self._ledger.write() as session:
            if session.get(Project, project_id) is None:
                raise _refuse("device", "*", f"没有项目 {project_id}", f"there is no project {project_id}")
            agents = set(session.scalars(select(Agent.agent_id).where(Agent.project_id == project_id)))
            known = {row.code: row for row in session.scalars(select(Device).where(Device.project_id == project_id))}
            templates = _newest(session)
            ids: dict[str, int] = {}
            changed: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {}
            for new in devices:
                before = _document(known.get(new.code))
                ids[new.code] = self._device(session, project_id, new, agents, known, templates)
                changed[new.code] = (before, _document(known[new.code]))
            self._changed(session, "project.devices", project_id)
            self._audit_devices(session, project_id, ids, {code: pair for code, pair in changed.items() if pair[0] != pair[1]})
            return ids

    def _audit_devices(self, session: Session, project_id: int, ids: Mapping[str, int],
                       changed: Mapping[str, tuple[dict[str, Any] | None, dict[str, Any] | None]]) -> None:
        """A row for each device; a whole plant registered at once is one act and one row."""
        if len(changed) <= EACH:
            for code, (before, after) in changed.items():
                self._audit(session, "device", ids[code], before, after)
        else:
            self._audit(session, "device", f"project {project_id}", {code: before for code, (before, _) in changed.items()}, {code: after for code, (_, after) in changed.items()},
                        count=len(changed))

    def _device(self, session: Session, project_id: int, new: NewDevice, agents: set[str], known: dict[str, Device],
                templates: Mapping[str, tuple[int, frozenset[int]]]) -> int:
        _code("device", new.code)
        if new.agent_id not in agents:
            raise _refuse("device", new.code, f"本项目没有代理“{new.agent_id}”", f"the project has no agent '{new.agent_id}'")
        if new.template not in templates:
            raise _refuse("device", new.code, f"没有设备模板“{new.template}”", f"there is no device template '{new.template}'")
        template_id, points = templates[new.template]
        parent = known.get(new.parent_code)
        if new.parent_code and parent is None:
            raise _refuse("device", new.code, f"没有上级设备“{new.parent_code}”", f"there is no parent device '{new.parent_code}'")
        absent = [BY_KEY[key].id for key in new.absent_points if key in BY_KEY]
        if len(absent) != len(new.absent_points) or not points.issuperset(absent):
            raise _refuse("device", new.code, "absent_points 含有模板没有的测点", "absent_points names a point the template does not have")
        row = known.get(new.code)
        if row is None:
            row = Device(project_id=project_id, code=new.code, created_ms=self._now_ms())
            session.add(row)
            known[new.code] = row
        row.agent_id, row.name_zh, row.name_en, row.template_id = new.agent_id, new.name_zh, new.name_en, template_id
        row.parent_id, row.location, row.rated_kw = parent.id if parent else None, new.location, new.rated_kw
        row.attributes, row.absent_points = dict(new.attributes), absent
        session.flush()
        return row.id

    def _audit(self, session: Session, what: str, key: object, before: Any, after: Any, **detail: Any) -> None:
        """What is registered again as it was leaves no row."""
        if before != after:
            audit.record(session, f"devices.{what}.register", at_ms=self._now_ms(), target=f"{what}/{key}", object_=f"{what}/{key}", before=before, after=after, level="notice", detail=detail)

    def _changed(self, session: Session, what: str, key: object) -> None:
        announce(session, f"devices.{what}.registered", key, {}, now_ms=self._now_ms())
        bump(session, DIRECTORY)
        if what == "agent":
            bump(session, AGENTS)


def _document(row: Base | None) -> dict[str, Any] | None:
    """A row as it is hashed for the audit: every column, bytes as hex; None when there is none."""
    if row is None:
        return None
    given = ((column.key, getattr(row, column.key)) for column in row.__mapper__.column_attrs)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in given}


def _newest(session: Session) -> dict[str, tuple[int, frozenset[int]]]:
    points: dict[int, set[int]] = {}
    for template_id, point_id in session.execute(select(TemplatePoint.template_id, TemplatePoint.point_id)):
        points.setdefault(template_id, set()).add(point_id)
    found: dict[str, tuple[int, frozenset[int]]] = {}
    for template_id, key, version in session.execute(
            select(DeviceTemplate.id, DeviceTemplate.key, DeviceTemplate.version).order_by(DeviceTemplate.version)):
        found[key] = found[f"{key}@{version}"] = (template_id, frozenset(points.get(template_id, ())))
    return found


def _code(what: str, code: str) -> None:
    if not code or len(code) > 60 or not all(c.isalnum() or c in "-_." for c in code):
        raise _refuse(what, code, "编码应为 1–60 个字母、数字、-、_ 或 .", "a code is 1-60 letters, digits, '-', '_' or '.'")


def one_suite(signing_public: bytes, box_public: bytes) -> Suite:
    """The suite of a box's two raw public keys.

    Raises:
        ValueError: their lengths, two suites, or not points of the SM2 curve.
        Sm2MissingError: they are of suite SM, and this machine has no SM2.
    """
    suite = suite_of_public(signing_public)
    if suite_of_public(box_public) is not suite:
        raise ValueError("the two keys are of different suites")
    if suite is Suite.SM:
        for key in (signing_public, box_public):
            verifying_key(key)  # on the curve
    return suite


def _refuse(what: str, name: str, zh: str, en: str) -> RegistrationError:
    return RegistrationError(what=what, name=name, reason_zh=zh, reason_en=en)
