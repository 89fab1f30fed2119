"""The keeper of child processes: restarts what dies, once; ends everything; never two of one, however many threads tick."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stack import wait_until
from cloud.core.supervision import Child, NotReadyError, Supervisor, turn_over

SLEEPER = "import sys, time; open(sys.argv[1], 'a').write('started\\n'); time.sleep(600)"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "logs", tmp_path)
    yield made
    made.stop_all()


def sleeper(tmp_path: Path, name: str = "sleeper") -> Child:
    return Child(name, [sys.executable, "-c", SLEEPER, str(tmp_path / f"{name}.starts")], (tmp_path / f"{name}.starts").exists)


def starts(tmp_path: Path, name: str = "sleeper") -> int:
    return (tmp_path / f"{name}.starts").read_text().count("started")


def test_a_killed_child_is_started_again_exactly_once(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(sleeper(tmp_path))
    os.kill(supervisor.pid("sleeper"), signal.SIGKILL)

    def again() -> bool:
        supervisor.tick()
        return starts(tmp_path) == 2

    wait_until(again, 10, "a second start")
    for _ in range(5):
        supervisor.tick()
    assert starts(tmp_path) == 2


def test_a_child_is_started_once_while_another_thread_ticks(supervisor: Supervisor, tmp_path: Path) -> None:
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            supervisor.tick()

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        for k in range(12):
            supervisor.start(sleeper(tmp_path, f"c{k}"))
    finally:
        stop.set()
        thread.join()
    assert [starts(tmp_path, f"c{k}") for k in range(12)] == [1] * 12


def test_a_child_that_dies_before_it_is_ready_is_named_with_its_log(supervisor: Supervisor) -> None:
    with pytest.raises(NotReadyError, match=r"broken ended with 3; see .*broken\.log"):
        supervisor.start(Child("broken", [sys.executable, "-c", "raise SystemExit(3)"], lambda: False))


def test_what_an_earlier_supervisor_left_alive_is_ended_before_anything_starts(tmp_path: Path) -> None:
    first = Supervisor(tmp_path / "logs", tmp_path)
    first.start(sleeper(tmp_path))

    second = Supervisor(tmp_path / "logs", tmp_path)
    wait_until(lambda: first._running["sleeper"].poll() is not None, 5, "the leftover ended")
    assert first._running["sleeper"].returncode == -signal.SIGKILL
    second.stop_all()


def test_a_long_log_is_turned_over_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"a" * 900 + b"b" * 200)
        turn_over(path, limit=1000)
        writer.write(b"c")
    assert path.read_bytes() == b"c"
    assert path.with_suffix(".log.1").read_bytes() == b"a" * 800 + b"b" * 200
    turn_over(path, limit=1000)
    assert path.read_bytes() == b"c"
