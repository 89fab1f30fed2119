"""Events, strategies, resources, commitments in the ledger: every change in one transaction with its step and audit row.

Must not know: FastAPI, how a split is found, transports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from cloud.core.ports import ProjectInfo
from cloud.functions.demand_response.allocation import whole
from cloud.functions.demand_response.errors import NoOptOutError, StaleStrategyError, StateError, UnknownEventError, VersionError
from cloud.functions.demand_response.orders import Capability, Order, check, read, repeats
from cloud.functions.demand_response.states import BINDING, OPEN, TERMINAL, Happening, Kind, State, Times, after
from cloud.functions.demand_response.strategies import FIELDS, Strategy, changed
from cloud.functions.demand_response.tables import (
    ResponseChoice,
    ResponseCommitment,
    ResponseEvent,
    ResponseResource,
    ResponseStep,
    ResponseStrategy,
)
from cloud.ledger import Ledger
from cloud.security import audit

SORTS: Final = {"start_ms": ResponseEvent.start_ms, "created_ms": ResponseEvent.created_ms, "asked_kw": ResponseEvent.asked_kw, "state": ResponseEvent.state, "priority": ResponseEvent.priority, "event_id": ResponseEvent.event_id}
#: A season's events are counted over so long.
SEASON_MS: Final = 200 * 86_400_000


class ResponseService:
    """Keeps demand response."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self._ledger, self._now = ledger, now

    # -- strategies ---------------------------------------------------------------------------------------------------

    def strategy(self, project_id: int) -> Strategy:
        """How a project answers; the default (takes no part in the market) when nobody has said."""
        with self._ledger.read() as session:
            row = session.get(ResponseStrategy, project_id)
            return Strategy(project_id) if row is None else _strategy(row)

    def strategies(self) -> dict[int, Strategy]:
        """All that were ever set."""
        with self._ledger.read() as session:
            return {r.project_id: _strategy(r) for r in session.scalars(select(ResponseStrategy))}

    def change_strategy(self, project_id: int, values: Mapping[str, Any], by: str) -> Strategy:
        """Change a strategy; `values` carries the `version` that was seen.

        Raises:
            StrategyError: a field is out of its range; names it.
            StaleStrategyError: the version seen is not the newest.
        """
        with self._ledger.write() as session:
            row = session.get(ResponseStrategy, project_id)
            known = Strategy(project_id) if row is None else _strategy(row)
            if values.get("version", known.version) != known.version:
                raise StaleStrategyError(by=known.changed_by, version=known.version)
            wanted = changed(known, values)
            if row is None:
                row = ResponseStrategy(project_id=project_id)
                session.add(row)
            for name, value in wanted.items():
                setattr(row, name, value)
            row.version, row.changed_ms, row.changed_by = known.version + 1, self._now(), by[:60]
            session.flush()
            audit.record(session, "demand_response.strategy.change", at_ms=self._now(), target=f"project/{project_id}", object_=f"dr_strategy/{project_id}", before={k: getattr(known, k) for k in FIELDS}, after=wanted)
            return _strategy(row)

    # -- resources ----------------------------------------------------------------------------------------------------

    def keep_resource(self, project_id: int, values: Mapping[str, Any]) -> None:
        """Keep what a project can do now; fields of `tables.ResponseResource`."""
        with self._ledger.write() as session:
            session.merge(ResponseResource(project_id=project_id, **values))

    def resources(self, projects: Sequence[ProjectInfo]) -> list[dict[str, Any]]:
        """Resources of projects with the strategy's limits on them, by code."""
        named, strategies = {p.id: p for p in projects}, self.strategies()
        with self._ledger.read() as session:
            rows = [r for r in session.scalars(select(ResponseResource)) if r.project_id in named]
            return sorted((_resource(r, named[r.project_id], strategies.get(r.project_id) or Strategy(r.project_id)) for r in rows), key=lambda r: str(r["id"]))

    def capabilities(self, projects: Sequence[ProjectInfo], kind: str) -> dict[str, Capability]:
        """What may be asked of each project: everybody for a mandatory order, who takes part for a market event."""
        return {r["id"]: Capability(r["project_id"], r["base_kw"], r["least_kw"], r["forced_kw"], tuple((x["duration_s"], x["down_kw"]) for x in r["rows"]))
                for r in self.resources(projects) if kind != Kind.MARKET or r["participates"]}

    # -- what a dispatcher does ---------------------------------------------------------------------------------------

    def submit(self, given: Mapping[str, Any], dispatcher: str, projects: Sequence[ProjectInfo]) -> dict[str, Any]:
        """Take an event, or a new version of one. The same version with the same content is answered again.

        Args:
            given: fields of `orders.Order`.
            dispatcher: who asks.
            projects: in the dispatcher's scope.

        Raises:
            EventError: names the field; nothing was changed.
            VersionError: stale, or taken with another content.
            StateError: it cannot be amended any more.
        """
        now, able = self._now(), self.capabilities(projects, str(given.get("kind")))
        with self._ledger.write() as session:
            row = _find(session, dispatcher, str(given.get("event_id")))
            begun = row.start_ms if row is not None and row.state not in TERMINAL and row.start_ms <= now else 0
            version = given.get("version")
            if row is not None and isinstance(version, int) and version <= row.version:
                if version == row.version and repeats(given, read(row.document)):
                    return {**_event(row), "repeated": True}
                raise VersionError(event_id=row.event_id, version=row.version, given=version)
            order = check(given, able, now, begun_ms=begun)
            if row is None:
                row = ResponseEvent(dispatcher=dispatcher, event_id=order.event_id, state=str(State.PUBLISHED), created_ms=now, outcome={})
                session.add(row)
                happening = "publish"
            else:
                row.state, happening = str(after(Kind(row.kind), State(row.state), Happening.AMEND)), str(Happening.AMEND)
            _write(row, order, now)
            session.flush()
            if order.supersedes:
                self._supersede(session, dispatcher, order)
            _step(session, row, now, happening, dispatcher, {"version": order.version, "document": order.document()})
            audit.record(session, "demand_response.dispatch.submit", at_ms=now, target=f"event/{order.event_id}", object_=f"dr_event/{row.id}", after=order.document(), level="warning", operator=dispatcher)
            return _event(row)

    def _supersede(self, session: Session, dispatcher: str, order: Order) -> None:
        old = _find(session, dispatcher, order.supersedes)
        if old is None:
            raise UnknownEventError(event_id=order.supersedes)
        self._happen(session, old, Happening.SUPERSEDE, dispatcher, {"by": order.event_id})

    def cancel(self, event_id: str, dispatcher: str, reason: str) -> dict[str, Any]:
        """A dispatcher takes an event back; what was held to it is let go at once. Again: the same answer.

        Raises:
            UnknownEventError: no such event of this dispatcher.
            StateError: it is over.
        """
        with self._ledger.write() as session:
            row = _find(session, dispatcher, event_id)
            if row is None:
                raise UnknownEventError(event_id=event_id)
            if row.state != State.CANCELLED:
                self._happen(session, row, Happening.CANCEL, dispatcher, {"reason": reason[:200]})
                row.why = reason[:200]
                audit.record(session, "demand_response.dispatch.cancel", at_ms=self._now(), target=f"event/{event_id}", object_=f"dr_event/{row.id}", after={"reason": reason}, level="warning", operator=dispatcher)
            return _event(row)

    def clear(self, event_id: str, dispatcher: str, kw: float, micro_kwh: int) -> dict[str, Any]:
        """The market's answer to the bid: so many kW at such a price; 0 kW = not taken.

        Raises:
            UnknownEventError: no such event of this dispatcher.
            StateError: no bid stands, or more was cleared than was bid.
        """
        with self._ledger.write() as session:
            row = _find(session, dispatcher, event_id)
            if row is None:
                raise UnknownEventError(event_id=event_id)
            bid = float(row.outcome.get("bid", {}).get("kw", 0.0))
            if row.state == State.CLEARED and row.outcome.get("cleared") == {"kw": kw, "micro_kwh": micro_kwh}:
                return _event(row)
            if kw > bid * 1.0001:
                raise StateError(state=row.state, happening=f"clear {kw:g} kW of {bid:g} kW bid")
            if kw <= 0:
                self._happen(session, row, Happening.CANCEL, dispatcher, {"reason": "not-cleared"})
                row.why = "not-cleared"
            else:
                self._happen(session, row, Happening.CLEAR, dispatcher, {"kw": kw, "micro_kwh": micro_kwh})
                row.outcome = {**row.outcome, "cleared": {"kw": kw, "micro_kwh": micro_kwh}}
            return _event(row)

    def setpoint(self, event_id: str, dispatcher: str, kw: float, projects: Sequence[ProjectInfo]) -> dict[str, Any]:
        """Set what an order under way asks for from now on; the newest counts.

        Raises:
            UnknownEventError: no such event of this dispatcher.
            StateError: it is no order, or not under way.
            EventError: outside what its resources can do.
        """
        with self._ledger.write() as session:
            row = _find(session, dispatcher, event_id)
            if row is None:
                raise UnknownEventError(event_id=event_id)
            if row.kind != Kind.ORDER or row.state != State.ACTIVE:
                raise StateError(state=row.state, happening="setpoint")
            check({**row.document, "version": row.version, "kw": kw}, self.capabilities(projects, row.kind), self._now(), begun_ms=row.start_ms)
            row.outcome = {**row.outcome, "setpoint": {"kw": kw, "at_ms": self._now()}}
            return _event(row)

    # -- what the platform's side does ----------------------------------------------------------------------------------

    def bid(self, event: int, kw: float, micro_kwh: int, by: str) -> dict[str, Any]:
        """Offer kW at a price; again until gate closure.

        Raises:
            StateError: nothing can be bid now.
        """
        with self._ledger.write() as session:
            row = self._row(session, event)
            if self._now() >= row.bid_until_ms:
                raise StateError(state=row.state, happening="bid")
            self._happen(session, row, Happening.BID, by, {"kw": kw, "micro_kwh": micro_kwh})
            row.outcome = {**row.outcome, "bid": {"kw": kw, "micro_kwh": micro_kwh, "by": by}}
            return _event(row)

    def choose(self, event: int, project_id: int, choice: str, depth: float, by: str) -> dict[str, Any]:
        """A project's side joins or declines; declining an event it is committed to is an opt-out and recorded as such.

        Raises:
            NoOptOutError: the event is a mandatory order.
            StateError: the event is over.
        """
        with self._ledger.write() as session:
            row = self._row(session, event)
            if row.kind == Kind.ORDER:
                raise NoOptOutError
            if row.state not in OPEN or (choice == "join" and row.state not in (State.PUBLISHED, State.INVITED, State.BID)):
                raise StateError(state=row.state, happening=choice)
            session.merge(ResponseChoice(event=event, project_id=project_id, choice=choice, depth=depth, at_ms=self._now(), by=by[:60]))
            held = session.get(ResponseCommitment, (event, project_id))
            if choice == "decline" and held is not None and not held.out:
                held.out, held.version = "opted-out", held.version + 1
            _step(session, row, self._now(), choice, by, {"project_id": project_id})
            audit.record(session, "demand_response.offer.choose", at_ms=self._now(), target=f"project/{project_id}", object_=f"dr_choice/{event}/{project_id}", after={"choice": choice, "depth": depth}, operator=by)
            return {"event": event, "project_id": project_id, "choice": choice, "opted_out": held is not None and held.out == "opted-out"}

    def choices(self, event: int) -> dict[int, tuple[str, float]]:
        """What projects said: project -> (choice, depth)."""
        with self._ledger.read() as session:
            return {r.project_id: (r.choice, r.depth) for r in session.scalars(select(ResponseChoice).where(ResponseChoice.event == event))}

    def happen(self, event: int, happening: Happening, *, why: str = "", detail: Mapping[str, Any] | None = None, outcome: Mapping[str, Any] | None = None, by: str = "platform") -> dict[str, Any]:
        """Move an event on.

        Raises:
            StateError: it cannot happen now.
        """
        with self._ledger.write() as session:
            row = self._row(session, event)
            self._happen(session, row, happening, by, detail or {})
            row.why = why or row.why
            row.outcome = {**row.outcome, **(outcome or {})}
            return _event(row)

    def commit(self, event: int, rows: Sequence[Mapping[str, Any]], *, confirm: bool, detail: Mapping[str, Any], preheat_ms: int = 0, recovered_ms: int = 0) -> dict[str, Any]:
        """Hold projects to an allocation: new, or in place of the one before (a re-allocation, 7.3.7 d). What opted out stays out.

        Args:
            event: the event.
            rows: fields of `tables.ResponseCommitment` but event and version, one a project.
            confirm: True for the first, which confirms the event.
            detail: of the step.
            preheat_ms: heat before the event begins, 0 = none.
            recovered_ms: end of the last rebound window.
        """
        with self._ledger.write() as session:
            row = self._row(session, event)
            if confirm:
                self._happen(session, row, Happening.CONFIRM, "platform", detail)
                row.preheat_ms = preheat_ms
            elif row.state not in BINDING:
                raise StateError(state=row.state, happening="reallocate")
            else:
                _step(session, row, self._now(), "reallocate", "platform", detail)
            row.recovered_ms = max(row.end_ms, recovered_ms)
            named = {int(r["project_id"]) for r in rows}
            for old in session.scalars(select(ResponseCommitment).where(ResponseCommitment.event == event)):
                if old.project_id not in named and not old.out:
                    old.out, old.version = "released", old.version + 1
            total = 0.0
            for values in rows:
                known = session.get(ResponseCommitment, (event, int(values["project_id"])))
                if known is not None and known.out == "opted-out":
                    continue
                total += float(values["kw"])
                same = known is not None and not known.out and all(getattr(known, k) == v for k, v in values.items())
                if not same:
                    session.merge(ResponseCommitment(event=event, version=(known.version if known else 0) + 1, **{"out": "", **values}))
            row.committed_kw, row.changed_ms = total, self._now()
            return _event(row)

    # -- looking --------------------------------------------------------------------------------------------------------

    def open_events(self) -> list[dict[str, Any]]:
        """Events that are not over, strongest first: orders before the market, then by priority, then by age."""
        with self._ledger.read() as session:
            rows = session.scalars(select(ResponseEvent).where(ResponseEvent.state.not_in([str(s) for s in TERMINAL]))).all()
            return [_event(r) for r in sorted(rows, key=lambda r: (r.kind != Kind.ORDER, r.priority, r.created_ms, r.id))]

    def event(self, event: int) -> dict[str, Any] | None:
        """One event, None when there is none."""
        with self._ledger.read() as session:
            row = session.get(ResponseEvent, event)
            return None if row is None else _event(row)

    def of(self, dispatcher: str, event_id: str) -> dict[str, Any]:
        """A dispatcher's event by its own number.

        Raises:
            UnknownEventError: no such event of this dispatcher.
        """
        with self._ledger.read() as session:
            row = _find(session, dispatcher, event_id)
            if row is None:
                raise UnknownEventError(event_id=event_id)
            return _event(row)

    def events(self, *, state: Sequence[str] = (), kind: str = "", text: str = "", dispatcher: str = "", from_ms: int | None = None, to_ms: int | None = None, sort: str = "start_ms", descending: bool = True, offset: int = 0, limit: int = 50) -> tuple[list[dict[str, Any]], int]:
        """(a page of events, how many there are), filtered and sorted."""
        asked = select(ResponseEvent)
        if state:
            asked = asked.where(ResponseEvent.state.in_(list(state)))
        if kind:
            asked = asked.where(ResponseEvent.kind == kind)
        if dispatcher:
            asked = asked.where(ResponseEvent.dispatcher == dispatcher)
        if text:
            asked = asked.where(ResponseEvent.event_id.contains(text, autoescape=True))
        if from_ms is not None:
            asked = asked.where(ResponseEvent.end_ms > from_ms)
        if to_ms is not None:
            asked = asked.where(ResponseEvent.start_ms < to_ms)
        column = SORTS[sort]
        with self._ledger.read() as session:
            total = session.scalar(select(func.count()).select_from(asked.subquery())) or 0
            rows = session.scalars(asked.order_by(column.desc() if descending else column.asc(), ResponseEvent.id.desc()).offset(offset).limit(limit))
            return [_event(r) for r in rows], total

    def steps(self, event: int) -> list[dict[str, Any]]:
        """What happened to an event, oldest first."""
        with self._ledger.read() as session:
            return [{"at_ms": r.at_ms, "happening": r.happening, "state": r.state, "by": r.by, "detail": r.detail} for r in session.scalars(select(ResponseStep).where(ResponseStep.event == event).order_by(ResponseStep.id))]

    def commitments(self, event: int | None = None) -> list[dict[str, Any]]:
        """Commitments of one event, or all that bind now (with the event's kind, priority and number), strongest first."""
        with self._ledger.read() as session:
            asked = select(ResponseCommitment, ResponseEvent).join(ResponseEvent, ResponseEvent.id == ResponseCommitment.event)
            asked = asked.where(ResponseCommitment.event == event) if event is not None else asked.where(ResponseEvent.state.in_([str(s) for s in BINDING]))
            found = [{**_commitment(c), "event_id": e.event_id, "kind": e.kind, "priority": e.priority, "state": e.state, "created_ms": e.created_ms} for c, e in session.execute(asked)]
            return sorted(found, key=lambda c: (c["kind"] != Kind.ORDER, c["priority"], c["created_ms"], c["event"]))

    def taken(self, but: int) -> dict[int, list[tuple[int, int]]]:
        """(start, end) of the market events of this season each project is or was committed to, without one of them: for fatigue."""
        out: dict[int, list[tuple[int, int]]] = {}
        with self._ledger.read() as session:
            for project, a, b in session.execute(select(ResponseCommitment.project_id, ResponseCommitment.from_ms, ResponseCommitment.to_ms).join(ResponseEvent, ResponseEvent.id == ResponseCommitment.event).where(
                    ResponseCommitment.event != but, ResponseCommitment.out == "", ResponseEvent.kind == str(Kind.MARKET),
                    ResponseEvent.state.not_in([str(State.CANCELLED), str(State.SUPERSEDED)]), ResponseCommitment.from_ms > self._now() - SEASON_MS)):
                out.setdefault(int(project), []).append((int(a), int(b)))
        return out

    def stronger(self, event: int, project_id: int) -> list[dict[str, Any]]:
        """A project's commitments to events stronger than this one."""
        with self._ledger.read() as session:
            me = self._row(session, event)
            rank = (me.kind != Kind.ORDER, me.priority, me.created_ms, me.id)
            rows = session.execute(select(ResponseCommitment, ResponseEvent).join(ResponseEvent, ResponseEvent.id == ResponseCommitment.event).where(
                ResponseCommitment.project_id == project_id, ResponseCommitment.event != event, ResponseCommitment.out == "", ResponseEvent.state.not_in([str(State.CANCELLED), str(State.SUPERSEDED)])))
            return [_commitment(c) for c, e in rows if (e.kind != Kind.ORDER, e.priority, e.created_ms, e.id) < rank]

    def spans(self, project_id: int, but: int) -> list[tuple[int, int]]:
        """(start, end) of all events a project was held to, without one of them: such days are no baseline."""
        with self._ledger.read() as session:
            return [(int(a), int(b)) for a, b in session.execute(select(ResponseCommitment.from_ms, ResponseCommitment.to_ms).where(ResponseCommitment.project_id == project_id, ResponseCommitment.event != but))]

    def touched(self) -> set[int]:
        """Projects with a commitment, alive or taken back, that reaches beyond now: their boxes may still hold it."""
        with self._ledger.read() as session:
            return {int(p) for p in session.scalars(select(ResponseCommitment.project_id).where(ResponseCommitment.rebound_ms > self._now()))}

    def forget(self, project_id: int) -> None:
        """A project is gone: its resource is not offered any more."""
        with self._ledger.write() as session:
            session.execute(delete(ResponseResource).where(ResponseResource.project_id == project_id))

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _row(self, session: Session, event: int) -> ResponseEvent:
        row = session.get(ResponseEvent, event)
        if row is None:
            raise UnknownEventError(event_id=event)
        return row

    def _happen(self, session: Session, row: ResponseEvent, happening: Happening, by: str, detail: Mapping[str, Any]) -> None:
        row.state, row.changed_ms = str(after(Kind(row.kind), State(row.state), happening)), self._now()
        _step(session, row, row.changed_ms, str(happening), by, detail)


def times(event: Mapping[str, Any]) -> Times:
    """Moments of an event's view."""
    return Times(event["bid_until_ms"], event["preheat_ms"], event["start_ms"], event["end_ms"], event["recovered_ms"])


def _find(session: Session, dispatcher: str, event_id: str) -> ResponseEvent | None:
    return session.scalar(select(ResponseEvent).where(ResponseEvent.dispatcher == dispatcher, ResponseEvent.event_id == event_id))


def _write(row: ResponseEvent, order: Order, now: int) -> None:
    row.version, row.kind, row.priority, row.trial = order.version, str(order.kind), order.priority, order.trial
    row.start_ms, row.end_ms, row.bid_until_ms, row.recovered_ms, row.preheat_ms = order.start_ms, order.end_ms, order.bid_until_ms, order.end_ms, 0
    row.asked_kw, row.document, row.changed_ms, row.why = max(order.kw), order.document(), now, ""


def _step(session: Session, row: ResponseEvent, at_ms: int, happening: str, by: str, detail: Mapping[str, Any]) -> None:
    session.add(ResponseStep(event=row.id, at_ms=at_ms, happening=happening[:20], state=row.state, by=by[:60], detail=dict(detail)))


def _strategy(row: ResponseStrategy) -> Strategy:
    return Strategy(row.project_id, **{name: getattr(row, name) for name in FIELDS}, version=row.version, changed_ms=row.changed_ms, changed_by=row.changed_by)


def _resource(row: ResponseResource, project: ProjectInfo, s: Strategy) -> dict[str, Any]:
    """Published: what the optimiser found, as deep and as long as the strategy lends it, never below the floor."""
    most = max(0.0, row.base_kw - s.least_kw)
    stage, other = float(row.base.get("step_kw", 0.0)), float(row.base.get("other_kw", 0.0))
    rows = [{**r, "down_kw": round(whole(row.base_kw, min(most, r["down_kw"] * s.depth), stage, other), 2) if r["duration_s"] <= s.longest_s else 0.0, "up_kw": round(r["up_kw"] * s.depth, 2) if r["duration_s"] <= s.longest_s else 0.0} for r in row.rows]
    return {"id": project.code, "project_id": row.project_id, "name_zh": project.name_zh, "name_en": project.name_en, "participates": s.participates, "at_ms": row.at_ms, "start_ms": row.start_ms, "base_kw": row.base_kw,
            "least_kw": round(s.least_kw, 2), "forced_kw": round(max(0.0, row.base_kw - s.least_kw), 2), "ramp_s": row.ramp_s, "notice_s": max(row.notice_s, s.notice_s), "how": row.how, "price_micro_kwh": s.price_micro_kwh,
            "rows": rows, "base": row.base}


def _event(row: ResponseEvent) -> dict[str, Any]:
    return {"id": row.id, "dispatcher": row.dispatcher, "event_id": row.event_id, "version": row.version, "kind": row.kind, "state": row.state, "why": row.why, "priority": row.priority, "trial": row.trial,
            "start_ms": row.start_ms, "end_ms": row.end_ms, "bid_until_ms": row.bid_until_ms, "preheat_ms": row.preheat_ms, "recovered_ms": row.recovered_ms, "asked_kw": row.asked_kw, "committed_kw": row.committed_kw,
            "created_ms": row.created_ms, "changed_ms": row.changed_ms, "document": row.document, "outcome": row.outcome}


def _commitment(row: ResponseCommitment) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("event", "project_id", "version", "from_ms", "to_ms", "kw", "segments", "rebound_ms", "rebound_kw", "authority", "out")}



