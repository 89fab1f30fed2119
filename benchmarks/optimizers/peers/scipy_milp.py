"""scipy.optimize.milp on our arrays (their assembly is on the clock). Must not know: our methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from benchmarks.optimizers.cases import from_json
from benchmarks.optimizers.peers.harness import serve
from optimizers.formulations.dispatch import Program, program
from optimizers.specification import Community
from optimizers.validation import plannable


def build(community: Community) -> Program:
    """The arrays."""
    return program(plannable(community))


def solve(p: Program, gap: float) -> tuple[float, dict[str, Any]]:
    """One call."""
    whole = np.zeros(len(p.cost))
    whole[p.whole] = 1
    found = milp(p.cost, integrality=whole, bounds=Bounds(p.lower, p.upper), constraints=LinearConstraint(p.matrix, p.row_lower, p.row_upper), options={"mip_rel_gap": gap, "time_limit": 120})
    if found.x is None:
        raise RuntimeError(found.message)
    return float(found.fun) + p.constant, {"bound": float(found.mip_dual_bound) + p.constant}


if __name__ == "__main__":
    serve(build, solve, from_json)
