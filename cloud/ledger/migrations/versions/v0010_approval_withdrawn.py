"""Approvals may be withdrawn (审批撤回): what they were asked for has been cancelled or has ended; and they know the projects they are about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Forward. SQLite cannot change a constraint in place: the table is made anew."""
    with op.batch_alter_table("approval") as table:
        table.drop_constraint(op.f("ck_approval_state"), type_="check")
        table.add_column(sa.Column("project_ids", sa.JSON(none_as_null=True), nullable=True))
        table.add_column(sa.Column("used_key", sa.String(80), nullable=True))
        table.create_check_constraint(op.f("ck_approval_state"), "state IN ('pending', 'approved', 'refused', 'used', 'withdrawn')")
