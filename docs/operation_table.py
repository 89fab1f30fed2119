"""The operation table pages, made from the functions' operations.py: `python docs/operation_table.py` rewrites both; `--check` only says whether they are true.

Must not know: what an operation does.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cloud.portal.app import operation_table
from cloud.security.operations import ANYBODY, EVERYONE, READERS, STAFF, Operation, Role

DOCS = Path(__file__).parent
HEAD = {
    "en": """# Operation table

Every operation of the product is a row: who may, on whose data, with what proof. The API's guard, the portal's menu and this page come from the same rows; a route without a row does not start. What no row allows is refused.

- **scope**: whose data it reaches. *platform* needs an account without a narrower scope; what lies outside one's scope does not exist (404).
- **proof**: greatest age in seconds of the last passkey, authenticator or one-time code; older is answered `E-FACTOR-AGE`. Residents are bound by limits instead.
- **second person**: who must approve within 30 minutes; the call is answered 202 with the approval and repeated with `X-Kang-Approval`.
- **class**: 0 safety and grid dispatch, 1 control, 2 operators' pages, 3 customers, 5 third parties, 9 batch.
- **log**: level of its row in the operation log; "-" = not recorded.

| operation | what | roles | scope | label | proof | second person | class | log |
|---|---|---|---|---|---|---|---|---|
""",
    "zh": """# 操作表

产品的每项操作都是一行：谁可以、针对谁的数据、需要怎样的身份证明。接口守卫、门户菜单与本页都由同一张表生成；没有行的路由不能启动，没有行允许的一律拒绝。

- **范围**：涉及谁的数据。“平台”要求账号的范围未被收窄；范围之外的对象视为不存在（404）。
- **证明**：最近一次通行密钥、动态口令或一次性登录码的最长时限（秒）；超过则返回 `E-FACTOR-AGE`。住户改由限值约束。
- **第二人**：须在 30 分钟内由谁批准；首次调用返回 202 与审批号，批准后带 `X-Kang-Approval` 重复调用。
- **优先级**：0 安全与电网调度，1 控制，2 值班页面，3 用户，5 第三方，9 批处理。
- **日志**：操作日志行的级别；“-”表示不记录。

| 操作 | 含义 | 角色 | 范围 | 标记 | 证明 | 第二人 | 优先级 | 日志 |
|---|---|---|---|---|---|---|---|---|
"""}
ROLES = {
    Role.SYSTEM_ADMIN: "系统管理员", Role.SECURITY_ADMIN: "安全管理员", Role.AUDIT_ADMIN: "审计管理员", Role.OPERATOR: "值班员", Role.DISPATCHER: "调度员", Role.ENGINEER: "工程师",
    Role.FINANCE: "财务", Role.SERVICE: "客服", Role.GRID_DISPATCHER: "电网调度员", Role.RESIDENT: "住户"}
SETS = ((ANYBODY, "any account", "任何账号"), (ANYBODY - {Role.RESIDENT}, "any account but residents'", "住户以外的账号"), (EVERYONE, "readers and residents", "可读人员与住户"),
        (READERS, "readers", "可读人员"), (STAFF, "staff", "运行人员"))
SCOPES = {"platform": "平台", "organisation": "单位", "region": "区域", "project": "项目", "household": "住户", "self": "本人"}
LABELS = {"public": "公开", "internal": "内部", "control": "控制", "personal": "个人"}


def who(roles: frozenset[Role], language: str) -> str:
    """A set of roles in words."""
    for known, en, zh in SETS:
        if roles == known:
            return en if language == "en" else zh
    return ", ".join(str(r) for r in Role if r in roles) if language == "en" else "、".join(ROLES[r] for r in Role if r in roles)


def line(row: Operation, language: str) -> str:
    """A row of the page."""
    en = language == "en"
    roles = ("anybody, signing in" if en else "登录前") if row.open else who(row.roles, language)
    level = row.level if row.recorded else "-"
    return (f"| `{row.name}` | {row.en if en else row.zh} | {roles} | {row.scope if en else SCOPES[row.scope]} | {row.label if en else LABELS[row.label]} | {row.factor_s or '-'} | "
            f"{who(row.seconds, language) if row.two_person else '-'} | {row.priority} | {level} |")


def page(language: str) -> str:
    """The whole page."""
    sets = "\n".join(f"- {en if language == 'en' else zh}: {', '.join(str(r) for r in Role if r in roles)}" for roles, en, zh in SETS)
    title = "## Sets of roles" if language == "en" else "## 角色集合"
    return HEAD[language] + "\n".join(line(row, language) for row in sorted(operation_table(), key=lambda r: r.name)) + f"\n\n{title}\n\n{sets}\n"


def main(arguments: list[str]) -> int:
    """Rewrite or check."""
    stale = [language for language in ("en", "zh") if not (DOCS / language / "operation-table.md").exists() or (DOCS / language / "operation-table.md").read_text("utf-8") != page(language)]
    if "--check" not in arguments:
        for language in stale:
            (DOCS / language / "operation-table.md").write_text(page(language), "utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
