"""Rows of the operation table of the audit (审计). Must not know: routes."""

from __future__ import annotations

from cloud.security.operations import Operation, Role

_AUDIT = frozenset({Role.AUDIT_ADMIN})
OPERATIONS = (
    Operation("system.audit.read", "检索审计日志", "Search the audit log", _AUDIT, scope="platform"),
    Operation("system.audit.verify", "校验审计链", "Verify the audit chain", _AUDIT, scope="platform", audit="always", level="notice"),
    Operation("system.audit.export", "导出审计日志", "Export the audit log", _AUDIT, scope="platform", audit="always", level="notice"),
    Operation("system.network.read", "检索网络与会话记录", "Search network and session records", _AUDIT | {Role.SECURITY_ADMIN}, scope="platform"),
    Operation("system.audit.cut", "清除到期审计记录（作业）", "Delete audit records past their retention (job)", _AUDIT, changes=True, level="warning", scope="platform", priority=9),
    Operation("system.network.cut", "清除到期网络记录（作业）", "Delete network records past their retention (job)", _AUDIT, changes=True, level="warning", scope="platform", priority=9),
)
