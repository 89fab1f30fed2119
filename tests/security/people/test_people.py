"""Accounts, roles and second persons under attack: nobody climbs, nobody decides about themselves, contracts end to the millisecond."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from cloud.functions.system.accounts import Access
from cloud.functions.system.errors import PersonError, UserError
from cloud.functions.system.people_tables import Account, UserRole
from cloud.security.operations import ADMINS, Principal, Role, kind_of
from tests.portal.conftest import Clock, SignIn
from tests.support.site import Site


def who(site: Site, name: str) -> Principal:
    token, found = site.sessions.redeem(site.sessions.issue_code(name), address="", agent="")
    assert token
    return found


async def make(client: httpx.AsyncClient, name: str = "zhang.wei") -> dict[str, Any]:
    answer = await client.post("people", json={"name": name, "display_name": "张伟"})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_new_account_can_do_nothing_until_the_security_administrator_gives_it_a_role(sign_in: SignIn) -> None:
    system, security = await sign_in("system_admin"), await sign_in("security_admin")
    made = await make(system)
    person = await sign_in("")
    opened = await person.post("session", json={"code": made["code"]})
    assert opened.status_code == 200 and opened.json()["roles"] == []
    assert (await person.get("devices")).json()["code"] == "E-FORBIDDEN"
    assert (await person.get("me/security")).status_code == 200
    granted = await security.put(f"people/{made['id']}/access", json={"roles": ["operator", "engineer"]})
    assert granted.json()["roles"] == ["engineer", "operator"] and granted.json()["granted"][0]["by"] == "security_admin"
    assert (await person.get("devices")).status_code == 200, "the live session takes it up at its next call"


@pytest.mark.parametrize(("name", "method", "path", "body"), [
    ("system_admin", "PUT", "people/{other}/access", {"roles": ["engineer"]}), ("security_admin", "POST", "people", {"name": "mallory", "display_name": "m"}),
    ("audit_admin", "POST", "people/{other}/lock", {"locked": True, "reason": "why not"}), ("engineer", "PUT", "people/{other}/access", {"roles": ["engineer"]}),
    ("operator", "POST", "people/{other}/reset", {}), ("resident", "GET", "people", None), ("security_admin", "POST", "commands/emergency-stop", {"device_id": 1})])
async def test_no_role_does_what_is_anothers(site: Site, sign_in: SignIn, name: str, method: str, path: str, body: dict[str, Any] | None) -> None:
    client = await sign_in(name)
    answer = await client.request(method, path.format(other=who(site, "finance").user_id), json=body, headers={"Idempotency-Key": "climb-climb"})
    assert (answer.status_code, answer.json()["code"]) == (403, "E-FORBIDDEN")


async def test_nobody_grants_locks_or_resets_themselves(site: Site, sign_in: SignIn) -> None:
    security, system = await sign_in("security_admin"), await sign_in("system_admin")
    mine = who(site, "security_admin").user_id
    assert (await security.put(f"people/{mine}/access", json={"roles": ["engineer"]})).json()["code"] == "E-SELF"
    assert (await security.post(f"people/{mine}/lock", json={"locked": True, "reason": "myself"})).json()["code"] == "E-SELF"
    mine = who(site, "system_admin").user_id
    assert (await system.put(f"people/{mine}", json={"display_name": "me", "expires_ms": None})).json()["code"] == "E-SELF"


@pytest.mark.parametrize("roles", [[a, b] for a in sorted(ADMINS) for b in Role if a is not b])
def test_an_administrator_has_no_second_role_by_the_service(site: Site, roles: list[Role]) -> None:
    assert kind_of(roles) == ""
    target = who(site, "finance").user_id
    with pytest.raises((UserError, PersonError)):
        site.app.state.services.people.accounts.grant(target, who(site, "security_admin"), Access(frozenset(roles), None, (1,), None, (1,)))
    with pytest.raises(UserError):
        site.sessions.register_user("finance", "f", roles, project_ids=[1], device_ids=[1])


@pytest.mark.parametrize("kind", ["system_admin", "security_admin", "audit_admin", "business", "none"])
def test_an_administrator_has_no_second_role_by_the_database_whatever_writes(site: Site, kind: str) -> None:
    target = who(site, "system_admin").user_id
    for role in ("security_admin", "audit_admin", "operator", "resident"):
        with pytest.raises(IntegrityError), site.ledger.write() as session:
            session.execute(text("INSERT INTO user_role VALUES (:user, :role, :kind, 'me', 0)"), {"user": target, "role": role, "kind": kind})
    if kind != "system_admin":
        with pytest.raises(IntegrityError), site.ledger.write() as session:
            session.execute(text("UPDATE account SET kind = :kind WHERE user_id = :user"), {"kind": kind, "user": target})


async def test_two_administrators_granting_different_kinds_at_once_leave_one_kind(site: Site) -> None:
    site.sessions.register_user("second", "second", [Role.SECURITY_ADMIN])
    accounts, target = site.app.state.services.people.accounts, who(site, "finance").user_id
    first, second = who(site, "security_admin"), who(site, "second")

    async def give(by: Principal, role: Role) -> None:
        await asyncio.to_thread(accounts.grant, target, by, Access(frozenset({role})))

    for k in range(20):
        await asyncio.gather(give(first, Role.SYSTEM_ADMIN), give(second, (Role.AUDIT_ADMIN, Role.OPERATOR)[k % 2]), return_exceptions=True)
        with site.ledger.read() as session:
            roles = {r.role for r in session.query(UserRole).filter(UserRole.user_id == target)}
            assert len(roles) == 1 and session.get_one(Account, target).kind == kind_of(Role(r) for r in roles)


async def test_the_last_administrator_of_a_kind_stays(site: Site, sign_in: SignIn) -> None:
    system = await sign_in("system_admin")
    target = who(site, "security_admin").user_id
    refused = await system.post(f"people/{target}/lock", json={"locked": True, "reason": "coup"})
    assert (refused.status_code, refused.json()["code"]) == (409, "E-PERSON")
    site.sessions.register_user("second", "second", [Role.SECURITY_ADMIN])
    assert (await system.post(f"people/{target}/lock", json={"locked": True, "reason": "left us"})).status_code == 200


async def test_locking_ends_sessions_and_expiry_ends_an_account_by_itself(site: Site, sign_in: SignIn, clock: Clock) -> None:
    system, person = await sign_in("system_admin"), await sign_in("operator")
    target = who(site, "operator").user_id
    assert (await system.put(f"people/{target}", json={"display_name": "值班员", "expires_ms": clock.ms + 60_000})).status_code == 200
    assert (await person.get("session")).status_code == 200
    clock.ms += 60_000
    assert (await person.get("session")).status_code == 401
    other = await sign_in("engineer")
    target = who(site, "engineer").user_id
    assert (await system.post(f"people/{target}/lock", json={"locked": True, "reason": "left us"})).json()["state"] == "locked"
    assert (await other.get("session")).status_code == 401


async def test_a_reset_needs_the_security_administrator_and_works_once_for_exactly_that(site: Site, sign_in: SignIn, clock: Clock) -> None:
    system, security = await sign_in("system_admin"), await sign_in("security_admin")
    target, other = who(site, "engineer").user_id, who(site, "operator").user_id
    asked = await system.post(f"people/{target}/reset", headers={"X-Kang-Reason": "lost phone"})
    assert asked.status_code == 202
    approval = asked.json()["approval"]["id"]
    assert (await system.post(f"people/{target}/reset")).json()["approval"]["id"] == approval, "asking again waits for the same"
    early = await system.post(f"people/{target}/reset", headers={"X-Kang-Approval": approval})
    assert (early.status_code, early.json()["code"]) == (409, "E-APPROVAL")
    assert (await system.post(f"approvals/{approval}", json={"approve": True})).json()["code"] == "E-SELF"
    assert (await (await sign_in("engineer")).post(f"approvals/{approval}", json={"approve": True})).json()["code"] == "E-FORBIDDEN"
    assert (await security.get("approvals/waiting")).json() == {"waiting": 1}
    decided = await security.post(f"approvals/{approval}", json={"approve": True, "reason": "called him"})
    assert decided.json()["state"] == "approved" and decided.json()["reason"] == "lost phone"
    assert (await system.post(f"people/{other}/reset", headers={"X-Kang-Approval": approval})).json()["code"] == "E-APPROVAL", "approved for another person"
    done = await system.post(f"people/{target}/reset", headers={"X-Kang-Approval": approval})
    assert done.status_code == 200 and done.json()["code"]
    assert (await system.post(f"people/{target}/reset", headers={"X-Kang-Approval": approval})).json()["code"] == "E-APPROVAL"
    assert clock.ms


async def test_an_approval_refused_or_late_is_worth_nothing(site: Site, sign_in: SignIn, clock: Clock) -> None:
    system, security = await sign_in("system_admin"), await sign_in("security_admin")
    target = who(site, "engineer").user_id
    first = (await system.post(f"people/{target}/reset")).json()["approval"]["id"]
    assert (await security.post(f"approvals/{first}", json={"approve": False})).json()["state"] == "refused"
    assert (await security.post(f"approvals/{first}", json={"approve": True})).json()["code"] == "E-APPROVAL"
    clock.ms += 1
    second = (await system.post(f"people/{target}/reset")).json()["approval"]["id"]
    assert second != first
    clock.ms += 1_800_000
    security, system = await sign_in("security_admin"), await sign_in("system_admin")
    assert (await security.post(f"approvals/{second}", json={"approve": True})).json()["code"] == "E-APPROVAL"
    assert (await security.get("approvals")).json()[0]["state"] == "expired"
    with pytest.raises(IntegrityError), site.ledger.write() as session:
        session.execute(text("UPDATE approval SET state = 'approved', decided_by_id = requester_id WHERE id = :id"), {"id": second})


async def provider(site: Site, security: httpx.AsyncClient, system: httpx.AsyncClient, clock: Clock) -> None:
    made = (await system.post("organisations", json={"code": "hengnuan", "name_zh": "恒暖服务", "name_en": "Hengnuan", "kind": "provider"})).json()["id"]
    contract = await security.post(f"organisations/{made}/contracts", json={
        "number": "HT-1", "project_ids": [site.projects["cuihu"]], "starts_ms": clock.ms - 1000, "ends_ms": clock.ms + 200_000})
    assert contract.status_code == 201
    site.sessions.register_user("worker", "王师傅", [Role.ENGINEER], organisation_id=made)


async def test_a_provider_sees_its_contracts_projects_until_the_millisecond_it_ends(site: Site, sign_in: SignIn, clock: Clock) -> None:
    await provider(site, await sign_in("security_admin"), await sign_in("system_admin"), clock)
    worker, principal = await sign_in("worker"), who(site, "worker")
    mine, foreign = site.projects["cuihu"], site.projects["yanqi"]
    assert [p["id"] for p in (await worker.get("projects")).json()] == [mine]
    assert (await worker.get(f"projects/{foreign}")).status_code == 404
    assert (await worker.get(f"devices/{site.device('yanqi', 'HP1')}")).status_code == 404
    assert (await worker.get("log")).json()["code"] == "E-SCOPE"
    clock.ms += 199_999
    assert (await worker.get(f"projects/{mine}")).status_code == 200 and principal.sees_project(mine)
    clock.ms += 1
    assert not principal.sees_project(mine), "also for whoever still holds the principal, such as an open stream"
    assert (await worker.get(f"projects/{mine}")).status_code == 404
    assert (await worker.get("projects")).json() == []
    command = {"device_id": site.device("cuihu", "H0101"), "kind": "hold", "point_id": 135, "value": 20}
    assert (await worker.post("commands", json=command, headers={"Idempotency-Key": "after-the-end"})).status_code == 404


async def test_a_region_bounds_what_is_seen_and_the_regions_below_are_in_it(site: Site) -> None:
    principal = who(site, "engineer")
    parents = {"bj": {"bj"}, "sub": {"sub", "bj"}}
    here = dataclasses.replace(principal, region_codes=frozenset({"bj"}), regions_of=lambda p: frozenset(parents["sub"] if p == 2 else {"sx"} if p == 3 else parents["bj"]))
    assert [here.sees_project(p) for p in (1, 2, 3)] == [True, True, False] and here.bounded
    region = site.directory.project(site.projects["cuihu"])
    assert region is not None
    site.sessions.register_user("regional", "r", [Role.OPERATOR], region_codes=[region.region])
    seen = {p.id for p in site.directory.projects() if who(site, "regional").sees_project(p.id)}
    assert seen == {p.id for p in site.directory.projects() if p.region == region.region} and seen


async def test_the_realms_of_staff_and_residents_do_not_mix(site: Site, sign_in: SignIn) -> None:
    resident, staff = await sign_in("resident"), await sign_in("operator")
    home, office = resident.cookies["kang_home"], staff.cookies["kang_session"]
    assert "kang_session" not in resident.cookies and "kang_home" not in staff.cookies
    swapped = await sign_in("")
    swapped.cookies.set("kang_session", home, domain="portal.test")
    assert (await swapped.get("session")).status_code == 401
    swapped = await sign_in("")
    swapped.cookies.set("kang_home", office, domain="portal.test")
    assert (await swapped.get("session")).status_code == 401
    for path in ("overview", "commands", "agents", "people", "approvals", "emergencies"):
        assert (await resident.get(path)).json()["code"] == "E-FORBIDDEN", path
    assert (await resident.get(f"devices/{site.device('cuihu', 'EB1')}")).status_code == 404


async def test_an_emergency_grant_opens_a_role_loudly_ends_by_itself_and_is_reviewed_by_another(site: Site, sign_in: SignIn, clock: Clock) -> None:
    operator, audit = await sign_in("operator"), await sign_in("audit_admin")
    assert (await operator.post("quarantine/none/release", json={})).json()["code"] == "E-FORBIDDEN"
    taken = await operator.post("emergencies", json={"role": "engineer", "seconds": 240, "reason": "engineer cannot be reached"})
    assert taken.status_code == 201
    row = site.journal.rows(operation="system.emergency.take", limit=1)[0]
    assert (row["level"], row["operator"]) == ("alarm", "operator") and "engineer cannot be reached" in row["target"]
    assert (await operator.post("quarantine/none/release", json={})).json()["code"] != "E-FORBIDDEN"
    assert (await audit.post(f"emergencies/{taken.json()['id']}/review", json={"text": "too early"})).json()["code"] == "E-EMERGENCY"
    clock.ms += 240_000
    assert (await operator.post("quarantine/none/release", json={})).json()["code"] == "E-FORBIDDEN"
    assert (await audit.post(f"emergencies/{taken.json()['id']}/review", json={"text": "justified"})).status_code == 204
    assert (await operator.get("emergencies")).json()[0]["review"] == "justified"
    assert (await operator.post("emergencies", json={"role": "engineer", "seconds": 20_000, "reason": "for the night"})).status_code == 422
    assert (await (await sign_in("finance")).post("emergencies", json={"role": "engineer", "reason": "curious me"})).json()["code"] == "E-FORBIDDEN"


async def test_the_security_administrator_ends_a_session_and_a_person_their_own_only(site: Site, sign_in: SignIn) -> None:
    security, operator, engineer = await sign_in("security_admin"), await sign_in("operator"), await sign_in("engineer")
    rows = (await security.get("sessions")).json()
    theirs = next(r for r in rows if r["name"] == "engineer")["id"]
    assert (await operator.delete(f"me/sessions/{theirs}")).status_code == 404
    assert (await security.delete(f"sessions/{theirs}")).status_code == 204
    assert (await engineer.get("session")).status_code == 401 and (await operator.get("session")).status_code == 200


async def test_the_list_filters_sorts_pages_and_exports_what_it_shows(site: Site, sign_in: SignIn) -> None:
    system = await sign_in("system_admin")
    for k in range(5):
        await make(system, f"worker-{k}")
    page = (await system.get("people", params={"q": "worker", "state": "no_role", "sort": "name", "descending": "true", "limit": "2", "offset": "1"})).json()
    assert (page["total"], [r["name"] for r in page["rows"]]) == (5, ["worker-3", "worker-2"])
    assert (await system.get("people", params={"role": "resident"})).json()["total"] == 1
    table = await system.get("people.csv", params={"q": "worker"})
    assert table.text.count("\n") == 6 and site.journal.rows(operation="system.person.export", limit=1)[0]["operator"] == "system_admin"
    assert (await system.post("people", json={"name": "worker-1", "display_name": "again"})).json()["code"] == "E-PERSON"


@pytest.mark.point("19")
async def test_a_changed_account_leaves_digests_of_before_and_after_in_the_same_transaction(site: Site, sign_in: SignIn) -> None:
    security = await sign_in("security_admin")
    person = next(r for r in (await security.get("people?q=operator")).json()["rows"] if r["name"] == "operator")
    assert (await security.post(f"people/{person['id']}/lock", json={"locked": True, "reason": "left us"})).status_code == 200
    row = next(r for r in site.journal.rows(operation="system.person.lock") if r["object"])
    assert (row["object"], row["operator"], row["channel"]) == (f"user/{person['id']}", "security_admin", "portal")
    assert len(row["before"]) == len(row["after"]) == 64
    assert row["before"] != row["after"]
