"""People, factors, approvals (用户、双因素、审批)."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Forward."""
