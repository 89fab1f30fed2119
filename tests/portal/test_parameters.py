"""A query is answered as it was asked, or refused: no parameter is passed over, no unknown value gives an empty list that looks like an answer."""

from __future__ import annotations

import pytest

from cloud.functions.system.journal import OperationJournal
from cloud.functions.tables_out import local_time
from cloud.ledger import Ledger
from cloud.portal.app import ROUTERS, operation_table
from cloud.security.guard import check_routes
from tests.portal.conftest import Clock, SignIn
from tests.portal.test_operations import _fill
from tests.support.site import Site, build

ROUTES = check_routes(ROUTERS, operation_table())
CLOSED = sorted(r for r, name in ROUTES.items() if not operation_table()[name].open)


@pytest.mark.parametrize("role", ["engineer", "audit_admin", "system_admin", "security_admin", "resident"])
async def test_no_operation_passes_over_a_parameter_it_does_not_know(site: Site, sign_in: SignIn, role: str) -> None:
    client, asked = await sign_in(role), 0
    for route in CLOSED:
        row = operation_table()[ROUTES[route]]
        if role not in row.roles or (row.scope == "platform" and role == "resident"):
            continue
        method, path, body, query = _fill(site, route)
        answer = await client.request(method, path.lstrip("/"), json=body if method in ("POST", "PUT", "PATCH") else None, params={**query, "stat": "open"}, headers={"Idempotency-Key": "unknown-parameter"})
        asked += 1
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400 if "/openadr3/" in route else 422, "E-PARAMETER", "stat"), route
    assert asked >= 8


async def test_the_refusal_names_the_parameter_and_those_there_are(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    answer = (await client.get("command-batches", params={"stat": "open", "state": "running"})).json()
    assert answer["field"] == "stat"
    assert "'stat'" in answer["en"] and "kind, limit, offset, project_id, sort, state, text" in answer["en"]
    assert "“stat”" in answer["zh"] and "project_id" in answer["zh"]
    assert "none" in (await client.get("overview", params={"x": "1"})).json()["en"]


async def test_a_change_with_an_unknown_parameter_is_not_made_and_stands_in_the_log(site: Site, sign_in: SignIn) -> None:
    client = await sign_in("operator")
    answer = await client.post("commands/emergency-stop", json={"device_id": site.device("cuihu", "EB1")}, params={"dry_run": "1"}, headers={"Idempotency-Key": "not-a-dry-run"})
    assert answer.json()["code"] == "E-PARAMETER"
    assert await site.commands.list() == []
    newest = OperationJournal(site.ledger).rows(limit=1)[0]
    assert (newest["operation"], newest["result"], newest["code"]) == ("remote_control.emergency.stop", "refused", "E-PARAMETER")


async def test_who_is_not_signed_in_learns_nothing_of_parameters(site: Site, sign_in: SignIn) -> None:
    assert (await (await sign_in("")).get("command-batches", params={"stat": "open"})).json()["code"] == "E-SESSION"


async def test_open_operations_take_what_others_standards_add(site: Site, sign_in: SignIn) -> None:
    answer = await (await sign_in("")).get("session/provider/back", params={"state": "s", "code": "c", "iss": "https://id.example", "session_state": "x"})
    assert answer.json().get("code") != "E-PARAMETER" if answer.headers["content-type"].startswith("application/problem") else answer.status_code < 400


@pytest.mark.parametrize(("role", "path", "query"), [
    ("operator", "command-batches", {"state": "open"}), ("operator", "command-batches", {"kind": "holds"}), ("operator", "command-batches/export", {"state": "open"}),
    ("auditor", "audit", {"result": "ok"}), ("auditor", "audit", {"channel": "web"}), ("auditor", "audit", {"level": "critical"}), ("auditor", "audit/export.csv", {"level": "critical"}),
    ("auditor", "network", {"day": "2026-11-24", "kind": "connects"}), ("operator", "demand-response/events", {"state": "open"}), ("operator", "demand-response/events", {"state": "active,"}),
    ("system_admin", "people", {"state": "open"}), ("operator", "parameters", {"drift": "some"})])
async def test_an_unknown_value_of_a_filter_is_refused(site: Site, sign_in: SignIn, role: str, path: str, query: dict[str, str]) -> None:
    answer = await (await sign_in(role)).get(path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, "E-INPUT")
    assert list(query)[-1] in answer.json()["en"]


async def test_known_values_of_filters_are_taken(site: Site, sign_in: SignIn) -> None:
    operator, auditor = await sign_in("operator"), await sign_in("auditor")
    for client, path, query in ((operator, "command-batches", {"state": "pending", "kind": "restore"}), (operator, "command-batches", {"state": ""}), (operator, "demand-response/events", {"state": "active,settled"}),
                                (operator, "demand-response/events", {"state": ""}), (auditor, "audit", {"result": "begun", "channel": "cli", "level": "alarm"}), (auditor, "network", {"day": "2026-11-24", "kind": "auth"})):
        assert (await client.get(path, params=query)).status_code == 200, path


@pytest.mark.parametrize("secure", [False, True])
def test_the_description_names_the_cookies_there_are(ledger: Ledger, clock: Clock, secure: bool) -> None:
    app = build(ledger, now=clock, secure=secure).app
    described, gate = app.state.description, app.state.gate
    schemes = described["components"]["securitySchemes"]
    assert (schemes["session"]["name"], schemes["home"]["name"]) == (gate.cookie, gate.resident_cookie)
    homes = {(method, path) for path, methods in described["paths"].items() for method, entry in methods.items() if {"home": []} in entry["security"]}
    assert ("get", "/api/v1/projects/{project_id}/latest") in homes
    assert ("get", "/api/v1/audit") not in homes


@pytest.mark.parametrize(("role", "path", "body"), [
    ("system_admin", "people", {"name": "late", "display_name": "Late"}), ("security_admin", "interfaces/clients", {"name": "late", "operations": ["devices.project.read"]})])
async def test_a_moment_no_calendar_can_name_is_refused(site: Site, sign_in: SignIn, role: str, path: str, body: dict[str, object]) -> None:
    client = await sign_in(role)
    answer = await client.post(path, json={**body, "expires_ms": 1 << 62})
    assert (answer.status_code, answer.json()["code"]) == (422, "E-INPUT")
    assert "expires_ms" in answer.json()["en"]


def test_a_table_tells_any_kept_moment() -> None:
    assert local_time(253_370_764_799_999, "Asia/Shanghai").startswith("9999-01-01")
    assert local_time(1 << 62, "Asia/Shanghai") == str(1 << 62)
    assert local_time(None, "Asia/Shanghai") == ""


async def test_a_condition_nobody_knows_is_refused(sign_in: SignIn) -> None:
    client = await sign_in("operator")
    assert (await client.get("devices", params={"condition": "bogus"})).json()["code"] == "E-INPUT"
    assert (await client.get("devices", params={"condition": "offline,locked"})).status_code == 200
