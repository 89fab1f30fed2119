"""No control while the audit log cannot be written (审计失效即停控): the command service looks for itself, whoever asks it and however.

Must not know: NATS, commands beyond their kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from cloud.core.clock import now_ms
from cloud.functions.system.journal import AuditLagError
from cloud.ledger import Ledger
from cloud.security.audit import BEAT_LIMIT_MS, Health, health

log = logging.getLogger("kang.control")
LOOK_S: Final = 0.25
#: A ledger that has not answered for this long counts as a log that cannot be written.
SILENT_MS: Final = BEAT_LIMIT_MS
#: The alarm is said again this often: the portal may have been away.
AGAIN_MS: Final = 5_000
RULE: Final = "control_suspended"
#: At a start of everything the chainer may come up a little later: control waits, the alarm too.
START_MS: Final = 15_000


class AuditGuard:
    """Looks at the chain four times a second; between looks a question costs nothing.

    Attributes:
        refused: requests refused since start.
        failing: True when the last look found the chain behind.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms) -> None:
        self._ledger, self._now = ledger, now
        self._health = Health()
        self._seen_ms = 0
        self._born_ms = now()
        self._told: tuple[bool | None, int] = (None, 0)
        self.refused = 0

    def look(self) -> None:
        """Ask the ledger; safe to call from a thread."""
        try:
            with self._ledger.read() as session:
                now = self._now()
                self._health = health(session, now)
            self._seen_ms = now
        except (SQLAlchemyError, OSError) as error:
            log.error("the ledger does not answer: %s", type(error).__name__)

    async def watch(self, say: Callable[[dict[str, Any]], Any]) -> None:
        """Look until cancelled; `say` gets the alarm (fields of `cloud.portal.own_alarms.Own`) when it changes and again while it stands."""
        while True:
            await asyncio.to_thread(self.look)
            alarm = self.alarm()
            if alarm is not None:
                await say(alarm)
            await asyncio.sleep(LOOK_S)

    @property
    def lag_ms(self) -> int:
        """How far the chain is behind, milliseconds; the silence of the ledger when it does not answer."""
        return max(self._health.lag_ms, self._health.beat_age_ms, self._now() - self._seen_ms if self._seen_ms else SILENT_MS + 1)

    @property
    def failing(self) -> bool:
        """True when what is written now would not count as written."""
        return not self._seen_ms or self._health.failing or self._now() - self._seen_ms > SILENT_MS

    def permit(self) -> None:
        """Let control pass; safety acts never ask.

        Raises:
            AuditLagError: the chain is behind, its writer or the ledger is silent, or none has ever run.
        """
        if self.failing:
            self.refused += 1
            raise AuditLagError(lag_ms=self.lag_ms)

    def alarm(self) -> dict[str, Any] | None:
        """What is to be said now, or None."""
        now, failing = self._now(), self.failing
        if failing and self._told[0] is None and now - self._born_ms < START_MS:
            return None
        if failing == self._told[0] and now - self._told[1] < AGAIN_MS:
            return None
        self._told = (failing, now)
        if not failing:
            return {"rule": RULE, "wrong": False}
        return {"rule": RULE, "severity": "critical", "value": self.lag_ms / 1000, "limit": 5.0, "zh": "命令服务已暂停控制：审计日志不能写入，仅安全操作照常执行；请检查 audit 进程与台账",
                "en": "The command service refuses control: the audit log cannot be written, only safety acts pass; check the audit process and the ledger"}
