"""A whole platform, or some of its processes, on free ports in a directory of its own: for benchmarks, fault campaigns and tests.

Uses the same installation code as `kang up`. Must not know: what is measured on it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from cloud.core.settings import Settings, load
from cloud.core.supervision import Supervisor
from cloud.installation import children, prepare

ALL = ("ca", "nats", "store", "audit", "control", "gateway", "ray", "runtime", "planner", "portal")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those the system hands out to outgoing connections (which would take them before they are used)."""
    found: list[int] = []
    while len(found) < count:
        port = 21_000 + secrets.randbelow(11_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Stack:
    """Processes of one installation; a context manager that ends them all."""

    def __init__(self, home: Path, only: Iterable[str] = ALL, **overrides: Any) -> None:
        portal, gateway, nats, store, ray, enrolment, interfaces, open_grpc = free_ports(8)
        ports: dict[str, Any] = {"portal_port": portal, "gateway_port": gateway, "enrolment_port": enrolment, "interfaces_port": interfaces, "interfaces_grpc_port": open_grpc,
                                 "nats_port": nats, "store_port": store, "ray_port": ray, **overrides}
        self.settings: Settings = load(home, **ports)
        self.only = tuple(only)
        prepare(self.settings)
        self.supervisor = Supervisor(home / "logs", home)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            for child in children(self.settings):
                if child.name in self.only or child.name == "ca" or (child.name == "enrolment" and "gateway" in self.only):
                    self.supervisor.start(child, wait=child.name not in ("audit", "control", "runtime", "planner"))
        except BaseException:
            self.supervisor.stop_all()
            raise
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.supervisor.stop_all()

    def _keep(self) -> None:
        while not self._stop.wait(0.1):
            self.supervisor.tick()

    def kill(self, name: str) -> None:
        """Kill -9 one process; the supervisor starts it again. One that died just now and waits for its turn is waited for."""
        wait_until(lambda: self.supervisor.alive(name), 30, f"{name} alive again")
        os.kill(self.supervisor.pid(name), signal.SIGKILL)

    def stop(self, name: str) -> None:
        """End one process and leave it ended."""
        self.supervisor.stop(name)

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.settings.home / "logs" / f"{name}.log").read_text(errors="replace")


def wait_until(condition: Any, seconds: float, what: str, step: float = 0.05) -> None:
    """Poll a condition.

    Raises:
        TimeoutError: it did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {seconds:.0f} s")
        time.sleep(step)
