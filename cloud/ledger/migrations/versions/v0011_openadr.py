"""OpenADR: programs and events as their clients wrote them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "openadr_program",
        sa.Column("id", sa.String(40), nullable=False), sa.Column("owner", sa.String(60), nullable=False), sa.Column("name", sa.String(128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False), sa.Column("changed_ms", sa.BigInteger(), nullable=False), sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_openadr_program")), sa.UniqueConstraint("owner", "name", name=op.f("uq_openadr_program_owner_name")))
    op.create_table(
        "openadr_event",
        sa.Column("id", sa.String(40), nullable=False), sa.Column("owner", sa.String(60), nullable=False), sa.Column("program_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(200), nullable=False), sa.Column("end_ms", sa.BigInteger(), nullable=False), sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False), sa.Column("changed_ms", sa.BigInteger(), nullable=False), sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_openadr_event")))
    op.create_index(op.f("ix_openadr_event_owner_end_ms"), "openadr_event", ["owner", "end_ms"])
