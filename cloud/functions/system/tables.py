"""Rows of people and what they did (系统管理): users, sessions, sign-in codes, the operation log; the rest of people: `people_tables`.

Must not know: FastAPI, other functions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base, BigKey
from cloud.security.audit import AuditLink, OperationLog

__all__ = ["AuditLink", "OperationLog", "SessionRow", "SignInCode", "User"]


class User(Base):
    """A person (用户). `project_ids`/`device_ids` None = every one; an empty list = none."""

    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)
    display_name: Mapped[str] = mapped_column(String(120))
    project_ids: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    device_ids: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    disabled: Mapped[bool] = mapped_column(default=False)
    created_ms: Mapped[int]


class SignInCode(Base):
    """A one-time sign-in code, by its SHA-256; used once, then it only tells when."""

    __tablename__ = "sign_in_code"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    expires_ms: Mapped[int]
    used_ms: Mapped[int | None]


class SessionRow(Base):
    """A signed-in browser, by the SHA-256 of its opaque id."""

    __tablename__ = "user_session"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str] = mapped_column(String(200))
    created_ms: Mapped[int]
    seen_ms: Mapped[int]
    expires_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    factor_ms: Mapped[int | None]
    method: Mapped[str] = mapped_column(String(20), default="", server_default="")
