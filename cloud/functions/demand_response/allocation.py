"""Splits a target over projects (分配): prepared columns of every project, mixed by the portfolio's master; the answer comes in a second for thousands.

A column is a draw a project can hold throughout, as its own optimiser found it (or, for an order, down to its floor). Nothing is planned here: each
project plans the cap it gets by itself, and re-plans it. Must not know: ledgers, clocks, transports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from optimizers.methods.pools import Column
from optimizers.methods.portfolio import Master
from optimizers.specification import Array

#: Shares of a project's capability that are columns of their own; the master mixes neighbours.
LEVELS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
#: A box keeps so much below its cap (edge_agent.algorithms.grid_limit), and a staged source's cap stands so far into the next stage that noise does not cost one.
BOX, INTO = 0.02, 0.3
#: Yuan/kWh: what is not reached; what goes below comfort under an order; the last kW of a project against its first (so equals share alike).
SHORT, BELOW_COMFORT, SPREAD = 1_000.0, 10.0, 0.05


@dataclass(frozen=True, slots=True)
class Offer:
    """What a project can give in the segments of an event.

    Attributes:
        project_id: the project.
        base_kw: (K,) draw without the event.
        down_kw: lowered so far at most while people stay comfortable.
        forced_kw: lowered so far at most at all (orders); at least `down_kw`.
        yuan_kwh: what lowering by one kWh costs it.
        step_kw: a stage of its sources when they all are staged, 0 = they follow any kW.
        other_kw: what is drawn beside the sources.
    """

    project_id: int
    base_kw: Array
    down_kw: float
    forced_kw: float = 0.0
    yuan_kwh: float = 0.0
    step_kw: float = 0.0
    other_kw: float = 0.0

    @property
    def most_kw(self) -> float:
        """Lowered so far at most."""
        return max(self.down_kw, self.forced_kw)

    @property
    def whole_kw(self) -> float:
        """What its sources can really be lowered by within comfort: whole stages."""
        return whole(float(self.base_kw.mean()), self.down_kw, self.step_kw, self.other_kw)


def whole(base_kw: float, down_kw: float, step_kw: float, other_kw: float) -> float:
    """The most within `down_kw` that leaves a whole number of stages."""
    if step_kw <= 0:
        return down_kw
    stages = math.ceil((base_kw - other_kw - down_kw) / step_kw - 1e-9)
    return max(0.0, base_kw - other_kw - max(0, stages) * step_kw)


@dataclass(frozen=True, slots=True)
class Allocation:
    """Attributes:
    cap_kw: project -> (K,) the most it shall draw; only projects that are held to something.
    kw: project -> mean reduction.
    total_kw: (K,) reduction of all together.
    short_kw: (K,) what could not be reached.
    yuan: what it costs the projects.
    """

    cap_kw: Mapping[int, Array]
    kw: Mapping[int, float]
    total_kw: Array
    short_kw: Array
    yuan: float


def allocate(offers: Sequence[Offer], reduction_kw: Array, hours: Array, *, close: bool = True) -> Allocation:
    """Split a reduction.

    Args:
        offers: of the projects asked.
        reduction_kw: (K,) wanted below the sum of their bases.
        hours: (K,) length of each segment.
        close: caps stand so that boxes, which keep a little below, draw what is planned; False = caps add up to what is planned (limits).
    """
    wanted = np.asarray(reduction_kw, np.float64)
    if not offers:
        return Allocation({}, {}, np.zeros_like(wanted), wanted.copy(), 0.0)
    base = np.array([o.base_kw for o in offers])
    total = float(hours.sum())
    columns: list[Column] = []
    for n, offer in enumerate(offers):
        for level, price in _levels(offer):
            profile = np.maximum(0.0, base[n] - level)
            columns.append(Column(n, price * total, profile, True))
    # Weights of the segments' lengths are in rho's unit: yuan per kW short in a mean segment.
    mix = Master(range(len(offers)), base.sum(axis=0) - wanted, SHORT * total / len(wanted))
    mix.add(columns)
    found = mix.mixed()
    caps, means, reached = {}, {}, np.zeros_like(wanted)
    for n, offer in enumerate(offers):
        profile = np.asarray(sum(share * c.profile for share, c in found.chosen.get(n, [])), np.float64)
        cut = base[n] - profile if profile.shape == wanted.shape else np.zeros_like(wanted)
        if float(cut.max(initial=0.0)) > 0.01:
            caps[offer.project_id], means[offer.project_id] = (profile + INTO * offer.step_kw) / (1 - BOX) if close else profile, float(cut @ hours / total)
            reached += cut
    paid = sum(share * c.cost for mixed in found.chosen.values() for share, c in mixed)
    return Allocation(caps, means, reached, np.maximum(0.0, wanted - reached), float(paid))


def _levels(offer: Offer) -> list[tuple[float, float]]:
    """(kW lowered, yuan an hour) of a project's columns: convex, so that a mixture of two neighbours costs what lies between them; whole stages where there are any."""
    most = offer.most_kw
    if offer.step_kw > 0:
        mean = float(offer.base_kw.mean())
        stages = np.arange(int(max(0.0, mean - offer.other_kw) / offer.step_kw) + 1)
        lowered = [0.0, *(float(x) for x in sorted(mean - offer.other_kw - offer.step_kw * stages) if 0.01 < x <= most + 0.01)]
    else:
        lowered = [share * offer.down_kw for share in LEVELS] + ([offer.down_kw + share * (most - offer.down_kw) for share in LEVELS[1:]] if most > offer.down_kw + 0.01 else [])
    return [(kw, _yuan_h(offer, kw)) for kw in lowered]


def _yuan_h(offer: Offer, kw: float) -> float:
    """What lowering by so much costs an hour: the first kW less than the last, below comfort much more."""
    comfort = min(kw, offer.down_kw)
    share = comfort / offer.down_kw if offer.down_kw > 0 else 0.0
    extra = kw - comfort
    deep = extra / (offer.forced_kw - offer.down_kw) if extra > 0 and offer.forced_kw > offer.down_kw else 0.0
    return comfort * (offer.yuan_kwh + SPREAD * share) + extra * (offer.yuan_kwh + BELOW_COMFORT + SPREAD * (1 + deep))


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces of an event in which target and base stand still: `edges_ms` has one more entry than there are pieces."""

    edges_ms: tuple[int, ...]

    @property
    def hours(self) -> Array:
        """(K,) lengths."""
        return np.diff(np.array(self.edges_ms, np.float64)) / 3_600_000

    @property
    def starts(self) -> tuple[int, ...]:
        """(K,) beginnings."""
        return self.edges_ms[:-1]


def segments(start_ms: int, end_ms: int, step_ms: int) -> Segments:
    """Cut an event at its own steps and at the plans' steps."""
    own, absolute = range(start_ms, end_ms, step_ms), range((start_ms // step_ms + 1) * step_ms, end_ms, step_ms)
    return Segments((*sorted({start_ms, *own, *absolute}), end_ms))


def series(starts: Sequence[int], plan: Mapping[str, object] | None, otherwise: float) -> Array:
    """The base in each segment: the plan without an event where it reaches, else what is drawn now."""
    kw = (plan or {}).get("kw")
    if not isinstance(kw, list) or not kw or plan is None:
        return np.full(len(starts), otherwise)
    begin, step = int(str(plan["start_ms"])), int(str(plan["step_s"])) * 1000
    return np.array([float(kw[k]) if 0 <= (k := (t - begin) // step) < len(kw) else otherwise for t in starts])
