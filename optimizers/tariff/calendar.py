"""A tariff over a span of time as constant pieces: minute-exact edges in UTC, each with local day, month and period.

Local midnights and period edges are found through the tariff's zone, so a day of 23 or 25 hours is one. Must not know: energy, money.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.errors import InputError, Words
from optimizers.tariff.model import PERIODS, Tariff

Edges = NDArray[np.int64]
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Pieces:
    """Constant pieces of a span.

    Attributes:
        edges: (n+1,) UTC milliseconds; piece k is [edges[k], edges[k+1]).
        period: (n,) index into `PERIODS`.
        day: (n,) index into `days`.
        days: local days, in order.
    """

    edges: Edges
    period: NDArray[np.int64]
    day: NDArray[np.int64]
    days: list[dt.date]

    def months(self) -> NDArray[np.int64]:
        """(n,) local month of each piece as year * 12 + month - 1."""
        of_day = np.array([d.year * 12 + d.month - 1 for d in self.days], np.int64)
        return of_day[self.day]


def pieces(tariff: Tariff, start_ms: int, end_ms: int) -> Pieces:
    """Cut [start_ms, end_ms) where the local day or the period changes.

    Args:
        tariff: whose schedule and zone.
        start_ms: UTC milliseconds.
        end_ms: UTC milliseconds, later than `start_ms`.

    Raises:
        InputError: the span is empty.
    """
    if end_ms <= start_ms:
        raise InputError(name="pieces", field="end_ms", problem=Words(f"{end_ms} is not later than start_ms, {start_ms}", f"{end_ms} 不晚于 start_ms {start_ms}"))
    zone, edges, period, day_of, days = tariff.zone, list[int](), list[int](), list[int](), list[dt.date]()
    day = dt.datetime.fromtimestamp(start_ms / 1000, zone).date()
    while True:
        midnight, tomorrow = _utc_ms(day, 0, tariff), _utc_ms(day + dt.timedelta(days=1), 0, tariff)
        if midnight >= end_ms:
            break
        for first, last, name in tariff.spans(day):
            begin, finish = _utc_ms(day, first, tariff), tomorrow if last >= 1440 else _utc_ms(day, last, tariff)
            begin, finish = max(begin, start_ms), min(finish, end_ms)
            if begin < finish:
                if not days or days[-1] != day:
                    days.append(day)
                edges.append(begin)
                period.append(PERIODS.index(name))
                day_of.append(len(days) - 1)
        day += dt.timedelta(days=1)
    return Pieces(np.array([*edges, end_ms], np.int64), np.array(period, np.int64), np.array(day_of, np.int64), days)


def _utc_ms(day: dt.date, minute: int, tariff: Tariff) -> int:
    local = dt.datetime.combine(day, dt.time(minute // 60, minute % 60), tariff.zone)
    return round(local.timestamp() * 1000)
