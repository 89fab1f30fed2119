"""Economic operation (经济运行): settings per project and the plans made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "economic_setting",
        sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("mode", sa.String(8), nullable=False), sa.Column("tariff", sa.String(80), nullable=False),
        sa.Column("target_c", sa.Double(), nullable=False), sa.Column("floor_c", sa.Double(), nullable=False), sa.Column("down_k", sa.Double(), nullable=False),
        sa.Column("up_k", sa.Double(), nullable=False), sa.Column("contract_kw", sa.Double(), nullable=True), sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False), sa.Column("changed_by", sa.String(60), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_economic_setting")))
    op.create_table(
        "economic_plan",
        sa.Column("id", sa.String(40), nullable=False), sa.Column("project_id", sa.BigInteger(), nullable=False), sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False), sa.Column("step_s", sa.BigInteger(), nullable=False), sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(12), nullable=False), sa.Column("code", sa.String(40), nullable=False), sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False), sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_economic_plan")))
    op.create_index(op.f("ix_economic_plan_project_id_issued_ms"), "economic_plan", ["project_id", "issued_ms"])
