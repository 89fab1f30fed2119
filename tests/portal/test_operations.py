"""The operation table is exhaustive: every route has a row, and every role gets exactly what its row says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter

from cloud.functions.system.journal import OperationJournal
from cloud.portal.app import ROUTERS, operation_table
from cloud.security.guard import check_routes, operation, router
from cloud.security.operations import Operation, OperationTable, OperationTableError, Role
from tests.portal.conftest import Clock, SignIn
from tests.support.site import Site

ROUTES = check_routes(ROUTERS, operation_table())
OPEN_STREAM = "GET /live"


OPEN = {r for r, name in ROUTES.items() if operation_table()[name].open}
ENDS = {"DELETE /session", OPEN_STREAM}


def _fill(site: Site, route: str, project: str = "cuihu", room: str = "H0101") -> tuple[str, str, dict[str, Any], dict[str, str]]:
    """A request that passes the guard's and the shape's checks on `route`, and then may or may not find something."""
    method, _, path = route.partition(" ")
    cuihu = site.projects[project]
    device = site.device(project, room)
    names = dict.fromkeys(re.findall(r"{(\w+)", path), "none") | {"project_id": cuihu, "device_id": device, "point_id": 135}
    names |= {name: "0" * 32 if name == "session_id" else 999_999 for name in names if name.endswith(("person_id", "organisation_id", "grant_id", "session_id", "event", "statement"))}
    path = re.sub(r"{(\w+)(:\w+)?}", lambda m: str(names[m[1]]), path)
    bodies: dict[str, dict[str, Any]] = {
        "/commands": {"device_id": device, "kind": "hold", "point_id": 135, "value": 20}, "/commands/preview": {"device_id": device, "kind": "hold", "point_id": 135, "value": 20},
        "/commands/none/resolve": {"verified": True, "reason": "seen"}, "/commands/emergency-stop": {"device_id": device}, "/commands/restore-heat": {"device_id": device}, "/commands/remove-tag": {"device_id": device, "holder": "x", "locked_ms": 1, "reason": "matrix"},
        **{at: {"device_ids": [device], "kind": "hold", "point_id": 135, "value": 20.0, "reason": "matrix"} for at in ("/command-batches", "/command-batches/preview")}, "/command-batches/none/restore": {"reason": "matrix"},
        "/session": {"code": "wrong"}, f"/projects/{cuihu}/economic": {"version": 0}, f"/projects/{cuihu}/demand-response": {"version": 0}, f"/projects/{cuihu}/demand-response/offers/999999": {"choice": "join"},
        "/demand-response/events/999999/bid": {"kw": 1.0, "micro_kwh": 0}, "/dispatch/events": {"event_id": "x", "version": 1, "kind": "order", "start_ms": 0, "end_ms": 0, "kw": 1.0},
        "/dispatch/events/none/clear": {"kw": 0.0, "micro_kwh": 0}, "/dispatch/events/none/setpoint": {"kw": 0.0},
        **{f"/openadr3/3.1.0/programs{at}": {"programName": "matrix"} for at in ("", "/none")}, **{f"/openadr3/3.1.0/events{at}": {"programID": "none"} for at in ("", "/none")},
        **{f"/openadr3/3.1.0/reports{at}": {"eventID": "none", "clientName": "matrix", "resources": []} for at in ("", "/none")}}
    query = {"/overview/power": {"start_ms": "0", "end_ms": "3600000"}, f"/projects/{cuihu}/history": {"series": f"{device}:135", "start_ms": "0", "end_ms": "3600000"}}.get(path, {})
    return method, path, bodies.get(path, {}), query


def expected(row: Operation, role: Role, *, bounded: bool, fresh: bool) -> str:
    """What the table says of a call: the code of the refusal, "" when the guard lets it through."""
    if not row.grants(frozenset({role})):
        return "E-FORBIDDEN"
    if row.scope == "platform" and (bounded or role is Role.RESIDENT):
        return "E-SCOPE"
    if row.factor_s is not None and not fresh and role is not Role.RESIDENT:
        return "E-FACTOR-AGE"
    return ""


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "stale"])
@pytest.mark.parametrize("bounded", [False, True], ids=["platform", "bounded"])
@pytest.mark.parametrize("role", list(Role))
async def test_every_role_may_do_exactly_what_the_table_says(site: Site, sign_in: SignIn, clock: Clock, role: Role, bounded: bool, fresh: bool) -> None:
    """Every route, in and out of the platform's scope, with a fresh and a stale proof: no surprises."""
    name = str(role)
    if bounded and role is not Role.RESIDENT:
        site.sessions.register_user("bounded", "bounded", [role], project_ids=[site.projects["yanqi"]])
        name = "bounded"
    client = await sign_in(name)
    clock.ms += 0 if fresh else 301_000
    surprises = []
    for route in sorted(r for r in ROUTES if r not in OPEN | ENDS):
        row = operation_table()[ROUTES[route]]
        method, path, body, query = _fill(site, route)
        answer = await client.request(method, path.lstrip("/"), json=body if method in ("POST", "PUT", "PATCH") else None, params=query, headers={"Idempotency-Key": "matrix-of-roles"})
        code = answer.json().get("code", "") if answer.headers["content-type"].startswith("application/problem") else ""
        wanted, guard = expected(row, role, bounded=bounded, fresh=fresh), code if code in ("E-FORBIDDEN", "E-SCOPE", "E-FACTOR-AGE", "E-SESSION", "E-CSRF") else ""
        reached = bounded and role is not Role.RESIDENT and "{project_id}" in route and not guard and answer.status_code < 300
        if guard != wanted or (answer.status_code >= 500 and code != "E-OPENADR-NOT-OFFERED") or reached:
            surprises.append(f"{route}: {answer.status_code} {code or 'served'}, the table says {wanted or 'served'}")
    assert surprises == []


@pytest.mark.parametrize("name", ["bounded", "resident"])
async def test_what_is_out_of_scope_does_not_exist(site: Site, sign_in: SignIn, name: str) -> None:
    """Every route that names a project or a device, asked for one that is not the asker's."""
    site.sessions.register_user("bounded", "bounded", [Role.ENGINEER], project_ids=[site.projects["cuihu"]])
    client = await sign_in(name)
    asked = 0
    for route in sorted(ROUTES):
        row = operation_table()[ROUTES[route]]
        method, path, body, query = _fill(site, route, "yanqi", "HP1")
        if ("{project_id}" not in route and "{device_id}" not in route and not (method == "POST" and "device_id" in body)) or row.scope == "platform":
            continue
        answer = await client.request(method, path.lstrip("/"), json=body if method in ("POST", "PUT", "PATCH") else None, params=query, headers={"Idempotency-Key": "out-of-scope"})
        asked += 1
        wanted = (403, "E-FORBIDDEN") if name == "resident" and Role.RESIDENT not in row.roles else (404, "E-NOT-FOUND")
        assert (answer.status_code, answer.json().get("code")) == wanted, route
    assert asked >= 8


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if r not in OPEN))
async def test_nobody_gets_anything_without_a_session(site: Site, sign_in: SignIn, route: str) -> None:
    client = await sign_in("")
    method, path, body, query = _fill(site, route)
    answer = await client.request(method, path.lstrip("/"), json=body if method in ("POST", "PUT", "PATCH") else None, params=query, headers={"Idempotency-Key": "nobody-1"})
    assert (answer.status_code, answer.json()["code"]) == (401, "E-SESSION")


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if operation_table()[ROUTES[r]].changes and r not in OPEN))
async def test_a_change_without_the_sessions_token_is_refused_and_recorded(site: Site, sign_in: SignIn, route: str) -> None:
    row = operation_table()[ROUTES[route]]
    name = str(next(r for r in Role if r in row.roles and r is not Role.RESIDENT))
    client = await sign_in(name)
    del client.headers["X-Kang-CSRF"]
    method, path, body, query = _fill(site, route)
    answer = await client.request(method, path.lstrip("/"), json=body if method in ("POST", "PUT", "PATCH") else None, params=query, headers={"Idempotency-Key": "no-token"})
    assert (answer.status_code, answer.json()["code"]) == (403, "E-CSRF")
    newest = OperationJournal(site.ledger).rows(limit=1)[0]
    assert (newest["operation"], newest["result"], newest["code"], newest["operator"]) == (ROUTES[route], "refused", "E-CSRF", name)


def test_a_route_without_a_row_cannot_start() -> None:
    extra = router()

    @extra.get("/secret")
    async def secret(who: Annotated[Any, operation("monitoring.secret.read")]) -> str:
        return str(who)

    with pytest.raises(OperationTableError, match=r"monitoring\.secret\.read"):
        check_routes([extra], operation_table())


def test_an_unguarded_route_cannot_start() -> None:
    plain = APIRouter()

    @plain.get("/open")
    async def free() -> str:
        return "free"

    with pytest.raises(OperationTableError, match="not guarded"):
        check_routes([plain], operation_table())


def test_a_changing_method_needs_a_row_that_changes() -> None:
    extra = router()

    @extra.post("/alarms/clear")
    async def clear(who: Annotated[Any, operation("monitoring.alarms.read")]) -> str:
        return str(who)

    with pytest.raises(OperationTableError, match="changes something"):
        check_routes([extra], operation_table())


@pytest.mark.parametrize("row", [
    Operation("Upper.case", "x", "x", frozenset(Role)), Operation("a.b", "x", "x", frozenset()), Operation("a.b", "x", "x", frozenset(Role), label="odd"),
    Operation("a.b", "x", "x", frozenset(Role), scope="galaxy"), Operation("a.b", "x", "x", frozenset(Role), priority=4), Operation("a.b", "x", "x", frozenset({Role.OPERATOR}), two_person=True),
    Operation("a.b", "x", "x", frozenset({Role.OPERATOR}), changes=True, label="control"), Operation("a.b", "x", "x", frozenset({Role.OPERATOR}), changes=True, safety=True),
    Operation("a.b", "x", "x", frozenset({Role.RESIDENT}), scope="platform"), Operation("a.b", "x", "x", frozenset({Role.OPERATOR}), open=True),
    Operation("a.b", "x", "x", frozenset({Role.OPERATOR}), factor_s=5)])
def test_a_malformed_row_cannot_start(row: Operation) -> None:
    with pytest.raises(OperationTableError):
        OperationTable([row])


def test_whatever_writes_to_the_log_has_words_in_the_table() -> None:
    known = {row.name for row in operation_table()}
    written = {name for file in Path("cloud").rglob("*.py") for name in re.findall(r'audit\.record\(\s*\w+,\s*"([a-z_.]+)"', file.read_text())}
    assert len(written) > 15
    assert written <= known


def test_every_row_is_used_by_a_route_or_named_here() -> None:
    unused = {row.name for row in operation_table()} - set(ROUTES.values())
    assert unused == {"system.metrics.read", "system.audit.cut", "system.network.cut", "system.approval.withdraw", "system.attack.clear", "demand_response.event.settle",
                      *(f"devices.{what}.register" for what in ("region", "project", "agent", "template", "device"))}  # jobs and the command line
