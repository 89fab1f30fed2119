"""Rows of the operation table of system management (系统管理): sessions, oneself, people, organisations, second persons, emergencies, the log."""

from __future__ import annotations

from cloud.security.operations import ADMINS, ANYBODY, READERS, STAFF, STEP_UP_S, Operation, Role

_SYSTEM, _SECURITY, _AUDIT = frozenset({Role.SYSTEM_ADMIN}), frozenset({Role.SECURITY_ADMIN}), frozenset({Role.AUDIT_ADMIN})
_NOT_RESIDENTS = ANYBODY - {Role.RESIDENT}


def _open(name: str, zh: str, en: str) -> Operation:
    return Operation(name, zh, en, frozenset(), changes=True, label="public", level="notice", open=True, scope="self")


def _mine(name: str, zh: str, en: str, *, factor_s: int | None = STEP_UP_S) -> Operation:
    return Operation(name, zh, en, ANYBODY, changes=True, label="personal", level="notice", scope="self", factor_s=factor_s)


def _people(name: str, zh: str, en: str, roles: frozenset[Role], *, level: str = "warning", two_person: bool = False, approvers: frozenset[Role] = frozenset()) -> Operation:
    return Operation(name, zh, en, roles, changes=True, label="personal", level=level, scope="platform", factor_s=STEP_UP_S, two_person=two_person, approvers=approvers)


OPERATIONS = (
    _open("system.session.open", "登录", "Sign in"),
    Operation("system.session.challenge", "发起通行密钥登录", "Begin signing in with a passkey", frozenset(), label="public", open=True, scope="self"),
    Operation("system.session.read", "查看本人会话", "See one's own session", ANYBODY, label="personal", scope="self"),
    Operation("system.session.close", "退出登录", "Sign out", ANYBODY, changes=True, label="personal", scope="self"),
    _mine("system.session.reauthenticate", "再次验证身份", "Prove one's identity again", factor_s=None),
    Operation("system.session.list", "查看全部会话", "See everybody's sessions", _SECURITY, label="personal", scope="platform"),
    Operation("system.session.end", "结束他人会话", "End somebody's session", _SECURITY, changes=True, label="personal", level="warning", scope="platform"),
    Operation("system.me.read", "查看本人安全设置", "See one's own security", ANYBODY, label="personal", scope="self"),
    _mine("system.me.password", "设置本人口令", "Set one's password"),
    _mine("system.me.authenticator", "绑定或解除动态口令", "Bind or remove one's authenticator app"),
    _mine("system.me.passkey", "添加或删除通行密钥", "Add or remove one's passkeys"),
    _mine("system.me.session", "结束本人其他会话", "End one's other sessions", factor_s=None),
    Operation("system.person.read", "查看账号", "See accounts", ADMINS, label="personal", scope="platform"),
    Operation("system.person.export", "导出账号", "Export accounts", ADMINS, label="personal", level="notice", scope="platform", audit="always"),
    _people("system.person.create", "创建账号", "Create an account", _SYSTEM),
    _people("system.person.change", "更改账号", "Change an account", _SYSTEM),
    _people("system.person.lock", "锁定或解锁账号", "Lock or unlock an account", _SYSTEM | _SECURITY),
    _people("system.person.reset", "重置账号", "Reset an account", _SYSTEM, two_person=True, approvers=_SECURITY),
    _people("system.role.grant", "授予角色与范围", "Grant roles and scope", _SECURITY),
    Operation("system.organisation.read", "查看单位与合同", "See organisations and contracts", ADMINS, scope="platform"),
    _people("system.organisation.change", "登记单位", "Register an organisation", _SYSTEM, level="notice"),
    _people("system.contract.change", "登记服务合同", "Register a service contract", _SECURITY),
    Operation("system.approval.read", "查看审批", "See approvals", _NOT_RESIDENTS, scope="self"),
    Operation("system.approval.decide", "审批", "Approve or refuse as the second person", _NOT_RESIDENTS, changes=True, level="warning", scope="self", factor_s=STEP_UP_S, priority=1),
    Operation("system.approval.withdraw", "撤回审批（随所审批事项结束）", "Withdraw an approval with the act it was asked for (job)", _NOT_RESIDENTS, changes=True, level="notice", scope="self", priority=9),
    Operation("system.attack.clear", "清除安全演练留下的账户、单位、客户端与代理（命令行）", "Remove what a security drill made (command line)", _SYSTEM, changes=True, level="notice", scope="platform", priority=9),
    Operation("system.emergency.read", "查看应急授权", "See emergency grants", STAFF | ADMINS, label="personal", scope="self"),
    Operation("system.emergency.take", "取得应急授权", "Take an emergency grant", STAFF, changes=True, level="alarm", factor_s=STEP_UP_S, priority=1),
    Operation("system.emergency.end", "结束应急授权", "End an emergency grant", STAFF | _SECURITY, changes=True, level="warning"),
    Operation("system.emergency.review", "复核应急授权", "Review an emergency grant", _AUDIT, changes=True, level="warning", scope="platform", factor_s=STEP_UP_S),
    Operation("system.dialogue.list", "查看人机对话", "See the dialogue with sites", READERS),
    Operation("system.dialogue.send", "向现场发消息或提问", "Write or ask the people at a site", STAFF, changes=True, level="notice"),
    Operation("system.dialogue.read", "标记现场消息已读", "Mark a site's note as read", STAFF, changes=True),
    Operation("system.dialogue.answer", "回答现场提问", "Answer a site's question", STAFF, changes=True, level="notice"),
    Operation("system.operation.read", "查看操作表", "See the operation table", _NOT_RESIDENTS, label="public", scope="self"),
    Operation("system.log.read", "查看操作日志", "Read the operation log", frozenset({Role.AUDIT_ADMIN, Role.ENGINEER}), scope="platform"),
    Operation("system.metrics.read", "查看门户指标", "Read the portal's metrics", frozenset({Role.OPERATOR, Role.ENGINEER}), scope="platform"),
)
