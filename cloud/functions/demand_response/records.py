"""Minutes and statements of events in the ledger. Must not know: how they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from cloud.functions.demand_response.tables import ResponseEvent, ResponseMinute, ResponseStatement
from cloud.ledger import Ledger
from cloud.security import audit


class Records:
    """Keeps what an event came to."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def last_minute(self, event: int) -> int | None:
        """The newest minute kept of an event."""
        with self._ledger.read() as session:
            found: int | None = session.scalar(select(func.max(ResponseMinute.at_ms)).where(ResponseMinute.event == event))
            return found

    def keep_minutes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep minutes; one told again replaces the one before."""
        with self._ledger.write() as session:
            for row in rows:
                session.merge(ResponseMinute(**row))

    def minutes(self, event: int, after_ms: int = 0) -> list[dict[str, Any]]:
        """Minutes of an event, oldest first."""
        with self._ledger.read() as session:
            found = session.scalars(select(ResponseMinute).where(ResponseMinute.event == event, ResponseMinute.at_ms > after_ms).order_by(ResponseMinute.at_ms))
            return [{"at_ms": r.at_ms, "metered_kw": r.metered_kw, "baseline_kw": r.baseline_kw, "target_kw": r.target_kw, "measured": r.measured, "projects": r.projects, "short": r.short} for r in found]

    def keep_statements(self, event: int, made: Sequence[Mapping[str, Any]], at_ms: int) -> None:
        """Keep what every participant of every project gets, in one transaction with its audit row."""
        with self._ledger.write() as session:
            for one in made:
                for participant, lines in one["lines"].items():
                    known = session.scalar(select(ResponseStatement).where(ResponseStatement.event == event, ResponseStatement.project_id == one["project_id"], ResponseStatement.participant == participant))
                    row = known or ResponseStatement(event=event, project_id=one["project_id"], participant=participant)
                    row.at_ms, row.lines, row.basis, row.total_micro = at_ms, dict(lines), dict(one["basis"]), sum(lines.values())
                    session.add(row)
            audit.record(session, "demand_response.event.settle", at_ms=at_ms, target=f"event/{event}", object_=f"dr_event/{event}", after=[{"project": m["project_id"], "lines": m["lines"]} for m in made], operator="platform")

    def statements(self, *, event: int | None = None, project_ids: Sequence[int] | None = None, offset: int = 0, limit: int = 200) -> tuple[list[dict[str, Any]], int]:
        """(statements newest first, how many)."""
        asked = select(ResponseStatement, ResponseEvent).join(ResponseEvent, ResponseEvent.id == ResponseStatement.event)
        if event is not None:
            asked = asked.where(ResponseStatement.event == event)
        if project_ids is not None:
            asked = asked.where(ResponseStatement.project_id.in_(list(project_ids)))
        with self._ledger.read() as session:
            total = session.scalar(select(func.count()).select_from(asked.with_only_columns(ResponseStatement.id).subquery())) or 0
            rows = session.execute(asked.order_by(ResponseStatement.at_ms.desc(), ResponseStatement.id).offset(offset).limit(limit))
            return [{"id": s.id, "event": s.event, "event_id": e.event_id, "kind": e.kind, "start_ms": e.start_ms, "end_ms": e.end_ms, "project_id": s.project_id, "participant": s.participant, "at_ms": s.at_ms,
                     "total_micro": s.total_micro, "lines": s.lines, "basis": s.basis} for s, e in rows], total

    def statement(self, number: int) -> dict[str, Any] | None:
        """One statement."""
        with self._ledger.read() as session:
            row = session.get(ResponseStatement, number)
            return None if row is None else {"id": row.id, "event": row.event, "project_id": row.project_id, "participant": row.participant, "at_ms": row.at_ms, "total_micro": row.total_micro, "lines": row.lines, "basis": row.basis}
