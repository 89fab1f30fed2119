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

_LEFT_OUT = pytest.StashKey[dict[str, int]]()


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a tool this machine lacks; `pytest_terminal_summary` names it."""
    left: dict[str, list[pytest.Item]] = {}
    for item in items:
        tools = [tool for mark in item.iter_markers("needs") for tool in mark.args]
        if item.get_closest_marker("browser"):
            tools.append("chromium")
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            left.setdefault(" and ".join(missing), []).append(item)
    gone = {id(item) for group in left.values() for item in group}
    config.stash[_LEFT_OUT] = {tools: len(group) for tools, group in left.items()}
    if gone:
        config.hook.pytest_deselected(items=[i for i in items if id(i) in gone])
        items[:] = [i for i in items if id(i) not in gone]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left out."""
    for tools, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(f"left out: {count} tests that need {tools} (Debian packages of the same name)")
