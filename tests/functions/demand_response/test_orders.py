"""Bad orders are refused with their field named and leave nothing behind; repeated ones are answered again; stale ones refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.core.ports import ProjectInfo
from cloud.functions.demand_response.errors import EventError, NoOptOutError, StateError, UnknownEventError, VersionError
from cloud.functions.demand_response.orders import Capability, check
from cloud.functions.demand_response.resources import metered
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import Happening
from cloud.ledger import Ledger

NOW = 1_795_000_200_000
HOUR = 3_600_000
ABLE = {"A": Capability(1, 200.0, 20.0, 180.0, ((900, 120.0), (3600, 60.0))), "B": Capability(2, 100.0, 0.0, 100.0, ((900, 80.0), (3600, 40.0)))}
GOOD: dict[str, Any] = {"event_id": "E-1", "version": 1, "kind": "order", "resources": ["A", "B"], "start_ms": NOW + 60_000, "end_ms": NOW + HOUR + 60_000, "target": "reduction", "kw": 90.0}
MARKET = {**GOOD, "kind": "market", "bid_until_ms": NOW + 30_000, "micro_kwh": 1_500_000}


@pytest.mark.parametrize(("change", "field"), [
    ({"start_ms": NOW - 60_000}, "start_ms"), ({"start_ms": NOW + 20 * 24 * HOUR, "end_ms": NOW + 20 * 24 * HOUR + HOUR}, "start_ms"), ({"end_ms": NOW}, "end_ms"), ({"end_ms": NOW + 30 * 24 * HOUR}, "end_ms"),
    ({"resources": ["A", "X"]}, "resources.1"), ({"resources": [["A"]]}, "resources.0"), ({"resources": "A"}, "resources"), ({"kw": 281.0}, "kw"), ({"kw": math.nan}, "kw"), ({"kw": math.inf}, "kw"), ({"kw": -1.0}, "kw"), ({"kw": [1.0, 2.0]}, "kw"),
    ({"kw": [1.0, 2.0, math.nan, 3.0]}, "kw.2"), ({"kw": None}, "kw"), ({"kw": True}, "kw"), ({"target": "limit", "kw": 10.0}, "kw"), ({"target": "more"}, "target"), ({"kind": "wish"}, "kind"), ({"event_id": "a b"}, "event_id"),
    ({"event_id": 7}, "event_id"), ({"version": 0}, "version"), ({"version": 1.5}, "version"), ({"baseline": "guess"}, "baseline"), ({"priority": 11}, "priority"), ({"micro_kwh": -1}, "micro_kwh"),
    ({"supersedes": "E-1"}, "supersedes"), ({"rebound_share": math.nan}, "rebound_share"), ({"kind": "market", "bid_until_ms": NOW - 1}, "bid_until_ms"), ({"kind": "market", "bid_until_ms": NOW + HOUR}, "bid_until_ms"),
    ({"kind": "market", "bid_until_ms": NOW + 30_000, "target": "limit", "kw": 250.0}, "target"), ({"kind": "market", "bid_until_ms": NOW + 30_000, "kw": 101.0}, "kw")])
def test_a_bad_order_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(EventError) as refused:
        check({**GOOD, **change}, ABLE, NOW)
    assert refused.value.values["field"] == field


def test_nobody_to_ask_is_refused_and_everybody_is_meant_when_nobody_is_named() -> None:
    silent = {k: v for k, v in GOOD.items() if k != "resources"}
    with pytest.raises(EventError):
        check(silent, {}, NOW)
    assert check(silent, ABLE, NOW).resources == ("A", "B")
    assert check({**silent, "resources": None}, ABLE, NOW).resources == ("A", "B")


def test_an_empty_list_does_not_mean_everybody() -> None:
    with pytest.raises(EventError, match="leave the field out") as refused:
        check({**GOOD, "resources": []}, ABLE, NOW)
    assert refused.value.values["field"] == "resources"


def test_rates_may_differ_by_quarter_of_an_hour() -> None:
    assert check({**GOOD, "kw": [10.0, 20.0, 30.0, 40.0]}, ABLE, NOW).wanted_kw(NOW + 60_000 + 1_900_000) == 30.0


JUNK = st.one_of(st.none(), st.booleans(), st.integers(-10, 1 << 60), st.floats(), st.text(max_size=8), st.lists(st.one_of(st.floats(), st.text(max_size=3)), max_size=5), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1))


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(sorted({*GOOD, *MARKET, "ramp_s", "trial", "reason", "baseline", "priority"})), JUNK, max_size=4))
def test_whatever_comes_is_taken_whole_or_refused_by_name(change: dict[str, Any]) -> None:
    try:
        order = check({**GOOD, **change}, ABLE, NOW)
    except EventError as refused:
        assert refused.values["field"]
    else:
        assert order.start_ms < order.end_ms
        assert all(math.isfinite(kw) for kw in order.kw)


# --- in the ledger


def project(number: int, code: str) -> ProjectInfo:
    return ProjectInfo(number, code, code, code, "bj", 40.0, 116.0, "Asia/Shanghai", 1000.0, "boiler_storage")


PROJECTS = [project(1, "A"), project(2, "B")]


class Clock:
    ms = NOW

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(ledger: Ledger, clock: Clock) -> ResponseService:
    service = ResponseService(ledger, clock)
    for p, kw in zip(PROJECTS, (200.0, 100.0), strict=True):
        service.keep_resource(p.id, metered(kw, 0.0, NOW))
        service.change_strategy(p.id, {"participates": True, "depth": 1.0, "longest_s": 14_400}, "Li")
    return service


def test_the_same_version_again_is_the_same_event_and_older_or_other_ones_are_refused(desk: ResponseService, clock: Clock) -> None:
    first = desk.submit(GOOD, "grid", PROJECTS)
    clock.ms += 120_000  # it has begun meanwhile: a repetition is still one
    assert desk.submit(GOOD, "grid", PROJECTS)["id"] == first["id"]
    assert len(desk.steps(first["id"])) == 1, "a repetition leaves no trace"
    for wrong in ({**GOOD, "kw": 50.0}, {**GOOD, "end_ms": GOOD["end_ms"] + 1000}):
        with pytest.raises(VersionError):
            desk.submit(wrong, "grid", PROJECTS)
    second = desk.submit({**GOOD, "version": 3, "kw": 50.0}, "grid", PROJECTS)
    assert (second["id"], second["version"], second["asked_kw"]) == (first["id"], 3, 50.0)
    with pytest.raises(VersionError):
        desk.submit({**GOOD, "version": 2, "kw": 40.0}, "grid", PROJECTS)
    assert desk.submit(GOOD | {"event_id": "E-1", "version": 1, "start_ms": clock.ms + 1000}, "another", PROJECTS)["id"] != first["id"], "numbers are each dispatcher's own"


def test_a_refused_order_leaves_nothing(desk: ResponseService) -> None:
    with pytest.raises(EventError):
        desk.submit({**GOOD, "kw": 1e6}, "grid", PROJECTS)
    assert desk.events() == ([], 0)


def test_an_event_under_way_can_be_changed_but_not_moved(desk: ResponseService, clock: Clock) -> None:
    desk.submit(GOOD, "grid", PROJECTS)
    clock.ms += 600_000
    with pytest.raises(EventError) as moved:
        desk.submit({**GOOD, "version": 2, "start_ms": clock.ms + 1000}, "grid", PROJECTS)
    assert moved.value.values["field"] == "start_ms"
    with pytest.raises(EventError) as ended:
        desk.submit({**GOOD, "version": 2, "end_ms": clock.ms - 1000}, "grid", PROJECTS)
    assert ended.value.values["field"] == "end_ms"
    assert desk.submit({**GOOD, "version": 2, "end_ms": clock.ms + HOUR}, "grid", PROJECTS)["state"] == "published"


def test_superseding_and_cancelling_end_an_event_once(desk: ResponseService) -> None:
    desk.submit(GOOD, "grid", PROJECTS)
    with pytest.raises(UnknownEventError):
        desk.submit({**GOOD, "event_id": "E-2", "supersedes": "E-9"}, "grid", PROJECTS)
    assert desk.events()[1] == 1, "half an event is none"
    desk.submit({**GOOD, "event_id": "E-2", "supersedes": "E-1"}, "grid", PROJECTS)
    assert desk.of("grid", "E-1")["state"] == "superseded"
    with pytest.raises(StateError):
        desk.cancel("E-1", "grid", "late")
    assert desk.cancel("E-2", "grid", "not needed")["state"] == "cancelled"
    assert desk.cancel("E-2", "grid", "again")["why"] == "not needed"
    with pytest.raises(UnknownEventError):
        desk.cancel("E-2", "another", "mine?")


def test_a_market_event_is_bid_cleared_and_left_by_choice_an_order_is_not(desk: ResponseService) -> None:
    market = desk.submit({**MARKET, "end_ms": MARKET["start_ms"] + 900_000}, "grid", PROJECTS)
    order = desk.submit({**GOOD, "event_id": "E-7"}, "grid", PROJECTS)
    with pytest.raises(NoOptOutError):
        desk.choose(order["id"], 1, "decline", 1.0, "Li")
    with pytest.raises(StateError):
        desk.bid(order["id"], 10.0, 0, "Li")
    desk.happen(market["id"], Happening.INVITE)
    desk.choose(market["id"], 1, "join", 0.5, "Li")
    desk.choose(market["id"], 2, "decline", 1.0, "Li")
    assert desk.choices(market["id"]) == {1: ("join", 0.5), 2: ("decline", 1.0)}
    desk.bid(market["id"], 60.0, 1_000_000, "Li")
    with pytest.raises(StateError):
        desk.clear("E-1", "grid", 61.0, 1_000_000)
    assert desk.clear("E-1", "grid", 50.0, 900_000)["state"] == "cleared"
    assert desk.clear("E-1", "grid", 50.0, 900_000)["outcome"]["cleared"] == {"kw": 50.0, "micro_kwh": 900_000}


def test_the_list_is_filtered_sorted_and_paged(desk: ResponseService) -> None:
    for n in range(7):
        desk.submit({**GOOD, "event_id": f"L-{n}", "kw": 10.0 + n}, "grid", PROJECTS)
    desk.cancel("L-3", "grid", "")
    page, total = desk.events(state=["published"], sort="asked_kw", descending=True, offset=2, limit=2)
    assert (total, [e["event_id"] for e in page]) == (6, ["L-4", "L-2"])
    assert desk.events(text="L-3")[0][0]["state"] == "cancelled"
    assert desk.events(kind="market")[1] == 0
