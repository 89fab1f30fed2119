"""Reports of the VTN: one made here of every event that has begun, and those VENs hand in. Must not know: FastAPI."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.functions.demand_response.records import Records
from cloud.functions.interfaces.openadr import views
from cloud.functions.interfaces.openadr.errors import FieldError, UnknownObjectError
from cloud.functions.interfaces.openadr.service import ExchangeService, fresh
from cloud.functions.interfaces.openadr.tables import OpenAdrReport
from cloud.ledger import Ledger

#: Statements read for a report.
_STATEMENTS: Final = 5_000
#: Reports kept of one event.
REPORTS_MOST: Final = 50


class ReportService:
    """Reports; `owner` is the asking client, who sees those of its own events and those it handed in.

    Args:
        ledger: where they are.
        now: UTC milliseconds.
        codes: of projects by id.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], int], codes: Mapping[int, str]) -> None:
        self._ledger, self._now, self._codes = ledger, now, codes
        self._exchange, self._records = ExchangeService(ledger, now), Records(ledger)

    def reports(self, owner: str, *, program: str = "", event: str = "", client: str = "", skip: int = 0, limit: int = 50) -> list[dict[str, Any]]:
        """A page, event by event, oldest first: what was made here, then what was handed in."""
        return list(islice(self._all(owner, program, event, client), skip, skip + limit))

    def _all(self, owner: str, program: str, event: str, client: str) -> Iterator[dict[str, Any]]:
        for row, desk in self._exchange.standing(owner, program):
            if event in {"", row.id}:
                if client in {"", views.VEN} and desk["start_ms"] <= self._now():
                    yield self.made(desk)
                with self._ledger.read() as session:
                    asked = select(OpenAdrReport).where(OpenAdrReport.owner == owner, OpenAdrReport.event_id == row.id).order_by(OpenAdrReport.created_ms, OpenAdrReport.id)
                    given = [views.handed_in(r) for r in session.scalars(asked) if client in {"", r.client_name}]
                yield from given

    def made(self, desk: Mapping[str, Any]) -> dict[str, Any]:
        """The report made here of an event as demand response tells it."""
        statements, _ = self._records.statements(event=desk["id"], limit=_STATEMENTS)
        return views.report(desk, self._records.minutes(desk["id"]), statements, self._codes)

    def report(self, owner: str, number: str) -> dict[str, Any]:
        """One.

        Raises:
            UnknownObjectError: no such report: the event is not the owner's, or has not begun.
        """
        with self._ledger.read() as session:
            row = session.get(OpenAdrReport, number)
            if row is not None and row.owner == owner:
                return views.handed_in(row)
        try:
            _, desk = self._exchange.of(owner, views.event_of(number))
        except UnknownObjectError:
            desk = None
        if desk is None or desk["start_ms"] > self._now():
            raise UnknownObjectError(what="report", name=number[:60])
        return self.made(desk)

    def hand_in(self, owner: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a report about an event; the same one again gives the same answer.

        Raises:
            FieldError: no such event, a name that is the platform's own, or too many reports of one event.
        """
        number = self._about(owner, document)
        with self._ledger.write() as session:
            known = list(session.scalars(select(OpenAdrReport).where(OpenAdrReport.owner == owner, OpenAdrReport.event_id == number)))
            again = next((r for r in known if r.document == document), None)
            if again is not None:
                return views.handed_in(again)
            if len(known) >= REPORTS_MOST:
                raise FieldError(field="eventID", problem_zh=f"该事件已有 {REPORTS_MOST} 份报告；请更新已有报告", problem_en=f"has {REPORTS_MOST} reports already; change one of them")
            now = self._now()
            row = OpenAdrReport(id="given-" + secrets.token_hex(8), owner=owner, event_id=number, client_name=document["clientName"], created_ms=now, changed_ms=now, document=dict(document))
            session.add(row)
            return views.handed_in(row)

    def change(self, owner: str, number: str, document: Mapping[str, Any], seen: str | None) -> dict[str, Any]:
        """Put another report in the place of one.

        Raises:
            UnknownObjectError: no such report of the owner; those made here cannot be changed.
            StaleObjectError: it was changed meanwhile.
            FieldError: it is about another event.
        """
        event = self._about(owner, document)
        with self._ledger.write() as session:
            row = self._given(session, owner, number)
            fresh(row, seen)
            if event != row.event_id:
                raise FieldError(field="eventID", problem_zh="报告不能换事件", problem_en="cannot change: hand in another report")
            if row.document != document:
                row.document, row.client_name, row.changed_ms = dict(document), document["clientName"], max(self._now(), row.changed_ms + 1)
            return views.handed_in(row)

    def drop(self, owner: str, number: str) -> dict[str, Any]:
        """Take one away.

        Raises:
            UnknownObjectError: no such report of the owner.
        """
        with self._ledger.write() as session:
            row = self._given(session, owner, number)
            session.delete(row)
            return views.handed_in(row)

    def _given(self, session: Session, owner: str, number: str) -> OpenAdrReport:
        row = session.get(OpenAdrReport, number)
        if row is None or row.owner != owner:
            raise UnknownObjectError(what="report", name=number[:60])
        return row

    def _about(self, owner: str, document: Mapping[str, Any]) -> str:
        """The event a report is about."""
        if document["clientName"] == views.VEN:
            raise FieldError(field="clientName", problem_zh="该名称属于平台自身", problem_en="is the platform's own name")
        try:
            return str(self._exchange.of(owner, document["eventID"])[0].id)
        except UnknownObjectError as error:
            raise FieldError(field="eventID", problem_zh="没有这个事件", problem_en="names no event of yours") from error
