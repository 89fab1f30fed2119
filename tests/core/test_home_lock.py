"""A second platform in the same home is turned away before it touches the first."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("call", ["up", "demo"])
def test_a_second_start_in_the_same_home_changes_nothing(tmp_path: Path, call: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path)], start_new_session=True)
    try:
        (tmp_path / "pids").mkdir()
        (tmp_path / "pids" / "store").write_text(str(child.pid))
        with (tmp_path / "kang.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            second = subprocess.run([sys.executable, "-m", "cloud.cli", "--home", str(tmp_path), call], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False,
                                    env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert second.returncode == 1
        assert "already runs" in second.stdout
        assert child.poll() is None, "the first platform's process was ended"
        assert not (tmp_path / "credentials").exists()
    finally:
        child.kill()
        child.wait()
