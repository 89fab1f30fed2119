"""The tariff engine against an oracle that walks minute by minute, and against published tariffs by hand."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizers.tariff
from optimizers.tariff.model import TariffError, parse
from optimizers.tariff.rating import demand_kw, power_factor_share, price_array, rate, totals

PUBLISHED = Path(optimizers.tariff.__file__).parent / "published"
DOCUMENT: dict[str, Any] = {
    "tariff": "test", "zone": "Asia/Shanghai", "holidays": ["2026-01-01"], "workdays": ["2026-01-04"],
    "schedule": [
        {"days": ["workday"], "periods": [["00:00", "07:10", "valley"], ["07:10", "10:30", "flat"], ["10:30", "15:00", "peak"], ["15:00", "24:00", "flat"]]},
        {"days": ["weekend", "holiday"], "periods": [["08:00", "20:00", "flat"], ["20:00", "08:00", "valley"]]},
        {"season": {"from": "12-15", "to": "01-20"}, "days": ["workday"], "periods": [["00:00", "12:00", "valley"], ["12:00", "12:01", "sharp"], ["12:01", "24:00", "peak"]]}],
    "factors": [{"periods": {"sharp": "2", "peak": "1.5", "flat": "1", "valley": "0.5"}}, {"from": "2026-01-11", "periods": {"sharp": "2", "peak": "1.6", "flat": "1", "valley": "0.4"}}],
    "components": [{"key": "energy", "factors": True, "prices": [{"yuan": "0.4"}, {"from": "2026-02-01", "yuan": "0.45"}]}, {"key": "funds", "prices": [{"yuan": "0.0312"}]},
                   {"key": "heat", "prices": [{"yuan": "0"}, {"from": "2026-01-05", "season": {"from": "11-01", "to": "03-31"}, "yuan": "-0.01"}]}],
    "brackets": [{"key": "tier", "scope": "month", "steps": [{"up_to": "50", "add": "0"}, {"up_to": "90", "add": "0.05"}, {"add": "0.3"}]},
                 {"key": "night", "scope": "season", "season": {"from": "11-01", "to": "03-31"}, "periods": ["valley"], "steps": [{"up_to": "40", "add": "-0.2"}, {"add": "0"}]}]}
TEST = parse(DOCUMENT)


def oracle(document: dict[str, Any], minutes: list[tuple[dt.datetime, float]]) -> dict[tuple[str, str], float]:
    """Yuan by (month, component) of energy given minute by minute in local time; written from the document, sharing no code with the engine."""
    bill: dict[tuple[str, str], float] = {}
    counters: dict[tuple[str, str], float] = {}

    def in_season(s: dict[str, str] | None, d: dt.date) -> bool:
        if s is None:
            return True
        now = d.strftime("%m-%d")
        return s["from"] <= now <= s["to"] if s["from"] <= s["to"] else now >= s["from"] or now <= s["to"]

    for at, kwh in minutes:
        day, clock = at.date(), at.strftime("%H:%M")
        kind = "workday" if str(day) in document["workdays"] else "holiday" if str(day) in document["holidays"] else "weekend" if day.weekday() > 4 else "workday"
        rules = [r for r in document["schedule"] if kind in r["days"] and "season" in r and in_season(r["season"], day)] or [r for r in document["schedule"] if kind in r["days"] and "season" not in r]
        period = next(p for a, b, p in rules[0]["periods"] if (a <= clock < b if a < b else clock >= a or clock < b))
        month = f"{day:%Y-%m}"
        for c in document["components"]:
            fitting = [v for v in c["prices"] if v.get("from", "1970-01-01") <= str(day) and in_season(v.get("season"), day)]
            if fitting:
                value = float(fitting[-1]["yuan"])
                if c.get("factors"):
                    value *= float([f for f in document["factors"] if f.get("from", "1970-01-01") <= str(day)][-1]["periods"][period])
                bill[month, c["key"]] = bill.get((month, c["key"]), 0.0) + kwh * value
        for b in document["brackets"]:
            if not in_season(b.get("season"), day) or (b.get("periods") and period not in b["periods"]):
                continue
            window = month if b["scope"] == "month" else str(day.year - (day.month < 7))
            left, before = kwh, counters.get((b["key"], window), 0.0)
            for s in b["steps"]:
                room = left if "up_to" not in s else min(left, max(0.0, float(s["up_to"]) - before))
                bill[month, b["key"]] = bill.get((month, b["key"]), 0.0) + room * float(s["add"])
                left, before = left - room, before + room
            counters[b["key"], window] = counters.get((b["key"], window), 0.0) + kwh
    return bill


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 45 * 1440), st.lists(st.tuples(st.integers(1, 1500), st.integers(0, 3_000_000)), min_size=1, max_size=12))
def test_the_engine_agrees_with_a_walk_by_minutes(first: int, parts: list[tuple[int, int]]) -> None:
    local = dt.datetime(2025, 12, 20) + dt.timedelta(minutes=first)  # noqa: DTZ001  local wall clock
    begin = int(local.replace(tzinfo=TEST.zone).timestamp()) * 1000
    lengths = np.array([m for m, _ in parts], np.int64)
    edges = begin + 60_000 * np.r_[0, np.cumsum(lengths)]
    kwh = np.array([e / 100_000 for _, e in parts])
    bill = rate(TEST, edges[:-1], edges[1:], kwh)
    walked, at = [], local
    for (length, _), energy in zip(parts, kwh, strict=True):
        for _ in range(length):
            walked.append((at, energy / length))
            at += dt.timedelta(minutes=1)
    expected = oracle(DOCUMENT, walked)
    exact: dict[tuple[str, str], Decimal] = {}
    for line in bill.lines:
        exact[line.month, line.key] = exact.get((line.month, line.key), Decimal(0)) + line.amount
    for key in set(expected) | set(exact):
        assert float(exact.get(key, 0)) == pytest.approx(expected.get(key, 0.0), abs=2e-4), key
    for charge in bill.charges:
        assert abs(charge.amount - exact[charge.month, charge.key]) <= Decimal("0.005")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 20 * 1440), st.integers(2, 3000), st.integers(1, 2999), st.integers(0, 10_000_000))
def test_splitting_an_interval_changes_nothing(first: int, length: int, where: int, energy: int) -> None:
    where = 1 + where % (length - 1)
    begin = int(dt.datetime(2025, 12, 28, tzinfo=TEST.zone).timestamp()) * 1000 + first * 60_000
    edges, kwh = np.array([begin, begin + where * 60_000, begin + length * 60_000], np.int64), energy / 1e5
    whole = rate(TEST, edges[[0]], edges[[2]], np.array([kwh]))
    parts = rate(TEST, edges[:-1], edges[1:], kwh * np.array([where / length, 1 - where / length]))
    assert abs(whole.total - parts.total) <= Decimal("0.05")
    assert float(sum(line.amount for line in whole.lines)) == pytest.approx(float(sum(line.amount for line in parts.lines)), abs=1e-3)


def test_counters_carry_over_from_bill_to_bill() -> None:
    begin = int(dt.datetime(2026, 1, 5, tzinfo=TEST.zone).timestamp()) * 1000
    edges = begin + 3_600_000 * np.arange(97)
    kwh = np.full(96, 1.25)
    whole = rate(TEST, edges[:-1], edges[1:], kwh)
    first = rate(TEST, edges[:50], edges[1:51], kwh[:50])
    second = rate(TEST, edges[50:-1], edges[51:], kwh[50:], used=first.used)
    for key in ("tier", "night"):
        assert sum(line.amount for line in [*first.lines, *second.lines] if line.key == key) == pytest.approx(sum(line.amount for line in whole.lines if line.key == key), abs=Decimal("0.0001"))
        assert second.used[key] == whole.used[key]


def test_many_accounts_on_one_grid_give_the_sums_of_each() -> None:
    begin = int(dt.datetime(2026, 1, 9, tzinfo=TEST.zone).timestamp()) * 1000
    edges = begin + 900_000 * np.arange(500)
    kwh = np.random.default_rng(1).random((7, 499))
    sums, groups = totals(TEST, edges[:-1], edges[1:], kwh)
    for account in range(7):
        lines = [line for line in rate(TEST, edges[:-1], edges[1:], kwh[account]).lines if line.key == "funds"]
        for (month, period, _), value in zip(groups, sums[account], strict=True):
            mine = [float(line.kwh) for line in lines if (line.month, line.period) == (month, period)]
            assert any(abs(x - value) < 1e-5 for x in mine)


def test_the_optimiser_pays_what_the_bill_says() -> None:
    begin = int(dt.datetime(2026, 1, 9, 5, tzinfo=TEST.zone).timestamp()) * 1000
    edges = begin + 900_000 * np.arange(97)
    kwh = np.random.default_rng(2).random(96) * 0.2
    paid = sum(line.amount for line in rate(TEST, edges[:-1], edges[1:], kwh).lines)
    assert float(price_array(TEST, begin, 96, 0.25) @ kwh) == pytest.approx(float(paid), abs=1e-4)


@pytest.mark.parametrize(("change", "says"), [
    ({"schedule": [{"periods": [["00:00", "07:00", "valley"], ["08:00", "24:00", "flat"]]}]}, "a gap from 07:00 to 08:00"),
    ({"schedule": [{"periods": [["00:00", "09:00", "valley"], ["08:00", "24:00", "flat"]]}]}, "an overlap from 08:00 to 09:00"),
    ({"schedule": [{"periods": [["08:00", "08:00", "valley"], ["08:00", "24:00", "flat"]]}]}, "no width at 08:00"),
    ({"schedule": [{"months": [1], "periods": [["00:00", "24:00", "flat"]]}]}, "no rule"),
    ({"components": [{"key": "x", "prices": [{"yuan": "abc"}]}]}, "not a number"),
    ({"components": [{"key": "x", "prices": [{"periods": {"flat": 1}}]}]}, "no price for"),
    ({"brackets": [{"key": "t", "steps": [{"up_to": 5, "add": 0}, {"up_to": 4, "add": 1}, {"add": 2}]}]}, "steps must rise"), ({"zone": "Moon/Base"}, "no time zone")])
def test_a_wrong_tariff_is_refused_with_the_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(TariffError) as refused:
        parse({**DOCUMENT, **change})
    assert says in refused.value.en


def test_maximum_demand_is_the_mean_of_aligned_or_sliding_windows() -> None:
    start = 60_000 * np.arange(45)
    kwh = np.zeros(45)
    kwh[10:25] = 2.0  # 120 kW for 15 minutes, across an edge
    assert demand_kw(start, kwh, 60_000, sliding=True) == pytest.approx(120)
    assert demand_kw(start, kwh, 60_000) == pytest.approx(120 * 10 / 15)


@pytest.mark.parametrize(("factor", "share"), [("0.90", "0"), ("0.95", "-0.0075"), ("1.00", "-0.0075"), ("0.89", "0.005"), ("0.70", "0.1"), ("0.65", "0.15"), ("0.64", "0.17")])
def test_the_power_factor_adjustment_follows_the_table_of_1983(factor: str, share: str) -> None:
    assert power_factor_share(Decimal(factor), Decimal("0.90")) == Decimal(share)


def test_beijing_coal_to_electricity_by_hand() -> None:
    tariff = parse(json.loads((PUBLISHED / "beijing_coal_to_electricity.json").read_text()))
    begin = int(dt.datetime(2026, 1, 10, tzinfo=tariff.zone).timestamp()) * 1000
    edges = begin + 3_600_000 * np.arange(25)
    bill = rate(tariff, edges[:-1], edges[1:], np.ones(24))
    # 12 h of valley at 0.30, less 0.20 of subsidy; 12 h at 0.4883.
    assert bill.total == Decimal("3.60") - Decimal("2.40") + Decimal("5.86")


def test_urumqi_heating_by_hand() -> None:
    tariff = parse(json.loads((PUBLISHED / "urumqi_heating_2006.json").read_text()))
    begin = int(dt.datetime(2026, 1, 10, tzinfo=tariff.zone).timestamp()) * 1000
    edges = begin + 3_600_000 * np.arange(25)
    assert rate(tariff, edges[:-1], edges[1:], np.full(24, 10.0)).total == Decimal("85.24")  # 4 h x 0.531 + 10 h x 0.361 + 10 h x 0.279


def test_beijing_tiers_by_hand() -> None:
    tariff = parse(json.loads((PUBLISHED / "beijing_tiers_2012.json").read_text()))
    begin = int(dt.datetime(2026, 5, 1, tzinfo=tariff.zone).timestamp()) * 1000
    edges = begin + 3_600_000 * np.arange(501)
    bill = rate(tariff, edges[:-1], edges[1:], np.ones(500))
    assert {c.key: c.amount for c in bill.charges} == {"energy": Decimal("244.15"), "tier": Decimal("8.00") + Decimal("30.00")}


@pytest.mark.parametrize("file", sorted(PUBLISHED.glob("*.json")), ids=lambda f: f.stem)
def test_every_published_tariff_parses_and_names_its_source(file: Path) -> None:
    document = json.loads(file.read_text())
    assert document["source"]
    assert parse(document).key == file.stem
