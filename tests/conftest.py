"""Fixtures every folder may use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.ledger import Ledger, migrate, open_ledger
from tests.support.real import Real


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty ledger file to copy."""
    file = tmp_path_factory.mktemp("ledger") / "empty.db"
    opened = open_ledger(f"sqlite:///{file}")
    migrate(opened)
    _settle(opened)
    return file


@pytest.fixture
def ledger(migrated: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A real, migrated SQLite ledger."""
    shutil.copy(migrated, tmp_path / "ledger.db")
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


def _settle(opened: Ledger) -> None:
    """Bring everything from the write-ahead log into the one file, so that it can be copied."""
    with opened.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    opened.close()


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """The whole platform with a live plant; started once, when the first test asks for it."""
    with Real(tmp_path_factory.mktemp("real")) as running:
        yield running
