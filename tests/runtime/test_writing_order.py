"""The order in which a flush is written is part of what a restart may believe."""

from __future__ import annotations

import uuid

import numpy as np

from cloud.historian.columns import Columns
from cloud.historian.writer import AlarmRow, BatchRow, Flush, QuarantineRow, Writer


class Recorder:
    """Remembers which table was written when."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    async def insert(self, table: str, block: bytes, names: list[str], token: str) -> None:
        assert block
        assert names
        assert token
        self.tables.append(table.removeprefix("heat."))


async def test_alarms_stand_before_the_values_they_were_judged_from_and_the_cursor_stands_last() -> None:
    columns = Columns(np.array([1], "<u4"), np.array([63], "<u2"), np.array([1_790_000_000_000], "<i8"), np.array([90.0]), np.array([0], "u1"))
    flush = Flush(0, "stream", 1, 1, [BatchRow(1, 1, "a", b"e" * 16, 1, 1_790_000_000_000, 1, 1, columns, 10)],
                  [AlarmRow(uuid.UUID(int=1), 1, 1, 63, "hot", "major", "", "", 1_790_000_000_000, 0, 90.0, 85.0)],
                  [QuarantineRow(uuid.UUID(int=2), 1, "a", "range", "", 1, 1_790_000_000_000, b"x")])
    flush.touched[1, 1] = 1
    recorder = Recorder()
    await Writer(recorder).commit(flush)  # type: ignore[arg-type]
    assert recorder.tables == ["alarm", "quarantine", "raw", "touched", "batch"]
