"""The API answers truly: scope, freshness, history, lists, commands, quarantine, the live stream, problems, headers."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.control.client import ControlUnavailableError
from cloud.functions.devices.service import DeviceService
from cloud.functions.devices.templates import device_writings
from cloud.functions.monitoring.stream import QUEUE, LiveStream, LiveStreams, StreamFullError
from cloud.functions.system.tables import OperationLog
from cloud.ledger import Ledger
from cloud.portal.middleware import MAX_BODY
from cloud.portal.problems import status_of
from protos.points import BY_KEY
from tests.portal.conftest import Clock, SignIn
from tests.support.site import Site, build

SET = BY_KEY["leaving_temp_setpoint"].id


def wish(device: int, value: float | None = 60.0, **more: Any) -> dict[str, Any]:
    return {"device_id": device, "kind": "hold", "point_id": SET, "value": value, **more}


async def test_the_overview_counts_projects_by_what_needs_a_hand_first(site: Site, sign_in: SignIn) -> None:
    site.historian.raise_alarm(site.device("cuihu", "EB1"), "low_water", 60, value=1)
    site.live.offline.add("edge-beishan")
    totals = (await (await sign_in("operator")).get("overview")).json()["totals"]
    assert (totals["projects"], totals["normal"], totals["critical"], totals["offline"], totals["alarm"]) == (4, 2, 1, 1, 0)
    assert (totals["rooms_measured"], totals["rooms_total"]) == (32, 96)


async def test_who_locked_a_device_is_told_to_remove_the_own_tag(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", "EB1")
    site.live.device_states[device] = {"locked_out": True, "lockout_holder": "operator", "lockout_reason": "检修"}
    own = await client.post("commands", json=wish(device), headers={"Idempotency-Key": "locked-by-me"})
    assert own.json()["code"] == "E-COMMAND-LOCKED-BY-YOU"


async def test_an_agent_that_has_not_begun_takes_no_project_offline(site: Site, sign_in: SignIn) -> None:
    DeviceService(site.ledger).register_agent("edge-new", site.projects["cuihu"], signing_public=b"s" * 32, box_public=b"b" * 32, uplink="grpc")
    site.directory.refresh()
    totals = (await (await sign_in("operator")).get("overview")).json()
    assert totals["totals"]["offline"] == 0
    assert not [n for n in totals["needs"] if n.get("agent_id") == "edge-new"]


async def test_needs_are_grouped_by_cause_and_worst_first(site: Site, sign_in: SignIn) -> None:
    for code in ("H0101", "H0102", "H0103"):
        site.historian.raise_alarm(site.device("liulin", code), "leakage", 100, value=1)
    site.live.offline.add("edge-yanqi")
    needs = (await (await sign_in("operator")).get("overview")).json()["needs"]
    assert [(n["kind"], n["severity"], n["count"]) for n in needs] == [("alarm", "critical", 3), ("agent", "major", 1)]


async def test_a_stale_value_is_not_counted_as_measured(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    project = site.projects["cuihu"]
    before = (await client.get(f"projects/{project}/rooms")).json()
    site.historian.aged[site.device("cuihu", "H0101")] = 24 * 3_600_000
    await asyncio.sleep(1.6)  # the shared answer is asked again after 1.5 s
    after = (await client.get(f"projects/{project}/rooms")).json()
    assert (before["total"], before["measured"], after["measured"]) == (24, 8, 7)


async def test_the_energy_flow_balances_at_the_grid(site: Site, sign_in: SignIn) -> None:
    flow = (await (await sign_in("operator")).get(f"projects/{site.projects['cuihu']}/flow")).json()
    nodes = {n["id"]: n for n in flow["nodes"]}
    out = sum(link["kw"] for link in flow["links"] if link["source"] == "grid")
    assert out == pytest.approx(nodes["grid"]["kw"], abs=0.01)
    assert {"electric_boiler", "circulation_pump", "storage", "heat"} <= set(nodes)


async def test_nothing_is_invented_when_nothing_is_measured(site: Site, sign_in: SignIn) -> None:
    site.historian.silent = {d.id for d in site.directory.devices(site.projects["cuihu"])}
    client = await sign_in("operator")
    flow = (await client.get(f"projects/{site.projects['cuihu']}/flow")).json()
    assert {n["kw"] for n in flow["nodes"]} == {None} and flow["links"] == []
    row = next(p for p in (await client.get("overview")).json()["projects"] if p["code"] == "cuihu")
    assert (row["power_kw"], row["heat_kw"], row["w_per_m2"], row["rooms"]["coldest"]) == (None, None, None, None)


async def test_history_comes_in_columns_and_as_csv_in_the_projects_zone(site: Site, sign_in: SignIn, clock: Clock) -> None:
    client = await sign_in("operator")
    device, project = site.device("cuihu", "EM1"), site.projects["cuihu"]
    query: dict[str, str | int] = {"series": f"{device}:1", "start_ms": clock.ms - 3_600_000, "end_ms": clock.ms, "resolution_s": 900}
    columns = (await client.get(f"projects/{project}/history", params=query)).json()["series"][0]
    assert columns["resolution_s"] == 900 and len(columns["at_ms"]) == len(columns["mean"]) == len(columns["quality"]) > 0
    table = (await client.get(f"projects/{project}/history", params={**query, "format": "csv", "language": "en"})).text
    rows = list(csv.reader(io.StringIO(table.removeprefix("﻿"))))
    assert rows[0][:3] == ["time", "device", "point"] and rows[1][0].endswith("+08:00") and float(rows[1][4]) == columns["mean"][0]
    assert len(rows) == len(columns["at_ms"]) + 1


@pytest.mark.parametrize("change", [
    {"series": "x"}, {"series": "1:9999"}, {"start_ms": 5, "end_ms": 5}, {"end_ms": 10**14}, {"resolution_s": 7}, {"resolution_s": 0, "start_ms": 0, "end_ms": 10**9},
    {"series": ",".join(["2:1"] * 41)}])
async def test_a_wrong_history_query_says_what_is_wrong(site: Site, sign_in: SignIn, change: dict[str, Any]) -> None:
    client = await sign_in("operator")
    query = {"series": f"{site.device('cuihu', 'EM1')}:1", "start_ms": 0, "end_ms": 3_600_000, **change}
    answer = await client.get(f"projects/{site.projects['cuihu']}/history", params=query)
    assert answer.status_code in (404, 422) and answer.json()["code"] in ("E-HISTORY-QUERY", "E-NOT-FOUND")


async def test_devices_are_filtered_sorted_and_paged(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    everything = (await client.get("devices", params={"limit": 1000})).json()
    boilers = (await client.get("devices", params={"profile": "electric_boiler", "sort": "code", "descending": True})).json()
    assert [r["code"] for r in boilers["rows"]] == ["EB2", "EB1"] and boilers["total"] == 2
    assert sum(everything["profiles"].values()) == everything["total"] == len(everything["rows"])
    pages = [(await client.get("devices", params={"offset": k, "limit": 50})).json()["rows"] for k in (0, 50, 100)]
    assert [r["id"] for page in pages for r in page] == [r["id"] for r in everything["rows"]]
    found = (await client.get("devices", params={"q": "eb1"})).json()
    assert [r["code"] for r in found["rows"]] == ["EB1"]


async def test_the_device_export_has_every_row_and_no_formula(site: Site, sign_in: SignIn) -> None:
    from cloud.functions.devices.service import DeviceService, NewDevice

    DeviceService(site.ledger).register_device(site.projects["cuihu"], NewDevice(
        "X1", "=HYPERLINK(1)", "=HYPERLINK(1)", "edge-cuihu", "weather_station_modbus"))
    site.directory.refresh()
    text = (await (await sign_in("operator")).get("devices", params={"format": "csv", "language": "en"})).text
    rows = list(csv.reader(io.StringIO(text.removeprefix("﻿"))))
    assert len(rows) - 1 == sum(len(site.directory.devices(p)) for p in site.projects.values())
    assert not any(cell.startswith("=") for row in rows for cell in row)


@pytest.mark.parametrize(("state", "condition", "why"), [
    ({}, "normal", "free"), ({"online": False, "error_code": "E-X"}, "offline", "error"), ({"locked_out": True, "lockout_holder": "w"}, "locked", "lockout"),
    ({"local_manual": True}, "local", "local"), ({"holders": [
        {"point_id": SET, "authority": 8, "value": 40, "until_ms": 1, "holder": "plan", "reason": ""},
        {"point_id": SET, "authority": 5, "value": 55, "until_ms": 2, "holder": "operator", "reason": ""}]}, "held", "hold")])
async def test_the_why_line_names_the_strongest_reason(site: Site, sign_in: SignIn, state: dict[str, Any], condition: str, why: str) -> None:
    device = site.device("cuihu", "EB1")
    site.live.device_states[device] = state
    found = (await (await sign_in("operator")).get(f"devices/{device}")).json()
    assert (found["condition"], found["why"]["kind"]) == (condition, why)
    if why == "hold":
        assert found["why"]["holder"] == "operator"


async def test_a_free_device_tells_the_set_point_that_still_stands_and_a_meter_tells_nothing(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    boiler = site.device("cuihu", "EB1")
    site.live.device_states[boiler] = {}
    found = (await client.get(f"devices/{boiler}")).json()
    standing = {v["point_id"]: v["value"] for v in found["latest"]}
    assert found["why"] == {"kind": "free", "point_id": SET, "value": standing[SET]}
    rows = (await client.get("devices")).json()["rows"]
    meter = next(r for r in rows if r["profile"] == "electricity_meter")
    site.live.device_states[meter["id"]] = {}
    assert (await client.get(f"devices/{meter['id']}")).json()["why"] == {"kind": "measuring"}


async def test_a_resident_sees_their_own_rooms_and_nothing_else(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("resident")
    own, other = site.device("cuihu", "H0101"), site.device("cuihu", "EB1")
    site.historian.raise_alarm(other, "low_water", 10, value=1)
    assert {r["code"] for r in (await client.get("devices")).json()["rows"]} == {"H0101", "H0102"}
    assert [p["code"] for p in (await client.get("projects")).json()] == ["cuihu"]
    assert (await client.get(f"devices/{other}")).json()["code"] == "E-NOT-FOUND"
    assert (await client.get("alarms")).json() == []
    rows = (await client.get(f"projects/{site.projects['cuihu']}/latest")).json()["rows"]
    assert {row[0] for row in rows} == {own, site.device("cuihu", "H0102")}
    answer = await client.get(f"projects/{site.projects['cuihu']}/history", params={"series": f"{other}:1", "start_ms": 0, "end_ms": 1000})
    assert answer.status_code == 404


async def test_a_command_goes_out_once_per_key_with_the_persons_authority(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", "EB1")
    answers = [await client.post("commands", json=wish(device), headers={"Idempotency-Key": "same-key-1"}) for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 202] and answers[0].json()["id"] == answers[1].json()["id"]
    assert len(site.commands.requests) == 1
    request = site.commands.requests[0]
    assert (request.authority, request.actor, request.value, request.hold_s) == (5, "operator", 60.0, 3600.0)
    await asyncio.sleep(0.05)
    found = (await client.get(f"commands/{answers[0].json()['id']}")).json()
    assert [s["state"] for s in found["steps"]] == ["accepted", "sent", "received", "executing", "verified"]


async def test_a_residents_wish_stands_below_the_operators(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("resident")
    answer = await client.post("commands", json={"device_id": site.device("cuihu", "H0101"), "kind": "hold", "point_id": 135, "value": 21},
                               headers={"Idempotency-Key": "resident-1"})
    assert answer.status_code == 202 and site.commands.requests[0].authority == 7


@pytest.mark.parametrize(("body", "code"), [
    ({"value": 99.0}, "E-COMMAND-RANGE"), ({"value": 1.0}, "E-COMMAND-RANGE"), ({"value": None}, "E-COMMAND-INCOMPLETE"), ({"hold_s": 1.0}, "E-COMMAND-INCOMPLETE"),
    ({"hold_s": 1e9}, "E-COMMAND-INCOMPLETE"), ({"point_id": 1}, "E-COMMAND-POINT"), ({"point_id": 60000}, "E-COMMAND-POINT"), ({"kind": "lock"}, "E-COMMAND-INCOMPLETE"),
    ({"kind": "explode"}, "E-INPUT"), ({"device_id": 10**9}, "E-NOT-FOUND")])
async def test_a_wrong_command_is_refused_with_a_way_out_and_never_sent(site: Site, sign_in: SignIn, body: dict[str, Any], code: str) -> None:
    client = await sign_in("operator")
    answer = await client.post("commands", json={**wish(site.device("cuihu", "EB1")), **body}, headers={"Idempotency-Key": "wrong-command"})
    problem = answer.json()
    assert problem["code"] == code and 400 <= answer.status_code < 500
    assert problem["zh"] and problem["en"] and problem["status"] == answer.status_code and len(problem["request_id"]) == 32
    assert answer.headers["content-type"] == "application/problem+json"
    assert site.commands.requests == []
    newest = site.journal.rows(limit=1)[0]
    assert (newest["operation"], newest["result"], newest["code"]) == ("remote_control.command.submit", "refused", code)


async def test_a_meter_cannot_be_started(site: Site, sign_in: SignIn) -> None:
    answer = await (await sign_in("operator")).post("commands", json={"device_id": site.device("cuihu", "EM1"), "kind": "hold", "point_id": 1, "value": 1},
                                                    headers={"Idempotency-Key": "meter-start"})
    assert answer.json()["code"] == "E-COMMAND-POINT"


async def test_a_locked_out_device_refuses_all_but_safety_acts(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", "EB1")
    site.live.device_states[device] = {"locked_out": True, "lockout_holder": "王师傅", "lockout_reason": "检修"}
    refused = await client.post("commands", json=wish(device), headers={"Idempotency-Key": "locked-out"})
    assert refused.json()["code"] == "E-COMMAND-LOCKED" and "王师傅" in refused.json()["zh"]
    stop = await client.post("commands/emergency-stop", json={"device_id": device}, headers={"Idempotency-Key": "emergency-1"})
    assert stop.status_code == 202 and site.commands.requests[0].authority == 1


async def test_a_safety_act_goes_out_even_when_the_log_cannot_be_written(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", "EB1")
    OperationLog.__table__.drop(site.ledger.engine)  # type: ignore[attr-defined]
    plain = await client.post("commands", json=wish(device), headers={"Idempotency-Key": "no-log-00"})
    assert (plain.status_code, plain.json()["code"]) == (503, "E-AUDIT")
    stop = await client.post("commands/emergency-stop", json={"device_id": device}, headers={"Idempotency-Key": "emergency-2"})
    assert stop.status_code == 202 and [r.kind for r in site.commands.requests] == ["emergency_stop"]


async def test_the_preview_says_who_stands_above(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", "EB1")
    alone = (await client.post("commands/preview", json=wish(device))).json()
    assert alone["wins"] and alone["effective"] == 60.0
    site.live.device_states[device] = {"holders": [{"point_id": SET, "authority": 4, "value": 45.0, "until_ms": 0, "holder": "grid", "reason": "order"}]}
    await asyncio.sleep(1.1)  # agents are shared for a second
    beaten = (await client.post("commands/preview", json=wish(device))).json()
    assert not beaten["wins"] and beaten["effective"] == 45.0 and beaten["stronger"][0]["holder"] == "grid"


async def test_an_unknown_command_is_resolved_by_a_person_with_a_reason(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    site.commands.end = "unknown"
    sent = (await client.post("commands", json=wish(site.device("cuihu", "EB1")), headers={"Idempotency-Key": "unknown-1"})).json()
    await asyncio.sleep(0.05)
    needs = (await client.get("overview")).json()["needs"]
    assert [n["kind"] for n in needs] == ["command"]
    assert (await client.post(f"commands/{sent['id']}/resolve", json={"verified": True, "reason": ""})).status_code == 422
    done = (await client.post(f"commands/{sent['id']}/resolve", json={"verified": False, "reason": "valve shut on site"})).json()
    assert done["state"] == "failed" and "valve shut on site" in done["detail"]


async def test_quarantine_is_released_shifted_and_recorded(site: Site, sign_in: SignIn, clock: Clock) -> None:
    site.historian.quarantine_rows.append({"id": "q1", "project_id": site.projects["cuihu"], "agent_id": "edge-cuihu", "reason": "clock", "detail": "", "rows": 7,
                                           "received_ms": clock.ms, "state": "held"})
    client = await sign_in("engineer")
    assert [r["id"] for r in (await client.get("quarantine")).json()] == ["q1"]
    assert (await client.post("quarantine/q1/release", json={"offset_ms": 5000})).json() == {"rows": 7}
    assert site.historian.quarantine_rows[0]["offset_ms"] == 5000
    row = site.journal.rows(limit=1)[0]
    assert (row["operation"], row["result"], row["level"]) == ("monitoring.quarantine.release", "done", "warning") and "+5000" in row["target"]
    assert (await client.post("quarantine/absent/discard")).status_code == 404


async def _events(site: Site, client: httpx.AsyncClient, query: str, n: int) -> list[tuple[str, Any]]:
    """The first n events of a live stream, read through the ASGI interface (httpx's ASGI transport waits for the whole body)."""
    found: list[tuple[str, Any]] = []
    done = asyncio.Event()
    text = ""

    async def receive() -> dict[str, Any]:
        if not received:
            received.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal text
        if message["type"] == "http.response.start":
            assert message["status"] == 200 and dict(message["headers"])[b"content-type"].startswith(b"text/event-stream")
            return
        text += message.get("body", b"").decode()
        while "\n\n" in text:
            block, text = text.split("\n\n", 1)
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        if len(found) >= n:
            done.set()

    received: list[bool] = []
    cookie = "; ".join(f"{k}={v}" for k, v in client.cookies.items())
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/api/v1/live", "raw_path": b"/api/v1/live",
             "root_path": "", "query_string": query.encode(), "headers": [(b"host", b"portal.test"), (b"cookie", cookie.encode())], "client": ("10.0.0.9", 1), "server": ("portal.test", 80)}
    async with asyncio.timeout(5):
        await site.app(scope, receive, send)
    return found


async def test_the_live_stream_says_hello_then_values_of_what_is_watched(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", "EB1")
    events = await _events(site, client, f"projects={site.projects['cuihu']}&devices={device}", 2)
    assert [kind for kind, _ in events[:2]] == ["hello", "values"]
    assert {row[0] for row in events[1][1]["rows"]} == {device}
    assert len(site.app.state.streams) == 0 and site.live.watchers == []


async def test_a_residents_stream_carries_their_rooms_only(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("resident")
    events = await _events(site, client, f"projects={site.projects['cuihu']},{site.projects['yanqi']}", 3)
    rooms = {site.device("cuihu", "H0101"), site.device("cuihu", "H0102")}
    assert {row[0] for _, event in events[1:] for row in event["rows"]} == rooms


async def test_an_open_stream_changes_its_subscription_and_belongs_to_one_session(site: Site, sign_in: SignIn) -> None:
    owner, other = await sign_in("operator"), await sign_in("engineer")
    streams = site.app.state.streams
    principal = await site.sessions.authenticate(owner.cookies["kang_session"])
    assert principal is not None
    stream = streams.open(principal.session, lambda _event: True)
    body = {"project_ids": [site.projects["yanqi"]]}
    assert (await other.post(f"live/{stream.id}", json=body)).status_code == 404
    assert (await owner.post(f"live/{stream.id}", json=body)).status_code == 204
    async with asyncio.timeout(5):
        async for event in stream.events():
            assert event["project_id"] == site.projects["yanqi"]
            break
    await streams.close(stream)


async def test_a_slow_page_loses_values_but_never_a_command() -> None:
    class Flood:
        async def watch(self, _projects: Any, _devices: Any = ()) -> Any:
            for _ in range(QUEUE + 50):
                yield {"type": "values", "project_id": 1, "rows": []}
            yield {"type": "command", "project_id": 1}
            await asyncio.sleep(3600)

        async def agents(self, _project: Any = None) -> list[Any]:
            return []

    stream = LiveStream(Flood(), "s", lambda _event: True)
    stream.subscribe([1], [])
    await asyncio.sleep(0.05)
    assert stream.dropped == 50
    with pytest.raises(StreamFullError):
        async for _ in stream.events():
            pass
    await stream.close()


async def test_the_stream_ends_with_its_session(site: Site, sign_in: SignIn, clock: Clock) -> None:
    client = await sign_in("operator")
    principal = await site.sessions.authenticate(client.cookies["kang_session"])
    assert principal is not None
    assert await site.sessions.touch(principal)
    site.sessions.end(principal)
    assert not await site.sessions.touch(principal)


async def test_answers_carry_security_headers_and_an_id(site: Site, sign_in: SignIn) -> None:
    answer = await (await sign_in("operator")).get("projects")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store" and len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused(site: Site, sign_in: SignIn, declared: bool) -> None:
    client = await sign_in("operator")

    async def chunks() -> Any:
        for _ in range(40):
            yield b"x" * 40_000

    content: Any = b"x" * (MAX_BODY + 1) if declared else chunks()
    answer = await client.post("commands", content=content, headers={"Content-Type": "application/json", "Idempotency-Key": "too-large"})
    assert (answer.status_code, answer.json()["code"]) == (413, "E-TOO-LARGE")


async def test_an_unknown_address_and_a_broken_port_are_problems_too(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    assert (await client.get("nothing/here")).json()["code"] == "E-NOT-FOUND"
    site.historian.alarm_rows.append({"project_id": 1})  # not what the port promises
    answer = await client.get("alarms")
    assert (answer.status_code, answer.json()["code"]) == (500, "E-KANG") and "Traceback" not in answer.text


async def test_health_is_open_and_metrics_are_for_this_machine_or_the_signed_in(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    assert (await client.get("http://portal.test/healthz")).json()["status"] == "ok"
    for host, headers, status in (("127.0.0.1", {}, 200), ("127.0.0.1", {"x-forwarded-for": "1.2.3.4"}, 401), ("10.0.0.7", {}, 401)):
        transport = httpx.ASGITransport(site.app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://portal.test") as other:
            assert (await other.get("/metrics", headers=headers)).status_code == status
    text = (await client.get("http://portal.test/metrics")).text
    assert "kang_portal_requests_total{" in text and "kang_portal_request_seconds_count" in text


async def test_pages_that_ask_at_once_cost_one_question(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    before = site.historian.calls
    await asyncio.gather(*(client.get(f"projects/{site.projects['cuihu']}/flow") for _ in range(20)))
    assert site.historian.calls - before == 1


async def test_without_built_pages_the_portal_says_how_to_build_them(site: Site, sign_in: SignIn) -> None:
    answer = await (await sign_in("")).get("http://portal.test/")
    assert answer.status_code == 503 and "hatch_build.py" in answer.text


async def test_pages_built_anew_are_served_without_a_restart(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>one")
    app = build(ledger, static=folder).app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://portal.test") as client:
        first = await client.get("/devices/7")
        assert (first.text, first.headers["cache-control"]) == ("<p>one", "no-cache")
        assert (await client.get("/assets/x.js")).status_code == 404
        (folder / "assets" / "x.js").write_text("let x")
        (folder / "index.html").write_text("<p>two")
        os.utime(folder / "index.html", ns=(1, 1))
        assert (await client.get("/")).text == "<p>two"
        asset = await client.get("/assets/x.js")
        assert asset.text == "let x" and "immutable" in asset.headers["cache-control"] and asset.headers["content-type"].startswith("text/javascript")
        assert "let x" not in (await client.get("/../static/assets/x.js.gz")).text


async def test_a_plant_whose_devices_do_not_answer_is_partly_offline_and_needs_a_hand(site: Site, sign_in: SignIn, clock: Clock) -> None:
    for code, silent_s in (("EB1", 300), ("EB2", 31), ("EM1", 5)):
        site.live.device_states[site.device("cuihu", code)] = {"online": False, "error_code": "E-X", "last_ok_ms": clock.ms - silent_s * 1000}
    seen = (await (await sign_in("operator")).get("overview")).json()
    row = next(p for p in seen["projects"] if p["code"] == "cuihu")
    assert (row["condition"], row["devices_silent"], seen["totals"]["partial"], seen["totals"]["devices_silent"]) == ("partial", 2, 1, 2)
    need = next(n for n in seen["needs"] if n["kind"] == "devices")
    total = len(site.directory.devices(site.projects["cuihu"]))
    assert (need["agent_id"], need["count"], need["of"], need["since_ms"], need["severity"]) == ("edge-cuihu", 2, total, clock.ms - 300_000, "major")


async def test_the_headline_says_how_many_projects_are_measured(site: Site, sign_in: SignIn) -> None:
    site.historian.silent = {d.id for d in site.directory.devices(site.projects["cuihu"])}
    totals = (await (await sign_in("operator")).get("overview")).json()["totals"]
    assert 0 < totals["power_projects"] < totals["projects"]


async def test_cold_rooms_need_a_hand_and_are_counted_with_the_coldest(site: Site, sign_in: SignIn) -> None:
    site.historian.plant.overrides[site.device("cuihu", "H0101"), BY_KEY["room_temp"].id] = 15.2
    seen = (await (await sign_in("operator")).get("overview")).json()
    need = next(n for n in seen["needs"] if n["kind"] == "rooms")
    assert (need["project_id"], need["count"], need["of"], need["value"], need["limit"], need["severity"]) == (site.projects["cuihu"], 1, 8, 15.2, 18.0, "major")
    assert seen["totals"]["rooms_coldest"] == 15.2


async def test_a_quiet_stream_beats(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    site.app.state.streams = LiveStreams(site.live, beat_s=0.02)
    assert [kind for kind, _ in await _events(site, client, "", 3)][:3] == ["hello", "beat", "beat"]


@pytest.mark.parametrize("query", [{"projects": "abc"}, {"devices": "1,x"}, {"projects": "-1"}, {"projects": str(1 << 63)}])
async def test_a_stream_of_something_that_is_no_list_of_ids_is_refused(sign_in: SignIn, query: dict[str, str]) -> None:
    answer = await (await sign_in("operator")).get("live", params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, "E-HISTORY-QUERY")


async def test_a_session_has_at_most_twenty_streams(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    principal = await site.sessions.authenticate(client.cookies["kang_session"])
    assert principal is not None
    for _ in range(20):
        site.app.state.streams.open(principal.session, lambda _event: True)
    answer = await client.get("live")
    assert (answer.status_code, answer.json()["code"]) == (503, "E-STREAMS")


@pytest.mark.parametrize(("code", "point", "value", "expected"), [
    ("EB1", "power_limit_setpoint", 900.0, None), ("EB1", "power_limit_setpoint", 901.0, "E-COMMAND-RANGE"), ("EB1", "stage_command", 2.5, "E-COMMAND-WHOLE"),
    ("EB1", "stage_command", 2.0, None), ("EB1", "enable_command", 0.5, "E-COMMAND-WHOLE"), ("EB1", "leaving_temp_setpoint", 60.5, None)])
async def test_a_set_point_keeps_to_what_the_device_is_rated_for_and_counts_are_whole(
        site: Site, sign_in: SignIn, code: str, point: str, value: float, expected: str | None) -> None:
    client = await sign_in("operator")
    device = site.device("cuihu", code)
    answer = await client.post("commands/preview", json=wish(device, value, point_id=BY_KEY[point].id))
    assert (answer.status_code, answer.json().get("code")) == ((200, None) if expected is None else (422, expected)), answer.text
    if expected:
        assert BY_KEY[point].en in answer.json()["en"] and BY_KEY[point].zh in answer.json()["zh"]
    shown = {p["key"]: p["write"] for p in (await client.get(f"devices/{device}")).json()["points"]}
    assert shown["power_limit_setpoint"]["high"] == 900.0 and shown["stage_command"]["whole"] and not shown["leaving_temp_setpoint"]["whole"]


async def test_more_stages_than_there_are_cannot_be_asked_for(site: Site) -> None:
    device = site.directory.device(site.device("cuihu", "EB1"))
    assert device is not None
    document = site.directory.template(device.template) or {}
    limits = device_writings(dataclasses.replace(device, attributes={"stages": 6}), document)
    assert (limits[BY_KEY["stage_command"].id].low, limits[BY_KEY["stage_command"].id].high) == (0.0, 6.0)


@pytest.mark.parametrize("body", [
    {"value": True}, {"value": "60"}, {"device_id": True}, {"device_id": 1 << 63}, {"device_id": -1}, {"point_id": 1 << 40}, {"hold_s": "60"}, {"hold_s": 1e300},
    {"reason": "a\nb"}, {"reason": "a\u0000"}, {"work_order": "\u001b[1m"}, {"deadline_s": True}])
async def test_a_command_body_is_taken_as_it_is_written_or_not_at_all(site: Site, sign_in: SignIn, body: dict[str, Any]) -> None:
    client = await sign_in("operator")
    for path in ("commands", "commands/preview"):
        answer = await client.post(path, json={**wish(site.device("cuihu", "EB1")), **body}, headers={"Idempotency-Key": "strict-body"})
        assert (answer.status_code, answer.json()["code"]) == (422, "E-INPUT")
    assert site.commands.requests == []


@pytest.mark.parametrize("path", [
    "projects/{n}/latest", "projects/{n}/flow", "projects/{n}/rooms", "devices/{n}", "alarms?project_id={n}", "alarms?before_ms={n}", "quarantine?before_ms={n}",
    "quarantine?project_id={n}", "commands?project_id={n}", "commands?device_id={n}", "commands?before_ms={n}", "devices?project_id={n}", "devices?parent_id={n}",
    "devices?offset={n}", "agents?project_id={n}", "log?before={n}", "overview/power?start_ms=0&end_ms={n}", "projects/1/history?series=1:1&start_ms={n}&end_ms=1"])
async def test_an_integer_that_no_store_holds_is_refused(sign_in: SignIn, path: str) -> None:
    client = await sign_in("engineer")
    for n in (1 << 63, 10**30):
        answer = await client.get(path.format(n=n))
        assert (answer.status_code, answer.json()["code"]) == (422, "E-INPUT")


def test_a_control_service_that_is_away_is_a_503() -> None:
    assert status_of(ControlUnavailableError()) == 503


@pytest.mark.parametrize(("path", "body", "target"), [
    ("commands/emergency-stop", {}, "EB1 emergency_stop"), ("commands/restore-heat", {}, "EB1 restore_heat"),
    ("commands", {"kind": "hold", "point_id": SET, "value": 99.0}, "EB1 hold leaving_temp_setpoint = 99")])
async def test_the_log_names_the_device_of_safety_acts_and_of_refused_commands(site: Site, sign_in: SignIn, path: str, body: dict[str, Any], target: str) -> None:
    client = await sign_in("engineer")
    await client.post(path, json={"device_id": site.device("cuihu", "EB1"), **body}, headers={"Idempotency-Key": "named-in-log"})
    assert site.journal.rows(limit=1)[0]["target"] == target


async def test_what_is_not_found_is_named_in_chinese(sign_in: SignIn) -> None:
    assert (await (await sign_in("operator")).get("devices/99999")).json()["zh"].startswith("没有找到设备“99999”")


async def test_an_address_is_told_its_own_methods_not_those_of_the_pattern_beside_it(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("engineer")
    for path, allowed in (("commands/preview", "POST"), ("approvals/waiting", "GET, HEAD"), ("commands/abc", "GET, HEAD")):
        answer = await client.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed), path


async def test_every_export_is_documented_as_csv(site: Site) -> None:
    paths = site.app.openapi()["paths"]
    exports = [(p, m["get"]) for p, m in paths.items() if "get" in m and ("csv" in p or p.endswith("/export") or any("csv" in str(q.get("schema", {}).get("enum")) for q in m["get"].get("parameters", ())))]
    assert len(exports) >= 8
    assert all("text/csv" in get["responses"]["200"]["content"] for _, get in exports), [p for p, get in exports if "text/csv" not in get["responses"]["200"]["content"]]


@pytest.mark.parametrize("query", ["projects/1/latest?device_id=0.0", "devices?offset=0.0", "devices?offset=1&offset=2", "alarms?limit=1_0", "audit?limit=5.0", "people?offset=0.0", "people?offset=1&offset=1"])
async def test_a_parameter_is_taken_once_and_a_whole_number_is_written_as_one(site: Site, sign_in: SignIn, query: str) -> None:
    role = "audit_admin" if query.startswith("audit") else "security_admin" if query.startswith("people") else "engineer"
    answer = await (await sign_in(role)).get(query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "E-INPUT"


async def test_nobody_is_asked_to_approve_what_is_not_valid(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("system_admin")
    assert (await client.post("people/-1/reset")).status_code == 422
    assert (await (await sign_in("system_admin")).get("approvals/waiting")).json() == {"waiting": 0}
    assert (await (await sign_in("security_admin")).get("approvals/waiting")).json() == {"waiting": 0}
