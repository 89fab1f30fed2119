"""Whatever is put into a field: it is refused by the library's own coded error that names field and value, or there is a plan the checker accepts. Never a foreign exception."""

from __future__ import annotations

import dataclasses
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.checker import check
from optimizers.demand_response import baseline as baselines
from optimizers.demand_response import event as events
from optimizers.demand_response.flexibility import envelope
from optimizers.demand_response.settlement import Terms, delivery, gains, settle, to_fen
from optimizers.errors import InputError, OptimizerError, SpecificationError, UnsolvedError
from optimizers.formulations.dispatch import program
from optimizers.methods.dispatch import Dispatcher, plan_of
from optimizers.methods.highs import Answer
from optimizers.methods.scenarios import from_quantiles, plan_scenarios
from optimizers.specification import Building, Community, ElectricBoiler, HeatPump, Performance, Prices, RoomHeaters, Storage
from optimizers.tariff.model import TariffError, parse
from optimizers.tariff.rating import demand_kw, fen, power_factor_share, price_array, rate, totals
from optimizers.validation import RULES, plannable
from tests.optimizers.test_tariff import DOCUMENT

STEPS = 8
HOMES = Building("homes", 20.0, 4.0, 20.0, 60.0, 12.0, 1.0, 19.0, 10.0, 2.0, 300.0, target_c=20.0)
BOILER = ElectricBoiler("boiler", 100.0, minimum_load=0.25, stages=4, up_h=0.5, down_h=0.5, start_yuan=5.0)
PUMP = HeatPump("pump", 60.0, source_c=np.full(STEPS, -3.0), standby_kw=0.5, start_yuan=1.0)
TANK = Storage("tank", 200.0, 80.0, 100.0, 100.0, reserve_kwh=20.0, target_kwh=60.0)
PANELS = RoomHeaters("panels", 10, 1.0, "homes", 0.1)
COMMUNITY = Community("town", 0.25, Prices(np.full(STEPS, 0.5), 0.2, 8.0, 50.0), np.full(STEPS, -5.0), [HOMES], [BOILER, PUMP], [TANK], [PANELS], np.full(STEPS, 0.1), 45.0, 20.0, 5.0, 200.0, 300.0, 10.0,
                      np.full(STEPS, 150.0))
#: Path of every field of every part: (where, index within, field).
FIELDS = [*(("", 0, f.name) for f in dataclasses.fields(Community)), *(("prices", 0, f.name) for f in dataclasses.fields(Prices)), *(("performance", 0, f.name) for f in dataclasses.fields(Performance)),
          *((group, k, f.name) for group, k, kind in (("buildings", 0, Building), ("sources", 0, ElectricBoiler), ("sources", 1, HeatPump), ("stores", 0, Storage), ("rooms", 0, RoomHeaters))
            for f in dataclasses.fields(kind))]
VALUES: list[Any] = [np.nan, np.inf, -np.inf, -1.0, 0.0, 0.5, 2.5, 1e9, "x", "3", 1j, None, True, [], [1.0, 2.0, 3.0], np.zeros((STEPS, 2)), np.full(STEPS, np.nan), np.full(STEPS, 1j), np.full(STEPS, -1.0),
                     ["a"] * STEPS, object(), (0.0, 0.0, 0.0), (3.0, 1.0), {"a": 1}, Decimal("0.5"), b"x"]
#: The same, and numbers beyond or of another width than floats.
WIDER: list[Any] = [*VALUES, 10**400, -10**5000, np.timedelta64(3, "h"), np.longdouble("0.5"), np.longdouble("1e4000"), np.float16(0.5), np.int8(3), 1e-300, np.full(STEPS, np.longdouble("1e4000"))]


def changed(where: str, k: int, field: str, value: Any) -> Community:
    if where == "":
        return dataclasses.replace(COMMUNITY, **{field: value})
    if where == "prices":
        return dataclasses.replace(COMMUNITY, prices=dataclasses.replace(COMMUNITY.prices, **{field: value}))
    if where == "performance":
        return dataclasses.replace(COMMUNITY, sources=[BOILER, dataclasses.replace(PUMP, performance=dataclasses.replace(PUMP.performance, **{field: value}))])
    things = list(getattr(COMMUNITY, where))
    things[k] = dataclasses.replace(things[k], **{field: value})
    return dataclasses.replace(COMMUNITY, **{where: things})


def judged(call: Any) -> Any:
    """What a call gives, or None when it was refused in the library's own words."""
    try:
        return call()
    except OptimizerError as error:
        assert error.code.startswith("E-")
        assert error.zh != error.en
        return None


def sound(community: Community) -> None:
    plan = judged(lambda: Dispatcher(seconds=2).plan(community))
    if plan is not None:
        assert check(plan, community) == []
        assert np.isfinite([plan.objective, plan.bound, plan.gap]).all()
        assert plan.sol_status in ("optimal", "incumbent")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FIELDS), st.sampled_from(range(len(WIDER))))
def test_any_value_in_any_field_is_refused_or_planned_soundly(field: tuple[str, int, str], value: int) -> None:
    sound(changed(*field, WIDER[value]))


def test_every_field_has_a_rule() -> None:
    for kind, rules in RULES.items():
        assert set(rules) == {f.name for f in dataclasses.fields(kind)}, kind


@pytest.mark.parametrize(("where", "k", "field", "value", "says"), [
    ("", 0, "transformer_kw", np.nan, "nan"), ("", 0, "transformer_kw", -5.0, "-5"), ("", 0, "export_kw", np.nan, "nan"), ("buildings", 0, "target_c", np.nan, "nan"),
    ("buildings", 0, "floor_c", np.inf, "inf"), ("prices", 0, "comfort", -1.0, "-1"), ("prices", 0, "demand", np.nan, "nan"), ("prices", 0, "peak_so_far_kw", -1.0, "-1"),
    ("performance", 0, "cop", (0.0, 0.0, 0.0), "gives 0"), ("performance", 0, "capacity_range", (-1.0, 1.0), "-1"), ("performance", 0, "cop_range", (7.0, 1.2), "above"),
    ("performance", 0, "defrost", 2, "2 is outside"), ("sources", 0, "rated_kw", np.nan, "nan"), ("sources", 0, "stages", 2.5, "2.5"), ("sources", 0, "since_h", -5.0, "-5"),
    ("sources", 0, "rated_kw", "100", "'100'"), ("sources", 0, "rated_kw", 1j, "1j"), ("stores", 0, "target_kwh", np.nan, "nan"), ("rooms", 0, "least", -0.5, "-0.5"), ("rooms", 0, "count", 1.5, "1.5"),
    ("prices", 0, "energy", np.full(STEPS, np.nan), "nan"), ("", 0, "outdoor_c", np.full(STEPS, np.nan), "nan"), ("prices", 0, "energy", 0.5, "row of numbers"),
    ("", 0, "base_kw", np.full(STEPS, 1j), "not a number"), ("sources", 1, "available", np.zeros(3), "(3,)")])
def test_what_cannot_be_is_refused_with_field_and_value(where: str, k: int, field: str, value: Any, says: str) -> None:
    with pytest.raises(SpecificationError) as refused:
        Dispatcher().plan(changed(where, k, field, value))
    assert str(refused.value.facts["field"]).endswith(field)
    assert says in refused.value.en
    assert pickle.loads(pickle.dumps(refused.value)).zh == refused.value.zh


def test_sensors_that_say_nothing_are_repaired_and_told() -> None:
    plan = Dispatcher().plan(changed("buildings", 0, "mass_c", np.nan))
    assert any("mass_c" in note for note in plan.repaired)
    again = Dispatcher().plan(plannable(changed("sources", 0, "available", np.nan)))
    assert any("available" in note for note in again.repaired), "a specification made plannable twice still tells"


def test_hard_limits_that_leave_no_plan_are_an_error_and_no_plan() -> None:
    stuck = dataclasses.replace(COMMUNITY, rooms=[dataclasses.replace(PANELS, count=1000, least=1.0)], transformer_kw=50.0)
    with pytest.raises(UnsolvedError) as refused:
        Dispatcher().plan(stuck)
    assert refused.value.facts["status"] == "infeasible"
    assert "transformer_kw" in refused.value.zh
    endless = dataclasses.replace(COMMUNITY, prices=dataclasses.replace(COMMUNITY.prices, export=2.0, demand=0.0), export_kw=np.inf, transformer_kw=np.inf, contract_kw=np.inf, limit_kw=None)
    sound(endless)
    assert Dispatcher().plan(endless).sold_kw.max() <= 5.0, "nothing but generation is sold"


def test_an_unusable_answer_never_becomes_a_plan() -> None:
    p = program(plannable(COMMUNITY))
    nothing = Answer(np.inf, -np.inf, np.zeros(len(p.cost)), np.zeros(len(p.row_lower)), "infeasible")
    for bound in (np.inf, -np.inf, np.nan, 0.0):
        with pytest.raises(UnsolvedError):
            plan_of(p, nothing, bound, "lp", 0.005, 0.0)


@pytest.mark.parametrize("effort", [{"gap": np.nan}, {"gap": -1}, {"gap": "x"}, {"seconds": 0}, {"seconds": np.nan}])
def test_an_effort_that_is_none_is_refused(effort: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Dispatcher(**effort)


def test_every_figure_of_a_plan_that_was_altered_is_found() -> None:
    community = plannable(dataclasses.replace(COMMUNITY, buildings=[dataclasses.replace(HOMES, room_c=14.0, target_c=24.0)], contract_kw=30.0, stores=[dataclasses.replace(TANK, energy_kwh=0.0)]))
    plan = Dispatcher().plan(community)
    assert check(plan, community) == []
    assert {"starts", "demand", "over", "cold:homes", "reserve:tank", "short:homes"} <= {name for name, yuan in plan.cost.items() if yuan > 0}
    for name in plan.cost:
        cheap = dataclasses.replace(plan, cost={**plan.cost, name: plan.cost[name] - 1.0}, objective=plan.objective - 1.0)
        assert f"cost.{name}" in {b.what for b in check(cheap, community)}
    assert "objective" in {b.what for b in check(dataclasses.replace(plan, objective=plan.objective - 1.0), community)}
    assert "bound" in {b.what for b in check(dataclasses.replace(plan, bound=plan.objective + 1.0), community)}
    assert "gap" in {b.what for b in check(dataclasses.replace(plan, bound=plan.bound - 5.0), community)}
    assert any("is not finite" in b.what for b in check(dataclasses.replace(plan, bound=-np.inf), community))
    for name, amount in plan.slacks.items():
        more = dataclasses.replace(plan, slacks={**plan.slacks, name: amount + 0.5})
        assert any("overstated" in b.what for b in check(more, community)), name
        less = dataclasses.replace(plan, slacks={k: v for k, v in plan.slacks.items() if k != name})
        assert check(less, community), name


PLAN = Dispatcher().plan(COMMUNITY)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([f.name for f in dataclasses.fields(PLAN)]), st.sampled_from(range(len(WIDER))), st.booleans())
def test_the_checker_judges_any_plan_and_never_stumbles(field: str, value: int, within: bool) -> None:
    old, bad = getattr(PLAN, field), WIDER[value]
    if within and isinstance(old, dict) and old:
        bad = {**old, next(iter(old)): bad}
    found = check(dataclasses.replace(PLAN, **{field: bad}), COMMUNITY)
    assert found or field not in ("grid_kw", "heat_kw", "room_c", "objective")


EVENT = events.Terms(2, 5, 20.0, np.full(3, 80.0), 0.5, 100.0)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([f.name for f in dataclasses.fields(events.Terms)]), st.sampled_from(range(len(VALUES))))
def test_any_terms_of_an_event_are_refused_or_planned_soundly(field: str, value: int) -> None:
    found = judged(lambda: events.event_plan(COMMUNITY, dataclasses.replace(EVENT, **{field: VALUES[value]}), planner=Dispatcher(seconds=2)))
    if found is not None:
        assert check(found.plain, COMMUNITY) == []
        assert check(found.plan, found.community) == []
        assert np.isfinite([found.cost_yuan, found.above_yuan, found.rebound_kw]).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["start", "durations_h", "tied", "gap", "seconds", "shares", "scenarios", "quantiles"]), st.sampled_from(range(len(VALUES))))
def test_any_argument_of_envelope_and_scenarios_is_refused_or_used(field: str, value: int) -> None:
    bad = VALUES[value]
    if field in ("start", "durations_h"):
        found = judged(lambda: envelope(COMMUNITY, **{"start": 2, "durations_h": (0.5,), field: bad}))  # type: ignore[arg-type]
        assert found is None or all(np.isfinite(dataclasses.astuple(f)).all() for f in found)
    elif field == "quantiles":
        judged(lambda: from_quantiles(COMMUNITY, {"outdoor_c": bad}))
    elif field == "scenarios":
        judged(lambda: plan_scenarios(bad))
    else:
        plan = judged(lambda: plan_scenarios([COMMUNITY, COMMUNITY], **{field: bad}))
        assert plan is None or all(check(p, COMMUNITY) == [] for p in plan.plans)


PAID = Terms(Decimal("1.00"), Decimal("0.30"))
SETTLED: dict[str, Any] = {"baseline_kw": np.full(4, 100.0), "measured_kw": np.full(4, 60.0), "committed_kw": Decimal(40), "step_h": 0.25, "terms": PAID}
DELIVERED: dict[str, Any] = {"baseline_kw": np.full(4, 100.0), "measured_kw": np.full(4, 60.0), "committed_kw": 40.0, "step_h": 0.25, "after_baseline_kw": np.full(2, 50.0), "after_kw": np.full(2, 60.0), "short_k": np.zeros(4),
                             "least": 0.8}


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([*((settle, f) for f in SETTLED), *((delivery, f) for f in DELIVERED), *((settle, f"terms.{f.name}") for f in dataclasses.fields(Terms))]), st.sampled_from(range(len(VALUES))))
def test_any_argument_of_a_settlement_is_refused_or_gives_finite_money(case: tuple[Any, str], value: int) -> None:
    function, field = case
    arguments = dict(SETTLED if function is settle else DELIVERED)
    if field.startswith("terms."):
        arguments["terms"] = dataclasses.replace(PAID, **{field[6:]: VALUES[value]})
    else:
        arguments[field] = VALUES[value]
    found = judged(lambda: function(**arguments))
    if found is not None and function is settle:
        assert found.total.is_finite()
        assert found.total == sum(found.items.values())
    elif found is not None:
        assert np.isfinite([found.delivered_kwh, found.ratio, found.steady_kw, found.rebound_kw]).all()


@pytest.mark.parametrize(("change", "field"), [({"step_h": -0.25}, "step_h"), ({"measured_kw": np.full(3, 1.0)}, "measured_kw"), ({"measured_kw": np.array([1, np.nan, 1, 1])}, "measured_kw"),
                                               ({"committed_kw": Decimal(-1)}, "committed_kw"), ({"committed_kw": Decimal("NaN")}, "committed_kw"), ({"committed_kw": 40.0}, "committed_kw"),
                                               ({"baseline_kw": np.full(4, np.inf)}, "baseline_kw"), ({"terms": dataclasses.replace(PAID, yuan_kwh=Decimal(-1))}, "terms.yuan_kwh")])
def test_a_settlement_that_cannot_be_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        settle(**{**SETTLED, **change})
    assert refused.value.facts["field"] == field


def test_money_that_is_no_money_is_refused() -> None:
    for call in (lambda: to_fen({"a": Decimal("NaN")}), lambda: to_fen({"a": 1.5}), lambda: gains({"a": Decimal("Infinity")}, Decimal(1)), lambda: gains({"other": Decimal(1)}, Decimal(1)),  # type: ignore[dict-item]
                 lambda: to_fen({"a": Decimal(1)}, total=Decimal(2)), lambda: fen(Decimal("sNaN"))):
        with pytest.raises(InputError):
            call()


TARIFF = parse(DOCUMENT)
BEGIN = 1_767_880_000_000 // 900_000 * 900_000  # 8 January 2026
EDGES = BEGIN + 900_000 * np.arange(5, dtype=np.int64)
PRICED: dict[Any, dict[str, Any]] = {
    rate: {"tariff": TARIFF, "start_ms": EDGES[:-1], "end_ms": EDGES[1:], "kwh": np.ones(4), "used": {"tier": Decimal(3)}}, totals: {"tariff": TARIFF, "start_ms": EDGES[:-1], "end_ms": EDGES[1:], "kwh": np.ones((2, 4))},
    price_array: {"tariff": TARIFF, "start_ms": BEGIN, "steps": 4, "step_h": 0.25, "used": {"tier": Decimal(3)}}, demand_kw: {"start_ms": EDGES[:-1], "kwh": np.ones(4), "length_ms": 900_000, "minutes": 30},
    power_factor_share: {"factor": Decimal("0.95"), "standard": Decimal("0.90")}}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([(f, a) for f, arguments in PRICED.items() for a in arguments]), st.sampled_from(range(len(VALUES))))
def test_any_argument_of_the_tariff_is_refused_or_priced(case: tuple[Any, str], value: int) -> None:
    function, field = case
    judged(lambda: function(**{**PRICED[function], field: VALUES[value]}))


def test_what_was_unknown_then_is_not_free() -> None:
    late = parse({**DOCUMENT, "components": [{"key": "energy", "prices": [{"from": "2026-02-01", "yuan": "0.4"}]}], "brackets": []})
    with pytest.raises(TariffError) as refused:
        rate(late, EDGES[:-1], EDGES[1:], np.ones(4))
    assert "2026-02-01" in refused.value.en
    assert "components.energy" in refused.value.zh
    with pytest.raises(TariffError):
        price_array(late, BEGIN, 4, 0.25)
    factors = parse({**DOCUMENT, "factors": [{"from": "2026-02-01", "periods": {"sharp": "2", "peak": "1.5", "flat": "1", "valley": "0.5"}}]})
    with pytest.raises(TariffError):
        price_array(factors, BEGIN, 4, 0.25)


def test_counters_of_brackets_nobody_knows_and_negative_edges_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        price_array(TARIFF, BEGIN, 4, 0.25, used={"tire": Decimal(60)})
    assert "tier" in refused.value.en
    with pytest.raises(InputError):
        rate(TARIFF, EDGES[:-1], EDGES[1:], np.ones(4), used={"tier": Decimal(-1)})
    with pytest.raises(TariffError) as wrong:
        parse({**DOCUMENT, "brackets": [{"key": "t", "steps": [{"up_to": -5, "add": 1}, {"add": 2}]}]})
    assert "up_to" in str(wrong.value.facts["where"])


HISTORY = baselines.History(50 + 10 * np.random.default_rng(0).random((80, 24)), -3 + np.random.default_rng(1).random((80, 24)), np.arange(80) % 7 < 5, np.zeros(80, bool))
SHED = baselines.Event(78, 17, 20, 16)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(baselines.METHODS)), st.sampled_from([*((History, f.name) for History in (baselines.History, baselines.Event) for f in dataclasses.fields(History))]), st.sampled_from(range(len(VALUES))))
def test_any_history_and_event_is_refused_or_gives_a_finite_baseline(method: str, case: tuple[Any, str], value: int) -> None:
    history, event = HISTORY, SHED
    if case[0] is baselines.History:
        history = dataclasses.replace(history, **{case[1]: VALUES[value]})
    else:
        event = dataclasses.replace(event, **{case[1]: VALUES[value]})
    found = judged(lambda: baselines.METHODS[method](history, event))
    assert found is None or (np.isfinite(found).all() and len(found) == 3)


@pytest.mark.parametrize(("event", "field"), [(baselines.Event(78, 20, 30, 20), "event.last"), (baselines.Event(99, 17, 20, 16), "event.day"), (baselines.Event(78, 17, 20, 19), "event.closed")])
def test_an_event_outside_the_day_is_refused(event: baselines.Event, field: str) -> None:
    for method in baselines.METHODS.values():
        with pytest.raises(InputError) as refused:
            method(HISTORY, event)
        assert refused.value.facts["field"] == field


@pytest.mark.parametrize("make", [baselines.mean_of_last, lambda v: baselines.high_of(v, 10), lambda v: baselines.high_of(5, v), baselines.before_control,
                                  lambda v: baselines.adjusted(baselines.mean_of_last(5), baselines.mean_like(5), window=v), baselines.mean_like, baselines.temperature,
                                  lambda v: baselines.temperature(per_day=v), baselines.matched])
@pytest.mark.parametrize("value", [-1, 0, 1.5, "x", np.nan, None])
def test_a_baseline_of_no_days_is_refused_when_it_is_made(make: Any, value: Any) -> None:
    with pytest.raises(InputError):
        make(value)


def test_what_a_mask_hides_is_a_hole_and_not_read() -> None:
    mask = np.arange(STEPS) == 3
    hidden = np.ma.MaskedArray(np.where(mask, 40.0, -5.0), mask)
    plan = Dispatcher().plan(changed("", 0, "outdoor_c", hidden))
    assert any(note.startswith("town.outdoor_c: 1 of 8") for note in plan.repaired)
    same = Dispatcher().plan(changed("", 0, "outdoor_c", np.where(mask, np.nan, -5.0)))
    assert plan.objective == pytest.approx(same.objective)
    assert check(plan, changed("", 0, "outdoor_c", hidden)) == []
    whole = np.ma.MaskedArray(np.full(STEPS, 100), mask)
    assert any(note.startswith("town.limit_kw: 1 of 8") for note in plannable(changed("", 0, "limit_kw", whole)).repaired)
    with pytest.raises(InputError):
        from_quantiles(COMMUNITY, {"base_kw": np.ma.MaskedArray([["a"] * STEPS])})
    with pytest.raises(SpecificationError):
        plannable(changed("prices", 0, "energy", np.ma.MaskedArray(np.ones(STEPS), np.ones(STEPS, bool))))


@pytest.mark.parametrize(("where", "field", "value", "note"), [
    ("buildings", "low_c", 15.0, "homes.low_c: below the floor in 8 steps"), ("buildings", "target_c", 26.0, "homes.target_c 26 -> 23"), ("stores", "reserve_kwh", 500.0, "tank.reserve_kwh 500 -> 200"),
    ("rooms", "available", 0.05, "panels.least: above what is available in 8 steps")])
def test_what_contradicts_a_limit_is_repaired_and_told(where: str, field: str, value: float, note: str) -> None:
    community = changed(where, 0, field, value)
    plan = Dispatcher().plan(community)
    assert any(said.startswith(note) for said in plan.repaired)
    assert check(plan, community) == []
    assert plannable(plannable(community)).repaired == plannable(community).repaired
    assert not plannable(COMMUNITY).repaired


@pytest.mark.parametrize("value", [10**400, -10**5000, np.timedelta64(3, "h"), np.longdouble("1e4000"), 1e-300], ids=["large", "endless", "span", "long", "tiny"])
def test_numbers_no_field_can_hold_are_refused_in_the_library_s_words(value: Any) -> None:
    with pytest.raises(SpecificationError) as refused:
        plannable(changed("", 0, "step_h", value))
    assert refused.value.facts["field"] == "step_h"


def test_a_number_of_few_or_many_bits_is_that_number() -> None:
    plan = Dispatcher().plan(changed("sources", 0, "rated_kw", 100.0))
    for kind in (np.float16, np.longdouble, np.int8, np.float32):
        same = Dispatcher().plan(changed("sources", 0, "rated_kw", kind(100)))
        assert same.objective == pytest.approx(plan.objective, rel=1e-9)
        assert same.grid_kw.dtype == np.float64


def test_a_number_too_long_to_print_does_not_stop_the_error_that_names_it() -> None:
    assert "10^4000" in SpecificationError(name=10**5000, field="x", problem="y").en


def test_a_part_of_a_caller_s_own_class_is_judged_as_what_it_extends() -> None:
    class Named(ElectricBoiler):
        pass

    assert Dispatcher().plan(changed("", 0, "sources", [Named("boiler", 100.0)])).heat_kw["boiler"].max() > 0
    with pytest.raises(SpecificationError):
        plannable(changed("", 0, "sources", [Named("boiler", -1.0)]))
