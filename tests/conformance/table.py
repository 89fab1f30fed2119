"""`make conformance`: runs the marked tests and prints the table of the 59 function points and the platform rows.

A point is `pass` when it has tests and all passed, `fail` when one failed, `missing` when there is none: it never says more than the run says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
RESULTS = Path("build/results/conformance.json")


class Collector:
    """A pytest plugin: outcome, route and page by function point."""

    def __init__(self) -> None:
        self.points: dict[str, dict[str, Any]] = {}
        self._of: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Remember which test proves what."""
        for item in items:
            self._of[item.nodeid] = [(str(mark.args[0]), dict(mark.kwargs)) for mark in item.iter_markers("point")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one outcome."""
        if report.when != "call" and not (report.failed or report.skipped):
            return
        for point, where in self._of.get(report.nodeid, []):
            row = self.points.setdefault(point, {"status": "pass", "route": [], "page": [], "tests": []})
            if not report.passed:
                row["status"] = "fail"
            for name in ("route", "page"):
                if where.get(name) and where[name] not in row[name]:
                    row[name].append(where[name])
            if report.nodeid not in row["tests"]:
                row["tests"].append(report.nodeid)


def main() -> int:
    """Entry point; 0 when nothing failed (missing points are shown, not hidden)."""
    collector = Collector()
    pytest.main(["-q", "-m", "point", "tests/conformance"], plugins=[collector])
    book = yaml.safe_load((HERE / "function_points.yaml").read_text())
    rows = [(str(r["id"]), r.get("zh", ""), r.get("en", r["clause"]), r["clause"]) for r in book["points"]] + [(r["id"], "", r["shows"][:60], r["clause"]) for r in book["platform"]]
    out: dict[str, Any] = {}
    for point, zh, en, clause in rows:
        found = collector.points.get(point, {"status": "missing", "route": [], "page": [], "tests": []})
        out[point] = {**found, "route": ", ".join(found["route"]), "page": ", ".join(found["page"])}
        print(f"{point:>4}  {out[point]['status']:<8} {zh or en:<28} {clause:<14} {out[point]['route'] or '-'}  {out[point]['page'] or '-'}  {len(found['tests'])} tests")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(out, indent=1, ensure_ascii=False))
    counts = {s: sum(r["status"] == s for r in out.values()) for s in ("pass", "fail", "missing")}
    print(f"{counts['pass']} pass, {counts['fail']} fail, {counts['missing']} missing; written to {RESULTS}")
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
