"""Tariff speed: many accounts' intervals to energy by month, regime and period, against a bare multiplication by a price array. Must not know: other rows."""

from __future__ import annotations

import datetime as dt
import json
import statistics
import time
from pathlib import Path

import numpy as np

import optimizers.tariff
from benchmarks.report import QUICK, Report
from optimizers.tariff.model import parse
from optimizers.tariff.rating import price_array, totals

QUARTER_MS = 900_000


def run(report: Report) -> None:
    """One million rows, in a smaller run too: it takes a second, and with fewer the calendar (the same for any number of accounts) would be all that is timed."""
    document = json.loads((Path(optimizers.tariff.__file__).parent / "published" / "beijing_business_pattern.json").read_text())
    tariff = parse(document)
    accounts, steps, rounds = 336, 2976, 15 if QUICK else 31
    start = int(dt.datetime(2025, 12, 31, 16, tzinfo=dt.UTC).timestamp() * 1000)
    edges = start + np.arange(steps + 1) * QUARTER_MS
    kwh = np.random.default_rng(0).uniform(0, 50, (accounts, steps))
    prices = price_array(tariff, start, steps, 0.25)
    ours, bare = list[float](), list[float]()
    for _ in range(rounds):
        began = time.perf_counter()
        (kwh * prices).sum(axis=1)
        middle = time.perf_counter()
        totals(tariff, edges[:-1], edges[1:], kwh)
        ours.append(time.perf_counter() - middle)
        bare.append(middle - began)
    report.add("tariff.ratio", statistics.median(o / b for o, b in zip(ours, bare, strict=True)), "x bare", at_most=5.0,
               note=f"{accounts * steps} rows; ours {statistics.median(ours) * 1e3:.1f} ms, bare {statistics.median(bare) * 1e3:.1f} ms")
