"""Rows of external clients (外部接口) and of answers kept for repeated requests. Must not know: FastAPI, other functions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base


class ExternalClient(Base):
    """An external system (外部系统).

    Attributes:
        secret_hash: SHA-256 of its secret (256 random bits: nothing to guess, so no slow hash is needed); the secret is shown once.
        certificate: SHA-256 of the certificate it must present, hex; "" when none is asked for.
        operations: names of the operations in its scope.
        project_ids: projects in its scope, None = all.
        hidden_fields: names of JSON fields taken out of every answer.
        rate: requests a second the bucket gains.
        burst: what the bucket holds.
        priority: class: 0 safety and dispatch, 1 control, 2 operators, 3 customers, 5 third parties, 9 batch.
        version: rises with every change; tokens of an older version are refused.
    """

    __tablename__ = "external_client"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    certificate: Mapped[str] = mapped_column(String(64), default="")
    operations: Mapped[list[Any]]
    project_ids: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    hidden_fields: Mapped[list[Any]]
    rate: Mapped[float] = mapped_column(Double, default=10.0)
    burst: Mapped[int] = mapped_column(default=20)
    priority: Mapped[int] = mapped_column(default=5)
    disabled: Mapped[bool] = mapped_column(default=False)
    version: Mapped[int] = mapped_column(default=1)
    created_ms: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(60))
    expires_ms: Mapped[int | None]


class IdempotentAnswer(Base):
    """What a changing request was answered, by caller, address and key; kept a day."""

    __tablename__ = "idempotent_answer"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    body: Mapped[str] = mapped_column(String(64))
    at_ms: Mapped[int] = mapped_column(index=True)
    status: Mapped[int] = mapped_column(default=0)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
