"""PuLP with the CBC it bundles: our readable reference model. Must not know: the arrays."""

from __future__ import annotations

from typing import Any

import pulp

from benchmarks.optimizers.cases import from_json
from benchmarks.optimizers.peers.harness import serve
from benchmarks.optimizers.peers.pulp_highs import build


def solve(problem: pulp.LpProblem, gap: float) -> tuple[float, dict[str, Any]]:
    """Read-back is PuLP's."""
    problem.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=gap, timeLimit=120, threads=1))
    return float(pulp.value(problem.objective)), {}


if __name__ == "__main__":
    serve(build, solve, from_json)
