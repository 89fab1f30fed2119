"""Rows of the operation table of interfaces (数据接口)."""

from __future__ import annotations

from cloud.security.operations import Operation, Role

_ADMINS = frozenset({Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN})

OPERATIONS = (
    Operation("interfaces.token.issue", "换取接口令牌", "Exchange client credentials for a token", frozenset(), changes=True, label="public", level="notice", open=True, scope="self", priority=5),
    Operation("interfaces.client.read", "查看外部接口", "See external clients and their connections", _ADMINS | {Role.ENGINEER, Role.AUDIT_ADMIN}, scope="platform"),
    Operation("interfaces.client.create", "登记外部接口", "Register an external client", frozenset({Role.SECURITY_ADMIN}), changes=True, level="warning", scope="platform", factor_s=300),
    Operation("interfaces.client.change", "修改接口权限与优先级", "Change a client's scope, rate or priority", frozenset({Role.SECURITY_ADMIN}), changes=True, level="warning",
              scope="platform", factor_s=300),
    Operation("interfaces.client.secret", "重置接口密钥", "Replace a client's secret", frozenset({Role.SECURITY_ADMIN}), changes=True, level="warning", scope="platform", factor_s=300),
    Operation("interfaces.client.certificate", "签发接口证书", "Issue a client's certificate", frozenset({Role.SECURITY_ADMIN}), changes=True, level="warning", scope="platform", factor_s=300),
    Operation("interfaces.client.test", "试调接口", "Try a client's call", frozenset({Role.SECURITY_ADMIN, Role.ENGINEER}), changes=True, scope="platform", audit="always"),
    Operation("interfaces.description.read", "查看接口说明", "Read the interface description", frozenset(), label="public", open=True, scope="self", priority=5),
    Operation("interfaces.self.read", "查看本客户端权限", "See one's own client", frozenset(Role), scope="self", priority=5),
)
