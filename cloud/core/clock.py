"""Time as an argument: the wall clock behind one small interface, so that a simulator can give another one."""

from __future__ import annotations

import time


def now_ms() -> int:
    """UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000
