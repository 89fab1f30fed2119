"""Audit chain, external clients (审计链、外部接口)."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Forward."""
