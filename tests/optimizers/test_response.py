"""Flexibility, settlement and emissions."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.demand_response.flexibility import envelope
from optimizers.demand_response.settlement import Terms, delivery, gains, settle, to_fen
from optimizers.emissions import FactorError, Ratio, displaced, efficiency, factor, grade, ledger, round_trip
from optimizers.methods.dispatch import Dispatcher
from optimizers.validation import plannable
from tests.optimizers.cases import ordinary


@pytest.mark.parametrize("seed", [1, 4, 8])
def test_the_envelope_can_be_held_without_owing_people_more(seed: int) -> None:
    community = plannable(ordinary(seed))
    start = 70
    found = envelope(community, start, durations_h=(0.5, 2.0))
    assert found[0].down_kw >= found[1].down_kw - 1e-6, "a longer event can only be smaller"
    assert found[0].up_kw >= found[1].up_kw - 1e-6
    assert all(f.down_yuan >= -1e-6 and f.up_yuan >= -1e-6 for f in found)
    longest = found[1]
    steps = slice(start, start + 8)
    base = Dispatcher(gap=1e-9).plan(dataclasses.replace(community, sources=[dataclasses.replace(s, minimum_load=0.0, start_yuan=0.0, up_h=0.25, down_h=0.25) for s in community.sources]))
    limit = np.full(community.steps, np.inf)
    limit[steps] = max(0.0, float(base.grid_kw[steps].max()))
    held = Dispatcher().plan(dataclasses.replace(community, limit_kw=limit))
    assert held.slacks.get("above", np.zeros(1)).max() <= 1e-6 or longest.down_kw == 0


@given(st.lists(st.decimals(min_value=-1000, max_value=1000, places=6), min_size=1, max_size=9))
def test_parts_rounded_to_the_fen_add_up_to_the_rounded_total(values: list[Decimal]) -> None:
    items = {str(k): v for k, v in enumerate(values)}
    rounded = to_fen(items)
    assert sum(rounded.values()) == sum(values).quantize(Decimal("0.01"), "ROUND_HALF_UP")
    assert all(abs(rounded[k] - v) < Decimal("0.0100001") for k, v in items.items())


@given(st.lists(st.decimals(min_value=-500, max_value=500, places=4), min_size=1, max_size=5), st.decimals(min_value=-2000, max_value=2000, places=4))
def test_gains_hide_nothing(parts: list[Decimal], total: Decimal) -> None:
    found = gains({f"part {k}": v for k, v in enumerate(parts)}, total)
    assert sum(found.values()) == total.quantize(Decimal("0.01"), "ROUND_HALF_UP")
    assert "other" in found


def test_an_event_is_paid_within_the_band_and_not_at_all_below_it() -> None:
    base = np.full(8, 100.0)
    terms = Terms(Decimal("1.00"), Decimal("0.30"), penalty_yuan_kwh=Decimal("0.50"))
    full = settle(base, np.full(8, 60.0), Decimal(40), 0.25, terms)
    assert (full.paid_kwh, full.items) == (Decimal("80.00"), {"energy": Decimal("80.00"), "capacity": Decimal("12.00"), "penalty": Decimal("0.00")})
    more = settle(base, np.full(8, 0.0), Decimal(40), 0.25, terms)
    assert more.paid_kwh == Decimal("96.00")  # 1.2 x 40 kW x 2 h
    less = settle(base, np.full(8, 90.0), Decimal(40), 0.25, terms)
    assert less.items == {"energy": Decimal("0.00"), "capacity": Decimal("0.00"), "penalty": Decimal("-22.00")}  # (32 - 10) kW x 2 h x 0.5
    quality = delivery(base, np.r_[100, 85, 60, 60, 60, 60, 60, 60.0], 40, 0.25, after_baseline_kw=base[:2], after_kw=np.array([130.0, 100.0]))
    assert (quality.delay_s, quality.rebound_kw, quality.on_time) == (1800.0, 30.0, 0.75)


def test_factors_come_from_the_table_in_force() -> None:
    assert factor(2025, "CN-N").kg_kwh == 0.6361
    assert factor(2022, "CN").kg_kwh == 0.5366
    with pytest.raises(FactorError):
        factor(2021, "CN-N")
    found = ledger(np.array([10.0, 0.0]), np.array([5.0, 0.0]), np.array([20.0, 0.0]), 0.5)
    assert found["location_kg"].tolist() == [5.0, 0.0]
    assert found["market_kg"].tolist() == [0.0, 0.0]
    assert found["renewable_share"].tolist() == [1.0, 0.0]
    assert displaced(70.0, 10.0) == pytest.approx(70 / 0.7 * 0.341 - 10)


def test_efficiencies_carry_the_meters_uncertainty() -> None:
    found = efficiency(300, 100)
    assert found.value == 3.0
    assert found.uncertainty == pytest.approx(3 * np.hypot(0.03, 0.01) / np.sqrt(3))
    assert round_trip(np.array([10.0]), np.array([7.0]), 5.0, 6.0) == pytest.approx(0.8)
    assert grade(Ratio(3.05, 0.05), {"1": 3.2, "2": 3.0}) == ("2", pytest.approx(0.841, abs=0.001))
