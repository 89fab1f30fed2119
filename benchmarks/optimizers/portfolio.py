"""B4: one reduction split over many projects. Must not know: other rows."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from benchmarks.optimizers.drawn import ordinary
from benchmarks.report import QUICK, Report
from optimizers.formulations.dispatch import program
from optimizers.methods.highs import Solver
from optimizers.methods.portfolio import Column, LocalPool, Pool, ProcessPool, Split, master, split, whole_split
from optimizers.specification import Array, Community
from optimizers.validation import plannable

if TYPE_CHECKING:
    from cloud.runtime.portfolio import RayPool

STEPS = np.arange(68, 76)
RHO, STEP_H = 10.0, 0.25


def target(pool: Pool) -> tuple[Array, list[Column]]:
    """60 % of what could be given, and the columns that told it."""
    asked = [pool.price(np.full(len(STEPS), price)) for price in (0.0, RHO * STEP_H)]
    free, least = (np.sum([c.profile for c in columns], axis=0) for columns in asked)
    return np.asarray(free - 0.6 * (free - least)), [c for columns in asked for c in columns]


def timed(make: Callable[[], ProcessPool | RayPool]) -> tuple[Split, Split, Array, float]:
    """(relaxed, whole, target, seconds); starting workers and making programs is in the seconds, not in the splits' pricing."""
    began = time.perf_counter()
    with make() as pool:
        aim, known = target(pool)
        relaxed = split(pool, aim, STEP_H, shortfall_yuan_kwh=RHO, stored=known)
        whole = whole_split(pool, relaxed, aim, STEP_H, shortfall_yuan_kwh=RHO)
    return relaxed, whole, aim, time.perf_counter() - began


def spin(count: int) -> float:
    """Work that nothing but a processor can hold up."""
    total = 0.0
    for k in range(count):
        total += (k % 7) * 1e-9
    return total


def bare_speed_up() -> float:
    """What two processes gain on this machine for work that shares nothing: no pool can gain more."""
    count = 2_000_000 if QUICK else 10_000_000
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(spin, [1000, 1000])
        began = time.perf_counter()
        pool.map(spin, [count], chunksize=1)
        pool.map(spin, [count], chunksize=1)
        middle = time.perf_counter()
        pool.map(spin, [count, count], chunksize=1)
        return (middle - began) / (time.perf_counter() - middle)


def speed_up(report: Report, name: str, one: tuple[Split, Split, Array, float], two: tuple[Split, Split, Array, float], bare: float) -> None:
    """Pricing with one worker over pricing with two, and what bounds the rest."""
    pricing, alone = (r[0].pricing_s + r[1].pricing_s for r in (one, two)), two[0].seconds + two[1].seconds - two[0].pricing_s - two[1].pricing_s
    first, second = pricing
    share = alone / (first + alone)
    report.add(f"{name}.speed_up", first / second, "x", at_least=1.7, note=f"pricing, 1 -> 2 workers: {first:.1f} -> {second:.1f} s; two bare loops gain {bare:.2f} here; the master alone takes {alone:.1f} s "
               f"({share:.1%}: by Amdahl at most {1 / (share + (1 - share) / 2):.2f} overall), everything {one[3]:.1f} -> {two[3]:.1f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def on_ray(report: Report, communities: list[Community], bare: float) -> None:
    """The same on Ray: a cluster of this machine's, started and ended here."""
    try:
        import ray

        from cloud.runtime.portfolio import RayPool
    except ImportError as error:
        report.missing("B4.ray.speed_up", f"{error}: install kang[cloud]")
        return
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, object_store_memory=200 << 20)
    try:
        runs = [timed(lambda workers=workers: RayPool(communities, STEPS, workers=workers)) for workers in (1, 2)]  # type: ignore[misc]
    finally:
        ray.shutdown()
    speed_up(report, "B4.ray", runs[0], runs[1], bare)


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
    aim, known = target(pool)
    ours = split(pool, aim, STEP_H, shortfall_yuan_kwh=RHO, stored=known)
    best = monolithic(small, aim)
    report.add("B4.monolithic", abs(ours.cost - best) / abs(best), "relative", at_most=2e-4, note=f"N={len(small)}: {ours.cost:.3f}, one large program {best:.3f}")
    count = 60 if QUICK else 2000
    communities = [ordinary(seed) for seed in range(1000, 1000 + count)]
    relaxed, whole, _, two = timed(lambda: ProcessPool(communities, STEPS, workers=2))
    report.add("B4.seconds", two, "s", at_most=60.0, note=f"{count} projects, K={len(STEPS)}, 2 workers, {relaxed.rounds} rounds; relaxed {relaxed.seconds:.1f} s, whole {whole.seconds:.1f} s")
    report.add("B4.gap", relaxed.gap, "relative", at_most=1e-4)
    report.add("B4.whole_gap", whole.gap, "relative", at_most=0.01)
    bare, some = bare_speed_up(), communities[:60 if QUICK else 500]
    one = timed(lambda: ProcessPool(some, STEPS, workers=1))
    speed_up(report, "B4", one, timed(lambda: ProcessPool(some, STEPS, workers=2)), bare)
    on_ray(report, some, bare)
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
