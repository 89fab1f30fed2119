"""The operation log (操作日志, 7.2.5 b): a row before the act, its result after. Rows are never deleted here.

Must not know: FastAPI.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from sqlalchemy import select, update

from cloud.core.clock import now_ms
from cloud.functions.system.tables import OperationLog
from cloud.ledger import Ledger
from cloud.security.operations import Operation


class OperationJournal:
    """Writes and lists the operation log."""

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms) -> None:
        self._ledger = ledger
        self._now = now

    async def begin(self, operation: Operation, *, operator: str, target: str, request_id: str, address: str, result: str = "begun",
                    code: str = "") -> int:
        """Write a row; returns its id."""
        row = OperationLog(at_ms=self._now(), operation=operation.name, level=operation.level, target=target, process_id=os.getpid(),
                           operator=operator, result=result, code=code, request_id=request_id[:40], address=address[:64], detail={})
        return await asyncio.to_thread(self._add, row)

    async def settle(self, row: int, *, result: str, code: str = "", operator: str | None = None, target: str | None = None) -> None:
        """Say how it ended."""
        values: dict[str, Any] = {"result": result, "code": code}
        if operator is not None:
            values["operator"] = operator
        if target is not None:
            values["target"] = target[:200]
        await asyncio.to_thread(self._update, row, values)

    def rows(self, *, before: int | None = None, operator: str = "", operation: str = "", limit: int = 200) -> list[dict[str, Any]]:
        """Newest first."""
        query = select(OperationLog).order_by(OperationLog.id.desc()).limit(limit)
        if before is not None:
            query = query.where(OperationLog.id < before)
        if operator:
            query = query.where(OperationLog.operator == operator)
        if operation:
            query = query.where(OperationLog.operation.startswith(operation, autoescape=True))
        with self._ledger.read() as session:
            return [{"id": r.id, "at_ms": r.at_ms, "operation": r.operation, "level": r.level, "target": r.target, "process_id": r.process_id,
                     "operator": r.operator, "result": r.result, "code": r.code, "request_id": r.request_id, "address": r.address}
                    for r in session.scalars(query)]

    def _add(self, row: OperationLog) -> int:
        with self._ledger.write() as session:
            session.add(row)
            session.flush()
            return row.id

    def _update(self, row: int, values: dict[str, Any]) -> None:
        with self._ledger.write() as session:
            session.execute(update(OperationLog).where(OperationLog.id == row).values(**values))
