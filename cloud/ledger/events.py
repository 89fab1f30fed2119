"""Domain events and revision counters, written in the caller's transaction.

Must not know: JetStream, who listens, what the events mean.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cloud.ledger.base import Outbox, Revision


def announce(session: Session, topic: str, key: object, payload: dict[str, Any], *, now_ms: int) -> None:
    """Put a domain event into the outbox; it is relayed after the transaction commits."""
    session.add(Outbox(topic=topic, key=str(key), payload=payload, created_ms=now_ms))


def waiting(session: Session, limit: int = 500) -> list[Outbox]:
    """Events not yet relayed, oldest first."""
    return list(session.scalars(select(Outbox).where(Outbox.relayed_ms.is_(None)).order_by(Outbox.id).limit(limit)))


def mark_relayed(session: Session, ids: list[int], *, now_ms: int) -> None:
    """Note that these events were handed on."""
    session.execute(update(Outbox).where(Outbox.id.in_(ids)).values(relayed_ms=now_ms))


def bump(session: Session, name: str) -> int:
    """Raise the counter `name` by one and return it."""
    changed: int | None = session.execute(
        update(Revision).where(Revision.name == name).values(value=Revision.value + 1).returning(Revision.value)).scalar_one_or_none()
    if changed is None:
        session.add(Revision(name=name, value=1))
        session.flush()
        return 1
    return changed


def revision(session: Session, name: str) -> int:
    """The counter's value, 0 before its first change."""
    return session.execute(select(Revision.value).where(Revision.name == name)).scalar_one_or_none() or 0
