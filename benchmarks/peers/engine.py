"""What every peer can do: start in an empty directory on loopback, take the same readings in its own favourite shape, say its size, end.

Bodies are made before the clock starts; a peer is given its default durability. Must not know: our road.
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Protocol, Self

from benchmarks.data import workload
from benchmarks.stack import free_ports


class Peer(Protocol):
    """An engine to compare with."""

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def load(self, made: list[workload.Sweeps], batch: int) -> tuple[int, float]:
        """(readings, seconds) of one ingest with prepared bodies of `batch` readings."""
        ...

    def bytes_on_disk(self) -> int:
        """Size of what was loaded."""
        ...


class Served:
    """A server process with a TCP port, in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], ready: Callable[[], bool], seconds: float = 30, **options: object) -> None:
        """Start, and wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **options)  # type: ignore[call-overload]
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise TimeoutError(f"{command[0]} does not answer; see {self.folder / 'log'}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
            self._process.kill()

    def answers(self, path: str) -> bool:
        """Does HTTP GET succeed?"""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", path)
            return connection.getresponse().status < 300
        return False


def bodies(lines: Iterable[str], size: int) -> list[bytes]:
    """Lines joined into bodies of `size` lines."""
    iterator = iter(lines)
    out = []
    while part := list(islice(iterator, size)):
        out.append(("\n".join(part) + "\n").encode())
    return out


def post_all(port: int, path: str, parts: list[bytes]) -> float:
    """Post bodies one after another over one connection; seconds.

    Raises:
        RuntimeError: one was refused.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    started = time.perf_counter()
    for body in parts:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        told = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"HTTP {answer.status}: {told[:200]!r}")
    took = time.perf_counter() - started
    connection.close()
    return took


def tree_bytes(folder: Path) -> int:
    """Bytes of all files."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total
