"""Table of the dialogue between platform and sites (人机对话). Must not know: services, transports."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base


class SiteNote(Base):
    """A message or question; `up` = written on site. `state`: 0 written, 1 delivered, 2 read, 3 answered. `acked`: what the site knows of its own note."""

    __tablename__ = "site_note"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    agent_id: Mapped[str] = mapped_column(String(60), ForeignKey("agent.agent_id"), index=True)
    up: Mapped[bool]
    author: Mapped[str] = mapped_column(String(60))
    text: Mapped[str] = mapped_column(String(500))
    question: Mapped[bool]
    choices: Mapped[list[Any]]
    created_ms: Mapped[int] = mapped_column(index=True)
    state: Mapped[int] = mapped_column(index=True)
    delivered_ms: Mapped[int | None]
    read_ms: Mapped[int | None]
    read_by: Mapped[str] = mapped_column(String(60), default="")
    answered_ms: Mapped[int | None]
    answered_by: Mapped[str] = mapped_column(String(60), default="")
    answer: Mapped[str] = mapped_column(String(500), default="")
    acked: Mapped[int] = mapped_column(default=0)
