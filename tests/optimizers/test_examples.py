"""The examples that come with the package do what the pages say, in both languages, printing nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
#: Example -> what it must print.
SAYS = {
    "plan_a_day": [r"objective: .* with the tank, .* without: \d+\.\d\d less", r"of it energy and demand: .* less"],
    "tariff_and_bill": [r"yuan/kWh at night 0\.10, at noon 0\.4883", r"total 84\.60 yuan for 240 kWh; counter now 10070 kWh", r"a gap from 08:00 to 09:00"],
    "plan_an_event": [r"delivered at least 60 kW, missing 0 kW, pre-heating from step 1\d", r"missing up to 100 kW", r"可提前预热", r"Way out: pre-heat earlier"],
    "settle_an_event": [r"beijing_high_5_of_10: \[1", r"penalty 0\.00; total 2\d\d\.\d\d yuan"],
    "check_a_plan": [r"4 of 96 values unusable", r"limits broken: \[\]", r"homes\.room_c by 0\.1 K", r"cost\.energy by 10 yuan", r"E-SPECIFICATION", r"-5 超出范围"],
    "split_a_portfolio": [r"gap \d\.\de-0\d, \d+ rounds", r"certified within 0\.\d\d%"],
    "forecast_a_day": [r"project 1: 1\d\d kW in the mean", r"岭回归，90 天历史"],
}


def run(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", *words], capture_output=True, text=True, timeout=60, check=False, cwd=at, env={**os.environ, "PYTHONPATH": str(HOME), "PYTHONIOENCODING": "utf-8"})


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    done = run("-m", f"optimizers.examples.{name}", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for said in SAYS[name]:
        assert re.search(said, done.stdout), done.stdout
    for language in ("en", "zh"):
        assert f'--8<-- "{name}.py"' in (HOME / "docs" / language / "optimizers.md").read_text()


def test_every_example_is_run_here() -> None:
    assert {f.stem for f in (HOME / "optimizers" / "examples").glob("*.py")} - {"__init__"} == set(SAYS)
    assert "optimizers/examples" in (HOME / "mkdocs.yml").read_text()


def test_without_matplotlib_the_plot_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys, runpy; sys.modules['matplotlib'] = None; sys.argv = ['plan_a_day', 'plan.png']; runpy.run_module('optimizers.examples.plan_a_day', run_name='__main__')"
    done = run("-c", hidden, at=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("The plot needs matplotlib: pip install matplotlib / 画图需要")
