"""The audit log (审计日志, 7.2.5 b): what a row holds, and how it is written in the transaction of the change it tells of.

Rows are only ever added, and deleted under a signed cut three years later (`audit_retention`): an outcome is a row of its own that names its intent. The chainer (`audit_writer`) links them; it alone holds the
audit key. Must not know: functions, FastAPI, the chain's key.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from cloud.ledger import Base, BigKey
from cloud.security.operations import Operation

#: A row that is not linked within this time counts as not written (security.md 2.8; IEC 62443 SR 2.10).
LAG_MS: Final = 5_000
#: The chainer says at least this often that it lives; a beat older than `BEAT_LIMIT_MS` counts as a lag.
BEAT_MS: Final = 1_000
BEAT_LIMIT_MS: Final = 4_000  # so that refusal comes within five seconds with the quarter second of cache and a slow disk


class OperationLog(Base):
    """One row of the log: time, type, level, operating point, process id, operator; result, object, hashes, request, address, channel.

    Attributes:
        of: id of the intent this row is the outcome of; 0 for an intent, or for a change written with its own result.
        object: what was changed, e.g. "user_account/12".
        before: SHA-256 of the object's canonical JSON before, "" when there was none.
        after: the same after.
        channel: portal, api, cli, job, link; "late" in `detail` marks a safety act merged afterwards.
    """

    __tablename__ = "operation_log"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    at_ms: Mapped[int] = mapped_column(index=True)
    operation: Mapped[str] = mapped_column(String(80), index=True)
    level: Mapped[str] = mapped_column(String(10))
    target: Mapped[str] = mapped_column(String(200))
    process_id: Mapped[int]
    operator: Mapped[str] = mapped_column(String(60), index=True)
    result: Mapped[str] = mapped_column(String(20))
    code: Mapped[str] = mapped_column(String(60), default="")
    request_id: Mapped[str] = mapped_column(String(40))
    address: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]
    of: Mapped[int] = mapped_column(index=True, default=0)
    object: Mapped[str] = mapped_column(String(120), default="")
    before: Mapped[str] = mapped_column(String(64), default="")
    after: Mapped[str] = mapped_column(String(64), default="")
    channel: Mapped[str] = mapped_column(String(20), default="portal")


class AuditLink(Base):
    """A record's place in the chain: `chain` = H(0x02, previous chain, leaf); `leaf` = H(0x00, record), the leaf of RFC 6962."""

    __tablename__ = "audit_link"
    n: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=False)
    record_id: Mapped[int] = mapped_column(unique=True)
    leaf: Mapped[str] = mapped_column(String(64))
    chain: Mapped[str] = mapped_column(String(64))


class AuditCheckpoint(Base):
    """A signed statement about the first `size` records; `document` is what left the host."""

    __tablename__ = "audit_checkpoint"
    size: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=False)
    at_ms: Mapped[int]
    document: Mapped[dict[str, Any]]


class AuditCut(Base):
    """A lawful deletion of the first `n` records (`audit_cut.Cut`); only what stands under one can be deleted from the log."""

    __tablename__ = "audit_cut"
    n: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=False)
    at_ms: Mapped[int]
    document: Mapped[dict[str, Any]]


class AuditState(Base):
    """One row: when the chainer last said that it lives, and which process it is."""

    __tablename__ = "audit_state"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=False)
    beat_ms: Mapped[int]
    process_id: Mapped[int]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts in this request or job; set once at the door, read wherever a change writes its row."""

    operator: str = ""
    request_id: str = ""
    address: str = ""
    channel: str = "job"
    intent: int = 0


_NOBODY: Final = Actor()
ACTOR: ContextVar[Actor] = ContextVar("kang_actor", default=_NOBODY)


def fingerprint(document: Any) -> str:
    """SHA-256 of an object as canonical JSON; "" of None."""
    if document is None:
        return ""
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode()).hexdigest()


def record(session: Session, operation: Operation | str, *, at_ms: int, target: str = "", object_: str = "", before: Any = None, after: Any = None,
           result: str = "done", code: str = "", operator: str | None = None, level: str = "notice", detail: dict[str, Any] | None = None) -> OperationLog:
    """Add a row in the caller's transaction: both are there, or neither.

    Args:
        session: the transaction of the change.
        operation: the row of the operation table, or its name.
        at_ms: UTC milliseconds.
        target: the operating point (操作点).
        object_: what was changed, "table/id".
        before: the object before, any JSON; only its hash is kept.
        after: the object after.
        result: done, refused, failed.
        code: of the refusal.
        level: of a row given by name.
        detail: what else should be known; no secrets.
        operator: who; otherwise the `ACTOR` of this request.
    """
    actor = ACTOR.get()
    name, given_level = (operation.name, operation.level) if isinstance(operation, Operation) else (operation, level)
    row = OperationLog(
        at_ms=at_ms, operation=name, level=given_level, target=target[:200], process_id=os.getpid(), operator=(actor.operator if operator is None else operator)[:60],
        result=result, code=code[:60], request_id=actor.request_id[:40], address=actor.address[:64], detail=detail or {}, of=0, object=object_[:120],
        before=fingerprint(before), after=fingerprint(after), channel=actor.channel)
    session.add(row)
    return row


_FIELDS: Final = ("id", "at_ms", "operation", "level", "target", "process_id", "operator", "result", "code", "request_id", "address", "detail", "of", "object", "before",
                  "after", "channel")


def canonical(row: OperationLog) -> bytes:
    """A record as the bytes that are hashed: all but its id, which its place in the chain stands for, so that a swap reads as one."""
    return json.dumps([getattr(row, name) for name in _FIELDS[1:]], ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def document_of(row: OperationLog) -> dict[str, Any]:
    """A record as it leaves the platform (export)."""
    return {name: getattr(row, name) for name in _FIELDS}


@dataclass(frozen=True, slots=True)
class Health:
    """How far the chain is behind.

    Attributes:
        known: False when no chainer has ever run on this ledger.
        beat_age_ms: since it last said that it lives.
        lag_ms: age of the oldest record without a link, 0 when all are linked.
        waiting: records without a link.
    """

    known: bool = False
    beat_age_ms: int = 0
    lag_ms: int = 0
    waiting: int = 0
    linked: int = 0
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def failing(self) -> bool:
        """True when what is written now would not count as written."""
        return not self.known or self.beat_age_ms > BEAT_LIMIT_MS or self.lag_ms > LAG_MS


def health(session: Session, now_ms: int) -> Health:
    """The chain's health by the ledger's own rows."""
    state = session.get(AuditState, 1)
    linked, last = session.execute(select(func.max(AuditLink.n), func.max(AuditLink.record_id))).one()
    oldest, waiting = session.execute(select(func.min(OperationLog.at_ms), func.count()).where(OperationLog.id > (last or 0))).one()
    # A late row carries the time of its act; what counts is how long it has been waiting, which its neighbours tell well enough.
    return Health(state is not None, now_ms - state.beat_ms if state else 0, max(0, now_ms - oldest) if oldest is not None and waiting else 0, waiting, linked or 0)
