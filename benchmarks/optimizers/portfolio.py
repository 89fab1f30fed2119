"""B4: one reduction split over many projects. Must not know: other rows."""

from __future__ import annotations

import dataclasses
import os
import time

import numpy as np
from scipy import sparse

from benchmarks.optimizers.drawn import ordinary
from benchmarks.report import QUICK, Report
from optimizers.formulations.dispatch import program
from optimizers.methods.highs import Solver
from optimizers.methods.portfolio import Column, LocalPool, Pool, ProcessPool, Split, master, split, whole_split
from optimizers.specification import Array, Community
from optimizers.validation import plannable

STEPS = np.arange(68, 76)
RHO, STEP_H = 10.0, 0.25


def target(pool: Pool) -> Array:
    """60 % of what could be given."""
    free, least = (np.sum([c.profile for c in pool.price(np.full(len(STEPS), price))], axis=0) for price in (0.0, RHO * STEP_H))
    return np.asarray(free - 0.6 * (free - least))


def timed(communities: list[Community], workers: int) -> tuple[Split, Split, Array, float]:
    """(relaxed, whole, target, seconds), processes and programs included."""
    began = time.perf_counter()
    with ProcessPool(communities, STEPS, workers=workers) as pool:
        aim = target(pool)
        relaxed = split(pool, aim, STEP_H, shortfall_yuan_kwh=RHO)
        whole = whole_split(pool, relaxed, aim, STEP_H, shortfall_yuan_kwh=RHO)
    return relaxed, whole, aim, time.perf_counter() - began


def monolithic(communities: list[Community], aim: Array) -> float:
    """All projects and the target in one linear program."""
    programs = [program(plannable(c)) for c in communities]
    starts = np.cumsum([0, *(len(p.cost) for p in programs)])
    steps, width = len(aim), int(starts[-1])
    columns = np.concatenate([p.columns["grid"][STEPS] + s for p, s in zip(programs, starts, strict=False)])
    coupling = sparse.csr_matrix((np.ones(len(columns)), (np.tile(np.arange(steps), len(programs)), columns)), shape=(steps, width))
    block = sparse.block_diag([p.matrix for p in programs])
    matrix = sparse.bmat([[block, None], [coupling, -sparse.identity(steps)]]).tocsr()
    matrix.sort_indices()
    whole = dataclasses.replace(
        programs[0], cost=np.r_[np.concatenate([p.cost for p in programs]), np.full(steps, RHO * STEP_H)], lower=np.r_[np.concatenate([p.lower for p in programs]), np.zeros(steps)],
        upper=np.r_[np.concatenate([p.upper for p in programs]), np.full(steps, np.inf)], matrix=matrix,
        row_lower=np.r_[np.concatenate([p.row_lower for p in programs]), np.full(steps, -np.inf)], row_upper=np.r_[np.concatenate([p.row_upper for p in programs]), aim],
        constant=sum(p.constant for p in programs))
    return Solver().relaxed(whole).objective


def run(report: Report) -> None:
    """All of B4."""
    small = [ordinary(seed) for seed in range(100, 100 + (10 if QUICK else 50))]
    pool = LocalPool(small, STEPS)
    aim = target(pool)
    ours = split(pool, aim, STEP_H, shortfall_yuan_kwh=RHO)
    best = monolithic(small, aim)
    report.add("B4.monolithic", abs(ours.cost - best) / abs(best), "relative", at_most=2e-4, note=f"N={len(small)}: {ours.cost:.3f}, one large program {best:.3f}")
    count = 60 if QUICK else 2000
    communities = [ordinary(seed) for seed in range(1000, 1000 + count)]
    relaxed, whole, aim, two = timed(communities, 2)
    report.add("B4.seconds", two, "s", at_most=60.0, note=f"{count} projects, K={len(STEPS)}, 2 workers, {relaxed.rounds} rounds; relaxed {relaxed.seconds:.1f} s, whole {whole.seconds:.1f} s")
    report.add("B4.gap", relaxed.gap, "relative", at_most=1e-4)
    report.add("B4.whole_gap", whole.gap, "relative", at_most=0.01)
    one = timed(communities[:count if QUICK else 500], 1)[3]
    again = two if QUICK else timed(communities[:500], 2)[3]
    report.add("B4.speed_up", one / again, "x", at_least=1.7, note=f"1 -> 2 workers, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    # Columns of the day ahead, repeated over more projects with other sizes; a new order is the master alone.
    projects = 500 if QUICK else 5000
    draw = np.random.default_rng(3)
    by_project: dict[int, list[Column]] = {}
    for c in whole.columns:
        by_project.setdefault(c.project, []).append(c)
    stored: list[Column] = []
    for k in range(projects):
        size = float(draw.uniform(0.7, 1.3))
        stored += [Column(k, c.cost * size, c.profile * size, c.whole) for c in by_project[k % count]]
    order = np.sum([min((c for c in stored[k * len(by_project[0]):(k + 1) * len(by_project[0])]), key=lambda c: c.cost).profile for k in range(projects)], axis=0) * 0.97
    began = time.perf_counter()
    mixed = master(stored, order, RHO * STEP_H)
    found = master(stored, order, RHO * STEP_H, whole=True, seconds=8.0)
    report.add("B4.new_order", time.perf_counter() - began, "s", at_most=10.0, note=f"{projects} projects, {len(stored)} stored columns; whole is {found.cost / mixed.cost - 1:.2e} above mixed")
