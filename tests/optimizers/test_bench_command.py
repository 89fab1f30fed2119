"""`kang bench` runs the rows asked for, in the place it is called from, and names what it does not know."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
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


#: Packages of the platform are hidden, as if only `kang[optimizers]` were installed.
BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("yaml", "cryptography", "google", "backports", "fastapi", "sqlalchemy", "ray", "psutil", "matplotlib", "grpc"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Absent())
from cloud.start import main
main(sys.argv[1:])
"""


def bare(*arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=False, cwd=at, env={**os.environ, "PYTHONPATH": str(HOME), "LC_ALL": "C.UTF-8"}, timeout=120)


def test_with_the_optimizers_alone_bench_helps_and_the_rest_names_the_extra(tmp_path: Path) -> None:
    helped = bare("bench", "--help", at=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "--rows" in helped.stdout
    refused = bare("up", at=tmp_path)
    assert refused.returncode == 1
    assert "kang[cloud]" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_extra_brings_what_the_page_says_and_nothing_of_the_platform() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    assert {re.match(r"[a-z]+", w)[0] for w in project["optional-dependencies"]["optimizers"]} == {"numpy", "scipy", "pulp", "highspy"}
    assert project["scripts"]["kang"] == "cloud.start:main"
