"""`python -m benchmarks.data [--rows 1,2,...]`: the ratio table of the data plane, the growth curve, the cut of an uplink, and what the stack weighs.

QUICK=1 runs the same on fewer readings. Must not know: how anything is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import growth
from benchmarks.data import backup, codec, cut, disk, footprint, ingest, kills
from benchmarks.report import Report

HOME = Path("build/bench-data")
#: section -> (rows of the table it answers for, what it does)
SECTIONS: dict[str, tuple[tuple[str, ...], Callable[[Report, Path], None]]] = {
    "codec": (("5", "6"), lambda report, _home: codec.measure(report)),
    "disk": (("4", "7", "9"), disk.measure),
    "ingest": (("1", "2", "3", "11", "12"), ingest.measure),
    "kills": (("10",), kills.measure),
    "backup": (("13",), backup.measure),
    "growth": (("growth", "13"), growth.measure),
    "cut": (("cut",), cut.measure),
    "footprint": (("footprint",), footprint.measure),
}


def _keep(report: Report) -> None:
    """What is known so far, should the rest be interrupted."""
    path = Path("build/results") / f"{report.target}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.rows, indent=1))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description="The data plane as ratios.")
    parser.add_argument("--rows", default="", help="rows of the table or sections, e.g. 1,2,growth,cut,footprint (default: all)")
    wanted = {w for w in parser.parse_args().rows.split(",") if w}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # let every context end what it started
    report = Report("-".join(["bench-data", *sorted(wanted)]))  # a part of the table never overwrites the whole
    for name, (rows, measure) in SECTIONS.items():
        if wanted and name not in wanted and not wanted & set(rows):
            continue
        home = (HOME / name).resolve()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        started = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            measure(report, home)
        except Exception as error:  # noqa: BLE001  one section that fails must not hide the others
            traceback.print_exc()
            report.missing(f"data.{name}", f"{type(error).__name__}: {str(error)[:200]}")
        finally:
            shutil.rmtree(home, ignore_errors=True)
        _keep(report)
        print(f"{name} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
