"""Rows of demand response (需求响应). Money is integer micro-yuan. Must not know: FastAPI, other functions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base, BigKey


class ResponseStrategy(Base):
    """How a project answers the grid (响应策略).

    Attributes:
        participates: in market events; mandatory orders reach everybody.
        joins: True = joins an invitation by itself, False = somebody has to.
        depth: greatest share of what the optimiser finds that may be offered, 0 to 1.
        longest_s: longest event it takes part in.
        rest_s: time left alone between two events.
        notice_s: least time between invitation and start.
        floor_c: rooms never planned below this for money, degC.
        rebound_share: draw in the rebound window, share of the baseline's peak; rebound_s: its length.
        events_per_day, events_per_season: fatigue limits.
        security_kw: registered security load (保安负荷); frost_kw: what keeps the plant from freezing. Nothing goes below either.
        price_micro_kwh: least price it offers at.
        owner_share: of the revenue, to the project's owner; the rest to the operator.
        preset: "comfort", "balanced", "saver" or "" (own values).
    """

    __tablename__ = "dr_strategy"
    project_id: Mapped[int] = mapped_column(primary_key=True)
    participates: Mapped[bool] = mapped_column(default=False)
    joins: Mapped[bool] = mapped_column(default=False)
    depth: Mapped[float] = mapped_column(Double)
    longest_s: Mapped[int]
    rest_s: Mapped[int]
    notice_s: Mapped[int]
    floor_c: Mapped[float] = mapped_column(Double)
    rebound_share: Mapped[float] = mapped_column(Double)
    rebound_s: Mapped[int]
    events_per_day: Mapped[int]
    events_per_season: Mapped[int]
    security_kw: Mapped[float] = mapped_column(Double)
    frost_kw: Mapped[float] = mapped_column(Double)
    price_micro_kwh: Mapped[int]
    owner_share: Mapped[float] = mapped_column(Double)
    preset: Mapped[str] = mapped_column(String(12), default="")
    version: Mapped[int]
    changed_ms: Mapped[int]
    changed_by: Mapped[str] = mapped_column(String(60))


class ResponseResource(Base):
    """What a project can do for the grid now (可调资源), as last computed.

    Attributes:
        start_ms: the capability holds for events that begin about here.
        base_kw: draw without an event.
        forced_kw: what a mandatory order may cut: down to security load and frost minimum.
        how: "optimised" (from the planner's community) or "metered" (not planned: what is drawn above the floor).
        rows: [{duration_s, down_kw, up_kw, down_micro, up_micro}], comfort-limited.
        base: {start_ms, step_s, kw: [...]}, the plan without an event.
    """

    __tablename__ = "dr_resource"
    project_id: Mapped[int] = mapped_column(primary_key=True)
    at_ms: Mapped[int]
    start_ms: Mapped[int]
    base_kw: Mapped[float] = mapped_column(Double)
    forced_kw: Mapped[float] = mapped_column(Double)
    ramp_s: Mapped[int]
    notice_s: Mapped[int]
    how: Mapped[str] = mapped_column(String(12))
    rows: Mapped[list[Any]]
    base: Mapped[dict[str, Any]]


class ResponseEvent(Base):
    """An event as it stands; `document` is the newest version taken."""

    __tablename__ = "dr_event"
    __table_args__ = (UniqueConstraint("dispatcher", "event_id"), Index("ix_dr_event_state_start_ms", "state", "start_ms"))
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    dispatcher: Mapped[str] = mapped_column(String(60))
    event_id: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(12))
    state: Mapped[str] = mapped_column(String(12))
    why: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[int]
    trial: Mapped[bool] = mapped_column(default=False)
    start_ms: Mapped[int]
    end_ms: Mapped[int]
    bid_until_ms: Mapped[int] = mapped_column(default=0)
    preheat_ms: Mapped[int] = mapped_column(default=0)
    recovered_ms: Mapped[int] = mapped_column(default=0)
    asked_kw: Mapped[float] = mapped_column(Double)
    committed_kw: Mapped[float] = mapped_column(Double, default=0.0)
    created_ms: Mapped[int]
    changed_ms: Mapped[int]
    document: Mapped[dict[str, Any]]
    outcome: Mapped[dict[str, Any]]


class ResponseStep(Base):
    """What happened to an event, in order: every version taken, every state, every re-allocation."""

    __tablename__ = "dr_step"
    __table_args__ = (Index("ix_dr_step_event_at_ms", "event", "at_ms"),)
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    event: Mapped[int]
    at_ms: Mapped[int]
    happening: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(12))
    by: Mapped[str] = mapped_column(String(60), default="")
    detail: Mapped[dict[str, Any]]


class ResponseCommitment(Base):
    """What one project is held to in an event.

    Attributes:
        version: rises with every re-allocation.
        kw: reduction committed, mean over the event.
        segments: [[from_ms, to_ms, cap_kw, base_kw], ...], consecutive.
        rebound_ms: end of the rebound window; rebound_kw: the most drawn in it, None = no limit.
        authority: of `protos.arbitration.Authority`.
        out: "" or why the project is out: "declined", "opted-out", "under-delivers" stays in.
    """

    __tablename__ = "dr_commitment"
    event: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    from_ms: Mapped[int]
    to_ms: Mapped[int]
    kw: Mapped[float] = mapped_column(Double)
    segments: Mapped[list[Any]]
    rebound_ms: Mapped[int]
    rebound_kw: Mapped[float | None] = mapped_column(Double)
    authority: Mapped[int]
    out: Mapped[str] = mapped_column(String(20), default="")


class ResponseChoice(Base):
    """What a project's side said to an invitation: "join" or "decline"."""

    __tablename__ = "dr_choice"
    event: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(primary_key=True)
    choice: Mapped[str] = mapped_column(String(8))
    depth: Mapped[float] = mapped_column(Double)
    at_ms: Mapped[int]
    by: Mapped[str] = mapped_column(String(60))


class ResponseMinute(Base):
    """A minute of an event, all its projects together; `short` names those furthest behind: [[project, kW short], ...]."""

    __tablename__ = "dr_minute"
    event: Mapped[int] = mapped_column(primary_key=True)
    at_ms: Mapped[int] = mapped_column(primary_key=True)
    metered_kw: Mapped[float] = mapped_column(Double)
    baseline_kw: Mapped[float] = mapped_column(Double)
    target_kw: Mapped[float] = mapped_column(Double)
    measured: Mapped[int]
    projects: Mapped[int]
    short: Mapped[list[Any]]


class ResponseStatement(Base):
    """What one participant of one project gets for an event: lines in micro-yuan that add up to `total_micro`, and what they were made from."""

    __tablename__ = "dr_statement"
    __table_args__ = (UniqueConstraint("event", "project_id", "participant"), Index("ix_dr_statement_project_id_at_ms", "project_id", "at_ms"))
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    event: Mapped[int]
    project_id: Mapped[int]
    participant: Mapped[str] = mapped_column(String(20))
    at_ms: Mapped[int]
    total_micro: Mapped[int]
    lines: Mapped[dict[str, Any]]
    basis: Mapped[dict[str, Any]]
