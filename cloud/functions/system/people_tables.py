"""Rows of people (用户、双因素、审批): accounts, roles, organisations and contracts, factors, approvals.

Must not know: FastAPI, how a factor is checked, other functions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, ForeignKeyConstraint, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloud.ledger import Base, BigKey

#: The three administrators, as the database's constraint spells them.
_ADMIN = "role IN ('system_admin', 'security_admin', 'audit_admin', 'resident')"


class Organisation(Base):
    """Owner, service provider or customer (单位). The platform's own people have none."""

    __tablename__ = "organisation"
    __table_args__ = (CheckConstraint("kind IN ('owner', 'provider', 'customer')", name="kind"),)
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    code: Mapped[str] = mapped_column(String(60), unique=True)
    name_zh: Mapped[str] = mapped_column(String(120))
    name_en: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(20))
    created_ms: Mapped[int]


class ServiceContract(Base):
    """Which projects an organisation serves or owns, and when (服务合同): [starts_ms, ends_ms)."""

    __tablename__ = "service_contract"
    __table_args__ = (CheckConstraint("ends_ms > starts_ms", name="dates"),)
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    organisation_id: Mapped[int] = mapped_column(ForeignKey("organisation.id"), index=True)
    number: Mapped[str] = mapped_column(String(60), unique=True)
    project_ids: Mapped[list[Any]]
    starts_ms: Mapped[int]
    ends_ms: Mapped[int]
    created_ms: Mapped[int]


class Account(Base):
    """How a person proves who they are, and what kind of account it is. One row per user.

    `kind` is the administrator's role, "resident", "business" or "none"; all roles of a person must be of the one kind, which a foreign
    key keeps: nobody can hold two of the three administrators' roles, or one and a business role, whatever writes the rows.
    """

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("user_id", "kind"),)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(20), default="none")
    organisation_id: Mapped[int | None] = mapped_column(ForeignKey("organisation.id"), index=True)
    region_codes: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    expires_ms: Mapped[int | None]
    password_hash: Mapped[str | None] = mapped_column(String(200))
    password_ms: Mapped[int | None]
    totp_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_pending: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_step: Mapped[int] = mapped_column(default=0)
    last_sign_in_ms: Mapped[int | None]


class UserRole(Base):
    """A role of a person, with who granted it."""

    __tablename__ = "user_role"
    __table_args__ = (
        CheckConstraint(f"({_ADMIN} AND kind = role) OR (NOT ({_ADMIN}) AND kind = 'business')", name="kind"),
        ForeignKeyConstraint(["user_id", "kind"], ["account.user_id", "account.kind"]))
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), primary_key=True, autoincrement=False)
    role: Mapped[str] = mapped_column(String(20), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    granted_by: Mapped[str] = mapped_column(String(60))
    granted_ms: Mapped[int]


class EmergencyGrant(Base):
    """A role for a few hours, taken by oneself in an emergency (应急授权); ends by itself and is reviewed."""

    __tablename__ = "emergency_grant"
    __table_args__ = (
        CheckConstraint("until_ms > created_ms AND until_ms - created_ms <= 14400000", name="hours"), CheckConstraint(f"NOT ({_ADMIN})", name="role"),
        CheckConstraint("reviewed_by_id IS NULL OR reviewed_by_id <> user_id", name="review"))
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    role: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(String(200))
    created_ms: Mapped[int]
    until_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    reviewed_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    reviewed_ms: Mapped[int | None]
    review: Mapped[str] = mapped_column(String(200), default="")


class PasswordHistory(Base):
    """Hashes of earlier passwords, so that none of the last five comes back."""

    __tablename__ = "password_history"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    hash: Mapped[str] = mapped_column(String(200))
    created_ms: Mapped[int]


class RecoveryCode(Base):
    """A code on paper for the day the phone is gone, by its SHA-256; used once."""

    __tablename__ = "recovery_code"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    used_ms: Mapped[int | None]


class Passkey(Base):
    """A WebAuthn credential (通行密钥): public key and counter."""

    __tablename__ = "passkey"
    id: Mapped[str] = mapped_column(String(400), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    name: Mapped[str] = mapped_column(String(60))
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    created_ms: Mapped[int]
    used_ms: Mapped[int | None]


class SignInFailure(Base):
    """Wrong passwords of one name or one address, by SHA-256, whether or not the name exists."""

    __tablename__ = "sign_in_failure"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int]
    first_ms: Mapped[int] = mapped_column(index=True)


class Approval(Base):
    """An act that waits for a second person (待审批).

    Attributes:
        project_ids: the projects it is about: only who sees them all sees it and decides; NULL = it is about none.
        used_key: the idempotency key it was used with: the same call may be made once more when its answer was lost.
    """

    __tablename__ = "approval"
    __table_args__ = (
        CheckConstraint("decided_by_id IS NULL OR decided_by_id <> requester_id", name="two_persons"),
        CheckConstraint("state IN ('pending', 'approved', 'refused', 'used', 'withdrawn')", name="state"))
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    operation: Mapped[str] = mapped_column(String(80))
    target: Mapped[str] = mapped_column(String(200))
    payload: Mapped[str] = mapped_column(String(4000))
    digest: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(200))
    requester_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    created_ms: Mapped[int] = mapped_column(index=True)
    deadline_ms: Mapped[int]
    state: Mapped[str] = mapped_column(String(10), default="pending")
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    decided_ms: Mapped[int | None]
    decision: Mapped[str] = mapped_column(String(200), default="")
    project_ids: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    used_key: Mapped[str | None] = mapped_column(String(80))
