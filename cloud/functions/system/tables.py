"""Rows of people and what they did (系统管理): users, sessions, sign-in codes, the operation log.

Must not know: FastAPI, other functions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base, BigKey


class User(Base):
    """A person (用户). `project_ids`/`device_ids` None = every one; an empty list = none."""

    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(60), unique=True)
    display_name: Mapped[str] = mapped_column(String(120))
    roles: Mapped[list[Any]]
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


class OperationLog(Base):
    """One act (操作日志; 7.2.5 b: time, type, level, operating point, process id, operator), plus result, request, address."""

    __tablename__ = "operation_log"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    at_ms: Mapped[int] = mapped_column(index=True)
    operation: Mapped[str] = mapped_column(String(80), index=True)
    level: Mapped[str] = mapped_column(String(10))
    target: Mapped[str] = mapped_column(String(200))
    process_id: Mapped[int]
    operator: Mapped[str] = mapped_column(String(60), index=True)
    result: Mapped[str] = mapped_column(String(20))
    code: Mapped[str] = mapped_column(String(60), default="")
    request_id: Mapped[str] = mapped_column(String(40))
    address: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]
