"""Rows of remote control in the ledger (批量控制): a batch and what became of it on each device. Must not know: FastAPI, transports."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base


class CommandBatch(Base):
    """One act on several devices.

    Attributes:
        state: "pending" (waits for a second person), "running", "done" (verified everywhere), "failed" (not everywhere), "cancelled".
        kind: of every item; "restore" = puts back what another batch (`of`) had changed.
        wish: what was asked: kind, point_id, value, low, high, hold_s, deadline_s, gap_s, on_failure, work_order.
        second: why a second person was needed, [{zh, en}]; empty = nobody was.
        kw: rated power of its devices, kW.
        start_ms: not before; cancelled_by: "" or who stopped it ("-" = itself, after a failure).
    """

    __tablename__ = "command_batch"
    __table_args__ = (Index("ix_command_batch_state_created_ms", "state", "created_ms"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(12))
    kind: Mapped[str] = mapped_column(String(12))
    point_id: Mapped[int] = mapped_column(default=0)
    wish: Mapped[dict[str, Any]]
    reason: Mapped[str] = mapped_column(String(200))
    actor_id: Mapped[int]
    actor: Mapped[str] = mapped_column(String(60))
    authority: Mapped[int]
    devices: Mapped[int]
    kw: Mapped[float] = mapped_column(Double)
    second: Mapped[list[Any]]
    approval_id: Mapped[str | None] = mapped_column(String(40))
    of: Mapped[str | None] = mapped_column(String(32), index=True)
    created_ms: Mapped[int] = mapped_column(index=True)
    start_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    cancelled_by: Mapped[str] = mapped_column(String(60), default="")


class CommandBatchItem(Base):
    """One device of a batch.

    Attributes:
        wish: what this device is asked: kind, point_id, value, low, high, hold_s.
        state: "waiting", "cancelled", "refused" before it became a command, else the command's own state.
        why: {zh, en} of a refusal.
        before: the hold of the same authority that stood when it was sent, {value, low, high, until_ms, holder}; None = nobody's.
    """

    __tablename__ = "command_batch_item"
    __table_args__ = (Index("ix_command_batch_item_device_id", "device_id"), Index("ix_command_batch_item_project_id", "project_id"))
    batch_id: Mapped[str] = mapped_column(ForeignKey("command_batch.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[int]
    device_id: Mapped[int]
    wish: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(12), default="waiting")
    command_id: Mapped[str | None] = mapped_column(String(40))
    code: Mapped[str] = mapped_column(String(60), default="")
    why: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    readback: Mapped[float | None] = mapped_column(Double)
    sent_ms: Mapped[int | None]
    ended_ms: Mapped[int | None]
