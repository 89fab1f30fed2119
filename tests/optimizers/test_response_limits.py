"""What a response may not pretend: contracts and limits held, horizons not stretched, late delivery not paid, adjustments not silently left out, feeding in counted."""

from __future__ import annotations

import dataclasses
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest

from optimizers.demand_response.baseline import METHODS, BaselineError, Event, History
from optimizers.demand_response.event import Terms as Promise
from optimizers.demand_response.event import event_plan
from optimizers.demand_response.flexibility import envelope
from optimizers.demand_response.settlement import Terms, settle, to_fen
from optimizers.errors import InputError
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices, Storage
from optimizers.tariff.rating import demand_kw

STEPS = 48
PLAIN = Community("homes", 0.25, Prices(np.full(STEPS, 0.5)), np.full(STEPS, -5.0), [Building("homes", 60.0, 4.0, 20.0, emitter_kw=400.0, low_c=19.5, high_c=22.0)],
                  [ElectricBoiler("boiler", 400.0)], [Storage("tank", 400.0, 0.0, 200.0, 200.0)])


def test_the_envelope_does_not_offer_what_contract_or_limit_forbid() -> None:
    free = envelope(PLAIN, 8, durations_h=(0.5,))[0]
    base = Dispatcher().plan(PLAIN).grid_kw
    edge = float(base.max()) + 5.0
    held = envelope(dataclasses.replace(PLAIN, contract_kw=edge), 8, durations_h=(0.5,))[0]
    limited = envelope(dataclasses.replace(PLAIN, limit_kw=np.full(STEPS, edge)), 8, durations_h=(0.5,))[0]
    assert free.up_kw > 50
    for found in (held, limited):
        assert found.base_kw + found.up_kw <= edge + 1e-3


def test_no_offer_reaches_beyond_the_horizon_and_lengths_within_a_step_cover_it() -> None:
    with pytest.raises(InputError, match="durations_h"):
        envelope(PLAIN, STEPS - 2, durations_h=(0.5, 4.0))
    short, step, two = envelope(PLAIN, 8, durations_h=(0.1, 0.25, 0.37))
    assert short.down_kw == pytest.approx(step.down_kw)
    assert two.down_kw <= step.down_kw + 1e-6


def test_half_of_the_commitment_must_be_there_in_time() -> None:
    measured = np.r_[np.full(4, 95.0), np.full(4, 20.0)]
    early, late = (settle(np.full(8, 100.0), measured, Decimal(40), 0.25, Terms(Decimal(1), Decimal(1), on_time_s=s)) for s in (3600.0, 3599.0))
    assert early.total > 0
    assert not late.items["energy"] and not late.items["capacity"]


def test_money_is_the_same_in_any_decimal_context() -> None:
    call = (np.full(8, 100.123456), np.full(8, 60.1), Decimal("40.5"), 0.25, Terms(Decimal("1.234567")))
    plain = settle(*call)
    with localcontext(Context(prec=6)):
        assert settle(*call) == plain
    with pytest.raises(InputError, match="items"):
        to_fen({}, total=Decimal("0.005"))


@pytest.mark.parametrize("method", ["five_days_adjusted", "x_of_y_adjusted", "temperature"])
def test_an_adjustment_that_cannot_be_made_is_refused(method: str) -> None:
    rng = np.random.default_rng(3)
    load, outdoor = 100 + rng.normal(0, 3, (60, 24)), rng.normal(0, 4, (60, 24))
    history = History(load, outdoor, np.ones(60, bool), np.zeros(60, bool))
    event = Event(59, 12, 14, 12)
    assert np.isfinite(METHODS[method](history, event)).all()
    for hole in (dataclasses.replace(event, closed=0), event):
        if hole is event:
            load[59, :12] = np.nan
        with pytest.raises(BaselineError, match="window of adjustment"):
            METHODS[method](history, hole)


def test_a_site_that_feeds_in_is_told_what_its_meter_sees() -> None:
    sunny = dataclasses.replace(PLAIN, pv_kw=np.full(STEPS, 300.0), export_kw=500.0, prices=Prices(np.full(STEPS, 0.5), export=0.3))
    plain = Dispatcher().plan(sunny)
    net = (plain.grid_kw - plain.sold_kw)[8:16]
    assert net.max() < 0
    found = event_plan(sunny, Promise(8, 16, 20.0, net))
    drawn = (found.plan.grid_kw - found.plan.sold_kw)[8:16]
    assert np.allclose(found.delivered_kw, net - drawn)
    assert (found.missing_kw <= 20 + 1e-6).all()


def test_the_rebound_is_held_though_the_event_has_passed() -> None:
    base = Dispatcher().plan(PLAIN).grid_kw[20:28]
    terms = Promise(20, 28, 30.0, base, rebound_h=2.0, rebound_kw=float(base.mean()))
    cold = dataclasses.replace(PLAIN, buildings=[dataclasses.replace(PLAIN.buildings[0], room_c=19.6)], stores=[])
    after = event_plan(cold, terms.later(31))
    assert len(after.delivered_kw) == 0
    assert after.community.limit_kw is not None
    assert np.isfinite(after.community.limit_kw).nonzero()[0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError):
        event_plan(cold, terms.later(36))


def test_a_peak_is_never_hidden() -> None:
    quarter = 900_000
    start = np.arange(8) * quarter
    assert demand_kw(start, np.full(8, 25.0), quarter, minutes=60) == 100.0
    for call in ((start[:3], np.full(3, 25.0), quarter, 60), (start[:0], np.zeros(0), quarter, 15), (np.arange(4) * 3_600_000, np.full(4, 25.0), 3_600_000, 15)):
        with pytest.raises(InputError):
            demand_kw(call[0], call[1], call[2], minutes=call[3])
