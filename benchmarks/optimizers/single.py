"""B1: one cold dispatch, ours and the peers' on the same model; then how often our gap is certified. Must not know: other rows."""

from __future__ import annotations

import statistics
import time

from benchmarks.optimizers.cases import WEEKS, ordinary, request
from benchmarks.optimizers.environments import ratio, rounds
from benchmarks.report import QUICK, Report, quantile
from optimizers.methods.dispatch import Dispatcher

GAP = 1e-3
FLOORS = {"pulp_highs": 7.0, "oemof": 20.0, "linopy": 40.0, "pypsa": 80.0}
PEERS = ["kang", "pulp_highs", "pulp_cbc", "scipy_milp", "linopy", "pypsa", "oemof"]


def compare(report: Report, kind: str, steps: int, peers: list[str], *, count: int, floors: dict[str, float], repeat: int) -> None:
    """One model and horizon."""
    answers, failed = rounds(peers, request(kind, WEEKS[1], steps, repeat=repeat, gap=GAP), count)
    head = f"B1.{kind}.{steps}"
    ours = answers["kang"]
    if not ours:
        report.missing(f"{head}.kang", failed["kang"])
        return
    report.add(f"{head}.kang.total", statistics.median(a["total_s"] for a in ours) * 1e3, "ms", note=f"objective {ours[-1]['objective']:.4f}, certified gap {ours[-1]['gap']:.2%}, {ours[-1]['how']}")
    for peer in peers[1:]:
        if peer in failed:
            report.missing(f"{head}.{peer}.ratio", failed[peer])
            continue
        theirs = answers[peer]
        away = (ours[-1]["objective"] - theirs[-1]["objective"]) / abs(theirs[-1]["objective"])
        for part in ("build_s", "solve_s"):
            report.add(f"{head}.{peer}.{part[:-2]}", statistics.median(a[part] for a in theirs) * 1e3, "ms")
        report.add(f"{head}.{peer}.ratio", ratio(ours, theirs), "x ours", at_least=floors.get(peer),
                   note=f"objective {theirs[-1]['objective']:.4f}; ours {away:+.3%}")


def same_model(report: Report) -> None:
    """All peers to a gap of 1e-6: the models are the same when the optima are."""
    answers, failed = rounds(PEERS[1:], request("M1", WEEKS[1], 96, gap=1e-6), 1)
    found = {peer: a[0]["objective"] for peer, a in answers.items() if a}
    for peer, why in failed.items():
        report.missing(f"B1.same.{peer}", why)
    base = found.get("pulp_highs")
    if base is None:
        return
    for peer, objective in found.items():
        report.add(f"B1.same.{peer}", abs(objective - base) / abs(base), "relative", at_most=1e-4, note=f"optimum {objective:.6f}")


def certified(report: Report) -> None:
    """How often the gap is certified on ordinary cases, before and after escalation."""
    count = 20 if QUICK else 100
    within, after, seconds = 0, 0, list[float]()
    for community in ordinary(count):
        began = time.perf_counter()
        plan = Dispatcher().plan(community)
        seconds.append(time.perf_counter() - began)
        within += plan.gap <= 0.005 and plan.how != "milp"
        after += plan.gap <= 0.005
    report.add("B1.certified.first", within / count, "share", at_least=0.95, note=f"gap <= 0.5 % without escalation, {count} ordinary cases of M1 and M2 in turn")
    report.add("B1.certified.all", after / count, "share", at_least=1.0, note=f"after escalation; slowest {max(seconds):.2f} s, p95 {quantile(seconds, 0.95):.2f} s")
    report.add("B1.certified.slowest", max(seconds), "s", at_most=5.5)


def weeks(report: Report) -> None:
    """T=672 on ordinary winter weeks, ours alone."""
    from benchmarks.optimizers.cases import m1

    seconds, gaps = list[float](), list[float]()
    for start in WEEKS[::8] if QUICK else WEEKS[::3]:
        community = m1(start, 672)
        began = time.perf_counter()
        plan = Dispatcher().plan(community)
        seconds.append(time.perf_counter() - began)
        gaps.append(plan.gap)
    report.add("B1.weeks.median", statistics.median(seconds), "s", at_most=1.0, note=f"{len(gaps)} measured winter weeks, T=672; slowest {max(seconds):.2f} s")
    report.add("B1.weeks.gap", max(gaps), "relative", at_most=0.005)


def run(report: Report) -> None:
    """All of B1."""
    same_model(report)
    compare(report, "M1", 96, PEERS, count=2 if QUICK else 5, floors=FLOORS, repeat=2)
    compare(report, "M1", 672, PEERS[:2] if QUICK else PEERS, count=1 if QUICK else 5, floors={}, repeat=1)
    compare(report, "M2", 96, ["kang", "pulp_highs", "scipy_milp", "linopy"], count=1 if QUICK else 5, floors={}, repeat=2)
    certified(report)
    weeks(report)
