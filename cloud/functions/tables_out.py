"""Tables that leave the platform as CSV (导出): UTF-8 with a mark so that spreadsheets read Chinese, formulas defused.

Must not know: what the rows mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fastapi import Response


class CsvResponse(Response):
    """A table as CSV; the class routes name so that the interface document says what they answer with."""

    media_type = "text/csv"


#: For routes that answer with JSON or, when asked, with CSV.
OR_CSV: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> CsvResponse:
    """A CSV attachment called `name`."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return CsvResponse("﻿" + out.getvalue(), headers={"Content-Disposition": f'attachment; filename="{name}"'})


def local_time(at_ms: int | None, timezone: str) -> str:
    """A time in the project's zone, ISO 8601 with offset; one no calendar can name, as its milliseconds."""
    if not at_ms:
        return ""
    try:
        return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(timezone)).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(at_ms)


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None or value != value else value  # noqa: PLR0124 - NaN
