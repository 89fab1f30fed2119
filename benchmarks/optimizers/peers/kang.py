"""Ours: one cold `Dispatcher` a case; build, solve and read-back are one call. Must not know: other peers."""

from __future__ import annotations

from typing import Any

from benchmarks.optimizers.cases import from_json
from benchmarks.optimizers.peers.harness import serve
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Community


def solve(community: Community, _: float) -> tuple[float, dict[str, Any]]:
    """The plan; its gap is certified whatever was asked."""
    plan = Dispatcher().plan(community)
    return plan.objective, {"bound": plan.bound, "gap": plan.gap, "how": plan.how}


if __name__ == "__main__":
    serve(lambda c: c, solve, from_json)
