"""The operation log (操作日志, 7.2.5 b) as the guard writes it and the page reads it: intent before the act, outcome after, each a row of its own.

When rows cannot be written, or are not linked within five seconds, everything but safety acts is refused; safety acts go into a file beside
and are merged when the ledger is back. Must not know: FastAPI.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from cloud.core.clock import now_ms
from cloud.ledger import Ledger
from cloud.security.audit import ACTOR, Actor, AuditLink, Health, OperationLog, health
from cloud.security.operations import Operation
from protos.errors import KangError

log = logging.getLogger("kang.audit")
_CHECK_MS = 250
#: A safety act does not wait longer than this for the log: a lock held by somebody frozen must not hold up an emergency stop.
_SAFETY_WAIT_S = 1.5
#: Channels that do not come from this house's own machines (8.1.3.5: remote users are looked at apart).
REMOTE = ("api", "link")
_LOCAL_ADDRESSES = ("", "127.0.0.1", "::1")


class AuditLagError(KangError):
    """The chain is behind: what is written now would not count."""

    code = "E-AUDIT-LAG"
    zh = "审计链落后 {lag_ms} 毫秒，除安全操作外的变更已暂停。请检查 audit 进程。"
    en = "The audit chain is {lag_ms} ms behind; changes other than safety acts are suspended. Check the audit process."


class OperationJournal:
    """Writes and lists the operation log.

    Args:
        watch: refuse when the chainer is behind; False where none runs (tests of other things, tools).
        late: file of safety acts that could not be written.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms, *, watch: bool = False, late: Path | None = None) -> None:
        self._ledger = ledger
        self._now = now
        self._watch = watch
        self._late = late
        self._checked: tuple[int, Health] | None = None
        self.refused = 0
        self.postponed = 0

    async def begin(self, operation: Operation, *, operator: str, target: str, request_id: str, address: str, result: str = "begun",
                    code: str = "", channel: str = "portal") -> int:
        """Write an intent; returns its id, negative for a safety act that stands in the file beside.

        Raises:
            AuditLagError: the chain is behind and this is no safety act.
        """
        row = OperationLog(at_ms=self._now(), operation=operation.name, level=operation.level, target=target[:200], process_id=os.getpid(),
                           operator=operator[:60], result=result, code=code, request_id=request_id[:40], address=address[:64], detail={}, of=0,
                           object="", before="", after="", channel=channel)
        spared = operation.safety or operation.open or operation.name.startswith("system.session.")
        try:
            writing = asyncio.to_thread(self._add, row, spared)
            # Written late after all, the row stands beside the merged one: an act told twice is better than one not told.
            found = await asyncio.wait_for(writing, _SAFETY_WAIT_S) if operation.safety and self._late is not None else await writing
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not operation.safety or self._late is None:
                raise
            log.error("a safety act goes into the file beside the log: %s", type(error).__name__)
            found = await asyncio.to_thread(self._postpone, operation, operator, target, request_id, address, channel)
        ACTOR.set(Actor(operator, request_id, address, channel, found))
        return found

    async def settle(self, row: int, *, result: str, code: str = "", operator: str | None = None, target: str | None = None) -> None:
        """Say how it ended: a row of its own."""
        try:
            await asyncio.to_thread(self._settle, row, result, code, operator, target)
        except (SQLAlchemyError, OSError) as error:
            log.error("an outcome goes into the file beside the log: %s", type(error).__name__)
            if self._late is not None:
                await asyncio.to_thread(self._append, {"of": row, "result": result, "code": code, "operator": operator, "target": target, "at_ms": self._now()})

    def health(self) -> Health:
        """How far the chain is behind; asked at most four times a second."""
        now = self._now()
        if self._checked is None or not 0 <= now - self._checked[0] < _CHECK_MS:
            with self._ledger.read() as session:
                self._checked = (now, health(session, now))
        return self._checked[1]

    def _add(self, row: OperationLog, spared: bool) -> int:
        if self._watch and not spared:
            state = self.health()
            if state.failing:
                self.refused += 1
                raise AuditLagError(lag_ms=max(state.beat_age_ms, state.lag_ms))
        with self._ledger.write() as session:
            session.add(row)
            session.flush()
            return row.id

    def _settle(self, of: int, result: str, code: str, operator: str | None, target: str | None) -> None:
        if of < 0:
            self._append({"of": of, "result": result, "code": code, "operator": operator, "target": target, "at_ms": self._now()})
            return
        with self._ledger.write() as session:
            add_outcome(session, of, at_ms=self._now(), result=result, code=code, operator=operator, target=target)

    # -- the file beside ----------------------------------------------------------------------------------------------

    def _postpone(self, operation: Operation, operator: str, target: str, request_id: str, address: str, channel: str) -> int:
        self.postponed += 1
        now = self._now()
        number = -(now * 1000 + self.postponed % 1000)
        self._append({"id": number, "at_ms": now, "operation": operation.name, "level": operation.level, "target": target[:200], "process_id": os.getpid(),
                      "operator": operator[:60], "request_id": request_id[:40], "address": address[:64], "channel": channel})
        return number

    def _append(self, document: dict[str, Any]) -> None:
        if self._late is None:
            return
        descriptor = os.open(self._late, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(document, ensure_ascii=False).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def merge(self) -> int:
        """Bring the file beside into the log, each row marked late with the time of its act; returns how many."""
        if self._late is None or not self._late.exists():
            return 0
        taken = self._late.with_suffix(".merging")
        if not taken.exists():
            self._late.replace(taken)
        rows = [json.loads(line) for line in taken.read_text().splitlines() if line.strip()]
        with self._ledger.write() as session:
            merge(session, rows, self._now())
        taken.unlink()
        return len(rows)

    # -- reading ------------------------------------------------------------------------------------------------------

    def rows(self, *, before: int | None = None, operator: str = "", operation: str = "", limit: int = 200, since_ms: int | None = None,
             until_ms: int | None = None, object_: str = "", result: str = "", channel: str = "", remote: bool = False, level: str = "") -> list[dict[str, Any]]:
        """Newest first, every intent with its outcome."""
        intent, outcome = OperationLog, aliased(OperationLog)
        query: Any = select(intent, outcome, AuditLink.n).outerjoin(outcome, outcome.of == intent.id).outerjoin(AuditLink, AuditLink.record_id == intent.id)
        query = query.where(intent.of == 0).order_by(intent.id.desc()).limit(limit)
        if before is not None:
            query = query.where(intent.id < before)
        if operator:
            query = query.where(func.coalesce(outcome.operator, intent.operator) == operator)
        if operation:
            query = query.where(intent.operation.startswith(operation, autoescape=True))
        if since_ms is not None:
            query = query.where(intent.at_ms >= since_ms)
        if until_ms is not None:
            query = query.where(intent.at_ms < until_ms)
        if object_:
            query = query.where(or_(intent.object.contains(object_, autoescape=True), intent.target.contains(object_, autoescape=True),
                                    outcome.target.contains(object_, autoescape=True)))
        if result:
            query = query.where(func.coalesce(outcome.result, intent.result) == result)
        if level:
            query = query.where(intent.level == level)
        if channel:
            query = query.where(intent.channel == channel)
        if remote:
            query = query.where(or_(intent.channel.in_(REMOTE), intent.address.not_in(_LOCAL_ADDRESSES)))
        with self._ledger.read() as session:
            return [_view(r, o, n) for r, o, n in session.execute(query)]


def add_outcome(session: Session, of: int, *, at_ms: int, result: str, code: str, operator: str | None, target: str | None, detail: dict[str, Any] | None = None) -> None:
    """The outcome of intent `of`."""
    intent = session.get(OperationLog, of)
    if intent is None:
        return
    session.add(OperationLog(
        at_ms=at_ms, operation=intent.operation, level=intent.level, target=intent.target if target is None else target[:200], process_id=os.getpid(),
        operator=intent.operator if operator is None else operator[:60], result=result, code=code[:60], request_id=intent.request_id, address=intent.address,
        detail=detail or {}, of=of, object="", before="", after="", channel=intent.channel))


def merge(session: Session, rows: list[dict[str, Any]], now: int) -> None:
    """Late rows into the log; an outcome finds its intent by the number it had in the file, or by its id in the log."""
    numbers: dict[int, int] = {}
    if rows and session.scalar(select(OperationLog.id).where(OperationLog.at_ms >= min(r["at_ms"] for r in rows), OperationLog.request_id.in_(
            [r["request_id"] for r in rows if "request_id" in r]), OperationLog.result == "begun", OperationLog.of == 0).limit(1)) is not None:
        return  # a merge that committed and died before it could take the file away
    for row in rows:
        late = {"late": True, "acted_ms": row["at_ms"]}
        if "operation" in row:
            added = OperationLog(at_ms=now, operation=row["operation"], level=row["level"], target=row["target"], process_id=row["process_id"], operator=row["operator"],
                                 result="begun", code="", request_id=row["request_id"], address=row["address"], detail=late, of=0, object="", before="", after="",
                                 channel=row["channel"])
            session.add(added)
            session.flush()
            numbers[row["id"]] = added.id
        else:
            add_outcome(session, numbers.get(row["of"], row["of"]), at_ms=now, result=row["result"], code=row["code"], operator=row["operator"], target=row["target"], detail=late)


def _view(row: OperationLog, outcome: OperationLog | None, n: int | None) -> dict[str, Any]:
    last = outcome or row
    return {"id": row.id, "at_ms": int(row.detail.get("acted_ms", row.at_ms)), "operation": row.operation, "level": row.level, "target": last.target,
            "process_id": row.process_id, "operator": last.operator, "result": last.result, "code": last.code, "request_id": row.request_id, "address": row.address,
            "channel": row.channel, "object": row.object, "before": row.before, "after": row.after, "late": bool(row.detail.get("late")), "settled_ms": outcome.at_ms if outcome else None,
            "linked": n}
