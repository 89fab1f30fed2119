"""Settlement of an event and itemised gains (逐项收益), exact to the fen: the parts add up to the total, always.

Money is Decimal; rounding differences go to the largest part, and are told. Must not know: projects, contracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

import numpy as np

from optimizers.errors import InputError, Words
from optimizers.rules import Number, money, number, numbers, one_of
from optimizers.specification import Array
from optimizers.tariff.rating import FEN, fen

#: Money is reckoned the same whatever the caller's decimal context.
_EXACT = Context(prec=50)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a programme pays.

    Attributes:
        yuan_kwh: for delivered energy.
        yuan_kw: for contracted capacity, once.
        least, most: shares of the commitment under which nothing, above which nothing more is paid.
        penalty_yuan_kwh: for what is missing below `least`.
        on_time_s: within which half of the commitment must be there, s from the start; later than that nothing is paid, as below `least`.
    """

    yuan_kwh: Decimal
    yuan_kw: Decimal = Decimal(0)
    least: Decimal = Decimal("0.8")
    most: Decimal = Decimal("1.2")
    penalty_yuan_kwh: Decimal = Decimal(0)
    on_time_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How well an event was delivered (7.3.7, quality).

    Attributes:
        delivered_kwh: baseline minus measured.
        ratio: delivered over committed.
        on_time: share of intervals at or above `least` of the commitment.
        delay_s: until half of the commitment was there; inf = never.
        steady_kw: spread of the delivery after that.
        rebound_kw: highest draw above the baseline in the hours after.
        short_kh: K*h below the floor during event and rebound.
    """

    delivered_kwh: float
    ratio: float
    on_time: float
    delay_s: float
    steady_kw: float
    rebound_kw: float
    short_kh: float


@dataclass(frozen=True, slots=True)
class Statement:
    """What is paid, item by item; `total` is their sum to the fen."""

    paid_kwh: Decimal
    items: Mapping[str, Decimal]

    @property
    def total(self) -> Decimal:
        """Yuan."""
        return sum(self.items.values(), Decimal(0))


def delivery(baseline_kw: Array, measured_kw: Array, committed_kw: float, step_h: float, *, after_baseline_kw: Array | None = None, after_kw: Array | None = None,
             short_k: Array | None = None, least: float = 0.8) -> Delivery:
    """Quality figures of an event's intervals, all arrays one value an interval; fill holes first, by the programme's rule.

    Raises:
        InputError: no interval, arrays of other lengths, a value that is not finite, a negative commitment.
    """
    baseline_kw, measured_kw, step_h = _event("delivery", baseline_kw, measured_kw, step_h)
    committed_kw = number("delivery", "committed_kw", committed_kw, Number())
    least = number("delivery", "least", least, Number(0, 10))
    if (after_kw is None) != (after_baseline_kw is None):
        raise InputError(name="delivery", field="after_kw", problem=Words("'after_kw' and 'after_baseline_kw' belong together", "“after_kw”与“after_baseline_kw”须同时给出"))
    if after_kw is not None and after_baseline_kw is not None:
        after_kw = numbers("delivery", "after_kw", after_kw)
        after_baseline_kw = numbers("delivery", "after_baseline_kw", after_baseline_kw, (len(after_kw),))
    short_k = None if short_k is None else numbers("delivery", "short_k", short_k, rule=Number(0, 100))
    reduction = baseline_kw - measured_kw
    reached = np.flatnonzero(reduction >= 0.5 * committed_kw)
    rebound = 0.0 if after_kw is None or after_baseline_kw is None or not len(after_kw) else float(np.max(after_kw - after_baseline_kw))
    return Delivery(
        float(reduction.sum() * step_h), float(reduction.mean() / committed_kw) if committed_kw > 0 else 0.0, float(np.mean(reduction >= least * committed_kw)),
        float(reached[0] * step_h * 3600) if len(reached) else float("inf"), float(np.std(reduction[reached[0]:])) if len(reached) else 0.0, max(0.0, rebound),
        0.0 if short_k is None else float(short_k.sum() * step_h))


def settle(baseline_kw: Array, measured_kw: Array, committed_kw: Decimal, step_h: float, terms: Terms) -> Statement:
    """What the grid pays for an event.

    Args:
        baseline_kw: one value an interval.
        measured_kw: one value an interval.
        committed_kw: what was promised.
        step_h: length of an interval.
        terms: of the programme.

    Raises:
        InputError: no interval, arrays of other lengths, holes (fill them by the programme's rule), terms or a commitment that cannot be.
    """
    baseline_kw, measured_kw, step_h = _event("settle", baseline_kw, measured_kw, step_h)
    one_of("settle", "terms", terms, (Terms,))
    for field in ("yuan_kwh", "yuan_kw", "least", "most", "penalty_yuan_kwh"):
        money("settle", f"terms.{field}", getattr(terms, field), Number())
    number("settle", "terms.on_time_s", terms.on_time_s, Number())
    if terms.least > terms.most:
        raise InputError(name="settle", field="terms.least", problem=Words(f"{terms.least} is above 'most', {terms.most}", f"{terms.least} 大于“most” {terms.most}"))
    committed_kw = money("settle", "committed_kw", committed_kw, Number())
    with localcontext(_EXACT):
        return _settled(baseline_kw, measured_kw, committed_kw, step_h, terms)


def _settled(baseline_kw: Array, measured_kw: Array, committed_kw: Decimal, step_h: float, terms: Terms) -> Statement:
    reduction = [Decimal(repr(float(b))) - Decimal(repr(float(m))) for b, m in zip(baseline_kw, measured_kw, strict=True)]
    dt = Decimal(repr(step_h))
    mean = sum(reduction, Decimal(0)) / max(1, len(reduction))
    cap = terms.most * committed_kw
    there = next((k for k, r in enumerate(reduction) if 2 * r >= committed_kw), None)
    reached = mean >= terms.least * committed_kw and there is not None and there * step_h * 3600 <= terms.on_time_s
    paid = sum((min(max(r, Decimal(0)), cap) for r in reduction), Decimal(0)) * dt if reached else Decimal(0)
    missing = max(Decimal(0), terms.least * committed_kw - mean) * dt * len(reduction)
    items = {"energy": paid * terms.yuan_kwh, "capacity": committed_kw * terms.yuan_kw if reached else Decimal(0), "penalty": -missing * terms.penalty_yuan_kwh}
    return Statement(paid, to_fen(items))


def _event(name: str, baseline_kw: Array, measured_kw: Array, step_h: float) -> tuple[Array, Array, float]:
    """Baseline, measurement and step of an event. Both may be negative: a connection that feeds in."""
    baseline = numbers(name, "baseline_kw", baseline_kw)
    if not len(baseline):
        raise InputError(name=name, field="baseline_kw", problem=Words("no interval", "没有时段"))
    return baseline, numbers(name, "measured_kw", measured_kw, (len(baseline),)), number(name, "step_h", step_h, Number(0, 24, above=True))


def gains(parts: Mapping[str, Decimal], total: Decimal) -> dict[str, Decimal]:
    """Itemised gain whose parts add up to the total: what no part explains stands as "other", so nothing is hidden.

    Args:
        parts: yuan by cause, e.g. shift, efficiency, demand, pv, response; exact.
        total: counterfactual cost minus actual cost, yuan.

    Raises:
        InputError: an amount that is no finite Decimal, or a part called "other".
    """
    one_of("gains", "parts", parts, (Mapping,))
    if "other" in parts:
        raise InputError(name="gains", field="parts", problem=Words("'other' is what the parts leave over", "“other”为各项之外的余额，不能作为一项"))
    money("gains", "total", total)
    for name, yuan in parts.items():
        money("gains", f"parts.{name}", yuan)
    items = {**parts, "other": total - sum(parts.values(), Decimal(0))}
    return to_fen(items, total=total)


def to_fen(items: Mapping[str, Decimal], *, total: Decimal | None = None) -> dict[str, Decimal]:
    """Round parts to the fen so that they add up to the rounded total: largest remainder.

    Args:
        items: yuan by name, exact.
        total: what they shall add up to; None = their sum. It may be apart from it by rounding to the fen only.

    Raises:
        InputError: an amount that is no finite Decimal, or a total that is not theirs.
    """
    one_of("to_fen", "items", items, (Mapping,))
    items = {name: money("to_fen", f"items.{name}", yuan) for name, yuan in items.items()}
    if total is not None and abs(money("to_fen", "total", total) - sum(items.values(), Decimal(0))) > FEN / 2:
        raise InputError(name="to_fen", field="total", problem=Words(f"{total} is not the sum of the items", f"{total} 不是各项之和"))
    with localcontext(_EXACT):
        return _rounded(items, total)


def _rounded(items: Mapping[str, Decimal], total: Decimal | None) -> dict[str, Decimal]:
    aim = fen(sum(items.values(), Decimal(0)) if total is None else total)
    if aim and not items:
        raise InputError(name="to_fen", field="items", problem=Words(f"no item to carry {aim}", f"没有可承担 {aim} 的项目"))
    floors = {k: (v // FEN if v >= 0 or v % FEN == 0 else v // FEN - 1) * FEN for k, v in items.items()}
    left = int((aim - sum(floors.values(), Decimal(0))) / FEN)
    order = sorted(items, key=lambda k: (floors[k] - items[k], k))
    for k in order[:max(0, left)]:
        floors[k] += FEN
    for k in order[len(order) + min(0, left):]:
        floors[k] -= FEN
    return floors
