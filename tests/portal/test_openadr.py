"""OpenADR 3.1 over the portal: every answer is as the public OpenAPI document says, events become orders of demand response, what cannot be mapped is refused by field and leaves nothing."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx
import pytest

from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.resources import metered
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import Happening
from cloud.functions.interfaces.openadr.times import stamp
from cloud.functions.system.journal import OperationJournal
from tests.portal.conftest import Clock, SignIn
from tests.support.openadr import PREFIX, complaints
from tests.support.site import Site

SCOPE = ["demand_response.resource.read", "demand_response.program.change", "demand_response.exchange.write", *(f"demand_response.dispatch.{act}" for act in ("read", "submit", "cancel"))]
pytestmark = pytest.mark.point("51")


class Vtn:
    """A business-logic client; every answer is judged by the document."""

    def __init__(self, http: httpx.AsyncClient, name: str) -> None:
        self.http, self.name = http, name

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        content = {"content": body, "headers": {"content-type": "application/json"}} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        answer = await self.http.request(method, path, **content, **more)
        assert answer.status_code == status, answer.text
        assert complaints(method, path, status, answer.json()) == []
        return answer.json()

    async def program(self, kind: str = "order", name: str = "load", **more: Any) -> str:
        attributes = [{"type": "KANG_KIND", "values": [kind]}, *more.pop("attributes", [])]
        return str((await self.ask("POST", "/programs", {"programName": name, "attributes": attributes, **more}, 201))["id"])


@pytest.fixture
def desk(site: Site, clock: Clock) -> ResponseService:
    made = ResponseService(site.ledger, clock)
    for code in ("cuihu", "yanqi"):
        made.keep_resource(site.projects[code], metered(200.0, 0.0, clock()))
    return made


async def vtn(site: Site, sign_in: SignIn, name: str = "grid", operations: list[str] = SCOPE) -> Vtn:
    client, secret = site.clients.register(name, operations, project_ids=[site.projects["cuihu"]], priority=0, rate=1000.0, burst=1000)
    http = await sign_in("")
    http.base_url = httpx.URL(f"http://portal.test/api/v1/{PREFIX}")
    answer = await http.post("/auth/token", data={"grant_type": "client_credentials", "client_id": client["id"], "client_secret": secret})
    assert complaints("POST", "/auth/token", 200, answer.json()) == []
    http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
    return Vtn(http, f"client:{client['id']}")


def event(program: str, clock: Clock, kind: str = "IMPORT_CAPACITY_LIMIT", value: Any = 120.0, **change: Any) -> dict[str, Any]:
    return {"programID": program, "eventName": "evening peak", "targets": ["cuihu"], "intervalPeriod": {"start": stamp(clock() + 120_000), "duration": "PT30M"},
            "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [value]}]}], **change}


async def test_a_client_is_known_by_its_secret_and_told_its_scopes(site: Site, sign_in: SignIn, desk: ResponseService) -> None:
    http = await sign_in("")
    http.base_url = httpx.URL(f"http://portal.test/api/v1/{PREFIX}")
    where = await http.get("/auth/server")
    assert complaints("GET", "/auth/server", 200, where.json()) == []
    client, secret = site.clients.register("reader", ["demand_response.dispatch.read", "demand_response.resource.read"], priority=5)
    asked = {"grant_type": "client_credentials", "client_id": client["id"], "client_secret": secret}
    made = (await http.post(where.json()["tokenURL"], data=asked)).json()
    assert (made["token_type"], made["scope"]) == ("Bearer", "read_all")
    for change, status in (({"client_secret": "guess"}, 401), ({"grant_type": "password"}, 400)):
        refused = await http.post("/auth/token", data={**asked, **change})
        assert (refused.status_code, complaints("POST", "/auth/token", status, refused.json())) == (status, [])
    reader = Vtn(http, "")
    await reader.ask("GET", "/programs", status=401)
    http.headers["authorization"] = f"Bearer {made['access_token']}"
    assert await reader.ask("GET", "/programs") == []
    for method, path in (("POST", "/programs"), ("POST", "/events"), ("PUT", "/events/x"), ("DELETE", "/events/x"), ("POST", "/reports"), ("POST", "/vens"), ("POST", "/subscriptions")):
        assert (await reader.ask(method, path, None if method == "DELETE" else {}, 403))["code"] == "E-CLIENT-SCOPE"


async def test_programs_are_kept_as_they_were_sent_and_belong_to_their_client(site: Site, sign_in: SignIn, clock: Clock, desk: ResponseService) -> None:
    mine, other = await vtn(site, sign_in), await vtn(site, sign_in, "other")
    sent = {"programName": "peak", "attributes": [{"type": "KANG_KIND", "values": ["order"]}, {"type": "PROGRAM_TYPE", "values": ["有序用电"]}], "programDescriptions": [{"URL": "https://example.com/peak"}],
            "payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}], "targets": None}
    made = await mine.ask("POST", "/programs", sent, 201)
    assert {k: made[k] for k in sent} == sent
    assert await mine.ask("POST", "/programs", sent, 201) == made, "once more is the same program"
    assert (await mine.ask("POST", "/programs", {**sent, "targets": ["cuihu"]}, 409))["field"] == "programName"
    assert await mine.ask("GET", "/programs") == [made]
    assert await mine.ask("GET", "/programs", params={"skip": 1}) == []
    assert await other.ask("GET", "/programs") == []
    await other.ask("GET", f"/programs/{made['id']}", status=404)
    await other.ask("DELETE", f"/programs/{made['id']}", status=404)
    clock.ms += 5
    changed = await mine.ask("PUT", f"/programs/{made['id']}", {**made, "programName": "peak 2"})
    assert changed["programName"] == "peak 2"
    assert changed["modificationDateTime"] > made["modificationDateTime"]
    assert (await mine.ask("PUT", f"/programs/{made['id']}", {**made, "programName": "peak 3"}, 409))["field"] == "modificationDateTime"
    number = (await mine.ask("POST", "/events", event(made["id"], clock), 201))["id"]
    assert (await mine.ask("DELETE", f"/programs/{made['id']}", status=409))["code"] == "E-OPENADR-USED"
    await mine.ask("DELETE", f"/events/{number}")
    await mine.ask("DELETE", f"/programs/{made['id']}")
    await mine.ask("GET", f"/programs/{made['id']}", status=404)


async def test_an_event_becomes_an_order_once_is_amended_followed_and_taken_back(site: Site, sign_in: SignIn, clock: Clock, desk: ResponseService) -> None:
    mine = await vtn(site, sign_in)
    program = await mine.program(attributes=[{"type": "KANG_RAMP", "values": ["PT1M"]}])
    sent = event(program, clock, priority=2, reportDescriptors=[{"payloadType": "DEMAND"}])
    made = await mine.ask("POST", "/events", sent, 201)
    assert {k: made[k] for k in sent} == sent
    order = desk.of(mine.name, made["id"])
    assert (order["state"], order["version"], order["kind"], order["priority"], order["document"]["kw"], order["document"]["target"], order["document"]["ramp_s"], order["document"]["resources"]) == (
        "published", 1, "order", 2, [120.0], "limit", 60, ["cuihu"])
    assert (order["end_ms"] - order["start_ms"], order["start_ms"]) == (1_800_000, clock() + 120_000)
    assert (made["kang"]["state"], made["kang"]["version"]) == ("published", 1)
    assert await mine.ask("POST", "/events", sent, 201) == made, "the same again is the same event"
    assert (await mine.ask("POST", "/events", {**sent, "priority": 3}, 409))["field"] == "eventName"
    assert desk.events()[1] == 1
    assert await mine.ask("PUT", f"/events/{made['id']}", made) == made, "what was read and sent back changes nothing"
    clock.ms += 1000
    lower = [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [90]}]}]
    changed = await mine.ask("PUT", f"/events/{made['id']}", {**made, "intervals": lower})
    assert (changed["kang"]["version"], changed["kang"]["asked_kw"]) == (2, 90.0)
    assert (await mine.ask("PUT", f"/events/{made['id']}", {**made, "priority": 1}, 409))["code"] == "E-OPENADR-STALE"
    assert [e["id"] for e in await mine.ask("GET", "/events", params={"active": "true", "programID": program, "targets": "cuihu"})] == [made["id"]]
    assert await mine.ask("GET", "/events", params={"targets": "yanqi"}) == []
    desk.happen(order["id"], Happening.CONFIRM)
    assert (await mine.ask("GET", f"/events/{made['id']}"))["kang"]["state"] == "confirmed"
    assert await mine.ask("GET", "/reports") == [], "nothing to report before it begins"
    assert (await mine.ask("DELETE", f"/events/{made['id']}"))["kang"]["state"] == "cancelled"
    await mine.ask("GET", f"/events/{made['id']}", status=404)
    await mine.ask("DELETE", f"/events/{made['id']}", status=404)
    assert await mine.ask("GET", "/events") == []
    assert desk.of(mine.name, made["id"])["state"] == "cancelled", "demand response keeps what was"
    newest = OperationJournal(site.ledger, clock).rows(limit=3)
    assert ("demand_response.dispatch.cancel", "refused", "E-OPENADR-UNKNOWN", mine.name) in [(r["operation"], r["result"], r["code"], r["operator"]) for r in newest]
    assert (await mine.ask("POST", "/events", sent, 201))["id"] != made["id"], "the name is free again"


async def test_what_was_metered_is_reported_with_its_quality(site: Site, sign_in: SignIn, clock: Clock, desk: ResponseService) -> None:
    mine = await vtn(site, sign_in)
    made = await mine.ask("POST", "/events", event(await mine.program(), clock), 201)
    order = desk.of(mine.name, made["id"])
    for step in (Happening.CONFIRM, Happening.START):
        desk.happen(order["id"], step)
    clock.ms += 400_000
    records = Records(site.ledger)
    records.keep_minutes([{"event": order["id"], "at_ms": order["start_ms"] // 60_000 * 60_000 + k * 60_000, "metered_kw": 118.0 + k, "baseline_kw": 200.0, "target_kw": 120.0, "measured": seen, "projects": 2, "short": []} for k, seen in enumerate((2, 1, 0))])
    desk.happen(order["id"], Happening.RECOVER)
    desk.happen(order["id"], Happening.EVALUATE)
    basis = {"baseline": "realtime_15_min", "delivered_kwh": 39.5, "committed_kwh": 40.0, "ratio": 0.99, "gaps": 1}
    records.keep_statements(order["id"], [{"project_id": site.projects["cuihu"], "lines": {"owner": {"energy": 0}}, "basis": basis}], clock())
    report = (await mine.ask("GET", "/reports", params={"eventID": made["id"]}))[0]
    whole, part = report["resources"]
    told = [{p["type"]: p["values"][0] for p in interval["payloads"]} for interval in whole["intervals"]]
    assert [(t.get("DEMAND"), t["BASELINE"], t["KANG_TARGET"], t["DATA_QUALITY"]) for t in told] == [(118.0, 200.0, 120.0, "OK"), (119.0, 200.0, 120.0, "ESTIMATED"), (None, 200.0, 120.0, "MISSING")]
    assert (part["resourceName"], {p["type"]: p["values"][0] for p in part["intervals"][0]["payloads"]}["DELTA_USAGE"]) == ("cuihu", -39.5)
    assert await mine.ask("GET", f"/reports/{report['id']}") == report
    assert (await mine.ask("DELETE", f"/events/{made['id']}", status=409))["code"] == "E-DR-STATE", "what was delivered is settled, not undone"
    other = await vtn(site, sign_in, "other")
    assert await other.ask("GET", "/reports") == []
    await other.ask("GET", f"/reports/{report['id']}", status=404)
    # -- a report that is handed in stands beside it
    sent = {"eventID": made["id"], "clientName": "sub-aggregator", "resources": [{"resourceName": "AGGREGATED_REPORT", "intervals": [{"id": 0, "payloads": [{"type": "USAGE", "values": [1.5]}]}]}]}
    given = await mine.ask("POST", "/reports", sent, 201)
    assert await mine.ask("POST", "/reports", sent, 201) == given
    assert [r["clientName"] for r in await mine.ask("GET", "/reports")] == ["kang", "sub-aggregator"]
    assert (await mine.ask("PUT", f"/reports/{given['id']}", {**given, "reportName": "b"}))["reportName"] == "b"
    assert (await mine.ask("PUT", f"/reports/{given['id']}", {**given, "reportName": "c"}, 409))["code"] == "E-OPENADR-STALE"
    for change, field in (({"eventID": "event-x"}, "eventID"), ({"clientName": "kang"}, "clientName")):
        assert (await mine.ask("POST", "/reports", {**sent, **change}, 400))["field"] == field
    await other.ask("PUT", f"/reports/{given['id']}", sent, 400)
    await mine.ask("PUT", f"/reports/{report['id']}", sent, 404)
    await other.ask("DELETE", f"/reports/{given['id']}", status=404)
    await mine.ask("DELETE", f"/reports/{given['id']}")
    await mine.ask("GET", f"/reports/{given['id']}", status=404)


async def test_resources_in_scope_are_told_and_what_is_not_offered_says_so(site: Site, sign_in: SignIn, desk: ResponseService) -> None:
    mine = await vtn(site, sign_in)
    found = await mine.ask("GET", "/resources")
    assert [r["resourceName"] for r in found] == ["cuihu"]
    values = {a["type"]: a["values"] for a in found[0]["attributes"]}
    assert (values["KANG_ORDER_KW"], values["KANG_DOWN_KW"][0]) == ([200.0], {"x": 900.0, "y": 140.0}), "an order may cut all of it, the market 70 % for a quarter of an hour"
    assert await mine.ask("GET", "/resources/cuihu") == found[0]
    await mine.ask("GET", "/resources/yanqi", status=404)
    assert (await mine.ask("GET", "/vens"))[0] == await mine.ask("GET", "/vens/kang")
    await mine.ask("GET", "/vens/other", status=404)
    for method, path in (("GET", "/subscriptions"), ("GET", "/subscriptions/x"), ("POST", "/subscriptions"), ("DELETE", "/subscriptions/x"), ("POST", "/vens"), ("PUT", "/vens/x"), ("POST", "/resources"), ("PUT", "/resources/x"), ("DELETE", "/vens/x"), ("PUT", "/subscriptions/x")):
        assert (await mine.ask(method, path, None if method in ("GET", "DELETE") else {}, 501))["code"] == "E-OPENADR-NOT-OFFERED"
    assert await mine.ask("GET", "/notifiers") == {"WEBHOOK": False}


async def test_a_bad_event_names_its_field_is_recorded_and_leaves_nothing(site: Site, sign_in: SignIn, clock: Clock, desk: ResponseService) -> None:
    mine = await vtn(site, sign_in)
    program, market = await mine.program(), await mine.program("market", "market")
    now = clock()

    def period(start: str, duration: str = "PT30M") -> dict[str, Any]:
        return {"intervalPeriod": {"start": start, "duration": duration}}

    def payload(kind: str, *values: Any) -> dict[str, Any]:
        return {"intervals": [{"id": 0, "payloads": [{"type": kind, "values": list(values)}]}]}

    ahead = stamp(now + 120_000)
    for change, field in (
            (period(stamp(now - 3_600_000)), "intervalPeriod.start"), (period(ahead, "-PT30M"), "intervalPeriod.duration"), (period(ahead, "PT0S"), "intervalPeriod.duration"), (period(ahead, "P9999Y"), "intervalPeriod.duration"),
            (period(ahead, "P3D"), "intervalPeriod.duration"), (period("2026-11-25T20:00:00"), "intervalPeriod.start"), (period(stamp(now + 20 * 86_400_000)), "intervalPeriod.start"), ({"intervalPeriod": {"duration": "PT30M"}}, "intervalPeriod.start"),
            ({"targets": ["nowhere"]}, "targets.0"), ({"targets": ["cuihu", "yanqi"]}, "targets.1"), ({"targets": []}, "targets"), ({"intervals": []}, "intervals"), ({"priority": 10}, "priority"), ({"programID": "program-x"}, "programID"),
            (payload("IMPORT_CAPACITY_LIMIT", -1), "intervals.0.payloads.0.values.0"), (payload("IMPORT_CAPACITY_LIMIT"), "intervals.0.payloads.0.values"), (payload("SIMPLE", 4), "intervals.0.payloads.0.values.0"), (payload("SIMPLE", 1.5), "intervals.0.payloads.0.values.0"),
            (payload("DISPATCH_SETPOINT_RELATIVE", 5.0), "intervals.0.payloads.0.values.0"), (payload("DISPATCH_SETPOINT_RELATIVE", -500.0), "intervals"), (payload("CHARGE_STATE_SETPOINT", 1.0), "intervals.0.payloads.0.type"),
            (payload("ALERT_GRID_EMERGENCY", "now"), "intervals.0.payloads.0.type"), (payload("PRICE", 1.0), "intervals.0.payloads.0.type"), (payload("IMPORT_CAPACITY_LIMIT", {"x": 1, "y": "a"}), "intervals.0.payloads.0.values.0"),
            ({"payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KVA"}]}, "intervals.0.payloads.0.type"), ({"reportDescriptors": [{"payloadType": "USAGE_FORECAST"}]}, "reportDescriptors.0.payloadType"),
            ({"intervalPeriod": {"start": ahead, "duration": "PT30M", "randomizeStart": "PT5M"}}, "intervalPeriod.randomizeStart"), ({"colour": "red"}, "colour"), ({"duration": "PT45M"}, "duration"),
            ({"programID": market}, "targets.0")):
        answer = await mine.ask("POST", "/events", {**event(program, clock), **change}, 400)
        assert answer["field"] == field, (change, answer)
        newest = OperationJournal(site.ledger, clock).rows(limit=1)[0]
        assert (newest["operation"], newest["result"], newest["code"]) == ("demand_response.dispatch.submit", "refused", answer["code"])
    raw = str(event(program, clock, value=0)).replace("'", '"')
    for number in ("NaN", "Infinity", "1e999"):
        answer = await mine.ask("POST", "/events", raw.replace('"values": [0]', f'"values": [{number}]').encode(), 400)
        assert "intervals.0.payloads.0.values.0" in answer["field"]
    assert desk.events()[1] == 0
    assert await mine.ask("GET", "/events") == []
    assert math.isfinite((await mine.ask("POST", "/events", event(program, clock), 201))["kang"]["asked_kw"])


async def test_a_market_event_carries_its_price_and_gate(site: Site, sign_in: SignIn, clock: Clock, desk: ResponseService) -> None:
    desk.change_strategy(site.projects["cuihu"], {"participates": True, "depth": 1.0}, "Li")
    mine = await vtn(site, sign_in)
    program = await mine.program("market", "invited", attributes=[{"type": "KANG_GATE", "values": ["PT1M"]}, {"type": "KANG_PENALTY_PRICE", "values": [0.25]}])
    price = [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}, {"type": "PRICE", "values": [1.234567]}]}]
    made = await mine.ask("POST", "/events", event(program, clock, intervals=price, intervalPeriod={"start": stamp(clock() + 120_000), "duration": "PT15M"}), 201)
    order = desk.of(mine.name, made["id"])
    assert (order["kind"], order["bid_until_ms"], order["document"]["micro_kwh"], order["document"]["micro_penalty_kwh"]) == ("market", clock() + 60_000, 1_234_567, 250_000)
    assert order["document"]["kw"] == [pytest.approx(200.0 * 2 / 3, abs=0.001)], "level 2 of 3 is two thirds of what is published"
    desk.happen(order["id"], Happening.INVITE)
    desk.bid(order["id"], 40.0, 900_000, "Li")
    assert (await mine.ask("GET", f"/events/{made['id']}"))["kang"]["bid"]["kw"] == 40.0


async def test_the_same_event_sent_many_times_at_once_is_one_event(site: Site, sign_in: SignIn, clock: Clock, desk: ResponseService) -> None:
    mine = await vtn(site, sign_in)
    sent = event(await mine.program(), clock)
    made = await asyncio.gather(*(mine.ask("POST", "/events", sent, 201) for _ in range(8)))
    assert {e["id"] for e in made} == {made[0]["id"]}
    assert desk.events()[1] == 1
