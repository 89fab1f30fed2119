"""The declarative base of every ledger table, and the two tables that belong to no function: outbox and revision.

Must not know: functions, FastAPI, which engine runs below.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: A 64-bit key that SQLite still counts up by itself (its rowid must be spelled INTEGER).
BigKey = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Base of all ledger rows (台账). Times are UTC milliseconds; money is integer micro-yuan."""

    metadata = MetaData(naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s", "fk": "fk_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, int: BigInteger()}  # noqa: RUF012


class Outbox(Base):
    """A domain event waiting for its relay, written in the transaction of the change it tells of.

    Attributes:
        topic: dotted name, e.g. "devices.device.registered".
        key: the entity's id, for ordering.
        payload: JSON document.
        created_ms: when the change was made.
        relayed_ms: when the relay handed it on; None while waiting.
    """

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(120))
    key: Mapped[str] = mapped_column(String(120))
    payload: Mapped[dict[str, Any]]
    created_ms: Mapped[int]
    relayed_ms: Mapped[int | None] = mapped_column(index=True)


class Revision(Base):
    """A counter that rises with every change of what it names, so that readers know when to read again."""

    __tablename__ = "revision"
    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[int] = mapped_column(default=0)
