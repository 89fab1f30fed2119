"""Structured logs: one JSON object a line on standard error.

Must not know: anything of ours.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        row: dict[str, object] = {"time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"), "level": record.levelname.lower(),
                                  "logger": record.name, "message": record.getMessage()}
        row.update(getattr(record, "fields", {}))
        if record.exc_info:
            row["trace"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def configure(level: str = "INFO") -> None:
    """Log to standard error; the protocol libraries only when they fail badly (their complaints reach the counters)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    logging.getLogger("nats").setLevel(logging.CRITICAL)
