"""Agents' certificates and enrolment (代理证书与注册)."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Forward."""
