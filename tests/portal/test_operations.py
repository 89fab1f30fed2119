"""The operation table is exhaustive: every route has a row, and every role gets exactly what its row says."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import APIRouter

from cloud.functions.system.journal import OperationJournal
from cloud.portal.app import ROUTERS, operation_table
from cloud.security.guard import check_routes, operation, router
from cloud.security.operations import Operation, OperationTable, OperationTableError, Role
from tests.portal.conftest import SignIn
from tests.support.site import Site

ROUTES = check_routes(ROUTERS, operation_table())
OPEN_STREAM = "GET /live"


def _fill(site: Site, route: str) -> tuple[str, str, dict[str, Any], dict[str, str]]:
    """A request that passes the guard's and the shape's checks on `route`, and then may or may not find something."""
    method, _, path = route.partition(" ")
    cuihu = site.projects["cuihu"]
    room = site.device("cuihu", "H0101")
    path = path.format(project_id=cuihu, device_id=room, quarantine_id="none", stream_id="none", command_id="none")
    bodies: dict[str, dict[str, Any]] = {
        "/commands": {"device_id": room, "kind": "hold", "point_id": 135, "value": 20}, "/commands/preview": {"device_id": room, "kind": "hold", "point_id": 135, "value": 20},
        "/commands/none/resolve": {"verified": True, "reason": "seen"}, "/commands/emergency-stop": {"device_id": room}, "/commands/restore-heat": {"device_id": room},
        "/session": {"code": "wrong"}}
    query = {"/overview/power": {"start_ms": "0", "end_ms": "3600000"}, f"/projects/{cuihu}/history": {"series": f"{room}:135", "start_ms": "0", "end_ms": "3600000"}}.get(path, {})
    return method, path, bodies.get(path, {}) if method in ("POST", "DELETE") else {}, query


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if r not in (OPEN_STREAM, "DELETE /session", "POST /session")))
async def test_every_role_may_do_exactly_what_its_row_says(site: Site, sign_in: SignIn, route: str) -> None:
    row = operation_table()[ROUTES[route]]
    for role in Role:
        client = await sign_in(str(role))
        method, path, body, query = _fill(site, route)
        headers = {"Idempotency-Key": f"matrix-{role}"} if method == "POST" else {}
        answer = await client.request(method, path.lstrip("/"), json=body if method == "POST" else None, params=query, headers=headers)
        allowed = answer.status_code != 403
        assert allowed == (role in row.roles), f"{role} {route}: {answer.status_code} {answer.text[:200]}"
        if not allowed:
            assert answer.json()["code"] == "E-FORBIDDEN"
        assert answer.status_code < 500


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if r != "POST /session"))
async def test_nobody_gets_anything_without_a_session(site: Site, sign_in: SignIn, route: str) -> None:
    client = await sign_in("")
    method, path, body, query = _fill(site, route)
    answer = await client.request(method, path.lstrip("/"), json=body if method == "POST" else None, params=query, headers={"Idempotency-Key": "nobody-1"})
    assert (answer.status_code, answer.json()["code"]) == (401, "E-SESSION")


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if operation_table()[ROUTES[r]].changes and r != "POST /session"))
async def test_a_change_without_the_sessions_token_is_refused_and_recorded(site: Site, sign_in: SignIn, route: str) -> None:
    client = await sign_in("engineer")
    del client.headers["X-Kang-CSRF"]
    method, path, body, query = _fill(site, route)
    answer = await client.request(method, path.lstrip("/"), json=body if method == "POST" else None, params=query, headers={"Idempotency-Key": "no-token"})
    assert (answer.status_code, answer.json()["code"]) == (403, "E-CSRF")
    newest = OperationJournal(site.ledger).rows(limit=1)[0]
    assert (newest["operation"], newest["result"], newest["code"], newest["operator"]) == (ROUTES[route], "refused", "E-CSRF", "engineer")


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
    Operation("Upper.case", "x", "x", frozenset(Role)), Operation("a.b", "x", "x", frozenset()), Operation("a.b", "x", "x", frozenset(Role), label="odd")])
def test_a_malformed_row_cannot_start(row: Operation) -> None:
    with pytest.raises(OperationTableError):
        OperationTable([row])


def test_every_row_is_used_by_a_route_or_named_here() -> None:
    unused = {row.name for row in operation_table()} - set(ROUTES.values())
    assert unused == {"system.metrics.read"}
