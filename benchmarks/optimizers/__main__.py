"""`python -m benchmarks.optimizers [--rows B1,B2]`: the rows asked for, as table, JSON, Markdown and plot. Adding a row = one module and its name in ROWS. Must not know: what rows measure."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path

# Before numpy is imported here or in any child: threads of BLAS would fight over the processors with the peers and workers.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from benchmarks.report import QUICK, Report  # noqa: E402

ROWS = {"B1": "single:run", "B2": "rolling:run", "B3": "hostile:run", "B4": "portfolio:run", "B5": "measured_load:baselines", "B6": "measured_load:forecasts", "tariff": "rating:run",
        "FMI": "closed_loop:run", "alone": "alone:run"}


def markdown(report: Report, path: Path) -> None:
    """The same table for people."""
    marks = {True: "ok", False: "missed", None: ""}
    lines = [f"# {report.target}{' (smaller run)' if QUICK else ''}", "", "| id | value | unit | goal | | note |", "|---|---|---|---|---|---|"]
    lines += [f"| {r['id']} | {'-' if r['value'] is None else format(r['value'], '.4g')} | {r['unit']} | {r['goal']} | {marks[r['ok']]} | {r['note'].replace('|', '/')} |" for r in report.rows]
    path.write_text("\n".join(lines) + "\n")


def plot(report: Report, path: Path) -> None:
    """Ratios as bars; a line where matplotlib is missing."""
    ratios = [r for r in report.rows if r["unit"] == "x ours" and r["value"]]
    if not ratios:
        return
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("  no plot: matplotlib is not installed")
        return
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(ratios) + 1.2))
    axes.barh([r["id"] for r in ratios][::-1], [r["value"] for r in ratios][::-1])
    axes.set_xscale("log")
    axes.set_xlabel("times our time, same round")
    axes.axvline(1.0, color="black", linewidth=0.8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """Run, print, save."""
    arguments = argparse.ArgumentParser(description="benchmarks of optimizers/ against named peers")
    arguments.add_argument("--rows", default=",".join(ROWS), help="rows to run: " + ",".join(ROWS))
    rows = [r.strip() for r in arguments.parse_args().rows.split(",") if r.strip()]
    if unknown := [r for r in rows if r not in ROWS]:
        print(f"unknown rows: {', '.join(unknown)}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    report = Report("bench-optimizers")
    for row in rows:
        before = os.getloadavg()[0]
        try:
            module, job = ROWS[row].split(":")
            getattr(importlib.import_module(f"benchmarks.optimizers.{module}"), job)(report)
        except Exception as error:  # noqa: BLE001  a row that breaks is a row that says so
            traceback.print_exc()
            report.missing(row, f"{type(error).__name__}: {error}")
        report.add(f"{row}.load", os.getloadavg()[0], "runnable", note=f"{before:.1f} before; times hold on a quiet machine ({os.cpu_count()} processors)")
    code = report.finish()
    home = Path("build/results")
    markdown(report, home / "bench-optimizers.md")
    plot(report, home / "bench-optimizers.png")
    return code


if __name__ == "__main__":
    sys.exit(main())
