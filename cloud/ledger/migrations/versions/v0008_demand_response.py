"""Demand response (需求响应): strategies, resources, events and their steps, commitments, choices, minutes, statements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "dr_strategy",
        sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("participates", sa.Boolean(), nullable=False), sa.Column("joins", sa.Boolean(), nullable=False),
        sa.Column("depth", sa.Double(), nullable=False), sa.Column("longest_s", sa.BigInteger(), nullable=False), sa.Column("rest_s", sa.BigInteger(), nullable=False),
        sa.Column("notice_s", sa.BigInteger(), nullable=False), sa.Column("floor_c", sa.Double(), nullable=False), sa.Column("rebound_share", sa.Double(), nullable=False),
        sa.Column("rebound_s", sa.BigInteger(), nullable=False), sa.Column("events_per_day", sa.BigInteger(), nullable=False),
        sa.Column("events_per_season", sa.BigInteger(), nullable=False), sa.Column("security_kw", sa.Double(), nullable=False), sa.Column("frost_kw", sa.Double(), nullable=False),
        sa.Column("price_micro_kwh", sa.BigInteger(), nullable=False), sa.Column("owner_share", sa.Double(), nullable=False), sa.Column("preset", sa.String(12), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False), sa.Column("changed_ms", sa.BigInteger(), nullable=False), sa.Column("changed_by", sa.String(60), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_dr_strategy")))
    op.create_table(
        "dr_resource",
        sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False), sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("base_kw", sa.Double(), nullable=False), sa.Column("forced_kw", sa.Double(), nullable=False), sa.Column("ramp_s", sa.BigInteger(), nullable=False),
        sa.Column("notice_s", sa.BigInteger(), nullable=False), sa.Column("how", sa.String(12), nullable=False), sa.Column("rows", sa.JSON(), nullable=False),
        sa.Column("base", sa.JSON(), nullable=False), sa.PrimaryKeyConstraint("project_id", name=op.f("pk_dr_resource")))
    op.create_table(
        "dr_event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False), sa.Column("dispatcher", sa.String(60), nullable=False),
        sa.Column("event_id", sa.String(64), nullable=False), sa.Column("version", sa.BigInteger(), nullable=False), sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("state", sa.String(12), nullable=False), sa.Column("why", sa.String(200), nullable=False), sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("trial", sa.Boolean(), nullable=False), sa.Column("start_ms", sa.BigInteger(), nullable=False), sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("bid_until_ms", sa.BigInteger(), nullable=False), sa.Column("preheat_ms", sa.BigInteger(), nullable=False), sa.Column("recovered_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_kw", sa.Double(), nullable=False), sa.Column("committed_kw", sa.Double(), nullable=False), sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False), sa.Column("document", sa.JSON(), nullable=False), sa.Column("outcome", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dr_event")), sa.UniqueConstraint("dispatcher", "event_id", name=op.f("uq_dr_event_dispatcher_event_id")))
    op.create_index(op.f("ix_dr_event_state_start_ms"), "dr_event", ["state", "start_ms"])
    op.create_table(
        "dr_step",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False), sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False), sa.Column("happening", sa.String(20), nullable=False), sa.Column("state", sa.String(12), nullable=False),
        sa.Column("by", sa.String(60), nullable=False), sa.Column("detail", sa.JSON(), nullable=False), sa.PrimaryKeyConstraint("id", name=op.f("pk_dr_step")))
    op.create_index(op.f("ix_dr_step_event_at_ms"), "dr_step", ["event", "at_ms"])
    op.create_table(
        "dr_commitment",
        sa.Column("event", sa.BigInteger(), nullable=False), sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False), sa.Column("to_ms", sa.BigInteger(), nullable=False), sa.Column("kw", sa.Double(), nullable=False),
        sa.Column("segments", sa.JSON(), nullable=False), sa.Column("rebound_ms", sa.BigInteger(), nullable=False), sa.Column("rebound_kw", sa.Double(), nullable=True),
        sa.Column("authority", sa.BigInteger(), nullable=False), sa.Column("out", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("event", "project_id", name=op.f("pk_dr_commitment")))
    op.create_table(
        "dr_choice",
        sa.Column("event", sa.BigInteger(), nullable=False), sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("choice", sa.String(8), nullable=False),
        sa.Column("depth", sa.Double(), nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False), sa.Column("by", sa.String(60), nullable=False),
        sa.PrimaryKeyConstraint("event", "project_id", name=op.f("pk_dr_choice")))
    op.create_table(
        "dr_minute",
        sa.Column("event", sa.BigInteger(), nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False), sa.Column("metered_kw", sa.Double(), nullable=False),
        sa.Column("baseline_kw", sa.Double(), nullable=False), sa.Column("target_kw", sa.Double(), nullable=False), sa.Column("measured", sa.BigInteger(), nullable=False),
        sa.Column("projects", sa.BigInteger(), nullable=False), sa.Column("short", sa.JSON(), nullable=False), sa.PrimaryKeyConstraint("event", "at_ms", name=op.f("pk_dr_minute")))
    op.create_table(
        "dr_statement",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False), sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("participant", sa.String(20), nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_micro", sa.BigInteger(), nullable=False), sa.Column("lines", sa.JSON(), nullable=False), sa.Column("basis", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dr_statement")), sa.UniqueConstraint("event", "project_id", "participant", name=op.f("uq_dr_statement_event_project_id_participant")))
    op.create_index(op.f("ix_dr_statement_project_id_at_ms"), "dr_statement", ["project_id", "at_ms"])
