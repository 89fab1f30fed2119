"""Rows of who exists (设备档案): regions, projects, agents, templates with their points, devices.

Must not know: services, FastAPI.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base, BigKey


class Region(Base):
    """An administrative or business region (区域)."""

    __tablename__ = "region"
    code: Mapped[str] = mapped_column(String(60), primary_key=True)
    name_zh: Mapped[str] = mapped_column(String(120))
    name_en: Mapped[str] = mapped_column(String(120))
    parent_code: Mapped[str | None] = mapped_column(String(60), ForeignKey("region.code"))


class Project(Base):
    """A heating project (供暖项目); degrees WGS-84, m2."""

    __tablename__ = "project"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    code: Mapped[str] = mapped_column(String(60), unique=True)
    name_zh: Mapped[str] = mapped_column(String(120))
    name_en: Mapped[str] = mapped_column(String(120))
    region_code: Mapped[str] = mapped_column(String(60), ForeignKey("region.code"), index=True)
    latitude: Mapped[float]
    longitude: Mapped[float]
    timezone: Mapped[str] = mapped_column(String(60))
    heated_area_m2: Mapped[float]
    kind: Mapped[str] = mapped_column(String(60))
    dedicated_host: Mapped[bool] = mapped_column(default=False)
    attributes: Mapped[dict[str, Any]]
    created_ms: Mapped[int]


class Agent(Base):
    """An admitted edge agent (边缘代理); raw public keys of 32 bytes."""

    __tablename__ = "agent"
    agent_id: Mapped[str] = mapped_column(String(60), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    signing_public: Mapped[bytes] = mapped_column(LargeBinary(64))
    box_public: Mapped[bytes] = mapped_column(LargeBinary(64))
    uplink: Mapped[str] = mapped_column(String(10))
    revoked: Mapped[bool] = mapped_column(default=False)
    certificate_serial: Mapped[str] = mapped_column(String(80), default="")
    created_ms: Mapped[int]


class DeviceTemplate(Base):
    """A device model (设备模板), one row per version; the document is the edge's own YAML."""

    __tablename__ = "device_template"
    __table_args__ = (UniqueConstraint("key", "version"),)
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(80))
    version: Mapped[int]
    profile: Mapped[str] = mapped_column(String(60))
    document: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(String(64))
    created_ms: Mapped[int]


class TemplatePoint(Base):
    """A point of a template in canonical units, derived from its document."""

    __tablename__ = "template_point"
    template_id: Mapped[int] = mapped_column(ForeignKey("device_template.id", ondelete="CASCADE"), primary_key=True)
    point_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    low: Mapped[float]
    high: Mapped[float]
    resolution: Mapped[float]
    max_silent_s: Mapped[float]
    writable: Mapped[bool]
    verify_within_s: Mapped[float]


class Device(Base):
    """A registered device (设备)."""

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("project_id", "code"),)
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    agent_id: Mapped[str] = mapped_column(String(60), ForeignKey("agent.agent_id"), index=True)
    code: Mapped[str] = mapped_column(String(60))
    name_zh: Mapped[str] = mapped_column(String(120))
    name_en: Mapped[str] = mapped_column(String(120))
    template_id: Mapped[int] = mapped_column(ForeignKey("device_template.id"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"), index=True)
    location: Mapped[str] = mapped_column(String(200), default="")
    rated_kw: Mapped[float] = mapped_column(default=0.0)
    attributes: Mapped[dict[str, Any]]
    absent_points: Mapped[list[Any]]
    created_ms: Mapped[int]
