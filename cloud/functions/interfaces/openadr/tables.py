"""Rows of OpenADR: programs and events as their clients wrote them; what became of an event stands in `dr_event` under the same number.

Must not know: FastAPI, other functions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base


class OpenAdrProgram(Base):
    """A program of a business-logic client; `document` is what it sent, without metadata."""

    __tablename__ = "openadr_program"
    __table_args__ = (UniqueConstraint("owner", "name"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(60))
    name: Mapped[str] = mapped_column(String(128))
    created_ms: Mapped[int]
    changed_ms: Mapped[int]
    document: Mapped[dict[str, Any]]


class OpenAdrEvent(Base):
    """An event as its client wrote it.

    Attributes:
        id: also its number in demand response.
        program_id: of `OpenAdrProgram`.
        name: eventName, "" = none; among events that are not over one name means one event.
        end_ms: when it ends, UTC milliseconds.
        gone: True once deleted; demand response keeps what was done.
    """

    __tablename__ = "openadr_event"
    __table_args__ = (Index("ix_openadr_event_owner_end_ms", "owner", "end_ms"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(60))
    program_id: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200), default="")
    end_ms: Mapped[int]
    gone: Mapped[bool] = mapped_column(default=False)
    created_ms: Mapped[int]
    changed_ms: Mapped[int]
    document: Mapped[dict[str, Any]]


class OpenAdrReport(Base):
    """A report somebody handed in about an event; at most `service.REPORTS_MOST` of one event."""

    __tablename__ = "openadr_report"
    __table_args__ = (Index("ix_openadr_report_owner_event_id", "owner", "event_id"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(60))
    event_id: Mapped[str] = mapped_column(String(40))
    client_name: Mapped[str] = mapped_column(String(128))
    created_ms: Mapped[int]
    changed_ms: Mapped[int]
    document: Mapped[dict[str, Any]]
