"""Opens the ledger: SQLite (WAL, FULL, foreign keys) for one node, PostgreSQL otherwise; the same tables either way.

Must not know: functions and their tables, FastAPI.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from protos.errors import KangError

_BUSY_MS = 10_000


class LedgerUrlError(KangError):
    """The ledger's address cannot be used."""

    code = "E-LEDGER-URL"
    zh = "台账地址“{url}”不可用：{reason}。请使用 sqlite:///路径 或 postgresql://主机/库。"
    en = "The ledger address '{url}' cannot be used: {reason}. Use sqlite:///path or postgresql://host/database."


class Ledger:
    """The relational store (台账): short transactions, one writer at a time on SQLite.

    Methods block for a disk sync; call them from a worker thread inside asyncio code.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._read = sessionmaker(engine, expire_on_commit=False)
        self._write = sessionmaker(engine.execution_options(kang_begin="IMMEDIATE"), expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """True when the store is a file that only this machine may open."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; what it changes is rolled back."""
        with self._read() as session:
            yield session  # closing rolls back and leaves what was read usable

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back on an exception."""
        with self._write() as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_ledger(url: str, *, echo: bool = False) -> Ledger:
    """Open the ledger at `url`; tables are brought up to date by `cloud.ledger.migrate`.

    Args:
        url: sqlite:///file (sqlite:////absolute/file) or postgresql://...; the PostgreSQL driver is psycopg 3.
        echo: log every statement.

    Raises:
        LedgerUrlError: unknown scheme, missing driver or a folder that cannot be made.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise LedgerUrlError(url=url, reason=str(error)) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        try:
            engine = create_engine(parsed.set(drivername="postgresql+psycopg"), echo=echo, pool_size=5, max_overflow=10, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise LedgerUrlError(url=parsed.render_as_string(hide_password=True), reason="pip install 'psycopg[binary]'") from None
        return Ledger(engine)
    if backend != "sqlite":
        raise LedgerUrlError(url=url, reason=f"scheme {backend}")
    if parsed.database in (None, "", ":memory:"):
        raise LedgerUrlError(url=url, reason="a file is needed")
    try:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerUrlError(url=url, reason=str(error)) from None
    engine = create_engine(parsed.set(drivername="sqlite+pysqlite"), echo=echo, connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return Ledger(engine)


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, so that a writer locks at once and never deadlocks on upgrade
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    kind = connection.get_execution_options().get("kang_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
