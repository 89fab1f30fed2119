"""How long records are kept at least (保存期限下限): floors in code, below which no setting, job or page can go.

Must not know: who keeps what, how it is deleted.
"""

from __future__ import annotations

from typing import Final

from protos.errors import KangError

DAY_MS: Final = 86_400_000
#: The audit log: three years (DL/T 2690.7-2023, 9.2 b; the Cybersecurity Law, article 21, asks for six months).
AUDIT_FLOOR_DAYS: Final = 3 * 366
#: Network, session and flow records: half a year (8.3 g).
NETWORK_FLOOR_DAYS: Final = 183


class RetentionError(KangError):
    """Less would be kept than the law asks for."""

    code = "E-RETENTION"
    zh = "{what_zh}至少保存 {floor} 天（网络安全法第二十一条、DL/T 2690.7 第 8.3 g、9.2 b 条），不能设为 {days} 天。请改大设置。"
    en = "{what_en} are kept {floor} days at least (Cybersecurity Law 21, DL/T 2690.7 8.3 g and 9.2 b); {days} days are refused. Set more."

    def __init__(self, *, what_zh: str, what_en: str, floor: int, days: int) -> None:
        super().__init__(what_zh=what_zh, what_en=what_en, floor=floor, days=days)


def audit_days(days: int) -> int:
    """`days` when they may be: 0 = the log is never cut.

    Raises:
        RetentionError: fewer than three years.
    """
    if days != 0 and days < AUDIT_FLOOR_DAYS:
        raise RetentionError(what_zh="审计记录", what_en="Audit records", floor=AUDIT_FLOOR_DAYS, days=days)
    return days


def network_days(days: int) -> int:
    """`days` when they may be.

    Raises:
        RetentionError: fewer than 183.
    """
    if days < NETWORK_FLOOR_DAYS:
        raise RetentionError(what_zh="网络记录", what_en="Network records", floor=NETWORK_FLOOR_DAYS, days=days)
    return days
