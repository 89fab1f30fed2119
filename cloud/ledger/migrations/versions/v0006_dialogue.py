"""Messages and questions between platform and sites (人机对话)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "site_note", sa.Column("id", sa.String(32), nullable=False), sa.Column("project_id", _KEY, nullable=False), sa.Column("agent_id", sa.String(60), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False), sa.Column("author", sa.String(60), nullable=False), sa.Column("text", sa.String(500), nullable=False),
        sa.Column("question", sa.Boolean(), nullable=False), sa.Column("choices", sa.JSON(), nullable=False), sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.BigInteger(), nullable=False), sa.Column("delivered_ms", sa.BigInteger()), sa.Column("read_ms", sa.BigInteger()),
        sa.Column("read_by", sa.String(60), nullable=False), sa.Column("answered_ms", sa.BigInteger()), sa.Column("answered_by", sa.String(60), nullable=False),
        sa.Column("answer", sa.String(500), nullable=False), sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_site_note_project_id_project")),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.agent_id"], name=op.f("fk_site_note_agent_id_agent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site_note")))
    for column in ("project_id", "agent_id", "created_ms", "state"):
        op.create_index(op.f(f"ix_site_note_{column}"), "site_note", [column])
