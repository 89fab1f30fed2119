"""Parts of the formulation against slower, plainer ways: statuses by trying them all, the exact step by a general matrix exponential."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import expm

from benchmarks.optimizers.cases import WEEKS, as_json, m1, m2
from benchmarks.optimizers.peers.jobs import house
from optimizers.checker import check
from optimizers.formulations.building import thermal
from optimizers.formulations.dispatch import program
from optimizers.formulations.units import Unit
from optimizers.methods.commitment import nearest_status
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, HeatPump, Prices
from optimizers.validation import plannable
from tests.optimizers.cases import ordinary


def allowed(path: tuple[int, ...], unit: Unit) -> bool:
    """Every run ended within the horizon is long enough; what history binds is kept."""
    if any(s != unit.on for s in path[:unit.bound]):
        return False
    changes = [t for t in range(len(path)) if path[t] != (path[t - 1] if t else int(unit.on))]
    return all(later - at >= (unit.up if path[at] else unit.down) for at, later in itertools.pairwise(changes))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 3), st.sampled_from([0.05, 0.3, 1.5]))
def test_the_nearest_status_is_the_best_of_all_allowed_ones(wish: list[float], up: int, down: int, on: bool, bound: int, start: float) -> None:
    w = np.array(wish)
    unit = Unit("x", w, 0.2, 0.0, w, up, down, 1.0, on, min(bound, len(wish)), np.zeros(len(wish), bool), 0)

    def cost(path: tuple[float, ...]) -> float:
        return float(np.abs(w - path).sum() + start * (np.diff([float(on), *path]) > 0).sum())

    found = tuple(nearest_status(w, unit, start=start))
    best = min(cost(p) for p in itertools.product((0, 1), repeat=len(wish)) if allowed(p, unit))
    assert allowed(tuple(int(s) for s in found), unit)
    assert cost(found) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("make", [m1, m2])
def test_the_step_of_a_building_is_the_matrix_exponential(make: object) -> None:
    community = plannable(make(WEEKS[0]))
    b, state = community.buildings[0], thermal(community.buildings[0], community)
    if b.mass_kwh_k:
        rates = [[-(b.loss_kw_k + b.coupling_kw_k) / b.capacity_kwh_k, b.coupling_kw_k / b.capacity_kwh_k],
                 [b.coupling_kw_k / b.mass_kwh_k, -(b.coupling_kw_k + b.mass_loss_kw_k) / b.mass_kwh_k]]
        heat, outdoor = [1 / b.capacity_kwh_k, 0.0], [b.loss_kw_k / b.capacity_kwh_k, b.mass_loss_kw_k / b.mass_kwh_k]
    else:
        rates, heat, outdoor = [[-b.loss_kw_k / b.capacity_kwh_k]], [1 / b.capacity_kwh_k], [b.loss_kw_k / b.capacity_kwh_k]
    n = len(rates)
    block = np.zeros((n + 2, n + 2))
    block[:n, :n], block[:n, n], block[:n, n + 1] = rates, heat, outdoor
    exact = expm(block * community.step_h)
    assert state.a == pytest.approx(exact[:n, :n], rel=1e-10)
    assert state.b == pytest.approx(exact[:n, n], rel=1e-10)


def test_a_kept_pattern_gives_the_same_matrix_as_sorting_anew() -> None:
    for seed in range(6):
        community = plannable(ordinary(seed, 24))
        warmer = dataclasses.replace(community, outdoor_c=community.outdoor_c + 5)
        program(community)
        kept = program(warmer).matrix
        rows, columns = kept.nonzero()
        anew = sparse.csr_matrix((np.asarray(kept[rows, columns]).ravel(), (rows, columns)), shape=kept.shape)
        assert abs(kept - anew).max() == 0
        assert kept.has_sorted_indices
        pumps = [s for s in community.sources if isinstance(s, HeatPump)]
        assert (abs(kept - program(community).matrix).max() > 0) == bool(pumps), "a pump's COP stands in the matrix"


def test_a_case_as_json_says_all_a_peer_needs() -> None:
    model = as_json(m1(WEEKS[0], 24))
    assert {"prices", "units", "store", "building", "base", "pv"} <= set(model)
    assert all(len(u["cap"]) == len(u["beta"]) == 24 for u in model["units"])
    assert len(model["building"]["d"]) == 24


def test_the_house_that_peers_are_given_is_the_community_s_own_room() -> None:
    model = as_json(m1())
    given, building = house(model), model["building"]
    power = np.array([sum(u["cap"][t] for u in model["units"]) for t in range(model["steps"])])
    room = building["start"][0]
    for t in range(model["steps"]):
        truth = building["a"][0][0] * room + building["b"][0] * power[t] + building["d"][t][0]
        told = room + given["kelvin_per_kw"] * power[t] - given["cooling"] * model["dt"] * (room - given["outdoor"][t])
        assert told == pytest.approx(truth, abs=1e-9)
        room = truth
    assert given["rate_k_h"] * model["dt"] == pytest.approx(building["b"][0] * power.mean())


@settings(max_examples=60, deadline=None)
@given(*(st.floats(low, high).map(lambda x: 10**x) for low, high in ((-1, 5), (-2, 3), (0, 5), (-2, 5))), st.floats(0, 100), st.sampled_from([0.25, 1.0, 24.0]))
def test_a_step_of_any_building_is_exact_however_stiff(air: float, loss: float, mass: float, link: float, mass_loss: float, step_h: float) -> None:
    building = Building("h", air, loss, 20.0, mass_kwh_k=mass, coupling_kw_k=link, mass_loss_kw_k=mass_loss)
    community = plannable(Community("x", step_h, Prices(np.full(2, 0.3)), np.full(2, -5.0), [building]))
    rates = np.array([[-(loss + link) / air, link / air], [link / mass, -(link + mass_loss) / mass]])
    state = thermal(building, community)
    assert state.a == pytest.approx(expm(rates * step_h), rel=1e-6, abs=1e-9)
    assert ((state.a >= 0) & (state.a <= 1 + 1e-12)).all()


def test_a_light_room_tied_hard_to_its_walls_is_planned_and_checked() -> None:
    building = Building("h", 5, 400, 20.0, mass_kwh_k=500, coupling_kw_k=7000)
    for extreme in (building, dataclasses.replace(building, capacity_kwh_k=0.01, coupling_kw_k=1e6)):
        community = Community("x", 1.0, Prices(np.full(6, 0.3)), np.full(6, -5.0), [extreme], [ElectricBoiler("b", 12000.0)])
        assert check(Dispatcher().plan(community), community) == []
