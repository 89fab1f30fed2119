"""Keeps child processes alive: starts them in order, waits until they are ready, restarts what dies, ends all of them together.

Must not know: what the processes are for.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("kang.supervisor")
#: A log longer than this is turned over; one older part is kept.
LOG_BYTES = 50 << 20
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Child:
    """One process.

    Attributes:
        name: also the name of its log file.
        command: argv.
        ready: returns True when it serves; None = at once.
        environment: added to ours.
        with_: names of children to restart when this one dies (a Ray head and what hangs on it).
        ready_s: how long it may take to become ready.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    with_: tuple[str, ...] = ()
    ready_s: float = 60.0


def _die_with_parent() -> None:
    """In the child: be ended when the supervisor is gone (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)


class NotReadyError(RuntimeError):
    """A child did not come up in time; the message names its log."""


def port_open(port: int, host: str = "127.0.0.1") -> bool:
    """Does something accept connections there?"""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    return False


def turn_over(log_file: Path, *, limit: int = LOG_BYTES) -> None:
    """Keep the last `limit` bytes of a long log as `.log.1` and begin anew. Its writer has it open for appending and goes on at the start."""
    if not log_file.exists() or log_file.stat().st_size <= limit:
        return
    with log_file.open("rb+") as current:
        current.seek(-limit, os.SEEK_END)
        log_file.with_suffix(".log.1").write_bytes(current.read())
        current.truncate(0)


class Supervisor:
    """Runs children; `tick` must be called a few times a second."""

    def __init__(self, logs: Path, state: Path) -> None:
        self._logs = logs
        self._state = state
        self._children: dict[str, Child] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._failures: dict[str, list[float]] = {}
        self._not_before: dict[str, float] = {}
        self.restarts: dict[str, int] = {}
        self._turn_logs_at = 0.0
        self._lock = threading.RLock()
        logs.mkdir(parents=True, exist_ok=True)
        self._end_leftovers()

    def _end_leftovers(self) -> None:
        """End children of a supervisor that was killed: two owners of one store or port would be worse than a late start."""
        for file in (self._state / "pids").glob("*"):
            with contextlib.suppress(ValueError, OSError):
                pid = int(file.read_text())
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(str(self._state).encode() in word for word in words):
                    log.warning("%s of an earlier run is still alive; ending it", file.name)
                    os.killpg(pid, signal.SIGKILL)
            file.unlink(missing_ok=True)

    def start(self, child: Child, *, wait: bool = True) -> None:
        """Start a child and, when asked, wait until it is ready.

        Raises:
            NotReadyError: it did not become ready in time, or died.
        """
        with self._lock:
            self._children[child.name] = child
            self._spawn(child)
        if wait:
            self.wait(child.name)

    def wait(self, name: str) -> None:
        """Wait until a started child is ready.

        Raises:
            NotReadyError: it did not become ready in time, or died.
        """
        child = self._children[name]
        deadline = time.monotonic() + child.ready_s
        while child.ready is not None and not child.ready():
            if self._running[name].poll() is not None:
                raise NotReadyError(f"{name} ended with {self._running[name].returncode}; see {self._logs / (name + '.log')}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"{name} is not ready after {child.ready_s:.0f} s; see {self._logs / (name + '.log')}")
            time.sleep(0.05)

    def _spawn(self, child: Child) -> None:
        path = self._logs / f"{child.name}.log"
        turn_over(path)
        with path.open("ab") as out:
            self._running[child.name] = subprocess.Popen(list(child.command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **child.environment},
                                                         start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509  only a system call
        (self._state / "pids").mkdir(exist_ok=True)
        (self._state / "pids" / child.name).write_text(str(self._running[child.name].pid))

    def tick(self) -> list[str]:
        """Restart what died; returns the names restarted. A child that dies at once again waits 0.2, 0.4 ... 5 s. Once a minute, long logs are turned over."""
        with self._lock:
            if time.monotonic() >= self._turn_logs_at:
                self._turn_logs_at = time.monotonic() + 60
                for log_file in self._logs.glob("*.log"):
                    turn_over(log_file)
            return self._restart()

    def _restart(self) -> list[str]:
        restarted: list[str] = []
        now = time.monotonic()
        for name, child in list(self._children.items()):
            process = self._running.get(name)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                log.warning("%s ended with %s", name, process.returncode)
                self._end_group(process)
                del self._running[name]
                recent = [t for t in self._failures.get(name, []) if now - t < 60]
                self._failures[name] = [*recent, now]
                self._not_before[name] = now + min(0.2 * 2 ** len(recent), 5.0) if recent else now
                for other in child.with_:
                    self.stop(other, forget=False)
            if now >= self._not_before.get(name, 0):
                self._spawn(child)
                self.restarts[name] = self.restarts.get(name, 0) + 1
                restarted.append(name)
        return restarted

    def children(self) -> list[Child]:
        """What is kept alive."""
        return list(self._children.values())

    def alive(self, name: str) -> bool:
        """Is the child running right now?"""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def pid(self, name: str) -> int:
        """Process id of a running child."""
        return self._running[name].pid

    def stop(self, name: str, *, forget: bool = True, wait_s: float = 8.0) -> None:
        """End one child (SIGTERM, then SIGKILL of its group)."""
        with self._lock:
            process = self._running.pop(name, None)
            if forget:
                self._children.pop(name, None)
        if process is not None:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(wait_s)
            self._end_group(process)

    def stop_all(self) -> None:
        """End every child: all are asked at once, then each is waited for."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for name in list(self._children)[::-1]:
            self.stop(name)

    @staticmethod
    def _end_group(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
