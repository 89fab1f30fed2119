"""A machine's disk: real SQLite files that lose exactly what was not committed when the power goes.

A crash copies the database and its write-ahead log as they lie and opens the copy: the next life recovers from the log, as after a real power cut.
Must not know: what the tables mean.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.simulation.world import PowerCut, Process

Committed = Callable[[list[tuple[str, Any]]], None]


class Disk:
    """The files of one machine, across its lives."""

    def __init__(self, folder: Path, machine: str) -> None:
        self._folder, self._machine = folder, machine
        self._life: dict[str, int] = {}
        self._open: dict[str, sqlite3.Connection] = {}

    def path(self, name: str) -> Path:
        """Where a database of this machine lies now."""
        return self._folder / f"{self._machine}.{name}.{self._life.get(name, 0)}"

    def __truediv__(self, name: str) -> Path:
        """So that it can stand where production code expects the state directory."""
        return self.path(name)

    def watch(self, owner: Any, name: str, process: Process, committed: Committed | None = None, *, weight: float = 1.0) -> None:
        """Put the power cut between `owner` (a production class with a connection `_db`) and its connection."""
        self._open[name] = owner._db
        owner._db = _Connection(owner._db, process, name, committed, weight)

    def power_cut(self) -> None:
        """Keep what is on the platter, forget what is not."""
        for name, db in self._open.items():
            old = self.path(name)
            self._life[name] = self._life.get(name, 0) + 1
            new = self.path(name)
            shutil.copyfile(old, new)
            log = old.with_name(old.name + "-wal")
            if log.exists():
                shutil.copyfile(log, new.with_name(new.name + "-wal"))
            db.close()
        self._open.clear()

    def close(self) -> None:
        """The end of the simulation."""
        for db in self._open.values():
            db.close()
        self._open.clear()


class _Connection:
    """Dies between statements; tells what was committed, and when."""

    def __init__(self, db: sqlite3.Connection, process: Process, name: str, committed: Committed | None, weight: float) -> None:
        self._real, self._process, self._name, self._committed, self._weight = db, process, name, committed, weight
        self._statements: list[tuple[str, Any]] = []

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        process = self._process
        if not process.alive:
            raise PowerCut("dead")
        if sql[:6] == "SELECT":
            return self._real.execute(sql, parameters)
        process.check(f"{self._name} {sql[:20]}", weight=self._weight)
        result = self._real.execute(sql, parameters)
        if sql[:5] == "BEGIN":
            self._statements.clear()
        elif sql[:6] == "COMMIT":
            if self._committed is not None:
                self._committed(self._statements)
            process.check(f"{self._name} after commit", weight=self._weight)
        else:
            self._statements.append((sql, parameters))
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
