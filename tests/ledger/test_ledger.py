"""The ledger opens with the promised guarantees, migrates once, and its migrations build exactly the declared tables."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

import cloud.functions.demand_response.tables
import cloud.functions.devices.tables as devices
import cloud.functions.economic_operation.tables
import cloud.functions.interfaces.openadr.tables
import cloud.functions.interfaces.tables
import cloud.functions.remote_control.tables
import cloud.functions.system.dialogue_tables  # noqa: F401 - registers its tables
from cloud.functions.system.tables import User
from cloud.ledger import (
    Base,
    Ledger,
    LedgerNewerError,
    LedgerUrlError,
    announce,
    bump,
    mark_relayed,
    migrate,
    open_ledger,
    revision,
    waiting,
)


def test_sqlite_writes_through_and_checks_foreign_keys(ledger: Ledger) -> None:
    with ledger.read() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA synchronous")).scalar() == 2
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
    with pytest.raises(IntegrityError), ledger.write() as session:
        session.add(devices.Region(code="x", name_zh="x", name_en="x", parent_code="nowhere"))


def test_migrations_build_exactly_the_declared_tables(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert difference == []


def test_migrating_again_changes_nothing(ledger: Ledger) -> None:
    assert migrate(ledger) == migrate(ledger)


def test_a_ledger_of_a_newer_program_is_refused(ledger: Ledger) -> None:
    with ledger.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerNewerError, match="9999"):
        migrate(ledger)


def test_a_failed_transaction_leaves_neither_row_nor_event(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError), ledger.write() as session:
        session.add(devices.Region(code="bj", name_zh="北京", name_en="Beijing", parent_code=None))
        announce(session, "devices.region.registered", "bj", {}, now_ms=1)
        bump(session, "directory")
        raise RuntimeError
    with ledger.read() as session:
        assert session.get(devices.Region, "bj") is None
        assert waiting(session) == []
        assert revision(session, "directory") == 0


def test_events_wait_in_order_until_relayed(ledger: Ledger) -> None:
    with ledger.write() as session:
        for k in range(3):
            announce(session, "t", k, {"k": k}, now_ms=k)
    with ledger.write() as session:
        rows = waiting(session)
        assert [row.payload["k"] for row in rows] == [0, 1, 2]
        mark_relayed(session, [rows[0].id], now_ms=9)
    with ledger.read() as session:
        assert [row.payload["k"] for row in waiting(session)] == [1, 2]


def test_concurrent_writers_lose_no_count(ledger: Ledger) -> None:
    def work() -> None:
        for _ in range(20):
            with ledger.write() as session:
                bump(session, "n")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as session:
        assert revision(session, "n") == 80


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "not a url"])
def test_an_unusable_address_says_what_to_write_instead(url: str) -> None:
    with pytest.raises(LedgerUrlError) as caught:
        open_ledger(url)
    assert "postgresql://" in caught.value.message("en")


def test_a_second_opening_sees_the_first_ones_rows(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.write() as session:
        session.add(devices.Region(code="bj", name_zh="北京", name_en="Beijing", parent_code=None))
    other = open_ledger(str(ledger.engine.url))
    with other.read() as session:
        assert session.get(devices.Region, "bj") is not None
    other.close()


def test_an_approval_may_be_withdrawn_and_still_needs_two_persons(ledger: Ledger) -> None:
    row = ("INSERT INTO approval (id, operation, target, payload, digest, reason, requester_id, created_ms, deadline_ms, state, decided_by_id, decision)"
           " VALUES (:id, 'o', '', '', '', '', 1, 0, 0, :state, :by, '')")
    with ledger.write() as session:
        session.add(User(id=1, name="one", display_name="one", project_ids=None, device_ids=None, created_ms=0))
        session.flush()
        session.execute(text(row), {"id": "a", "state": "withdrawn", "by": None})
    for state, by in (("forgotten", None), ("approved", 1)):
        with pytest.raises(IntegrityError), ledger.write() as session:
            session.execute(text(row), {"id": "b", "state": state, "by": by})
