"""账号管理 (7.2.7 a, b): an account from creation to lock, roles and scope by another administrator, second factor, sessions that can be ended."""

from __future__ import annotations

import time
import uuid

import httpx
import pyotp
import pytest

from cloud.security.operations import Role
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow


async def opened(real: Real, body: dict[str, str]) -> httpx.AsyncClient:
    """A browser of its own that signed in."""
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.settings.portal_port}/api/v1", timeout=30)
    answer = await client.post("/session", json=body)
    assert answer.status_code == 200, answer.text
    client.headers["x-kang-csrf"] = answer.json()["csrf"]
    return client


@pytest.mark.point("25", route="POST /api/v1/people", page="/people")
@pytest.mark.point("P1", route="PUT /api/v1/people/{id}/access", page="/people/:id")
async def test_an_account_lives_from_creation_to_lock(real: Real) -> None:
    name = f"conf-{uuid.uuid4().hex[:8]}"
    async with real.client(Role.SYSTEM_ADMIN) as system, real.client(Role.SECURITY_ADMIN) as security:
        made = (await system.post("/people", json={"name": name, "display_name": "Conformance"})).json()
        assert made["code"]
        # Who creates accounts grants nothing; who grants, creates nothing.
        mine = real.plant["project_id"]
        grant = {"roles": ["operator"], "project_ids": [mine]}
        assert (await system.put(f"/people/{made['id']}/access", json=grant)).status_code == 403
        assert (await security.post("/people", json={"name": f"{name}x", "display_name": "x"})).status_code == 403
        assert (await security.put(f"/people/{made['id']}/access", json=grant)).status_code == 200
        person = await opened(real, {"code": made["code"]})
        secret = (await person.post("/me/authenticator")).json()["secret"]
        papers = (await person.post("/me/authenticator/confirm", json={"code": pyotp.TOTP(secret).at(time.time() - 30)})).json()["recovery_codes"]
        assert len(papers) == 10
        assert (await person.put("/me/password", json={"new": "Quiet-Boiler-41-Songlin"})).status_code == 204
        # The scope holds on every answer: the other projects do not exist for this account.
        assert [p["id"] for p in (await person.get("/projects")).json()] == [mine]
        assert (await person.get(f"/projects/{real.source.project_id}/latest")).status_code == 404
        # With password and authenticator, from another browser; a password alone opens nothing.
        alone = httpx.AsyncClient(base_url=person.base_url, timeout=30)
        assert (await alone.post("/session", json={"name": name, "password": "Quiet-Boiler-41-Songlin"})).status_code != 200
        second = await opened(real, {"name": name, "password": "Quiet-Boiler-41-Songlin", "second": pyotp.TOTP(secret).at(time.time())})
        assert (await second.get("/session")).json()["name"] == name
        # Lock: every session ends.
        assert (await system.post(f"/people/{made['id']}/lock", json={"locked": True, "reason": "conformance"})).status_code == 200
        for client in (person, second):
            answer = await client.get("/session")
            assert answer.status_code == 401, answer.text
            await client.aclose()
        await alone.aclose()


@pytest.mark.point("P1", route="POST /api/v1/organisations/{id}/contracts", page="/organisations")
async def test_a_provider_sees_contracted_projects_for_the_contracts_dates_only(real: Real) -> None:
    name, mine = f"prov-{uuid.uuid4().hex[:8]}", real.plant["project_id"]
    async with real.client(Role.SYSTEM_ADMIN) as system, real.client(Role.SECURITY_ADMIN) as security:
        answer = await security.post("/organisations", json={"code": name, "name_zh": "服务商", "name_en": "Provider", "kind": "provider"})
        if answer.status_code == 403:
            answer = await system.post("/organisations", json={"code": name, "name_zh": "服务商", "name_en": "Provider", "kind": "provider"})
        assert answer.status_code == 201, answer.text
        organisation = answer.json()["id"]
        made = (await system.post("/people", json={"name": name, "display_name": "Provider", "organisation_id": organisation})).json()
        granted = await security.put(f"/people/{made['id']}/access", json={"roles": ["operator"], "organisation_id": organisation})
        assert granted.status_code == 200, granted.text
        person = await opened(real, {"code": made["code"]})
        assert (await person.get("/projects")).json() == []
        now = int(time.time() * 1000)
        contract = {"number": name, "project_ids": [mine], "starts_ms": now - 1000, "ends_ms": now + 8000}
        signed = await security.post(f"/organisations/{organisation}/contracts", json=contract)
        if signed.status_code == 403:
            signed = await system.post(f"/organisations/{organisation}/contracts", json=contract)
        assert signed.status_code == 201, signed.text

        async def sees() -> bool:
            return [p["id"] for p in (await person.get("/projects")).json()] == [mine]

        await eventually(sees, 6, "the contracted project")

        async def nothing() -> bool:
            return (await person.get("/projects")).json() == [] and (await person.get(f"/projects/{mine}/latest")).status_code == 404

        await eventually(nothing, 20, "nothing after the contract's end")
        assert time.time() * 1000 >= contract["ends_ms"] - 50
        await person.aclose()
