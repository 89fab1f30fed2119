"""A plan for a demand-response event: heat before it, hold the level promised, come back within a rebound limit; and the same again when time has passed.

The promise is a level below the baseline, priced (`Prices.limit`), so there is always a plan, and what it cannot deliver is told before it happens. The step where
pre-heating begins is told too: a baseline's adjustment window must close before it. Must not know: who ordered the event, the cloud.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optimizers.errors import InputError, Words
from optimizers.methods.dispatch import Dispatcher
from optimizers.plan import Plan
from optimizers.rules import UNJUDGED, Number, Rule, numbers, one_of, refuse
from optimizers.specification import Array, Community
from optimizers.validation import plannable

#: Pre-heating is looked for this long before an event; draw above the plan without an event by less than this share is none.
PREHEAT_H, _NOTABLE = 6.0, 0.02


@dataclass(frozen=True, slots=True)
class Terms:
    """What was promised.

    Attributes:
        first, last: steps of the horizon, [first, last); negative `first` = the event is already under way.
        committed_kw: reduction below the baseline.
        baseline_kw: (last - first,) kW; steps that have passed included.
        rebound_h: hours after the event in which draw is limited.
        rebound_kw: the most that may be drawn in them; inf = no limit.
    """

    first: int
    last: int
    committed_kw: float
    baseline_kw: Array
    rebound_h: float = 0.0
    rebound_kw: float = np.inf

    def later(self, steps: int) -> Terms:
        """The same terms seen from a horizon that begins `steps` later: for the next re-plan, mid-event too."""
        return dataclasses.replace(self, first=self.first - steps, last=self.last - steps)


_STEP = Number(-1e6, 1e6, whole=True)
#: What a field of `Terms` may hold.
RULES: Mapping[str, Rule] = {"first": _STEP, "last": _STEP, "committed_kw": Number(), "baseline_kw": dataclasses.replace(UNJUDGED, series=True), "rebound_h": Number(0, 1e4), "rebound_kw": Number(endless=True)}


@dataclass(frozen=True, slots=True)
class EventPlan:
    """A plan under an event.

    Attributes:
        plan: what to do; `plain`: what would be done without the event.
        preheat_from: first step whose draw is raised for the event; `Terms.first` when none is.
        delivered_kw: reduction of what is drawn less what is fed in, at each step of the event still to come; empty once only the rebound is left.
        missing_kw: of it, what falls short of the promise.
        rebound_kw: highest draw in the rebound hours.
        above_yuan: what breaking the limits would cost by `Prices.limit`.
        cost_yuan: extra energy, wear and comfort of the event, without pay and without `above_yuan`.
        community: what `plan` was made for: plannable, with the event's limits; for the checker and for reasons.
    """

    plan: Plan
    plain: Plan
    preheat_from: int
    delivered_kw: Array
    missing_kw: Array
    rebound_kw: float
    above_yuan: float
    cost_yuan: float
    community: Community


def event_plan(community: Community, terms: Terms, *, planner: Dispatcher | None = None) -> EventPlan:
    """Plan an event, or what is left of it.

    Args:
        community: as now; a limit of its own (`limit_kw`) holds beside the event's.
        terms: what was promised, steps counted from now.
        planner: kept between re-plans to keep its basis.

    Raises:
        SpecificationError: the community contradicts itself.
        InputError: no event within the horizon, a baseline of another length, or a negative promise.
        UnsolvedError: hard limits leave no plan.
    """
    community = plannable(community)
    refuse("event", terms, RULES, error=InputError)
    if planner is not None:
        one_of("event_plan", "planner", planner, (Dispatcher,))
    steps, dt = community.steps, community.step_h
    rebound = round(terms.rebound_h / dt)
    if terms.last <= terms.first or terms.first >= steps or terms.last + rebound <= 0:
        raise InputError(name="event", field="first", problem=Words(f"steps {terms.first} to {terms.last} are not in a horizon of {steps}", f"时段 {terms.first} 至 {terms.last} 不在 {steps} 个时段内"))
    numbers("event", "baseline_kw", terms.baseline_kw, (terms.last - terms.first,))
    planner = planner or Dispatcher()
    first, last = max(0, terms.first), max(0, min(steps, terms.last))  # an event that has passed holds nothing but its rebound
    baseline = np.asarray(terms.baseline_kw, np.float64)[first - terms.first:max(first, last) - terms.first]
    limit = np.full(steps, np.inf) if community.limit_kw is None else np.array(community.limit_kw, np.float64)
    limit[first:last] = np.fmin(limit[first:last], np.maximum(0.0, baseline - terms.committed_kw))
    after = slice(last, min(steps, max(0, terms.last + rebound)))
    limit[after] = np.fmin(limit[after], terms.rebound_kw)
    plain = planner.plan(community)
    held = dataclasses.replace(community, limit_kw=limit)
    plan = planner.plan(held)
    drawn = plan.grid_kw - plan.sold_kw  # what the meter sees: a site may feed in
    delivered = baseline - drawn[first:last]
    above = plan.cost.get("above", 0.0)
    return EventPlan(plan, plain, _preheat(plan, plain, first, dt), delivered, np.maximum(0.0, terms.committed_kw - delivered), float(drawn[after].max(initial=0.0)), above,
                     plan.objective - above - (plain.objective - plain.cost.get("above", 0.0)), held)


def _preheat(plan: Plan, plain: Plan, first: int, dt: float) -> int:
    begin = max(0, first - round(PREHEAT_H / dt))
    more = plan.grid_kw[begin:first] - plain.grid_kw[begin:first]
    raised = np.flatnonzero(more > _NOTABLE * max(1.0, float(plain.grid_kw.max(initial=0.0))))
    return begin + int(raised[0]) if len(raised) else first
