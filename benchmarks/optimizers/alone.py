"""The package alone: a fresh environment with only the extra `optimizers` imports it and plans; what it weighs beyond numpy, scipy, PuLP and HiGHS.

The source is put beside the packages instead of a wheel, whose build brings the web pages. Must not know: other rows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks.report import Report

HOME = Path("build/peers/env-alone")
OURS = ("numpy", "scipy", "pulp", "highspy", "pip", "setuptools", "__pycache__", "_distutils_hack", "pkg_resources", "distutils-precedence")
PLAN = """
import sys
import numpy as np
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices
homes = Building("homes", 30.0, 1.5, 20.0, emitter_kw=80.0)
plan = Dispatcher().plan(Community("alone", 0.25, Prices(np.full(96, 0.5)), np.full(96, -5.0), [homes], [ElectricBoiler("boiler", 60.0)]))
assert np.isfinite(plan.objective) and not {"ray", "cloud", "protos"} & set(sys.modules)
"""


def run(report: Report) -> None:
    """One environment, one plan."""
    if not Path("pyproject.toml").exists():
        report.missing("alone", "it builds from a checkout: run it there")
        return
    wanted = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]["optimizers"]
    shutil.rmtree(HOME, ignore_errors=True)
    python = HOME.absolute() / "bin" / "python"
    for command in ([sys.executable, "-m", "venv", str(HOME)], [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            report.missing("alone", (done.stderr.strip() or "failed").splitlines()[-1])
            return
    (site,) = (HOME / "lib").glob("python*/site-packages")
    shutil.copytree("optimizers", site / "optimizers", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([str(python), "-I", "-c", PLAN], capture_output=True, text=True, check=False, cwd=HOME)
    report.add("alone.plans", float(done.returncode == 0), "of 1", at_least=1.0, note=(done.stderr.strip().splitlines() or ["no ray, no cloud, no protos imported"])[-1])
    extra = sum(f.stat().st_size for entry in site.iterdir() if not entry.name.startswith(OURS) for f in ([entry] if entry.is_file() else entry.rglob("*")) if f.is_file())
    report.add("alone.megabytes", extra / 1e6, "MB", at_most=60.0, note="beyond numpy, scipy, pulp and highspy")
