"""Approvals may be withdrawn (审批撤回): what they were asked for has been cancelled or has ended."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Forward. SQLite cannot change a constraint in place: the table is made anew."""
    with op.batch_alter_table("approval") as table:
        table.drop_constraint(op.f("ck_approval_state"), type_="check")
        table.create_check_constraint(op.f("ck_approval_state"), "state IN ('pending', 'approved', 'refused', 'used', 'withdrawn')")
