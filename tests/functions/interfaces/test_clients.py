"""External clients through the real portal: tokens, scopes, projects, hidden fields, rate, class, idempotency, revocation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cloud.portal.app import ROUTERS, operation_table
from cloud.security.guard import check_routes
from tests.portal.conftest import Clock, SignIn, clock, furnished, ledger, sign_in, site  # noqa: F401 - fixtures
from tests.support.site import Site

READ = ["devices.project.read", "devices.device.read", "monitoring.latest.read", "monitoring.history.read", "monitoring.alarms.read"]


@pytest.fixture
async def outside(site: Site) -> AsyncIterator[httpx.AsyncClient]:  # noqa: F811
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site.app, raise_app_exceptions=False), base_url="http://portal.test/api/v1/") as client:
        yield client


async def _token(client: httpx.AsyncClient, made: tuple[dict[str, Any], str]) -> httpx.Response:
    return await client.post("oauth/token", data={"grant_type": "client_credentials", "client_id": made[0]["id"], "client_secret": made[1]})


async def _as(client: httpx.AsyncClient, made: tuple[dict[str, Any], str]) -> None:
    answer = await _token(client, made)
    assert answer.status_code == 200, answer.text
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


@pytest.mark.point("31")
async def test_a_client_gets_a_token_and_reads_what_it_was_given(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    made = site.clients.register("trader", READ, project_ids=[site.projects["cuihu"]])
    await _as(outside, made)
    projects = (await outside.get("projects")).json()
    listed = projects["rows"] if isinstance(projects, dict) else projects
    assert [p["code"] for p in listed] == ["cuihu"]
    assert (await outside.get(f"projects/{site.projects['yanqi']}/latest")).status_code == 404
    mine = (await outside.get("interfaces/self")).json()
    assert mine["name"] == "trader"
    assert mine["calls"] == 2
    assert mine["errors"] == 1


@pytest.mark.point("32")
async def test_what_is_not_in_the_scope_is_refused_with_a_code(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    await _as(outside, site.clients.register("reader", ["devices.project.read"]))
    for method, path in (("GET", "alarms"), ("GET", "commands"), ("GET", "audit"), ("GET", "interfaces/clients"), ("POST", "commands/emergency-stop"), ("GET", "people")):
        answer = await outside.request(method, path, json={"device_id": 1} if method == "POST" else None, headers={"Idempotency-Key": "forbidden-1"})
        assert answer.status_code in (403, 404), f"{path}: {answer.status_code}"
        if answer.status_code == 403:
            assert answer.json()["code"] == "E-CLIENT-SCOPE"
            assert answer.headers["content-type"].startswith("application/problem+json")


async def test_wrong_secrets_unknown_clients_and_disabled_ones_get_the_same_answer(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    made = site.clients.register("one", READ)
    gone = site.clients.register("gone", READ)
    site.clients.change(gone[0]["id"], {"disabled": True})
    answers = [await _token(outside, x) for x in ((made[0], "wrong"), ({"id": "kc-000000000000"}, "wrong"), gone)]
    assert {(a.status_code, a.json()["detail"], a.json()["code"]) for a in answers} == {(401, answers[0].json()["detail"], "E-CLIENT")}
    for _ in range(10):
        last = await _token(outside, (made[0], "wrong"))
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) >= 1


@pytest.mark.parametrize("change", [{"disabled": True}, {"priority": 9}, {"operations": ["devices.project.read"]}])
async def test_a_change_ends_the_tokens_at_once(site: Site, outside: httpx.AsyncClient, change: dict[str, Any]) -> None:  # noqa: F811
    made = site.clients.register("one", READ)
    await _as(outside, made)
    assert (await outside.get("projects")).status_code == 200
    site.clients.change(made[0]["id"], change)
    assert (await outside.get("projects")).status_code == 401


async def test_a_token_lives_ten_minutes(site: Site, outside: httpx.AsyncClient, clock: Clock) -> None:  # noqa: F811
    await _as(outside, site.clients.register("one", READ))
    clock.ms += 599_000
    assert (await outside.get("projects")).status_code == 200
    clock.ms += 2_000
    assert (await outside.get("projects")).status_code == 401


async def test_a_forged_or_altered_token_is_nobodys(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    from joserfc import jwt
    from joserfc.jwk import OctKey, OKPKey

    made = site.clients.register("one", READ)
    await _as(outside, made)
    good = outside.headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(good, site.clients._key, algorithms=["Ed25519"]).claims
    forged = [jwt.encode({"alg": "Ed25519", "typ": "at+jwt"}, claims, OKPKey.generate_key("Ed25519"), algorithms=["Ed25519"]),
              jwt.encode({"alg": "HS256", "typ": "at+jwt"}, claims, OctKey.generate_key(256), algorithms=["HS256"]),
              jwt.encode({"alg": "Ed25519", "typ": "at+jwt"}, {**claims, "aud": "other"}, site.clients._key, algorithms=["Ed25519"]),
              jwt.encode({"alg": "Ed25519", "typ": "JWT"}, claims, site.clients._key, algorithms=["Ed25519"]),
              good[:-3] + ("AAA" if good[-3:] != "AAA" else "BBB"), good.split(".")[0] + "." + good.split(".")[1] + ".", "", "x", "a.b.c", "é"]
    for token in forged:
        answer = await outside.get("projects", headers={"Authorization": f"Bearer {token}".encode()})
        assert answer.status_code == 401, token


@pytest.mark.point("32")
async def test_the_rate_is_held_and_says_when(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    await _as(outside, site.clients.register("one", READ, rate=0.5, burst=3))
    answers = [await outside.get("projects") for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["code"] == "E-RATE"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 3


async def test_hidden_fields_are_in_no_answer(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    await _as(outside, site.clients.register("one", READ, hidden_fields=["name_zh", "latitude"]))
    text = (await outside.get("projects")).text
    assert '"name_en"' in text
    assert '"name_zh"' not in text
    assert '"latitude"' not in text


@pytest.mark.point("32")
async def test_a_certificate_bound_client_needs_its_certificate(site: Site, outside: httpx.AsyncClient) -> None:  # noqa: F811
    from cloud.functions.interfaces.clients import CERTIFICATE

    made = site.clients.register("bound", READ, certificate="ab" * 32)
    assert (await _token(outside, made)).status_code == 401
    told = CERTIFICATE.set("ab" * 32)
    await _as(outside, made)
    assert (await outside.get("projects")).status_code == 200
    CERTIFICATE.reset(told)
    assert (await outside.get("projects")).status_code == 401


@pytest.mark.point("32")
async def test_an_administrator_registers_tests_and_changes_a_client_and_each_leaves_its_row(site: Site, sign_in: SignIn, outside: httpx.AsyncClient) -> None:  # noqa: F811
    admin = await sign_in("security_admin")
    body = {"name": "dispatch", "operations": READ, "priority": 0, "project_ids": [site.projects["cuihu"]]}
    first = await admin.post("interfaces/clients", json=body, headers={"Idempotency-Key": "register-1"})
    assert first.status_code == 201, first.text
    again = await admin.post("interfaces/clients", json=body, headers={"Idempotency-Key": "register-1"})
    assert (again.status_code, again.json()["code"]) == (409, "E-IDEMPOTENCY-DONE"), "a secret is never shown twice"
    client_id, secret = first.json()["id"], first.json()["secret"]
    tried = (await admin.post(f"interfaces/clients/{client_id}/test")).json()
    assert tried["token"] is True
    assert tried["projects"] == ["cuihu"]
    assert {o["name"] for o in tried["operations"] if o["allowed"]} == set(READ)
    await _as(outside, ({"id": client_id}, secret))
    assert (await outside.get("projects")).status_code == 200
    changed = await admin.patch(f"interfaces/clients/{client_id}", json={"rate": 2.5}, headers={"Idempotency-Key": "change-it-1"})
    repeated = await admin.patch(f"interfaces/clients/{client_id}", json={"rate": 2.5}, headers={"Idempotency-Key": "change-it-1"})
    assert changed.json()["rate"] == repeated.json()["rate"] == 2.5
    assert changed.json()["version"] == repeated.json()["version"] == 2
    assert repeated.headers["idempotent-replayed"] == "true"
    other = await admin.patch(f"interfaces/clients/{client_id}", json={"rate": 3.5}, headers={"Idempotency-Key": "change-it-1"})
    assert (other.status_code, other.json()["code"]) == (422, "E-IDEMPOTENCY")
    listed = (await admin.get("interfaces/clients")).json()
    assert [c["id"] for c in listed] == [client_id]
    assert secret not in str(listed)
    rows = site.journal.rows(object_=client_id)
    assert {r["operation"] for r in rows} >= {"interfaces.client.create", "interfaces.client.change"}
    written = next(r for r in rows if r["operation"] == "interfaces.client.change" and r["object"])
    assert len(written["before"]) == len(written["after"]) == 64
    assert written["before"] != written["after"]
    assert written["operator"] == "security_admin"


@pytest.mark.parametrize("body", [{"operations": ["system.person.create"]}, {"operations": ["no.such"]}, {"rate": 0}, {"priority": 4}, {"certificate": "zz"}, {"name": ""}, {"surprise": 1}])
async def test_a_client_that_cannot_be_is_refused(sign_in: SignIn, body: dict[str, Any]) -> None:  # noqa: F811
    admin = await sign_in("security_admin")
    answer = await admin.post("interfaces/clients", json={"name": "x", "operations": READ, **body})
    assert answer.status_code == 422, answer.text


async def test_a_reader_who_hangs_up_has_the_work_ended(site: Site) -> None:  # noqa: F811
    from starlette.types import Message

    ended, entered = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any, **__: Any) -> list[Any]:
        entered.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.set()
            raise
        return []

    site.historian.quarantine = slow  # type: ignore[method-assign]
    session, _ = site.sessions.redeem(site.sessions.issue_code("engineer"), address="", agent="")
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/api/v1/quarantine", "raw_path": b"/api/v1/quarantine", "query_string": b"",
             "root_path": "", "scheme": "http", "headers": [(b"cookie", f"kang_session={session}".encode())], "client": ("127.0.0.1", 1), "server": ("portal.test", 80), "state": {}}
    call = asyncio.create_task(site.app(scope, inbox.get, send))
    await asyncio.wait_for(entered.wait(), 5)
    inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.wait_for(call, 5)
    assert site.app.state.admission.queue.taken == 0


def test_the_description_declares_security_and_refusals_on_every_route(site: Site) -> None:  # noqa: F811
    document = site.app.state.description
    assert set(document["components"]["securitySchemes"]) == {"client", "session", "home"}
    assert sum(len(methods) for methods in document["paths"].values()) == len(check_routes(ROUTERS, operation_table()))
    for path, methods in document["paths"].items():
        for method, entry in methods.items():
            assert {"400", "401", "403", "404", "405", "409", "422", "429"} <= set(entry["responses"]), f"{method} {path}"
            assert entry["security"] or entry["x-kang-operation"]["roles"] == [], f"{method} {path}"


