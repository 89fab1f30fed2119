"""Rows of the operation table of system management (系统管理)."""

from __future__ import annotations

from cloud.security.operations import ANYBODY, Operation, Role

OPERATIONS = (
    Operation("system.session.open", "登录", "Sign in", frozenset(), changes=True, label="public", level="notice", open=True),
    Operation("system.session.read", "查看本人会话", "See one's own session", ANYBODY, label="personal", scope="self"),
    Operation("system.session.close", "退出登录", "Sign out", ANYBODY, changes=True, label="personal", scope="self"),
    Operation("system.log.read", "查看操作日志", "Read the operation log", frozenset({Role.AUDIT_ADMIN, Role.ENGINEER}), scope="platform"),
    Operation("system.metrics.read", "查看门户指标", "Read the portal's metrics", frozenset({Role.OPERATOR, Role.ENGINEER}), scope="platform"),
)
