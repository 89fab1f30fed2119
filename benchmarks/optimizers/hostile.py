"""B3: what went wrong before the plan was asked for. Ours on every seed, judged by the independent checker; PyPSA with a hard comfort band on those it can express, EMHASS and
FlexMeasures by their own models.

Must not know: other rows.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

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
    models = [as_json(c) for c in asked]
    own_model(report, "emhass.hard", "emhass", models, {"BAND": "hard"}, "band as min/max_temperatures")
    own_model(report, "emhass.soft", "emhass", models, {"BAND": "soft"}, "band as desired_temperatures with a penalty")
    own_model(report, "flexmeasures", "flexmeasures", models, {}, "band as the stock's, its default")


def own_model(report: Report, name: str, peer: str, models: list[dict[str, Any]], environment: dict[str, str], how: str) -> None:
    """A peer with a model of its own on the same seeds, holes already filled for it: one room, one heater that stands for all sources, other load, grid limits."""
    try:
        answers = ask(peer, {"models": models}, seconds=900, environment=environment)["answers"]
    except PeerError as error:
        report.missing(f"B3.{name}.usable", str(error))
        return
    words = Counter(word for usable, word, _ in answers if not usable)
    said = "; ".join(f"{n} x {word}" for word, n in words.most_common(3)) or "none"
    report.add(f"B3.{name}.usable", sum(bool(a[0]) for a in answers) / max(1, len(answers)), "share",
               note=f"{len(answers)} of the same seeds, its own model ({how}); median {quantile([a[2] for a in answers], 0.5) * 1e3:.0f} ms; failures: {said}")
