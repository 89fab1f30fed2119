"""Remote control (批量控制): batches of commands and what became of them on each device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "command_batch",
        sa.Column("id", sa.String(32), nullable=False), sa.Column("state", sa.String(12), nullable=False), sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("point_id", sa.BigInteger(), nullable=False), sa.Column("wish", sa.JSON(), nullable=False), sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=False), sa.Column("actor", sa.String(60), nullable=False), sa.Column("authority", sa.BigInteger(), nullable=False),
        sa.Column("devices", sa.BigInteger(), nullable=False), sa.Column("kw", sa.Double(), nullable=False), sa.Column("second", sa.JSON(), nullable=False),
        sa.Column("approval_id", sa.String(40), nullable=True), sa.Column("of", sa.String(32), nullable=True), sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False), sa.Column("ended_ms", sa.BigInteger(), nullable=True), sa.Column("cancelled_by", sa.String(60), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command_batch")))
    op.create_index(op.f("ix_command_batch_created_ms"), "command_batch", ["created_ms"])
    op.create_index(op.f("ix_command_batch_of"), "command_batch", ["of"])
    op.create_index("ix_command_batch_state_created_ms", "command_batch", ["state", "created_ms"])
    op.create_table(
        "command_batch_item",
        sa.Column("batch_id", sa.String(32), nullable=False), sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False), sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False), sa.Column("wish", sa.JSON(), nullable=False), sa.Column("state", sa.String(12), nullable=False),
        sa.Column("command_id", sa.String(40), nullable=True), sa.Column("code", sa.String(60), nullable=False), sa.Column("why", sa.JSON(), nullable=True),
        sa.Column("before", sa.JSON(), nullable=True), sa.Column("readback", sa.Double(), nullable=True), sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True), sa.ForeignKeyConstraint(["batch_id"], ["command_batch.id"], name=op.f("fk_command_batch_item_batch_id")),
        sa.PrimaryKeyConstraint("batch_id", "n", name=op.f("pk_command_batch_item")))
    op.create_index("ix_command_batch_item_device_id", "command_batch_item", ["device_id"])
    op.create_index("ix_command_batch_item_project_id", "command_batch_item", ["project_id"])
