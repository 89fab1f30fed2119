"""What the agent asks of its operating system: clocks, boot id, memory, processor time, whether the clock is synchronised.

Must not know: anything of ours.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import time
import uuid
from pathlib import Path
from typing import Final

_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


def wall_ms() -> int:
    """The local wall clock, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def mono_ms() -> int:
    """Milliseconds since boot, suspension included where the system can tell; the same for every process of a boot."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def boot_id() -> bytes:
    """16 bytes that change with every boot (random per process where the system has none)."""
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()).bytes
    except (OSError, ValueError):
        return os.urandom(16)


def hardware_id() -> str:
    """What stays the same on this box whatever is installed: 32 hex digits of its serial number or machine id, "" when it has none."""
    for file in ("/proc/device-tree/serial-number", "/sys/class/dmi/id/product_uuid", "/etc/machine-id"):
        try:
            text = Path(file).read_text(encoding="ascii").strip("\0 \n")
        except (OSError, ValueError):
            continue
        if text:
            return hashlib.sha256(f"kang {text}".encode()).hexdigest()[:32]
    return ""


def cpu_s() -> float:
    """Processor seconds this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def clock_synchronised() -> bool:
    """True when the kernel says its clock is disciplined (NTP, PTP, BeiDou receiver); False when it does not know."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, modes = 0: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    # Layout on 64-bit Linux: modes u32 (+pad), offset, freq, maxerror, esterror i64, status i32.
    wide = ctypes.sizeof(ctypes.c_long) == 8
    at = 40 if wide else 20
    status = int.from_bytes(buffer.raw[at:at + 4], "little")
    return state not in {-1, _TIME_ERROR} and not status & _STA_UNSYNC
