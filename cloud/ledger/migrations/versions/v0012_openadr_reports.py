"""OpenADR: reports as VENs handed them in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "openadr_report",
        sa.Column("id", sa.String(40), nullable=False), sa.Column("owner", sa.String(60), nullable=False), sa.Column("event_id", sa.String(40), nullable=False), sa.Column("client_name", sa.String(128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False), sa.Column("changed_ms", sa.BigInteger(), nullable=False), sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_openadr_report")))
    op.create_index(op.f("ix_openadr_report_owner_event_id"), "openadr_report", ["owner", "event_id"])
