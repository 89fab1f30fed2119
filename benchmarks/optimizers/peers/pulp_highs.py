"""PuLP with HiGHS: our readable reference model. Must not know: the arrays."""

from __future__ import annotations

from typing import Any

import pulp

from benchmarks.optimizers.cases import from_json
from benchmarks.optimizers.peers.harness import serve
from optimizers.formulations import reference
from optimizers.specification import Community
from optimizers.validation import plannable


def build(community: Community) -> pulp.LpProblem:
    """The problem."""
    return reference.Model(plannable(community)).problem


def solve(problem: pulp.LpProblem, gap: float) -> tuple[float, dict[str, Any]]:
    """Read-back: every variable's value."""
    problem.solve(pulp.HiGHS(msg=False, gapRel=gap, timeLimit=120, threads=1))
    return float(pulp.value(problem.objective)), {"values": sum(v.varValue is not None for v in problem.variables())}


if __name__ == "__main__":
    serve(build, solve, from_json)
