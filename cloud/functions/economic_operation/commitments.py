"""What a project is held to (履约约束): the most it may draw at its grid meter and when, as the planner and the box need it.

Whoever made the commitment (demand response) hands it in; caps of several intersect. Pure. Must not know: events, money, ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cloud.functions.economic_operation.site import Site
from optimizers.specification import Array
from protos.arbitration import Authority

#: Lengths of interval a document may have, s: the coarsest in which every cap begins and ends on an edge, else the finest.
STEPS_S: Final = (900, 300, 60)
#: Intervals of a document with caps finer than a quarter of an hour: a day of minutes.
MOST_STEPS: Final = 1_440


@dataclass(frozen=True, slots=True)
class Commitment:
    """A cap over time.

    Attributes:
        name: shown beside what it holds.
        authority: GRID_ORDER or DEMAND_RESPONSE.
        pieces: (from_ms, to_ms, cap_kw), UTC milliseconds.
    """

    name: str
    authority: Authority
    pieces: tuple[tuple[int, int, float], ...]


def limits(held: Sequence[Commitment], start_ms: int, steps: int, step_ms: int) -> Array | None:
    """The lowest cap that touches each interval, inf where none; None = nothing is capped."""
    out = np.full(steps, np.inf)
    for commitment in held:
        for begin, end, kw in commitment.pieces:
            first, last = max(0, (begin - start_ms) // step_ms), min(steps, -(-(end - start_ms) // step_ms))
            if first < last:
                out[first:last] = np.minimum(out[first:last], kw)
    return out if np.isfinite(out).any() else None


def capped(body: dict[str, Any], held: Sequence[Commitment], where: Site, agent_id: str) -> dict[str, Any]:
    """A plan's body with the caps in it, in intervals short enough for them; no track before, no track after.

    Args:
        body: as for the command service; `tracks` may be empty.
        held: commitments that reach into it.
        where: the project's site: without a grid meter there is nothing the box could keep below.
        agent_id: the agent of the grid meter, "" = not known.
    """
    start, step_s = int(body["start_ms"]), int(body["step_s"])
    edges = [t for c in held for begin, end, _ in c.pieces for t in (begin, end) if t > start]
    if not where.grid_meter or not edges:
        return body
    fine = next((s for s in STEPS_S if s <= step_s and all((t - start) % (s * 1000) == 0 for t in edges)), STEPS_S[-1])
    times = step_s // fine
    lengths = [len(t[name]) for t in body["tracks"] for name in ("value", "low", "high") if t.get(name) is not None]
    wanted = max(lengths, default=0) * times or -(-(max(edges) - start) // (fine * 1000))
    steps = min(wanted, MOST_STEPS if times > 1 else 2_000)
    tracks = [{**t, **{name: [v for v in t[name] for _ in range(times)][:steps] for name in ("value", "low", "high") if t.get(name) is not None}} for t in body["tracks"]]
    cap = limits(held, start, steps, fine * 1000)
    by = min((c.authority for c in held), default=Authority.DEMAND_RESPONSE)
    return {**body, "step_s": fine, "tracks": tracks, "grid_cap_kw": None if cap is None else [round(float(x), 3) if math.isfinite(x) else None for x in cap], "grid_cap_authority": int(by),
            **({"grid_cap_agent": agent_id} if agent_id else {})}
