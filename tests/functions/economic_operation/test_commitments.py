"""What a project is held to reaches the planner and the box: the lowest cap of every interval it touches, in a document fine enough for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.functions.economic_operation.commitments import MOST_STEPS, Commitment, capped, limits
from cloud.functions.economic_operation.site import Site
from protos.arbitration import Authority

START = 1_795_000_500_000
MINUTE, QUARTER = 60_000, 900_000
SITE = Site(1, 100.0, (), (), None, (), 7, 0, 0, 0, float("inf"))


def body(steps: int = 192) -> dict[str, Any]:
    tracks = [{"device_id": 3, "point_id": 9, "value": [float(k) for k in range(steps)]}] if steps else []
    return {"project_id": 1, "start_ms": START, "step_s": 900, "tracks": tracks}


def held(first: int, last: int, kw: float, authority: Authority = Authority.DEMAND_RESPONSE) -> Commitment:
    return Commitment("e", authority, ((START + first * MINUTE, START + last * MINUTE, kw),))


def test_nothing_held_changes_nothing() -> None:
    assert limits([], START, 8, QUARTER) is None
    assert capped(body(), [], SITE, "a") == body()


@pytest.mark.parametrize(("first", "last", "step"), [(30, 60, 900), (5, 65, 300), (7, 22, 60)])
def test_the_document_is_as_fine_as_its_caps(first: int, last: int, step: int) -> None:
    made = capped(body(), [held(first, last, 50.0, Authority.GRID_ORDER)], SITE, "a")
    assert (made["step_s"], made["grid_cap_authority"], made["grid_cap_agent"]) == (step, int(Authority.GRID_ORDER), "a")
    cap = made["grid_cap_kw"]
    assert len(cap) == len(made["tracks"][0]["value"]) <= max(192 * 900 // step, MOST_STEPS)
    assert [k * step // 60 for k, x in enumerate(cap) if x is not None] == list(range(first, last, step // 60)), "neither sooner nor later"
    assert made["tracks"][0]["value"][:900 // step + 1] == [0.0] * (900 // step) + [1.0], "what devices shall do is what it was"


def test_without_tracks_the_document_ends_with_its_last_cap_and_without_a_meter_there_is_none() -> None:
    made = capped(body(0), [held(0, 45, 50.0)], SITE, "")
    assert made["grid_cap_kw"] == [50.0] * 3
    assert "grid_cap_agent" not in made
    assert "grid_cap_kw" not in capped(body(0), [held(0, 45, 50.0)], Site(1, 1.0, (), (), None, (), 0, 0, 0, 0, 1.0), "")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 300), st.floats(0, 500)), max_size=6))
def test_the_lowest_cap_that_touches_an_interval_holds(rows: list[tuple[int, int, float]]) -> None:
    found = limits([held(a, a + n, kw) for a, n, kw in rows], START, 20, QUARTER)
    for k in range(20):
        touching = [kw for a, n, kw in rows if a < (k + 1) * 15 and a + n > k * 15]
        assert (np.inf if found is None else found[k]) == min(touching, default=np.inf)
