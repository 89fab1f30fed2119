"""Watches the audit chain from the portal's side: an alarm when it is behind, the late safety acts merged when it is back.

Must not know: the audit key, pages.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from cloud.core.clock import now_ms
from cloud.functions.system.journal import OperationJournal
from cloud.historian.writer import AlarmRow, Writer
from protos.errors import KangError

log = logging.getLogger("kang.audit")
RULE = "audit_behind"


class AuditWatch:
    """Looks once a second."""

    def __init__(self, journal: OperationJournal, writer: Writer, *, every_s: float = 1.0) -> None:
        self._journal, self._writer, self._every_s = journal, writer, every_s
        self._alarm: AlarmRow | None = None
        self._owed: AlarmRow | None = None
        self.failing = False
        self.merged = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """One look."""
        try:
            state = await asyncio.to_thread(self._journal.health)
            failing, lag = state.failing, max(state.beat_age_ms, state.lag_ms)
            self.merged += await asyncio.to_thread(self._journal.merge)
        except (SQLAlchemyError, OSError) as error:
            log.error("the ledger does not answer: %s", type(error).__name__)
            failing, lag = True, 0
        if failing != self.failing:
            self.failing = failing
            now = now_ms()
            if failing:
                self._alarm = self._owed = AlarmRow(
                    uuid.uuid4(), 0, 0, 0, RULE, "critical", "审计日志不能写入：除安全操作外的控制与变更已暂停，请检查 audit 进程",
                    "The audit log cannot be written: control and changes other than safety acts are suspended; check the audit process", now, 0, lag / 1000, 5.0)
                log.error("the audit chain is %d ms behind", lag)
            elif self._alarm is not None:
                cleared: dict[str, Any] = {name: getattr(self._alarm, name) for name in AlarmRow.__slots__}
                self._owed = AlarmRow(**{**cleared, "cleared_ms": now})
                log.warning("the audit chain is whole again")
        if self._owed is not None:
            try:
                await self._writer.books([self._owed], [], [], f"audit:{self._owed.id}:{self._owed.cleared_ms}")
                self._owed = None
            except KangError as error:
                log.warning("the alarm waits for the historian: %s", error.code)
