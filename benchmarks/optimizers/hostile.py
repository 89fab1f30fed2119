"""B3: what went wrong before the plan was asked for. Ours on every seed, judged by the independent checker; PyPSA with a hard comfort band on those it can express.

Must not know: other rows.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.optimizers.cases import as_json
from benchmarks.optimizers.drawn import hostile
from benchmarks.optimizers.environments import PeerError, ask
from benchmarks.report import QUICK, Report, quantile
from optimizers.checker import check
from optimizers.errors import OptimizerError
from optimizers.methods.dispatch import Dispatcher
from optimizers.shortfall import TOLERANCE, shortfalls
from optimizers.specification import Community
from optimizers.validation import plannable


def expressible(community: Community) -> bool:
    """One thermal node, one store, no room heaters, no limit: what the network of `peers.pypsa_highs` can say."""
    return len(community.stores) == 1 and not community.rooms and community.buildings[0].mass_kwh_k == 0 and community.limit_kw is None


def run(report: Report) -> None:
    """All of B3."""
    count = 60 if QUICK else 500
    usable, broken, slack, told, seconds = 0, 0, 0, 0, list[float]()
    peers: list[Community] = []
    for seed in range(count):
        community = hostile(seed)
        if expressible(community):
            peers.append(community)
        began = time.perf_counter()
        try:
            plan = Dispatcher().plan(community)
        except OptimizerError:
            continue
        seconds.append(time.perf_counter() - began)
        usable += bool(np.isfinite(plan.objective))
        fit = plannable(community)
        broken += bool(check(plan, fit))
        if plan.slacks:
            slack += 1
            said = {s.name for s in shortfalls(plan, fit) if s.causes and s.zh and s.en}
            told += all(name in said for name, amount in plan.slacks.items() if amount.max() > TOLERANCE)
    report.add("B3.usable", usable / count, "share", at_least=1.0, note=f"{count} hostile seeds; median {quantile(seconds, 0.5) * 1e3:.0f} ms, slowest {max(seconds):.1f} s")
    report.add("B3.broken", broken / count, "share", at_most=0.0, note="by the checker, which simulates from the specification alone")
    report.add("B3.explained", told / slack if slack else 1.0, "share", at_least=1.0, note=f"of {slack} plans with something that could not be held: limit, stretch, amount, cause and way out in both languages")
    asked = peers[:4 if QUICK else 40]
    good, words = 0, dict[str, int]()
    for community in asked:
        try:
            ask("pypsa", {"model": as_json(community), "gap": 1e-2}, seconds=120, environment={"HARD": "1"})
            good += 1
        except PeerError as error:
            words[str(error)[-80:]] = words.get(str(error)[-80:], 0) + 1
    report.add("B3.pypsa_hard.usable", good / max(1, len(asked)), "share", note=f"{len(asked)} of the same seeds, holes already filled for it; failures: {'; '.join(f'{n} x {w}' for w, n in words.items()) or 'none'}")
    for peer in ("emhass", "flexmeasures"):
        report.missing(f"B3.{peer}.usable", "resolves for Python 3.11, but no script runs it here yet")
