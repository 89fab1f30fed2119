"""Signing in through an identity provider over a real socket: code with PKCE, once, from the same browser, with a token that is right in every part."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from cloud.functions.system.oidc import Provider, ProviderDownError, ProviderSettings, read
from cloud.ledger import Ledger
from tests.portal.conftest import furnished, ledger  # noqa: F401 - fixtures
from tests.support.site import Site, build

pytestmark = pytest.mark.point("P1")


@dataclass
class Issuer:
    """A provider with one client."""

    address: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "1"}))
    name: str = "engineer"
    amr: list[str] = field(default_factory=lambda: ["pwd", "otp"])
    changes: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[dict[str, Any]], str] | None = None
    asked: dict[str, dict[str, str]] = field(default_factory=dict)
    exchanged: int = 0

    def token(self, nonce: str) -> str:
        """An ID token."""
        now = int(time.time())
        claims = {"iss": self.address, "aud": "kang", "sub": "42", "preferred_username": self.name, "iat": now, "exp": now + 300, "nonce": nonce, "amr": self.amr, **self.changes}
        return self.sign(claims) if self.sign else jwt.encode({"alg": "ES256", "kid": "1"}, claims, self.key, algorithms=["ES256"])

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Its HTTP side."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _say(self, status: int, body: Any = None, **headers: str) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if path == "/.well-known/openid-configuration":
                    self._say(200, {"issuer": issuer.address, "authorization_endpoint": f"{issuer.address}/authorize", "token_endpoint": f"{issuer.address}/token", "jwks_uri": f"{issuer.address}/keys"})
                elif path == "/keys":
                    self._say(200, KeySet([issuer.key]).as_dict(private=False))
                else:
                    given = dict(parse_qsl(query))
                    code = f"code-{len(issuer.asked)}"
                    issuer.asked[code] = given
                    self._say(302, None, Location=f"{given['redirect_uri']}?{urlencode({'code': code, 'state': given['state']})}")

            def do_POST(self) -> None:
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                given = issuer.asked.pop(form.get("code", ""), None)
                challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
                secret = base64.b64encode(b"kang:s3cret").decode()
                if given is None or given["code_challenge"] != challenge or given["redirect_uri"] != form["redirect_uri"] or self.headers["Authorization"] != f"Basic {secret}":
                    self._say(400, {"error": "invalid_grant"})
                    return
                issuer.exchanged += 1
                self._say(200, {"access_token": "x", "token_type": "Bearer", "id_token": issuer.token(given["nonce"])})

        return Handler


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), made.handler())
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Portal:
    """A portal with that provider."""

    site: Site
    browser: httpx.AsyncClient

    async def leave(self) -> str:
        """Go; the address to come back with."""
        gone = await self.browser.get("session/provider/leave")
        assert gone.status_code == 303, gone.text
        async with httpx.AsyncClient() as outside:
            return str((await outside.get(gone.headers["location"])).headers["location"])

    async def back(self, url: str, browser: httpx.AsyncClient | None = None) -> httpx.Response:
        """Come back."""
        return await (browser or self.browser).get(url)


def _browser(site: Site) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(site.app, raise_app_exceptions=False), base_url="http://portal.test/api/v1/")


@pytest.fixture
async def portal(issuer: Issuer, ledger: Ledger) -> AsyncIterator[Portal]:  # noqa: F811
    site = build(ledger)
    provider = Provider(ProviderSettings(issuer.address, "kang", "s3cret"), site.sessions)
    site = build(ledger, provider=provider)
    async with _browser(site) as browser:
        yield Portal(site, browser)


async def test_somebody_the_provider_knows_is_signed_in_and_leaves_a_row(portal: Portal) -> None:
    assert (await portal.browser.get("session/provider")).json()["available"] is True
    answer = await portal.back(await portal.leave())
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    assert (await portal.browser.get("session")).json()["name"] == "engineer"
    row = next(r for r in portal.site.journal.rows() if r["operation"] == "system.provider.open")
    assert (row["operator"], row["result"]) == ("engineer", "done")


async def test_coming_back_works_once_and_only_in_the_browser_that_left(portal: Portal, issuer: Issuer) -> None:
    url = await portal.leave()
    async with _browser(portal.site) as other:
        assert (await portal.back(url, other)).status_code == 401, "another browser"
    assert (await portal.back(url)).status_code == 401, "the state was used up"
    url = await portal.leave()
    assert (await portal.back(url)).status_code == 303
    assert (await portal.back(url)).status_code == 401
    assert issuer.exchanged == 1


@pytest.mark.parametrize("changes", [{"nonce": "another"}, {"aud": "somebody"}, {"aud": ["kang", "other"]}, {"iss": "https://evil.example"}, {"exp": 1}, {"iat": 1 << 40}, {"preferred_username": "nobody-here"},
                                     {"preferred_username": None}, {"preferred_username": ["engineer"]}])
async def test_a_token_that_is_wrong_in_one_part_signs_nobody_in(portal: Portal, issuer: Issuer, changes: dict[str, Any]) -> None:
    issuer.changes = changes
    answer = await portal.back(await portal.leave())
    assert (answer.status_code, answer.json()["code"]) == (401, "E-SIGN-IN-PROVIDER")
    assert (await portal.browser.get("session")).status_code == 401


@pytest.mark.parametrize("way", ["another key", "alg none", "the public key as a secret"])
async def test_a_token_signed_by_somebody_else_signs_nobody_in(portal: Portal, issuer: Issuer, way: str) -> None:
    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    def forged(claims: dict[str, Any]) -> str:
        if way == "another key":
            return jwt.encode({"alg": "ES256", "kid": "1"}, claims, ECKey.generate_key("P-256", {"kid": "1"}), algorithms=["ES256"])
        if way == "alg none":
            return f"{part({'alg': 'none', 'kid': '1'})}.{part(claims)}."
        return jwt.encode({"alg": "HS256", "kid": "1"}, claims, OctKey.import_key(json.dumps(issuer.key.as_dict(private=False))), algorithms=["HS256"])

    issuer.sign = forged
    assert (await portal.back(await portal.leave())).status_code == 401


async def test_a_code_of_another_flow_is_not_exchanged(portal: Portal, issuer: Issuer) -> None:
    stolen, mine = await portal.leave(), await portal.leave()
    code = dict(parse_qsl(urlsplit(stolen).query))["code"]
    state = dict(parse_qsl(urlsplit(mine).query))["state"]
    assert (await portal.browser.get("session/provider/back", params={"state": state, "code": code})).status_code == 401
    assert issuer.exchanged == 0


@pytest.mark.parametrize(("amr", "code"), [(["pwd"], "E-FACTOR-AGE"), ([], "E-FACTOR-AGE"), (["pwd", "otp"], "")])
async def test_without_a_second_factor_at_the_provider_identity_must_be_proved_again(portal: Portal, issuer: Issuer, amr: list[str], code: str) -> None:
    issuer.name, issuer.amr = "security_admin", amr
    assert (await portal.back(await portal.leave())).status_code == 303
    portal.browser.headers["X-Kang-CSRF"] = (await portal.browser.get("session")).json()["csrf"]
    answer = await portal.browser.post("interfaces/clients", json={"name": "x", "operations": ["devices.project.read"]})
    assert answer.json().get("code", "") == code


async def test_the_provider_may_change_its_keys(portal: Portal, issuer: Issuer) -> None:
    assert (await portal.back(await portal.leave())).status_code == 303
    provider: Provider = portal.site.app.state.services.provider
    provider._monotonic = lambda: time.monotonic() + 60  # type: ignore[method-assign]
    issuer.key = ECKey.generate_key("P-256", {"kid": "1"})
    assert (await portal.back(await portal.leave())).status_code == 303


async def test_a_provider_that_is_away_is_said_and_others_still_sign_in(ledger: Ledger) -> None:  # noqa: F811
    site = build(ledger)
    site = build(ledger, provider=Provider(ProviderSettings("http://127.0.0.1:9", "kang"), site.sessions))
    async with _browser(site) as browser:
        answer = await browser.get("session/provider/leave")
        assert (answer.status_code, answer.json()["code"]) == (503, "E-OIDC")
        assert (await browser.post("session", json={"code": site.sessions.issue_code("engineer")})).status_code == 200


async def test_without_a_provider_there_is_no_way_there(ledger: Ledger) -> None:  # noqa: F811
    async with _browser(build(ledger)) as browser:
        assert (await browser.get("session/provider")).json()["available"] is False
        assert (await browser.get("session/provider/leave")).status_code == 404


def test_a_provider_without_https_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "oidc.json"
    assert read(file) is None
    for document in ({"issuer": "http://id.example", "client_id": "kang"}, {"issuer": "https://id.example"}, {"issuer": "https://id.example", "client_id": "k", "surprise": 1}):
        file.write_text(json.dumps(document))
        with pytest.raises(ProviderDownError):
            read(file)
