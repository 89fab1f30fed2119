"""The shipped JSON schema, the parser and an independent validator agree; market curves are rated as a walk by minutes does it; gaps and overlaps are named with day and hour."""

from __future__ import annotations

import copy
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizers.tariff
from optimizers.tariff.model import DAY_TYPES, PERIODS, TariffError, parse, with_prices
from optimizers.tariff.rating import price_array, rate
from optimizers.tariff.schema import plain, problems, schema
from tests.optimizers.test_tariff import DOCUMENT

PUBLISHED = sorted((Path(optimizers.tariff.__file__).parent / "published").glob("*.json"))
VALIDATOR = jsonschema.Draft202012Validator(schema())
FULL = {**DOCUMENT, "demand": {"yuan_kw": "48", "discount": {"kwh_kva": "260", "factor": "0.9"}}, "power_factor": "0.90",
        "components": [*DOCUMENT["components"], {"key": "spot", "factors": True, "curve": {"minutes": 60, "days": {"2026-01-09": ["0.3"] * 24}, "otherwise": "0.4"}}]}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path] if path else []
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(entry, (*path, key))
    return found


PLACES = places(FULL)


def test_the_schema_is_a_schema_and_knows_the_model_s_words() -> None:
    VALIDATOR.check_schema(schema())
    assert tuple(schema()["$defs"]["period"]["enum"]) == PERIODS == tuple(schema()["$defs"]["by_period"]["properties"])
    assert tuple(schema()["$defs"]["rule"]["properties"]["days"]["items"]["enum"]) == DAY_TYPES
    assert not list(problems(plain(FULL)))
    parse(FULL)


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda f: f.stem)
def test_published_tariffs_keep_to_the_schema(file: Path) -> None:
    VALIDATOR.validate(json.loads(file.read_text()))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), st.one_of(st.just("drop"), st.just("extra"), st.none(), st.booleans(), st.integers(-2, 2000), st.text(max_size=4), st.just([]), st.just({}), st.just(["a"]), st.floats(-5, 5)))
def test_what_an_independent_validator_refuses_is_refused_here_and_named(path: tuple[Any, ...], change: Any) -> None:
    document = copy.deepcopy(FULL)
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    if change == "drop":
        del at[path[-1]]
    elif change == "extra" and isinstance(at[path[-1]], dict):
        at[path[-1]]["no_such_field"] = 1
    else:
        at[path[-1]] = change
    mine = list(problems(plain(document)))
    assert bool(mine) != VALIDATOR.is_valid(document), mine
    if mine:
        with pytest.raises(TariffError) as refused:
            parse(document)
        assert refused.value.facts["where"]
    else:
        try:
            parse(document)
        except TariffError as error:
            assert error.code == "E-TARIFF"


@pytest.mark.parametrize(("change", "says"), [
    ({"schedule": [{"periods": [["00:00", "24:00", "flat"]]}, {"months": [3], "periods": [["00:00", "24:00", "peak"]]}]}, "month 3, workday (03-01), 00:00 to 24:00: an overlap"),
    ({"schedule": [{"season": {"from": "11-01", "to": "03-31"}, "periods": [["00:00", "24:00", "flat"]]}]}, "month 4, workday (04-01), 00:00 to 24:00: no rule"),
    ({"components": [{"key": "a", "prices": [{"yuan": 1}, {"yuan": 2}]}]}, "two prices from 1970-01-01"),
    ({"components": [{"key": "a", "prices": [{"yuan": 1}]}, {"key": "a", "prices": [{"yuan": 2}]}]}, "'a' is given twice"),
    ({"components": [{"key": "a", "prices": [{"yuan": 1}], "curve": {"minutes": 60, "days": {}}}]}, "or both"),
    ({"components": [{"key": "a", "curve": {"minutes": 60, "days": {"2026-01-09": [1] * 23}}}]}, "a gap from 23:00 to 24:00"),
    ({"components": [{"key": "a", "curve": {"minutes": 30, "days": {"2026-01-09": [1] * 49}}}]}, "an overlap after 24:00"),
    ({"demand": {"yuan_kw": 1}, "capacity_yuan_kva": 2}, "exclude each other"),
    ({"schedule": [{"periods": [["00:00", "25:00", "flat"]]}]}, "'25:00' is not a time HH:MM")])
def test_gaps_and_overlaps_are_named_with_day_and_hour(change: dict[str, Any], says: str) -> None:
    with pytest.raises(TariffError) as refused:
        parse({**DOCUMENT, **change})
    assert says in refused.value.en


def market(zone: str, minutes: int, days: dict[str, list[str]], *, factors: bool = False, otherwise: str | None = None) -> dict[str, Any]:
    curve: dict[str, Any] = {"minutes": minutes, "days": days, **({"otherwise": otherwise} if otherwise is not None else {})}
    return {"tariff": "spot", "zone": zone, "schedule": [{"periods": [["06:20", "22:00", "peak"], ["22:00", "06:20", "valley"]]}],
            "factors": [{"periods": {"peak": "1.5", "valley": "0.5"}}], "components": [{"key": "spot", "factors": factors, "curve": curve}]}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2000), st.lists(st.tuples(st.integers(1, 400), st.integers(0, 10_000)), min_size=1, max_size=8), st.sampled_from([15, 60]), st.booleans(), st.integers(0, 99))
def test_a_market_curve_is_rated_as_a_walk_by_minutes(first: int, parts: list[tuple[int, int]], minutes: int, factors: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    days = {f"2026-01-{d:02d}": [f"{v:.3f}" for v in draw.uniform(-0.2, 1.2, 1440 // minutes)] for d in range(8, 12)}
    tariff = parse(market("Asia/Shanghai", minutes, days, factors=factors))
    begin = int(dt.datetime(2026, 1, 8, tzinfo=tariff.zone).timestamp()) * 1000 + first * 60_000
    edges = begin + 60_000 * np.r_[0, np.cumsum([m for m, _ in parts])].astype(np.int64)
    kwh = np.array([e / 100 for _, e in parts])
    walked = 0.0
    for k, (length, _) in enumerate(parts):
        for m in range(length):
            at = dt.datetime.fromtimestamp(edges[k] / 1000 + 60 * m, tariff.zone)
            clock = at.hour * 60 + at.minute
            share = (1.5 if 380 <= clock < 1320 else 0.5) if factors else 1.0
            walked += kwh[k] / length * share * float(days[f"{at:%Y-%m-%d}"][clock // minutes])
    bill = rate(tariff, edges[:-1], edges[1:], kwh)
    assert float(sum(line.amount for line in bill.lines)) == pytest.approx(walked, abs=1e-4)
    if len({m for m, _ in parts}) == 1:
        assert price_array(tariff, begin, len(parts), parts[0][0] / 60) @ kwh == pytest.approx(walked, abs=1e-6)


def test_a_day_of_23_hours_has_23_market_prices() -> None:
    zone = ZoneInfo("Europe/Berlin")
    tariff = parse(market("Europe/Berlin", 60, {"2026-03-29": [str(k) for k in range(23)]}))
    begin = int(dt.datetime(2026, 3, 29, tzinfo=zone).timestamp()) * 1000
    assert price_array(tariff, begin, 23, 1.0).tolist() == pytest.approx(list(range(23)))
    with pytest.raises(TariffError) as refused:
        parse(market("Europe/Berlin", 60, {"2026-03-29": ["1"] * 24}))
    assert "23 are needed" in refused.value.en


def test_a_day_without_market_prices_is_refused_or_takes_what_stands_otherwise() -> None:
    tariff = parse(market("Asia/Shanghai", 60, {}))
    begin = int(dt.datetime(2026, 1, 9, tzinfo=tariff.zone).timestamp()) * 1000
    with pytest.raises(TariffError) as refused:
        price_array(tariff, begin, 24, 1.0)
    assert "no market price for 2026-01-09" in refused.value.en
    filled = with_prices(tariff, "spot", {dt.date(2026, 1, 9): [Decimal("0.25")] * 24})
    assert set(price_array(filled, begin, 24, 1.0).round(9)) == {0.25}
    assert set(price_array(parse(market("Asia/Shanghai", 60, {}, otherwise="0.4")), begin, 24, 1.0).round(9)) == {0.4}
    with pytest.raises(TariffError):
        with_prices(tariff, "nobody", {})
