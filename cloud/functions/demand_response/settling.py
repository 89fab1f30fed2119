"""Evaluation and settlement of one project in one event (效果评估与结算): the same function makes a statement and verifies it later from stored data.

Async over the historian. Money is integer micro-yuan, rounded once to the fen; the parts of all participants add up to the whole. Must not know: ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cloud.core.ports import Historian
from cloud.functions.demand_response.metering import MINUTE_MS, REALTIME, SHOWN, Baselines, Meter, minutes
from cloud.functions.demand_response.orders import Order
from cloud.functions.demand_response.states import Kind
from optimizers.demand_response.baseline import BaselineError
from optimizers.demand_response.settlement import Terms, delivery, settle, to_fen
from optimizers.specification import Array
from optimizers.tariff.rating import fen

OWNER, OPERATOR = "owner", "operator"
MICRO: Final = 1_000_000


async def settled(historian: Historian, meter: Meter, order: Order, held: Mapping[str, Any], stronger: Sequence[Mapping[str, Any]], *, closed_ms: int, micro_kwh: int, owner_share: float,
                  others: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Evaluate and settle.

    Args:
        historian: the port.
        meter: of the project.
        order: the event as it was taken.
        held: the project's commitment.
        stronger: its commitments to stronger events: what they cut is not cut once more.
        closed_ms: where the adjustment window ends.
        micro_kwh: price that was cleared (or asked) for.
        owner_share: of the revenue.
        others: (start, end) of its other events.

    Returns:
        {baseline, baselines: {method: kWh or null}, series: {at_ms, metered, baseline}, delivered_kwh, ratio, on_time, delay_s, rebound_kw, gaps, paid_kwh, committed_kw,
        lines: {participant: {item: micro-yuan}}, total_micro}
    """
    start, end = order.start_ms, order.end_ms
    metered = await minutes(historian, meter, start, end)
    gaps = int(np.count_nonzero(~np.isfinite(metered)))
    found = Baselines(historian, meter, start, end, closed_ms, others)
    shown: dict[str, Array | None] = {}
    for method in dict.fromkeys((order.baseline, *SHOWN)):
        try:
            shown[method] = await found.by(method)
        except BaselineError:
            shown[method] = None
    used = next((m for m in (order.baseline, REALTIME) if shown.get(m) is not None), "")
    count = len(metered)
    at = start // MINUTE_MS * MINUTE_MS + np.arange(count) * MINUTE_MS
    by = shown[used] if used else None
    baseline = np.where(np.isfinite(metered), metered, 0.0) if by is None else by - np.minimum(by, _cut(stronger, at))
    seen = np.where(np.isfinite(metered), metered, baseline)  # what nobody metered was not delivered
    weight = _overlap(at, start, end)
    committed = float(held["kw"])
    after = await minutes(historian, meter, end, int(held["rebound_ms"])) if held["rebound_ms"] > end else np.empty(0)
    ramp = min(count - 1, math.ceil(order.ramp_s / 60))
    quality = delivery(baseline[ramp:], seen[ramp:], committed, 1 / 60, after_kw=np.nan_to_num(after), after_baseline_kw=np.full(len(after), float(baseline.max(initial=0.0))))
    reached = np.flatnonzero(baseline - seen >= 0.5 * committed) if committed > 0 else np.empty(0)
    delivered = float(((baseline - seen) * weight).sum() / 60)
    pays = order.kind is Kind.MARKET and not order.trial
    terms = Terms(_yuan(micro_kwh if pays else 0), _yuan(order.micro_kw if pays else 0), penalty_yuan_kwh=_yuan(order.micro_penalty_kwh if pays else 0), on_time_s=order.ramp_s + 900.0)
    statement = settle(baseline * weight, seen * weight, Decimal(repr(round(committed, 3))), 1 / 60, terms)
    return {
        "baseline": used, "asked_baseline": order.baseline, "baselines": {m: None if b is None else round(float((b * weight).sum() / 60), 3) for m, b in shown.items()},
        "series": {"at_ms": [int(t) for t in at], "metered": _r(metered), "baseline": _r(baseline), "methods": {m: None if b is None else _r(b) for m, b in shown.items()}},
        "delivered_kwh": round(delivered, 3), "committed_kwh": round(committed * (end - start) / 3_600_000, 3), "ratio": round(quality.ratio, 4), "on_time": round(quality.on_time, 4),
        "delay_s": float(reached[0] * 60) if len(reached) else None, "rebound_kw": round(quality.rebound_kw, 2), "rebound_peak_kw": round(float(np.nanmax(after)), 2) if np.isfinite(after).any() else None,
        "gaps": gaps, "paid_kwh": str(statement.paid_kwh.quantize(Decimal("0.001"))), "committed_kw": round(committed, 3), **shared(statement.items, owner_share)}


def shared(items: Mapping[str, Decimal], owner_share: float) -> dict[str, Any]:
    """Lines of owner and operator, micro-yuan: whole fen, adding up to what the grid pays, line by line and in all."""
    share = Decimal(repr(owner_share))
    total = sum(items.values(), Decimal(0))
    mine = to_fen({k: v * share for k, v in items.items()}, total=fen(total * share))
    lines = {OWNER: {k: int(v * MICRO) for k, v in mine.items()}, OPERATOR: {k: int((v - mine[k]) * MICRO) for k, v in items.items()}}
    return {"lines": lines, "total_micro": int(total * MICRO)}


def _cut(stronger: Sequence[Mapping[str, Any]], at: NDArray[np.int64]) -> Array:
    """What commitments to stronger events take away at each minute, kW."""
    out = np.zeros(len(at))
    for held in stronger:
        for begin, end, cap, base in held["segments"]:
            out[(at >= begin) & (at < end)] += max(0.0, base - cap)
    return out


def _overlap(at: NDArray[np.int64], start: int, end: int) -> Array:
    """Share of each minute that lies in the event."""
    return np.clip((np.minimum(at + MINUTE_MS, end) - np.maximum(at, start)) / MINUTE_MS, 0.0, 1.0)


def _yuan(micro: int) -> Decimal:
    return Decimal(micro) / MICRO


def _r(values: Array) -> list[float | None]:
    return [round(float(v), 2) if math.isfinite(v) else None for v in values]
