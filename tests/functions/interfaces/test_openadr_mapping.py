"""OpenADR events in our words: whatever is taken is a curve of kW over exactly the time that was asked for; everything else is refused by field, never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cloud.functions.demand_response.errors import EventError
from cloud.functions.demand_response.orders import STEP_MS, Capability, check
from cloud.functions.demand_response.states import Kind
from cloud.functions.interfaces.openadr import mapping
from cloud.functions.interfaces.openadr.errors import FieldError
from cloud.functions.interfaces.openadr.models import EventRequest
from cloud.functions.interfaces.openadr.terms import Terms, terms
from cloud.functions.interfaces.openadr.times import NOW, duration_ms, moment_ms, stamp
from optimizers.demand_response.baseline import METHODS

T0 = 1_795_500_000_000
ABLE = {code: Capability(n, 500.0, 0.0, 500.0, ((900, 300.0), (3600, 200.0), (14400, 100.0))) for n, code in enumerate(("a", "b"), 1)}
ORDER = {"programName": "p", "attributes": [{"type": "KANG_KIND", "values": ["order"]}]}


def event(kind: str, *values: float, minutes: int = 15, **more: Any) -> dict[str, Any]:
    return {"programID": "p", "intervalPeriod": {"start": stamp(T0), "duration": f"PT{minutes}M"}, "intervals": [{"id": n, "payloads": [{"type": kind, "values": [v]}]} for n, v in enumerate(values)], **more}


def taken(document: dict[str, Any], program: dict[str, Any] | None = None, now: int = T0 - 60_000) -> dict[str, Any]:
    return mapping.order(document, program or ORDER, ABLE, now, event_id="e", version=1)


def field(document: dict[str, Any], program: dict[str, Any] | None = None) -> str:
    with pytest.raises(FieldError) as refused:
        taken(document, program)
    return str(refused.value.values["field"])


@pytest.mark.parametrize(("kind", "value", "target", "kw"), [
    ("IMPORT_CAPACITY_LIMIT", 600.0, "limit", 600.0), ("IMPORT_CAPACITY_SUBSCRIPTION", 600, "limit", 600.0), ("DISPATCH_SETPOINT", 600.5, "limit", 600.5), ("DISPATCH_SETPOINT_RELATIVE", -80.0, "reduction", 80.0),
    ("SIMPLE", 0, "reduction", 0.0), ("SIMPLE", 1, "reduction", 333.333), ("SIMPLE", 3, "reduction", 1000.0)])
def test_each_payload_has_one_meaning(kind: str, value: float, target: str, kw: float) -> None:
    found = taken(event(kind, value))
    assert (found["target"], found["kw"], found["kind"]) == (target, [kw], "order")
    assert check(found, ABLE, T0 - 60_000).resources == ("a", "b"), "without targets everybody in scope is meant"


def test_what_was_reserved_is_on_top_of_the_subscription() -> None:
    both = [{"type": "IMPORT_CAPACITY_SUBSCRIPTION", "values": [400.0]}, {"type": "IMPORT_CAPACITY_RESERVATION", "values": [50.0]}]
    assert taken(event("SIMPLE", 0, intervals=[{"id": 0, "payloads": both}]))["kw"] == [450.0]
    assert field(event("SIMPLE", 0, intervals=[{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [1.0]}, both[1]]}])) == "intervals.0.payloads"
    assert field(event("SIMPLE", 0, intervals=[{"id": 0, "payloads": [both[1]]}])) == "intervals.0.payloads"
    assert field(event("SIMPLE", 0, intervals=[{"id": 0, "payloads": [*both, both[0]]}])) == "intervals.0.payloads.2.type"


def test_a_level_in_the_market_is_a_share_of_what_is_lent_for_as_long() -> None:
    market = {"programName": "p", "attributes": [{"type": "KANG_KIND", "values": ["market"]}, {"type": "KANG_SIMPLE_LEVELS", "values": [0.25, 0.5, 1]}]}
    found = taken(event("SIMPLE", 1, minutes=60, targets=["a"]), market, now=T0 - 3_600_000)
    assert (found["kw"], found["resources"], found["bid_until_ms"], found["micro_kwh"]) == ([50.0], ["a"], T0 - 900_000, 0)
    assert check(found, ABLE, T0 - 3_600_000).kind is Kind.MARKET


@given(quarters=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 900)), min_size=1, max_size=12), own=st.booleans(), loops=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_curve_asked_for_is_the_curve_taken(quarters: list[tuple[int, int]], own: bool, loops: int) -> None:
    """Any row of intervals of whole quarters, with starts of their own or without, looped or not, asks for the same kW at every moment."""
    once, at = sum(n for n, _ in quarters) * STEP_MS, T0
    rows, want = [], []
    for k, (n, kw) in enumerate(quarters):
        rows.append({"id": k, "intervalPeriod": {**({"start": stamp(at)} if own else {}), "duration": f"PT{15 * n}M"}, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [float(kw)]}]})
        want += [float(kw)] * n
        at += n * STEP_MS
    if loops * once > 24 * 3_600_000:
        loops = 1
    found = taken(event("SIMPLE", 0, intervals=rows, duration=f"PT{loops * once // 1000}S"))
    assert (found["start_ms"], found["end_ms"]) == (T0, T0 + loops * once)
    if found["end_ms"] - T0 <= 24 * 3_600_000:
        order = check(found, ABLE, T0 - 60_000)
        assert [order.wanted_kw(T0 + k * STEP_MS) for k in range(len(want) * loops)] == want * loops


def test_a_value_that_changes_off_the_quarter_is_refused_unless_it_stays_the_same() -> None:
    assert field(event("IMPORT_CAPACITY_LIMIT", 100.0, 200.0, minutes=10)) == "intervals.0.intervalPeriod.duration"
    assert taken(event("IMPORT_CAPACITY_LIMIT", 100.0, 100.0, minutes=10))["kw"] == [100.0]
    assert taken(event("IMPORT_CAPACITY_LIMIT", 100.0, 100.0, 200.0, minutes=15))["kw"] == [100.0, 100.0, 200.0]
    last = event("IMPORT_CAPACITY_LIMIT", 100.0, 200.0)
    last["intervals"][1]["intervalPeriod"] = {"duration": "PT5M"}
    assert taken(last)["kw"] == [100.0, 200.0], "the last may end where it likes"


def test_holes_overlaps_and_repeated_numbers_are_refused() -> None:
    for start, place in ((T0 + 2 * STEP_MS, "intervals.1.intervalPeriod.start"), (T0, "intervals.1.intervalPeriod.start")):
        document = event("IMPORT_CAPACITY_LIMIT", 1.0, 2.0)
        document["intervals"][1]["intervalPeriod"] = {"start": stamp(start)}
        assert field(document) == place
    document = event("IMPORT_CAPACITY_LIMIT", 1.0, 2.0)
    document["intervals"][1]["id"] = 0
    assert field(document) == "intervals.1.id"
    mixed = event("IMPORT_CAPACITY_LIMIT", 1.0, 2.0)
    mixed["intervals"][1]["payloads"][0]["type"] = "DISPATCH_SETPOINT"
    assert field(mixed) == "intervals.1.payloads"


def test_now_means_now_and_stays_where_an_event_began() -> None:
    document = event("IMPORT_CAPACITY_LIMIT", 100.0)
    document["intervalPeriod"]["start"] = f"{NOW}T00:00:00Z"
    assert taken(document, now=T0 + 7)["start_ms"] == T0 + 7
    assert mapping.order(document, ORDER, ABLE, T0 + 9, event_id="e", version=2, begun_ms=T0)["start_ms"] == T0


def test_what_a_program_says_holds_for_its_events() -> None:
    assert terms({"programName": "p"}) == Terms(), "who says nothing asks for volunteers"
    said = {"KANG_KIND": "order", "KANG_TRIAL": True, "KANG_RAMP": "PT90S", "KANG_GATE": "PT1H", "KANG_REBOUND_SHARE": 0.5, "KANG_CAPACITY_PRICE": 0.3, "KANG_PENALTY_PRICE": 1}
    said["KANG_BASELINE"] = min(METHODS)
    found = terms({"programName": "p", "attributes": [{"type": k, "values": [v]} for k, v in said.items()]})
    assert found == Terms(Kind.ORDER, min(METHODS), True, 90, 0.5, 3_600_000, 300_000, 1_000_000)


@pytest.mark.parametrize(("name", "values", "place"), [
    ("KANG_KIND", ["wish"], "values.0"), ("KANG_KIND", [], "values"), ("KANG_BASELINE", ["mine"], "values.0"), ("KANG_TRIAL", [1], "values.0"), ("KANG_RAMP", ["5 min"], "values.0"), ("KANG_RAMP", ["PT3H"], "values.0"),
    ("KANG_REBOUND_SHARE", ["x"], "values.0"), ("KANG_PENALTY_PRICE", [-1], "values.0"), ("KANG_SIMPLE_LEVELS", [1, 0.5, 0.2], "values"), ("KANG_SIMPLE_LEVELS", [0.1], "values"), ("KANG_COLOUR", ["red"], "type")])
def test_an_attribute_of_ours_that_will_not_do_is_named(name: str, values: list[Any], place: str) -> None:
    with pytest.raises(FieldError) as refused:
        terms({"programName": "p", "attributes": [{"type": "RETAILER_NAME", "values": ["x"]}, {"type": name, "values": values}]})
    assert refused.value.values["field"] == f"attributes.1.{place}"


@given(text=st.text(max_size=40) | st.from_regex(r"-?P[0-9YMDWTHS.]{0,12}"))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_duration_within_bounds_or_refused(text: str) -> None:
    try:
        assert 1 <= duration_ms(text, "d", 1, 86_400_000) <= 86_400_000
    except FieldError as error:
        assert error.values["field"] == "d"


@given(at=st.integers(0, 4_000_000_000_000))
@settings(max_examples=100, deadline=None)
def test_a_moment_comes_back_as_it_was_told(at: int) -> None:
    assert moment_ms(stamp(at), "t") == at


WILD = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["PT15M", stamp(T0), "SIMPLE", "IMPORT_CAPACITY_LIMIT", "a"]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "values", "payloads", "intervalPeriod", "start", "duration", "payloadType", "objectType"]), inner, max_size=4), max_leaves=12)


@given(changes=st.dictionaries(st.sampled_from([n for n in EventRequest.model_fields if n != "programID"]), WILD, max_size=3))
@settings(max_examples=150, deadline=None)
def test_whatever_passes_the_shape_is_taken_or_refused_by_field(changes: dict[str, Any]) -> None:
    """No third way: neither a traceback nor an order nobody asked for."""
    try:
        document = EventRequest.model_validate({**event("IMPORT_CAPACITY_LIMIT", 100.0), **changes}).document()
    except ValidationError:
        return
    try:
        found = taken(document)
        order = check(found, ABLE, T0 - 60_000)
    except FieldError as error:
        assert error.values["field"]
    except EventError as error:
        assert mapping.told(error).values["field"]
    else:
        assert order.kind is Kind.ORDER
        assert order.start_ms < order.end_ms
