"""One meter cannot buy and sell in one step: where that would pay, the steps that need a binary for it, and how large either side can be at most.

Ordinary prices forbid it by themselves (what is sold brings less than what is bought costs), so ordinary problems get no binaries. Must not know: solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.formulations.units import Unit
from optimizers.specification import Array, Community, series


@dataclass(frozen=True, slots=True)
class Meter:
    """The connection over the horizon.

    Attributes:
        sold: (steps,) kW, the most that can be sold; where selling pays more than buying costs no more than generation, for there is nothing else to sell.
        choice: steps in which a binary must say which way power flows.
        bought: (steps,) kW, the most that can be drawn while nothing is sold.
    """

    sold: Array
    choice: NDArray[np.int64]
    bought: Array


def tempted(community: Community) -> NDArray[np.bool_]:
    """(steps,) true where power bought and sold at once would cost nothing or bring money: prices below zero, a feed-in price not below the price."""
    return np.asarray((series(community.prices.export, community.steps) >= community.prices.energy) & (community.export_kw > 0), np.bool_)


def choices(community: Community) -> NDArray[np.bool_]:
    """(steps,) true where a binary is needed: tempted, and there is generation to sell."""
    return np.asarray(tempted(community) & (series(community.pv_kw, community.steps) > 0), np.bool_)


def meter(community: Community, made: Sequence[Unit], needed: NDArray[np.bool_] | None = None) -> Meter:
    """The connection of a plannable community.

    Args:
        community: plannable.
        made: its units.
        needed: (steps,) where to put binaries; None: `choices` (scenarios need them in the same steps).
    """
    steps = community.steps
    pv, needed = series(community.pv_kw, steps), choices(community) if needed is None else needed
    bought = series(community.base_kw, steps) + sum((u.alpha + u.beta * u.cap for u in made), np.zeros(steps)) + sum(r.count * r.each_kw for r in community.rooms)
    sold = np.where(tempted(community) | needed, np.minimum(community.export_kw, pv), community.export_kw)
    return Meter(np.asarray(sold, np.float64), np.flatnonzero(needed), np.minimum(bought, community.transformer_kw))
