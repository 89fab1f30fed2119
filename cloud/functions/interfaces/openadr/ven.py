"""This platform as VEN: what another's VTN asks becomes events of demand response by the same mapping, what was metered goes back as reports.

`Ven.look` is blocking, for a thread. An event that cannot be taken is recorded with its field, once for every version; OpenADR has no word to tell the
VTN so. Must not know: FastAPI, HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from pydantic import ValidationError

from cloud.core.ports import ProjectInfo
from cloud.functions.demand_response.errors import ResponseError, StateError
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import State
from cloud.functions.interfaces.openadr.errors import FieldError, UnknownObjectError
from cloud.functions.interfaces.openadr.models import EventRequest, Known, ProgramRequest
from cloud.functions.interfaces.openadr.peer import AnswerError, Peer, PeerError
from cloud.functions.interfaces.openadr.reports import ReportService
from cloud.functions.interfaces.openadr.service import ExchangeService
from cloud.ledger import Ledger
from cloud.security import audit
from protos.errors import KangError

log = logging.getLogger("kang.openadr")
#: Under this name stands the id an event has at the VTN.
REMOTE: Final = "remoteID"
_METADATA: Final = frozenset(Known.model_fields) | {"clientID"}


class Ven:
    """Takes events of one VTN.

    Args:
        peer: the VTN.
        ledger: ours.
        now: UTC milliseconds.
        projects: gives all projects; the VTN may ask those its settings name.
    """

    def __init__(self, peer: Peer, ledger: Ledger, now: Callable[[], int], projects: Callable[[], Sequence[ProjectInfo]]) -> None:
        self._peer, self._ledger, self._now, self._given = peer, ledger, now, projects
        self.owner = "vtn:" + hashlib.sha256(f"{peer.settings.url}\0{peer.settings.client_id}".encode()).hexdigest()[:12]
        self._exchange, self._desk = ExchangeService(ledger, now), ResponseService(ledger, now)
        self._refused: dict[str, str] = {}
        self._reported: dict[str, tuple[str, Any]] = {}
        self._mute = False

    def look(self) -> dict[str, int]:
        """One look: take what is new or changed, let go what is gone, clear bids, report.

        Returns:
            How many events were taken, refused now, dropped, and reports sent.

        Raises:
            PeerError: the VTN cannot be asked; nothing is let go because of that.
        """
        programs = {p["id"]: p for p in self._peer.all("/programs")}
        events = {e["id"]: e for e in self._peer.all("/events", active="true")}
        done = {"taken": 0, "refused": 0, "dropped": 0, "reported": 0}
        for event in events.values():
            try:
                done["taken"] += self._take(event, programs.get(str(event.get("programID"))))
            except (KangError, ValidationError) as error:
                done["refused"] += self._refuse(event, error)
        done["dropped"] = self._drop({self.number(e) for e in events})
        self._clear()
        done["reported"] = self._report()
        return done

    def number(self, remote: str) -> str:
        """Our number of an object of the VTN."""
        return "ven-" + hashlib.sha256(f"{self.owner}\0{remote}".encode()).hexdigest()[:24]

    def _projects(self) -> list[ProjectInfo]:
        named = self._peer.settings.projects
        return [p for p in self._given() if named is None or p.code in named]

    def _take(self, event: Mapping[str, Any], program: Mapping[str, Any] | None) -> int:
        if program is None:
            raise FieldError(field="programID", problem_zh="没有这个项目", problem_en="names no program of the server")
        terms = ProgramRequest.model_validate(_known(program, ProgramRequest)).document()
        if self._peer.settings.mandatory and not any(a["type"] == "KANG_KIND" for a in terms.get("attributes") or []):
            terms["attributes"] = [*(terms.get("attributes") or []), {"type": "KANG_KIND", "values": ["order"]}]
        local, number = self.number(program["id"]), self.number(event["id"])
        self._exchange.keep_program(self.owner, local, terms)
        document = {**EventRequest.model_validate({**_known(event, EventRequest), "programID": local}).document(), REMOTE: event["id"]}
        try:
            known, desk = self._exchange.of(self.owner, number)
        except UnknownObjectError:
            if self._refused.get(number) == _stamp(event):
                return 0
            self._exchange.make_event(self.owner, document, self._projects(), number=number)
            return 1
        if known.document == document or desk["state"] in {State.SETTLED, State.CANCELLED, State.SUPERSEDED} or self._refused.get(number) == _stamp(event):
            return 0
        self._exchange.change_event(self.owner, number, document, None, self._projects())
        return 1

    def _refuse(self, event: Mapping[str, Any], error: KangError | ValidationError) -> int:
        """Record a refusal, once for every version of the event."""
        number = self.number(event["id"])
        if self._refused.get(number) == _stamp(event):
            return 0
        self._refused[number] = _stamp(event)
        code, field = (error.code, str(error.values.get("field", ""))) if isinstance(error, KangError) else ("E-INPUT", ".".join(str(p) for p in error.errors()[0]["loc"]))
        log.warning("event %s of the OpenADR server refused: %s %s", event["id"][:60], code, error.message("en") if isinstance(error, KangError) else field)
        with self._ledger.write() as session:
            audit.record(session, "demand_response.dispatch.submit", at_ms=self._now(), target=f"event/{event['id'][:60]} {field}", object_=f"dr_event/{number}", result="refused", code=code, operator=self.owner, level="warning", detail={"field": field})
        return 1

    def _drop(self, present: set[str]) -> int:
        """Events the VTN does not have any more, and that are not about to end anyway."""
        gone = 0
        for row, desk in list(self._exchange.standing(self.owner, "", self._now() + 60_000)):
            if row.id not in present and desk["state"] not in {State.SETTLED, State.CANCELLED, State.SUPERSEDED}:
                try:
                    self._exchange.drop_event(self.owner, row.id)
                    gone += 1
                except StateError:
                    log.info("event %s is gone at the OpenADR server and over here", row.id)
        return gone

    def _clear(self) -> None:
        """OpenADR clears nothing: whoever joins an event is in it, at the event's price."""
        for row, desk in list(self._exchange.standing(self.owner, "", self._now())):
            if desk["state"] == State.BID:
                try:
                    self._desk.clear(row.id, self.owner, float(desk["outcome"]["bid"]["kw"]), int(desk["document"]["micro_kwh"]))
                except ResponseError as error:
                    log.warning("bid of event %s: %s", row.id, error.message("en"))

    def _report(self) -> int:
        """Send what is new of events that began within a day."""
        if self._mute:
            return 0
        sent, codes = 0, {p.id: p.code for p in self._given()}
        reports = ReportService(self._ledger, self._now, codes)
        for row, desk in list(self._exchange.standing(self.owner, "", self._now() - 86_400_000)):
            if desk["start_ms"] > self._now():
                continue
            made = {k: v for k, v in reports.made(desk).items() if k not in _METADATA}
            body = {**made, "eventID": row.document[REMOTE], "clientName": self._peer.settings.ven_name}
            there, before = self._reported.get(row.id, ("", None))
            if body == before:
                continue
            try:
                there = there or self._found(body)
                answer = self._peer.ask("PUT", f"/reports/{quote(there, safe='')}", body) if there else self._peer.ask("POST", "/reports", body)
            except AnswerError as error:
                self._mute = error.status in {403, 501}  # it takes no reports from us: asked again when this process begins again
                self._reported.pop(row.id, None)
                log.warning("%s", error.message("en"))
                continue
            self._reported[row.id] = (str((answer or {}).get("id", there)), body)
            sent += 1
        return sent

    def _found(self, body: Mapping[str, Any]) -> str:
        """The report sent before this process began, "" = none."""
        rows = self._peer.all("/reports", eventID=str(body["eventID"]), clientName=str(body["clientName"]))
        return next((r["id"] for r in rows if r.get("eventID") == body["eventID"] and r.get("clientName") == body["clientName"]), "")


async def keep(ven: Ven, every_s: float) -> None:
    """Look for ever; what goes wrong is told when it begins and when it is over."""
    wrong = ""
    while True:
        try:
            done = await asyncio.to_thread(ven.look)
            if wrong or any(done.values()):
                log.info("OpenADR server: %s", done)
            wrong = ""
        except PeerError as error:
            if wrong != error.code:
                log.warning("%s", error.message("en"))
            wrong = error.code
        except Exception:
            log.exception("looking at the OpenADR server")
        await asyncio.sleep(every_s)


def _known(document: Mapping[str, Any], shape: type[Known]) -> dict[str, Any]:
    """What we know of an object: a newer server may say more."""
    return {k: v for k, v in document.items() if k in shape.model_fields and k not in _METADATA}


def _stamp(event: Mapping[str, Any]) -> str:
    return str(event.get("modificationDateTime"))[:60]


