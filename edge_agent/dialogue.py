"""Messages and questions between the people on site and the platform (人机对话): kept here, carried by heartbeat and welcome, readable without the platform.

Each side repeats what it has until the other tells that it knows. Must not know: transports, devices.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import SiteError
from protos.kang.v1 import telemetry_pb2 as pb

DELIVERED, READ, ANSWERED = 1, 2, 3
MOST: Final = 20  # in one heartbeat
KEEP: Final = 1_000
LENGTH: Final = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS note (
  id TEXT PRIMARY KEY, mine INTEGER NOT NULL, at_ms INTEGER NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL, question INTEGER NOT NULL, choices TEXT NOT NULL,
  state INTEGER NOT NULL, state_ms INTEGER NOT NULL, by TEXT NOT NULL DEFAULT '', answer TEXT NOT NULL DEFAULT '', told INTEGER NOT NULL DEFAULT 0, echo INTEGER NOT NULL DEFAULT 0) STRICT;
"""


class Dialogue:
    """The box's copy; the agent and `kang-edge notes` open it at the same time.

    Args:
        file: a small SQLite store, made at first use.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, isolation_level=None, timeout=5)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the store."""
        self._db.close()

    # -- people on site -----------------------------------------------------------------------------------------------

    def rows(self, limit: int = 50) -> list[dict[str, Any]]:
        """Newest first."""
        found = self._db.execute("SELECT * FROM note ORDER BY at_ms DESC, id LIMIT ?", (limit,)).fetchall()
        return [{**dict(row), "choices": json.loads(row["choices"]), "mine": bool(row["mine"]), "question": bool(row["question"])} for row in found]

    def write(self, text: str, author: str, *, question: bool = False) -> str:
        """A message or question to the platform; returns its id.

        Raises:
            SiteError: no text, or too long.
        """
        if not text.strip() or len(text) > LENGTH:
            raise SiteError(field="text", problem=f"must be 1 to {LENGTH} characters")
        identifier = uuid.uuid4().hex
        self._db.execute("INSERT INTO note (id, mine, at_ms, author, text, question, choices, state, state_ms) VALUES (?, 1, ?, ?, ?, ?, '[]', 0, 0)",
                         (identifier, time.time_ns() // 1_000_000, author[:60], text, int(question)))
        return identifier

    def read(self, identifier: str, by: str) -> None:
        """Somebody has read it.

        Raises:
            SiteError: there is no such note from the platform.
        """
        self._raise(self._theirs(identifier), READ, by, "")

    def answer(self, identifier: str, text: str, by: str) -> None:
        """Somebody answers a question.

        Raises:
            SiteError: no such question, answered already, or not one of its choices.
        """
        row = self._theirs(identifier)
        choices = json.loads(row["choices"])
        if not row["question"] or row["state"] >= ANSWERED:
            raise SiteError(field="id", problem="is not an open question")
        if not text.strip() or len(text) > LENGTH or (choices and text not in choices):
            raise SiteError(field="answer", problem=f"must be one of {', '.join(choices)}" if choices else f"must be 1 to {LENGTH} characters")
        self._raise(row, ANSWERED, by, text)

    def _theirs(self, identifier: str) -> sqlite3.Row:
        rows: list[sqlite3.Row] = self._db.execute("SELECT * FROM note WHERE id LIKE ? AND mine = 0", (identifier.replace("%", "") + "%",)).fetchall()
        if len(rows) != 1:
            raise SiteError(field="id", problem="names no note, or several")
        return rows[0]

    def _raise(self, row: sqlite3.Row, state: int, by: str, answer: str) -> None:
        if row["state"] < state:
            self._db.execute("UPDATE note SET state = ?, state_ms = ?, by = ?, answer = ? WHERE id = ?", (state, time.time_ns() // 1_000_000, by[:60], answer, row["id"]))

    # -- the link -----------------------------------------------------------------------------------------------------

    def outgoing(self) -> tuple[list[pb.Note], list[pb.NoteState]]:
        """What the platform does not know yet: (notes written here, states of its notes and echoes of ours)."""
        notes = [pb.Note(id=r["id"], at_ms=r["at_ms"], author=r["author"], text=r["text"], question=bool(r["question"]))
                 for r in self._db.execute("SELECT * FROM note WHERE mine = 1 AND state = 0 ORDER BY at_ms LIMIT ?", (MOST,))]
        rows = self._db.execute("SELECT * FROM note WHERE (mine = 0 AND state > told) OR (mine = 1 AND echo = 1) ORDER BY at_ms LIMIT ?", (MOST,)).fetchall()
        self._db.executemany("UPDATE note SET echo = 0 WHERE id = ?", [(r["id"],) for r in rows if r["mine"]])
        return notes, [pb.NoteState(id=r["id"], state=r["state"], at_ms=r["state_ms"], by=r["by"], answer=r["answer"]) for r in rows]

    def incoming(self, notes: Iterable[pb.Note], states: Iterable[pb.NoteState]) -> None:
        """What a welcome brought."""
        notes, states = list(notes), list(states)
        if not notes and not states:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for note in notes:
                self._db.execute("INSERT INTO note (id, mine, at_ms, author, text, question, choices, state, state_ms) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?)"
                                 " ON CONFLICT (id) DO UPDATE SET told = 0 WHERE mine = 0",  # it did not hear that we have it: say so again
                                 (note.id[:40], note.at_ms, note.author[:60], note.text[:LENGTH], int(note.question), json.dumps(list(note.choices)[:10], ensure_ascii=False), DELIVERED,
                                  time.time_ns() // 1_000_000))
            for state in states:
                self._db.execute("UPDATE note SET told = max(told, ?) WHERE id = ? AND mine = 0", (state.state, state.id))
                self._db.execute("UPDATE note SET state = ?, state_ms = ?, by = ?, answer = ?, echo = 1 WHERE id = ? AND mine = 1 AND state <= ?",
                                 (state.state, state.at_ms, state.by[:60], state.answer[:LENGTH], state.id, state.state))
            self._db.execute("DELETE FROM note WHERE id IN (SELECT id FROM note ORDER BY at_ms DESC LIMIT -1 OFFSET ?)", (KEEP,))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
