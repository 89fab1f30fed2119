"""Agents' certificates and enrolment (代理证书与注册)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "agent_certificate",
        sa.Column("serial", sa.String(80), nullable=False), sa.Column("agent_id", sa.String(60), nullable=False), sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_after_ms", sa.BigInteger(), nullable=False), sa.Column("state", sa.String(12), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_agent_certificate")))
    op.create_index(op.f("ix_agent_certificate_agent_id"), "agent_certificate", ["agent_id"])
    op.create_table(
        "agent_former_key",
        sa.Column("id", _KEY, autoincrement=True, nullable=False), sa.Column("agent_id", sa.String(60), nullable=False), sa.Column("stream", sa.String(6), nullable=False),
        sa.Column("signing_public", sa.LargeBinary(64), nullable=False), sa.Column("epoch", sa.LargeBinary(16), nullable=False), sa.Column("last_sequence", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False), sa.Column("retired_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_former_key")))
    op.create_index(op.f("ix_agent_former_key_agent_id"), "agent_former_key", ["agent_id"])
    op.create_table(
        "agent_invitation",
        sa.Column("id", _KEY, autoincrement=True, nullable=False), sa.Column("token_hash", sa.String(64), nullable=False), sa.Column("agent_id", sa.String(60), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("uplink", sa.String(10), nullable=False), sa.Column("hardware_id", sa.String(120), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False), sa.Column("created_by", sa.String(60), nullable=False), sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True), sa.Column("withdrawn_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_invitation")), sa.UniqueConstraint("token_hash", name=op.f("uq_agent_invitation_token_hash")))
    op.create_index(op.f("ix_agent_invitation_agent_id"), "agent_invitation", ["agent_id"])
    op.create_table(
        "agent_trust",
        sa.Column("agent_id", sa.String(60), nullable=False), sa.Column("hardware_id", sa.String(120), nullable=False), sa.Column("nkey", sa.String(60), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True), sa.Column("revoked_by", sa.String(60), nullable=False), sa.Column("revoked_reason", sa.String(200), nullable=False),
        sa.Column("clone_ms", sa.BigInteger(), nullable=True), sa.Column("clone_detail", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_agent_trust")))
    op.create_table(
        "agent_event",
        sa.Column("id", _KEY, autoincrement=True, nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False), sa.Column("agent_id", sa.String(60), nullable=False),
        sa.Column("kind", sa.String(30), nullable=False), sa.Column("level", sa.String(10), nullable=False), sa.Column("detail", sa.String(300), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_event")))
    op.create_index(op.f("ix_agent_event_agent_id"), "agent_event", ["agent_id"])
    op.create_index(op.f("ix_agent_event_at_ms"), "agent_event", ["at_ms"])
