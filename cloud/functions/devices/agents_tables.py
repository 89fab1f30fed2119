"""Rows of agents' trust (代理证书与注册): certificates, keys of before, invitations, what a box is bound to, and what happened.

Must not know: services, FastAPI.
"""

from __future__ import annotations

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base, BigKey


class AgentCertificate(Base):
    """A certificate of an agent. State: issued (not used yet), active, superseded, revoked."""

    __tablename__ = "agent_certificate"
    serial: Mapped[str] = mapped_column(String(80), primary_key=True)
    agent_id: Mapped[str] = mapped_column(String(60), index=True)
    issued_ms: Mapped[int]
    not_after_ms: Mapped[int]
    state: Mapped[str] = mapped_column(String(12))


class AgentFormerKey(Base):
    """A signing key of before: good for what it signed and the agent still held when it changed.

    Attributes:
        stream: "batch" or "result".
        epoch: of the agent's stream, empty until the agent has said where it changed.
        last_sequence: the last one signed with it, None until then.
    """

    __tablename__ = "agent_former_key"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    agent_id: Mapped[str] = mapped_column(String(60), index=True)
    stream: Mapped[str] = mapped_column(String(6))
    signing_public: Mapped[bytes] = mapped_column(LargeBinary(64))
    epoch: Mapped[bytes] = mapped_column(LargeBinary(16))
    last_sequence: Mapped[int | None]
    created_ms: Mapped[int]
    retired_ms: Mapped[int | None]


class AgentInvitation(Base):
    """A one-time enrolment token (注册码), stored hashed, bound to an agent, its project and, when given, the box's hardware id."""

    __tablename__ = "agent_invitation"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    agent_id: Mapped[str] = mapped_column(String(60), index=True)
    project_id: Mapped[int]
    uplink: Mapped[str] = mapped_column(String(10))
    hardware_id: Mapped[str] = mapped_column(String(120))
    created_ms: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(60))
    expires_ms: Mapped[int]
    used_ms: Mapped[int | None]
    withdrawn_ms: Mapped[int | None]


class AgentTrust(Base):
    """What is known of an agent's box beyond its keys; "" and None: not known, did not happen."""

    __tablename__ = "agent_trust"
    agent_id: Mapped[str] = mapped_column(String(60), primary_key=True)
    hardware_id: Mapped[str] = mapped_column(String(120), default="")
    nkey: Mapped[str] = mapped_column(String(60), default="")
    revoked_ms: Mapped[int | None]
    revoked_by: Mapped[str] = mapped_column(String(60), default="")
    revoked_reason: Mapped[str] = mapped_column(String(200), default="")
    clone_ms: Mapped[int | None]
    clone_detail: Mapped[str] = mapped_column(String(200), default="")


class AgentEvent(Base):
    """Something about an agent's identity that a person may have to know. Level: info, notice, alarm."""

    __tablename__ = "agent_event"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    at_ms: Mapped[int] = mapped_column(index=True)
    agent_id: Mapped[str] = mapped_column(String(60), index=True)
    kind: Mapped[str] = mapped_column(String(30))
    level: Mapped[str] = mapped_column(String(10))
    detail: Mapped[str] = mapped_column(String(300))
