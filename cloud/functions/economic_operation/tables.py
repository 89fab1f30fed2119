"""Rows of economic operation (经济运行): how a project is to be run, and the plans made for it. Must not know: FastAPI, other functions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base


class EconomicSetting(Base):
    """How a project is run.

    Attributes:
        mode: "off" (nothing is planned), "advise" (planned and shown), "act" (planned and sent to the site).
        tariff: name of a tariff the platform has.
        target_c, floor_c: room temperature wanted and owed, degC; down_k, up_k: how far a plan may move it, K.
        contract_kw: contracted demand, None = none.
        version: rises with every change; an edit of an older one is refused.
    """

    __tablename__ = "economic_setting"
    project_id: Mapped[int] = mapped_column(primary_key=True)
    mode: Mapped[str] = mapped_column(String(8), default="off")
    tariff: Mapped[str] = mapped_column(String(80))
    target_c: Mapped[float] = mapped_column(Double, default=20.0)
    floor_c: Mapped[float] = mapped_column(Double, default=18.0)
    down_k: Mapped[float] = mapped_column(Double, default=0.0)
    up_k: Mapped[float] = mapped_column(Double, default=1.5)
    contract_kw: Mapped[float | None] = mapped_column(Double)
    version: Mapped[int] = mapped_column(default=1)
    changed_ms: Mapped[int]
    changed_by: Mapped[str] = mapped_column(String(60))


class EconomicPlan(Base):
    """A plan, or the failure to make one.

    Attributes:
        outcome: "planned", "shifted" (the last one goes on) or "failed" (nothing stands: the box's own rules decide).
        code: why not planned; "" when it was.
        sent: handed to the command service.
        summary: cost, gap, how it was solved, age of the weather, what was learnt.
        document: series per interval.
    """

    __tablename__ = "economic_plan"
    __table_args__ = (Index("ix_economic_plan_project_id_issued_ms", "project_id", "issued_ms"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[int]
    issued_ms: Mapped[int]
    start_ms: Mapped[int]
    step_s: Mapped[int]
    steps: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(12))
    code: Mapped[str] = mapped_column(String(40), default="")
    sent: Mapped[bool] = mapped_column(default=False)
    summary: Mapped[dict[str, Any]]
    document: Mapped[dict[str, Any]]
