"""Messages and questions between platform and sites (人机对话, clause 5 b), with delivered, read and answered states.

What waits for an agent goes with the answer to its next heartbeat and is repeated until the agent tells that it has it. Must not know: FastAPI, transports.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from cloud.core.clock import now_ms
from cloud.functions.devices.tables import Agent
from cloud.functions.system.dialogue_tables import SiteNote
from cloud.ledger import Ledger, bump, revision
from cloud.security import audit
from protos.errors import KangError
from protos.kang.v1 import telemetry_pb2 as pb

DELIVERED, READ, ANSWERED = 1, 2, 3
MOST: Final = 20
LENGTH: Final = 500
REVISION: Final = "dialogue"
_ID = re.compile(r"[0-9a-f]{32}")


class NoteError(KangError):
    """A note that cannot be written, read or answered so."""

    code = "E-NOTE"
    zh = "消息未处理：{reason_zh}。"
    en = "The note was not taken: {reason_en}."


class DialogueService:
    """The platform's side.

    Args:
        ledger: where notes are.
        now: UTC milliseconds.
        refresh_s: how old the picture of who has notes waiting may be.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms, *, refresh_s: float = 1.0) -> None:
        self._ledger, self._now, self._refresh_s = ledger, now, refresh_s
        self._lock = threading.Lock()
        self._looked, self._version, self._waiting = -1e9, -1, frozenset[str]()

    # -- people of the platform ---------------------------------------------------------------------------------------

    def send(self, project_id: int, agent_id: str, text: str, author: str, *, question: bool = False, choices: Sequence[str] = ()) -> dict[str, Any]:
        """A message or question to a site.

        Raises:
            NoteError: no such agent there, or nothing in it.
        """
        if not text.strip() or len(text) > LENGTH:
            raise NoteError(reason_zh=f"内容应为 1 至 {LENGTH} 字", reason_en=f"its text must be 1 to {LENGTH} characters")
        if choices and not question:
            raise NoteError(reason_zh="只有问题才有选项", reason_en="only a question has choices")
        with self._ledger.write() as session:
            agent = session.get(Agent, agent_id)
            if agent is None or agent.project_id != project_id or agent.revoked:
                raise NoteError(reason_zh=f"本项目没有在用代理“{agent_id[:60]}”", reason_en=f"the project has no agent '{agent_id[:60]}' in use")
            row = SiteNote(id=uuid.uuid4().hex, project_id=project_id, agent_id=agent_id, up=False, author=author[:60], text=text, question=question, choices=list(choices),
                           created_ms=self._now(), state=0, read_by="", answered_by="", answer="", acked=0)
            session.add(row)
            session.flush()
            self._told(session, "send", row, None)
            return view(row)

    def rows(self, *, projects: frozenset[int] | None, agent_id: str = "", before_ms: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first; `projects` None = all."""
        query = select(SiteNote).order_by(SiteNote.created_ms.desc()).limit(limit)
        if projects is not None:
            query = query.where(SiteNote.project_id.in_(projects))
        if agent_id:
            query = query.where(SiteNote.agent_id == agent_id)
        if before_ms is not None:
            query = query.where(SiteNote.created_ms < before_ms)
        with self._ledger.read() as session:
            return [view(row) for row in session.scalars(query)]

    def one(self, identifier: str) -> dict[str, Any] | None:
        """A note."""
        with self._ledger.read() as session:
            row = session.get(SiteNote, identifier[:32])
            return view(row) if row is not None else None

    def read(self, identifier: str, by: str) -> dict[str, Any]:
        """Somebody of the platform has read a site's note.

        Raises:
            NoteError: there is none of that id.
        """
        with self._ledger.write() as session:
            row = self._theirs(session, identifier)
            if row.state < READ:
                before = view(row)
                row.state, row.read_ms, row.read_by = READ, self._now(), by[:60]
                self._told(session, "read", row, before)
            return view(row)

    def answer(self, identifier: str, text: str, by: str) -> dict[str, Any]:
        """Somebody of the platform answers a site's question.

        Raises:
            NoteError: no open question, or no text.
        """
        if not text.strip() or len(text) > LENGTH:
            raise NoteError(reason_zh=f"回答应为 1 至 {LENGTH} 字", reason_en=f"an answer must be 1 to {LENGTH} characters")
        with self._ledger.write() as session:
            row = self._theirs(session, identifier)
            if not row.question or row.state >= ANSWERED:
                raise NoteError(reason_zh="这不是待回答的问题", reason_en="this is not an open question")
            before = view(row)
            row.read_ms, row.read_by = row.read_ms or self._now(), row.read_by or by[:60]
            row.state, row.answered_ms, row.answered_by, row.answer = ANSWERED, self._now(), by[:60], text
            self._told(session, "answer", row, before)
            return view(row)

    @staticmethod
    def _theirs(session: Session, identifier: str) -> SiteNote:
        row = session.get(SiteNote, identifier[:32])
        if row is None or not row.up:
            raise NoteError(reason_zh="没有这条来自现场的消息", reason_en="there is no such note from a site")
        return row

    def _told(self, session: Session, what: str, row: SiteNote, before: Any) -> None:
        bump(session, REVISION)
        audit.record(session, f"system.dialogue.{what}", at_ms=self._now(), target=f"agents/{row.agent_id}", object_=f"site_note/{row.id}", before=before, after=view(row), level="notice")

    # -- agents -------------------------------------------------------------------------------------------------------

    def waits(self, agent_id: str) -> bool:
        """Is there something to tell this agent? Costs nothing while nothing changes."""
        with self._lock:
            if time.monotonic() - self._looked > self._refresh_s:
                with self._ledger.read() as session:
                    version = revision(session, REVISION)
                    if version != self._version:
                        self._waiting = frozenset(session.scalars(select(SiteNote.agent_id).where(_OWED).distinct()))
                        self._version = version
                self._looked = time.monotonic()
            return agent_id in self._waiting

    def exchange(self, project_id: int, agent_id: str, notes: Iterable[pb.Note], states: Iterable[pb.NoteState]) -> tuple[list[pb.Note], list[pb.NoteState]]:
        """What a heartbeat brought against what its welcome carries; anything that is not this agent's own is dropped."""
        now, echoed = self._now(), list[pb.NoteState]()
        with self._ledger.write() as session:
            changed = False
            for note in list(notes)[:MOST]:
                if _ID.fullmatch(note.id) and note.text.strip() and session.get(SiteNote, note.id) is None:
                    session.add(SiteNote(id=note.id, project_id=project_id, agent_id=agent_id, up=True, author=note.author[:60], text=note.text[:LENGTH], question=note.question, choices=[],
                                         created_ms=min(note.at_ms, now), state=DELIVERED, delivered_ms=now, read_by="", answered_by="", answer="", acked=0))
                    changed = True
            for state in list(states)[:2 * MOST]:
                row = session.get(SiteNote, state.id[:32])
                if row is not None and row.agent_id == agent_id and state.state in (DELIVERED, READ, ANSWERED):
                    changed = True
                    if row.up:
                        row.acked = max(row.acked, min(state.state, row.state))
                    else:
                        _advance(row, state, now)
                        echoed.append(pb.NoteState(id=row.id, state=state.state))
            session.flush()
            if changed:
                bump(session, REVISION)
            owed = session.scalars(select(SiteNote).where(_OWED, SiteNote.agent_id == agent_id).order_by(SiteNote.created_ms).limit(MOST)).all()
            return ([pb.Note(id=r.id, at_ms=r.created_ms, author=r.author, text=r.text, question=r.question, choices=r.choices) for r in owed if not r.up],
                    echoed + [pb.NoteState(id=r.id, state=r.state, at_ms=r.answered_ms or r.read_ms or r.delivered_ms or 0, by=r.answered_by or r.read_by, answer=r.answer) for r in owed if r.up])


#: A note of ours that never arrived, or a site's note whose state the site does not know.
_OWED = or_(SiteNote.up.is_(False) & (SiteNote.state == 0), SiteNote.up.is_(True) & (SiteNote.state > SiteNote.acked))


def _advance(row: SiteNote, state: pb.NoteState, now: int) -> None:
    """A site tells how far a note of ours has come; its clock is not ours, so a time of the future is now."""
    if state.state <= row.state or (state.state == ANSWERED and not row.question):
        return
    at = min(state.at_ms, now) or now
    row.delivered_ms = row.delivered_ms or (at if state.state == DELIVERED else now)
    if state.state >= READ:
        row.read_ms, row.read_by = row.read_ms or at, row.read_by or state.by[:60]
    if state.state == ANSWERED:
        row.answered_ms, row.answered_by, row.answer = at, state.by[:60], state.answer[:LENGTH]
    row.state = state.state


def view(row: SiteNote) -> dict[str, Any]:
    """A note as the page sees it."""
    return {"id": row.id, "project_id": row.project_id, "agent_id": row.agent_id, "up": row.up, "author": row.author, "text": row.text, "question": row.question, "choices": list(row.choices),
            "created_ms": row.created_ms, "state": ("written", "delivered", "read", "answered")[row.state], "delivered_ms": row.delivered_ms, "read_ms": row.read_ms, "read_by": row.read_by,
            "answered_ms": row.answered_ms, "answered_by": row.answered_by, "answer": row.answer}
