"""Programs and events of OpenADR clients in the ledger; what events ask for goes to demand response and nowhere else.

Must not know: FastAPI, how an event is allocated.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from cloud.core.ports import ProjectInfo
from cloud.functions.demand_response.errors import EventError, UnknownEventError
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import TERMINAL
from cloud.functions.interfaces.openadr import mapping, views
from cloud.functions.interfaces.openadr.errors import FieldError, NameTakenError, ProgramUsedError, StaleObjectError, UnknownObjectError
from cloud.functions.interfaces.openadr.tables import OpenAdrEvent, OpenAdrProgram, OpenAdrReport
from cloud.functions.interfaces.openadr.terms import terms
from cloud.functions.interfaces.openadr.times import stamp
from cloud.ledger import Ledger
from cloud.security import audit


class ExchangeService:
    """The VTN's objects; `owner` is always the asking client (or person), who sees its own only."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self._ledger, self._now = ledger, now
        self._desk = ResponseService(ledger, now)

    # -- programs -------------------------------------------------------------------------------------------------------

    def programs(self, owner: str, *, targets: Sequence[str] = (), skip: int = 0, limit: int = 50) -> list[dict[str, Any]]:
        """A page of programs, oldest first."""
        with self._ledger.read() as session:
            rows = session.scalars(select(OpenAdrProgram).where(OpenAdrProgram.owner == owner).order_by(OpenAdrProgram.created_ms, OpenAdrProgram.id))
            return [views.program(r) for r in _page((r for r in rows if _meant(r.document, targets)), skip, limit)]

    def program(self, owner: str, number: str) -> dict[str, Any]:
        """One.

        Raises:
            UnknownObjectError: no such program of the owner.
        """
        with self._ledger.read() as session:
            return views.program(_program(session, owner, number))

    def make_program(self, owner: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A new program; the same one again gives the same answer.

        Raises:
            FieldError: an attribute of ours that will not do.
            NameTakenError: another program has the name.
        """
        terms(document)
        with self._ledger.write() as session:
            known = session.scalar(select(OpenAdrProgram).where(OpenAdrProgram.owner == owner, OpenAdrProgram.name == document["programName"]))
            if known is not None:
                if known.document == document:
                    return views.program(known)
                raise NameTakenError(field="programName", name=known.name, other=known.id)
            now = self._now()
            row = OpenAdrProgram(id="program-" + secrets.token_hex(8), owner=owner, name=document["programName"], created_ms=now, changed_ms=now, document=dict(document))
            session.add(row)
            self._note(session, owner, row, None, document)
            return views.program(row)

    def change_program(self, owner: str, number: str, document: Mapping[str, Any], seen: str | None) -> dict[str, Any]:
        """Change a program; events taken before keep the terms they were taken under.

        Args:
            owner: who asks.
            number: of the program.
            document: the whole of it.
            seen: modificationDateTime the caller read, None = not said.

        Raises:
            UnknownObjectError, StaleObjectError, FieldError, NameTakenError: as they say; nothing was changed.
        """
        terms(document)
        with self._ledger.write() as session:
            row = _program(session, owner, number)
            fresh(row, seen)
            other = session.scalar(select(OpenAdrProgram).where(OpenAdrProgram.owner == owner, OpenAdrProgram.name == document["programName"], OpenAdrProgram.id != row.id))
            if other is not None:
                raise NameTakenError(field="programName", name=other.name, other=other.id)
            if row.document != document:
                self._note(session, owner, row, row.document, document)
                row.name, row.document, row.changed_ms = document["programName"], dict(document), max(self._now(), row.changed_ms + 1)
            return views.program(row)

    def keep_program(self, owner: str, number: str, document: Mapping[str, Any]) -> None:
        """A program of another server, under a number of ours.

        Raises:
            FieldError: an attribute of ours that will not do.
        """
        terms(document)
        with self._ledger.write() as session:
            row = session.get(OpenAdrProgram, number)
            if row is None:
                now = self._now()
                session.add(OpenAdrProgram(id=number, owner=owner, name=number, created_ms=now, changed_ms=now, document=dict(document)))
            elif row.document != document:
                self._note(session, owner, row, row.document, document)
                row.document, row.changed_ms = dict(document), max(self._now(), row.changed_ms + 1)

    def drop_program(self, owner: str, number: str) -> dict[str, Any]:
        """Take a program away.

        Raises:
            UnknownObjectError: no such program.
            ProgramUsedError: events of it are not over.
        """
        with self._ledger.write() as session:
            row = _program(session, owner, number)
            if session.scalar(select(func.count()).select_from(OpenAdrEvent).where(OpenAdrEvent.program_id == row.id, OpenAdrEvent.gone.is_(False), OpenAdrEvent.end_ms > self._now())):
                raise ProgramUsedError(name=number)
            self._note(session, owner, row, row.document, None)
            session.delete(row)
            return views.program(row)

    def _note(self, session: Session, owner: str, row: OpenAdrProgram, before: Any, after: Any) -> None:
        audit.record(session, "demand_response.program.change", at_ms=self._now(), target=f"program/{row.id}", object_=f"openadr_program/{row.id}", before=before, after=after, level="notice", operator=owner)

    # -- events ---------------------------------------------------------------------------------------------------------

    def events(self, owner: str, *, program: str = "", targets: Sequence[str] = (), active: bool = False, skip: int = 0, limit: int = 50) -> list[dict[str, Any]]:
        """A page of events, oldest first, as they stand."""
        now = self._now()
        rows = ((row, desk) for row, desk in self.standing(owner, program, now if active else 0) if _meant(row.document, targets) and not (active and desk["state"] in TERMINAL))
        return [views.event(row, desk) for row, desk in _page(rows, skip, limit)]

    def event(self, owner: str, number: str) -> dict[str, Any]:
        """One, as it stands.

        Raises:
            UnknownObjectError: no such event of the owner, or it was deleted.
        """
        row, desk = self.of(owner, number)
        return views.event(row, desk)

    def make_event(self, owner: str, document: Mapping[str, Any], projects: Sequence[ProjectInfo], *, number: str = "") -> dict[str, Any]:
        """A new event. With an eventName the same one again gives the same answer as long as it is not over.

        Args:
            owner: who asks.
            document: what was sent.
            projects: in the asker's scope.
            number: its number here, where it has one elsewhere that this stands for; then names are nobody's business. "" = a new one.

        Raises:
            FieldError: names the place in the document; nothing was done.
            NameTakenError: another event under way or to come has the name.
            ResponseError: demand response refuses.
        """
        now, name = self._now(), str(document.get("eventName") or "")
        foreign, number = bool(number), number or "event-" + secrets.token_hex(8)
        given = self._fields(document, self._program_of(owner, document), projects, now, number, 1, 0)
        with self._ledger.write() as session:
            known = session.get(OpenAdrEvent, number) if foreign else self._namesake(session, owner, document["programID"], name, now)
            if known is None:
                session.add(OpenAdrEvent(id=number, owner=owner, program_id=document["programID"], name=name, end_ms=given["end_ms"], created_ms=now, changed_ms=now, gone=False, document=dict(document)))
            elif known.document != document:
                raise NameTakenError(field="eventName", name=name, other=known.id)
            else:
                number = known.id
        if known is not None and self._at_desk(owner, number) is not None:
            return self.event(owner, number)
        try:  # what was written down before the machine went is asked for now
            self._desk.submit({**given, "event_id": number}, owner, projects)
        except Exception as error:
            if self._at_desk(owner, number) is None:
                with self._ledger.write() as session:
                    session.execute(delete(OpenAdrEvent).where(OpenAdrEvent.id == number))
            if isinstance(error, EventError):
                raise mapping.told(error) from error
            raise
        return self.event(owner, number)

    def change_event(self, owner: str, number: str, document: Mapping[str, Any], seen: str | None, projects: Sequence[ProjectInfo]) -> dict[str, Any]:
        """A new version of an event; what stands already is no new version.

        Args:
            owner: who asks.
            number: of the event.
            document: the whole of it.
            seen: modificationDateTime the caller read, None = not said.
            projects: in the caller's scope.

        Raises:
            UnknownObjectError, StaleObjectError, FieldError, ResponseError: as they say; nothing was changed.
        """
        row, desk = self.of(owner, number)
        fresh(row, seen)
        if document["programID"] != row.program_id:
            raise FieldError(field="programID", problem_zh="事件不能换项目", problem_en="cannot change: delete the event and create another")
        if row.document == document:
            return views.event(row, desk)
        now = self._now()
        given = self._fields(document, self._program_of(owner, document), projects, now, number, desk["version"] + 1, desk["start_ms"])
        try:
            desk = self._desk.submit(given, owner, projects)
        except EventError as error:
            raise mapping.told(error) from error
        with self._ledger.write() as session:
            kept = session.get(OpenAdrEvent, number)
            assert kept is not None
            kept.document, kept.name, kept.end_ms, kept.changed_ms = dict(document), str(document.get("eventName") or ""), given["end_ms"], max(now, kept.changed_ms + 1)
            return views.event(kept, desk)

    def drop_event(self, owner: str, number: str) -> dict[str, Any]:
        """Take an event back; what is held to it is let go at once.

        Returns:
            The event as it stood at the end; from then on it is not there any more.

        Raises:
            UnknownObjectError: no such event.
            StateError: it is being evaluated or settled, so it cannot be undone.
        """
        self.of(owner, number)
        desk = self._desk.cancel(number, owner, "deleted by OpenADR")
        with self._ledger.write() as session:
            kept = session.get(OpenAdrEvent, number)
            assert kept is not None
            kept.gone, kept.changed_ms = True, max(self._now(), kept.changed_ms + 1)
            return views.event(kept, desk)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _fields(self, document: Mapping[str, Any], program: Mapping[str, Any], projects: Sequence[ProjectInfo], now: int, number: str, version: int, begun_ms: int) -> dict[str, Any]:
        able = self._desk.capabilities(projects, str(terms(program).kind))
        return mapping.order(document, program, able, now, event_id=number, version=version, begun_ms=begun_ms)

    def _program_of(self, owner: str, document: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._ledger.read() as session:
            try:
                return _program(session, owner, document["programID"]).document
            except UnknownObjectError as error:
                raise FieldError(field="programID", problem_zh="没有这个项目", problem_en="names no program of yours") from error

    def _namesake(self, session: Session, owner: str, program: str, name: str, now: int) -> OpenAdrEvent | None:
        """The event of that name that is not over."""
        asked = select(OpenAdrEvent).where(OpenAdrEvent.owner == owner, OpenAdrEvent.program_id == program, OpenAdrEvent.name == name, OpenAdrEvent.gone.is_(False), OpenAdrEvent.end_ms > now)
        for row in session.scalars(asked) if name else ():
            desk = self._at_desk(owner, row.id)
            if desk is None or desk["state"] not in TERMINAL:
                return row
        return None

    def standing(self, owner: str, program: str, after_ms: int = 0) -> Iterator[tuple[OpenAdrEvent, dict[str, Any]]]:
        """Events with what demand response says of them, one after the other; those that end after a moment only."""
        with self._ledger.read() as session:
            asked = select(OpenAdrEvent).where(OpenAdrEvent.owner == owner, OpenAdrEvent.gone.is_(False), OpenAdrEvent.end_ms > after_ms)
            rows = session.scalars((asked.where(OpenAdrEvent.program_id == program) if program else asked).order_by(OpenAdrEvent.created_ms, OpenAdrEvent.id)).all()
        for row in rows:
            desk = self._at_desk(owner, row.id)
            if desk is not None:
                yield row, desk

    def of(self, owner: str, number: str) -> tuple[OpenAdrEvent, dict[str, Any]]:
        """An event as it is kept, and as demand response tells it.

        Raises:
            UnknownObjectError: no such event of the owner, or it was deleted.
        """
        with self._ledger.read() as session:
            row = session.get(OpenAdrEvent, number)
        desk = self._at_desk(owner, number) if row is not None and row.owner == owner and not row.gone else None
        if row is None or desk is None:
            raise UnknownObjectError(what="event", name=number[:60])
        return row, desk

    def _at_desk(self, owner: str, number: str) -> dict[str, Any] | None:
        try:
            return self._desk.of(owner, number)
        except UnknownEventError:
            return None


def _program(session: Session, owner: str, number: str) -> OpenAdrProgram:
    row = session.get(OpenAdrProgram, number)
    if row is None or row.owner != owner:
        raise UnknownObjectError(what="program", name=number[:60])
    return row


def fresh(row: OpenAdrProgram | OpenAdrEvent | OpenAdrReport, seen: str | None) -> None:
    """Nothing, when `seen` is the version that stands.

    Raises:
        StaleObjectError: it was changed after it was read.
    """
    if seen is not None and seen != stamp(row.changed_ms):
        raise StaleObjectError(name=row.id, known=stamp(row.changed_ms), field="modificationDateTime")


def _meant(document: Mapping[str, Any], targets: Sequence[str]) -> bool:
    """True when nothing is asked, the object is for everybody, or one of its targets is asked for."""
    named = document.get("targets")
    return not targets or named is None or bool(set(targets) & set(named))


def _page(rows: Iterable[Any], skip: int, limit: int) -> list[Any]:
    return list(islice(rows, skip, skip + limit))
