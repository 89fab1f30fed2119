"""Settings and plans in the ledger: versions checked, audit in the same transaction, fields named."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from cloud.functions.economic_operation.errors import SettingError, StaleSettingError
from cloud.functions.economic_operation.service import EconomicService, published
from cloud.functions.economic_operation.weather import File, Forecast, OpenMeteo, WeatherError, parse_open_meteo, persistence
from cloud.ledger import Ledger
from cloud.security.audit import OperationLog

NOW = 1_795_000_000_000
HOUR = 3_600_000


@pytest.fixture
def service(ledger: Ledger) -> EconomicService:
    return EconomicService(ledger, lambda: NOW)


def test_nothing_is_planned_until_somebody_says_so(service: EconomicService) -> None:
    assert service.setting(7).mode == "off"
    assert service.settings() == {}


def test_a_change_is_audited_and_an_edit_of_an_older_version_is_refused(service: EconomicService, ledger: Ledger) -> None:
    first = service.change(7, {"mode": "act", "version": 0}, "Li")
    assert (first.mode, first.version, first.changed_by) == ("act", 1, "Li")
    with pytest.raises(StaleSettingError) as stale:
        service.change(7, {"mode": "off", "version": 0}, "Wang")
    assert stale.value.values == {"by": "Li", "version": 1}
    assert service.change(7, {"target_c": 21.0, "version": 1}, "Wang").mode == "act"
    with ledger.read() as session:
        rows = session.scalars(select(OperationLog).where(OperationLog.operation == "economic_operation.setting.change")).all()
    assert len(rows) == 2
    assert rows[1].before != rows[1].after


@pytest.mark.parametrize(("values", "field"), [({"mode": "fast"}, "mode"), ({"tariff": "none"}, "tariff"), ({"target_c": 40.0}, "target_c"), ({"target_c": float("nan")}, "target_c"), ({"up_k": True}, "up_k"),
                                               ({"floor_c": 20.5}, "floor_c"), ({"target_c": 19.0, "down_k": 2.0}, "floor_c"), ({"contract_kw": -1.0}, "contract_kw"), ({"contract_kw": float("inf")}, "contract_kw")])
def test_a_wrong_field_is_named_and_nothing_changes(service: EconomicService, values: dict[str, object], field: str) -> None:
    with pytest.raises(SettingError) as wrong:
        service.change(7, values, "Li")
    assert wrong.value.values["field"] == field
    assert service.settings() == {}


def test_plans_are_kept_newest_first_and_the_series_only_with_the_newest(service: EconomicService) -> None:
    for k in range(5):
        service.keep(project_id=7, issued_ms=NOW + k, start_ms=NOW, step_s=900, outcome="failed" if k == 4 else "planned", code="E-X" if k == 4 else "", summary={"k": k}, document={"grid_kw": [1.0] * 3})
    assert [p["summary"]["k"] for p in service.plans(7, limit=3)] == [4, 3, 2]
    assert [p["summary"]["k"] for p in service.plans(7, before_ms=NOW + 2)] == [1, 0]
    newest, made = service.newest(7), service.newest(7, planned=True)
    assert newest is not None
    assert made is not None
    assert (newest["code"], made["summary"]["k"], made["steps"], made["document"]["grid_kw"]) == ("E-X", 3, 3, [1.0] * 3)
    assert service.newest(8) is None


def test_every_published_tariff_can_be_chosen(service: EconomicService) -> None:
    for k, key in enumerate(published()):
        assert service.change(7, {"tariff": key, "version": k}, "Li").tariff == key


# --- weather


def test_beyond_its_end_a_forecast_repeats_its_last_day() -> None:
    hours = np.arange(36.0)
    outdoor, _ = Forecast("x", NOW, 0, hours, np.zeros(36)).grid(0, 60 * 4)
    assert outdoor[2] == pytest.approx(0.625)
    assert outdoor[36 * 4 + 2] == pytest.approx(outdoor[12 * 4 + 2], abs=0.51)
    assert outdoor.max() <= 35


def test_without_a_provider_tomorrow_is_like_what_the_site_saw_and_begins_where_it_stands() -> None:
    past = [NOW - 24 * HOUR + k * HOUR for k in range(24)]
    found = persistence(past, [-5.0] * 23 + [-10.0], NOW)
    outdoor, _ = found.grid(NOW, 96)
    assert found.source == "site sensor"
    assert outdoor[0] == pytest.approx(-10, abs=0.7)
    assert outdoor[80] == pytest.approx(-5, abs=1.5)
    with pytest.raises(WeatherError):
        persistence([NOW - 90 * HOUR], [0.0], NOW)


async def test_a_provider_is_asked_and_its_answer_checked() -> None:
    times = [(dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=k)).strftime("%Y-%m-%dT%H:%M") for k in range(48)]
    document = {"hourly": {"time": times, "temperature_2m": [None if k == 5 else -k / 10 for k in range(48)], "shortwave_radiation": [100.0] * 48}}
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=document)

    found = await OpenMeteo("https://weather.example/v1/forecast", transport=httpx.MockTransport(answer)).forecast(40.0, 116.0, NOW)
    assert asked[0].url.params["latitude"] == "40.0000"
    assert found.outdoor_c[5] == pytest.approx(-0.5)
    assert found.sun_kw_m2[0] == 0.1
    for bad in ({}, {"hourly": {"time": ["x"], "temperature_2m": [1], "shortwave_radiation": [0]}}, {"hourly": {"time": times, "temperature_2m": [None] * 48, "shortwave_radiation": [0] * 48}}):
        with pytest.raises(WeatherError):
            parse_open_meteo(bad, NOW)
    with pytest.raises(WeatherError):
        await OpenMeteo("https://weather.example/", transport=httpx.MockTransport(lambda _r: httpx.Response(503))).forecast(40.0, 116.0, NOW)
    with pytest.raises(WeatherError):
        await OpenMeteo("https://weather.example/", transport=httpx.MockTransport(lambda _r: httpx.Response(200, content=b"{"))).forecast(40.0, 116.0, NOW)


async def test_a_weather_file_is_loaded_where_right_and_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "weather.csv"
    lines = ["time,outdoor_c,sun_w_m2", *(f"2026-01-01T{h:02d}:00:00+08:00,{-h / 2},{h}" for h in range(12) if h != 4), "2026-01-01T02:00:00+08:00,50,0"]
    file.write_text("\n".join(lines))
    found = await File(file).forecast(0, 0, NOW)
    assert found.outdoor_c[4] == pytest.approx(-2.0)
    assert found.outdoor_c[2] == -1.0, "an hour told twice: the first counts"
    file.write_text("time,outdoor_c\n2026-01-01T00:00:00,1\n")
    with pytest.raises(WeatherError, match="line 2"):
        await File(file).forecast(0, 0, NOW)
    with pytest.raises(WeatherError):
        await File(tmp_path / "none.csv").forecast(0, 0, NOW)


def test_documents_are_json(service: EconomicService) -> None:
    service.keep(project_id=7, issued_ms=NOW, start_ms=NOW, step_s=900, outcome="planned", summary={}, document={"grid_kw": [1.5]})
    assert json.loads(json.dumps(service.newest(7)))["document"] == {"grid_kw": [1.5]}
