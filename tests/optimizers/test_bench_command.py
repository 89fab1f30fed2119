"""`kang bench` runs the rows asked for, in the place it is called from, and names what it does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[2]


def kang(*arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cloud.cli", *arguments], capture_output=True, text=True, check=False, cwd=at, env={**os.environ, "PYTHONPATH": str(HOME)}, timeout=120)


def test_the_command_writes_the_rows_asked_for(tmp_path: Path) -> None:
    done = kang("bench", "--rows", "tariff", "--quick", at=tmp_path)
    rows = {r["id"]: r for r in json.loads((tmp_path / "build/results/bench-optimizers.json").read_text())}
    assert rows["tariff.ratio"]["value"] > 0, done.stderr
    assert all(r["quick"] for r in rows.values())
    assert "| tariff.ratio |" in (tmp_path / "build/results/bench-optimizers.md").read_text()


def test_a_row_nobody_knows_is_named(tmp_path: Path) -> None:
    done = kang("bench", "--rows", "B99", at=tmp_path)
    assert done.returncode == 2
    assert "B99" in done.stderr
    assert "B1" in done.stderr
