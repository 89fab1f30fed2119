"""The portfolio's split: certified, equal to the one large programme, executable, and quick to do again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from optimizers.errors import InputError, UnsolvedError
from optimizers.formulations.dispatch import program
from optimizers.methods.highs import Solver
from optimizers.methods.pools import shares_of, together
from optimizers.methods.portfolio import Column, LocalPool, Master, ProcessPool, master, split, whole_split
from optimizers.validation import plannable
from tests.optimizers.cases import ordinary

STEPS = np.arange(26, 32)
RHO = 10.0


def projects(count: int) -> list:
    return [ordinary(seed, 48) for seed in range(100, 100 + count)]


def target(pool: LocalPool) -> np.ndarray:
    free, least = (sum(c.profile for c in pool.price(np.full(len(STEPS), price))) for price in (0.0, RHO * 0.25))
    return free - 0.6 * (free - least)


def monolithic(communities: list, aim: np.ndarray) -> float:
    """All projects and the target in one linear program."""
    programs = [program(plannable(c)) for c in communities]
    steps, width = len(aim), sum(len(p.cost) for p in programs)
    coupling = sparse.lil_matrix((steps, width + steps))
    at = 0
    for p in programs:
        for k, column in enumerate(p.columns["grid"][STEPS]):
            coupling[k, at + column] = 1.0
        at += len(p.cost)
    for k in range(steps):
        coupling[k, width + k] = -1.0
    block = sparse.block_diag([p.matrix for p in programs])
    matrix = sparse.vstack([sparse.hstack([block, sparse.csr_matrix((block.shape[0], steps))]), coupling]).tocsr()
    first = programs[0]
    whole = dataclasses.replace(
        first, cost=np.r_[np.concatenate([p.cost for p in programs]), np.full(steps, RHO * 0.25)], lower=np.r_[np.concatenate([p.lower for p in programs]), np.zeros(steps)],
        upper=np.r_[np.concatenate([p.upper for p in programs]), np.full(steps, np.inf)], matrix=matrix, row_lower=np.r_[np.concatenate([p.row_lower for p in programs]), np.full(steps, -np.inf)],
        row_upper=np.r_[np.concatenate([p.row_upper for p in programs]), aim], constant=sum(p.constant for p in programs))
    return Solver().relaxed(whole).objective


def test_the_split_equals_the_one_large_program_and_knows_its_gap() -> None:
    communities = projects(6)
    pool = LocalPool(communities, STEPS)
    aim = target(pool)
    found = split(pool, aim, 0.25)
    best = monolithic(communities, aim)
    assert found.gap <= 1e-4
    assert found.bound <= best + 1e-4 * abs(best)
    assert found.cost == pytest.approx(best, rel=2e-4)
    assert (found.total_kw <= aim + found.shortfall_kw + 1e-4).all()
    assert sum(len(mix) > 1 for mix in found.chosen.values()) <= len(STEPS)
    assert all(sum(share for share, _ in mix) == pytest.approx(1) for mix in found.chosen.values())
    whole = whole_split(pool, found, aim, 0.25)
    assert all(len(mix) == 1 and mix[0][1].whole for mix in whole.chosen.values())
    assert (whole.total_kw <= aim + whole.shortfall_kw + 1e-4).all()
    assert -1e-4 <= whole.gap <= 0.05
    # A new order during execution: only the master, over what is stored.
    again = master(found.columns, aim * 0.995, RHO * 0.25)
    assert (again.total_kw <= aim * 0.995 + again.shortfall_kw + 1e-4).all()
    assert again.cost >= found.bound


def test_worker_processes_price_as_this_one_does() -> None:
    communities = projects(4)
    with ProcessPool(communities, STEPS, workers=2) as pool:
        there = pool.price(np.full(len(STEPS), 0.1))
    here = LocalPool(communities, STEPS).price(np.full(len(STEPS), 0.1))
    assert [c.project for c in there] == [0, 1, 2, 3]
    # Costs differ by what the price moved between equally good plans; the priced objective does not.
    for a, b in zip(here, there, strict=True):
        assert a.cost + 0.1 * a.profile.sum() == pytest.approx(b.cost + 0.1 * b.profile.sum(), rel=1e-6)


def test_a_target_out_of_reach_is_told_as_shortfall() -> None:
    pool = LocalPool(projects(2), STEPS)
    found = split(pool, np.full(len(STEPS), -50.0), 0.25)
    assert (found.shortfall_kw > 40).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_master_that_keeps_its_basis_finds_what_one_from_nothing_finds(seed: int) -> None:
    r = np.random.default_rng(seed)
    count, projects = int(r.integers(1, 6)), int(r.integers(1, 8))
    batches = [[Column(k, float(r.uniform(0, 50)), r.uniform(-5, 30, count), True) for k in range(projects)] for _ in range(4)]
    aim, rho = r.uniform(-10, 15, count) * projects, float(r.uniform(0.1, 20))
    kept = Master(range(projects), aim, rho)
    for n, batch in enumerate(batches):
        kept.add(batch)
        mixed, fresh = kept.mixed(), master([c for b in batches[:n + 1] for c in b], aim, rho)
        assert mixed.cost == pytest.approx(fresh.cost, rel=1e-7, abs=1e-7)
        # Prices certify: no column is cheaper than its project's share, and the target's worth is what they say.
        dual = sum(min(c.cost + mixed.prices @ c.profile for b in batches[:n + 1] for c in b if c.project == k) for k in range(projects)) - mixed.prices @ aim
        assert dual == pytest.approx(mixed.cost, rel=1e-6, abs=1e-6)
    whole = kept.whole()
    assert all(len(mix) == 1 for mix in whole.chosen.values())
    assert whole.cost >= mixed.cost - 1e-5  # a MIP rounds within its tolerance


def test_shares_of_workers_are_put_together_in_the_order_of_the_projects() -> None:
    assert [[c.name for c in share] for share in shares_of([dataclasses.replace(ordinary(1), name=str(k)) for k in range(7)], 3)] == [["0", "3", "6"], ["1", "4"], ["2", "5"]]
    columns = [Column(k, 0.0, np.zeros(1), True) for k in range(7)]
    assert together([columns[0::3], columns[1::3], columns[2::3]]) == columns


def test_a_bound_for_another_target_certifies_nothing() -> None:
    communities = projects(2)
    pool = LocalPool(communities, STEPS)
    aim = target(pool)
    relaxed = split(pool, aim, 0.25)
    for other in ({"target_kw": aim - 5.0}, {"shortfall_yuan_kwh": 20.0}, {"target_kw": aim[:-1]}):
        with pytest.raises(InputError) as refused:
            whole_split(**{"pool": pool, "relaxed": relaxed, "target_kw": aim, "step_h": 0.25} | other)
        assert refused.value.facts["field"] == "relaxed"
    with pytest.raises(InputError, match="other projects"):
        whole_split(LocalPool(communities[:1], STEPS), relaxed, aim, 0.25)


def test_steps_of_another_length_are_refused() -> None:
    one, two = projects(2)
    for made in (lambda: LocalPool([one, dataclasses.replace(two, step_h=0.5)], STEPS), lambda: shares_of([one, dataclasses.replace(two, step_h=0.5)], 2)):
        with pytest.raises(InputError) as refused:
            made()
        assert refused.value.facts["field"] == "communities"
    with pytest.raises(InputError) as refused:
        split(LocalPool([one], STEPS), np.zeros(len(STEPS)), 0.5)
    assert refused.value.facts["field"] == "step_h"


def test_a_worker_process_that_is_gone_is_an_error_of_this_library() -> None:
    with ProcessPool(projects(1), STEPS, workers=1) as pool:
        pool._processes[0].kill()
        pool._processes[0].join(10)
        for _ in range(2):
            with pytest.raises(UnsolvedError, match="worker"):
                pool.price(np.zeros(len(STEPS)))
