"""The listener of external systems over a real socket: certificates of the third parties' zone only, tokens bound to the one they were asked for with."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloud.core.settings import load
from cloud.ledger import Ledger
from cloud.portal.mutual import context, listen
from cloud.security.certificates import Pki, key_pem, make_request
from cloud.security.keys import write_secret
from tests.support.site import Site, build

READ = ["devices.project.read", "monitoring.latest.read"]


@dataclass
class Outside:
    """The listener and an authority."""

    site: Site
    pki: Pki
    port: int
    folder: Path

    def pair(self, zone: str, name: str, life: dt.timedelta = dt.timedelta(days=1)) -> tuple[Path, Path, str]:
        """(chain, key, SHA-256) of a fresh client certificate."""
        key, request = make_request(name)
        chain, _, _ = self.pki.zones[zone].client(request, f"kang://{zone}/{name}", life=life)
        return (*self.keep(name, chain, key_pem(key)), hashlib.sha256(x509.load_pem_x509_certificates(chain)[0].public_bytes(encoding=_DER)).hexdigest())

    def keep(self, name: str, chain: bytes, key: bytes) -> tuple[Path, Path]:
        """Write chain and key."""
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(chain)
        write_secret(files[1], key)
        return files

    def caller(self, chain: Path | None = None, key: Path | None = None, **options: Any) -> httpx.AsyncClient:
        """A client that trusts the root, with a certificate or without."""
        trust = ssl.create_default_context(cafile=str(self.folder / "credentials" / "edge-ca.pem"))
        if chain is not None:
            trust.load_cert_chain(chain, key)
        return httpx.AsyncClient(base_url=f"https://localhost:{self.port}/api/v1/", verify=trust, **options)


_DER = Encoding.DER


@pytest.fixture
async def outside(ledger: Ledger, tmp_path: Path) -> AsyncIterator[Outside]:
    credentials = tmp_path / "credentials"
    pki = Pki(tmp_path / "pki", credentials)
    pki.prepare()
    key, request = make_request("interfaces")
    (credentials / "interfaces.pem").write_bytes(pki.zones["third"].server(request, "interfaces", ["localhost"]))
    write_secret(credentials / "interfaces.key", key_pem(key))
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = int(trial.getsockname()[1])

    def certify(wanted: bytes, name: str, days: int) -> tuple[bytes, bytes]:
        return pki.zones["third"].client(wanted, f"kang://third/{name}", life=dt.timedelta(days=days))[0], (credentials / "edge-ca.pem").read_bytes()

    site = build(ledger, certify=certify)
    server = await listen(site.app, load(tmp_path, interfaces_port=port))
    assert server is not None
    yield Outside(site, pki, port, tmp_path)
    server.close()


async def _token(client: httpx.AsyncClient, client_id: str, secret: str) -> httpx.Response:
    return await client.post("oauth/token", data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret})


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@pytest.mark.point("32")
async def test_a_bound_token_is_good_with_its_certificate_and_with_no_other_or_none(outside: Outside) -> None:
    chain, key, digest = outside.pair("third", "trader")
    made, secret = outside.site.clients.register("trader", READ, certificate=digest)
    async with outside.caller(chain, key) as mine:
        answer = await _token(mine, made["id"], secret)
        assert answer.status_code == 200, answer.text
        token = answer.json()["access_token"]
        assert _claims(token)["cnf"]["x5t#S256"] == base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")
        assert (await mine.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code == 200
    other_chain, other_key, _ = outside.pair("third", "neighbour")
    async with outside.caller(other_chain, other_key) as other:
        assert (await other.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code == 401
        assert (await _token(other, made["id"], secret)).status_code == 401, "id and secret alone are not enough"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outside.site.app), base_url="http://portal.test/api/v1/") as plain:
        assert (await plain.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code == 401, "the portal's own port presents no certificate"


@pytest.mark.point("32")
async def test_any_token_asked_for_with_a_certificate_is_bound_to_it(outside: Outside) -> None:
    made, secret = outside.site.clients.register("loose", READ)
    chain, key, _ = outside.pair("third", "loose")
    async with outside.caller(chain, key) as mine:
        token = (await _token(mine, made["id"], secret)).json()["access_token"]
        assert (await mine.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code == 200
    other_chain, other_key, _ = outside.pair("third", "thief")
    async with outside.caller(other_chain, other_key) as thief:
        assert (await thief.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code == 401


@pytest.mark.parametrize("zone", ["", "edge", "platform"])
async def test_without_a_certificate_of_the_zone_nobody_is_heard(outside: Outside, zone: str) -> None:
    files = outside.pair(zone, "stranger")[:2] if zone else (None, None)
    async with outside.caller(*files) as stranger:
        with pytest.raises(httpx.TransportError):
            await stranger.get("projects")


async def test_a_certificate_that_has_ended_is_refused(outside: Outside) -> None:
    chain, key, _ = outside.pair("third", "late", dt.timedelta(seconds=1))
    await asyncio.sleep(1.1)
    async with outside.caller(chain, key) as late:
        with pytest.raises(httpx.TransportError):
            await late.get("projects")


async def test_a_certificate_that_ends_while_connected_is_nobodys(outside: Outside) -> None:
    chain, key, _ = outside.pair("third", "soon", dt.timedelta(seconds=2))
    made, secret = outside.site.clients.register("soon", READ)
    async with outside.caller(chain, key) as mine:
        token = (await _token(mine, made["id"], secret)).json()["access_token"]
        answers = [(await mine.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code]
        while answers[-1] == 200:
            await asyncio.sleep(0.1)
            answers.append((await mine.get("projects", headers={"Authorization": f"Bearer {token}"})).status_code)
    assert answers[0] == 200
    assert answers[-1] == 401


async def test_peoples_sessions_and_pages_are_not_here(outside: Outside) -> None:
    chain, key, _ = outside.pair("third", "browser")
    session, _ = outside.site.sessions.redeem(outside.site.sessions.issue_code("engineer"), address="", agent="")
    async with outside.caller(chain, key, cookies={"kang_session": session}) as browser:
        assert (await browser.get("projects")).status_code == 401
        for path in ("/", "/metrics", "/healthz"):
            assert (await browser.get(f"https://localhost:{outside.port}{path}")).status_code == 404


@pytest.mark.point("32")
async def test_an_administrator_has_a_clients_certificate_signed_and_the_one_before_ends(outside: Outside) -> None:
    made, secret = outside.site.clients.register("dispatch", READ)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outside.site.app), base_url="http://portal.test/api/v1/") as admin:
        answer = await admin.post("session", json={"code": outside.site.sessions.issue_code("security_admin")})
        admin.headers["X-Kang-CSRF"] = answer.json()["csrf"]
        tokens = []
        for name in ("first", "second"):
            key, request = make_request("whatever the request says")
            issued = await admin.post(f"interfaces/clients/{made['id']}/certificate", json={"request": request.decode(), "days": 30})
            assert issued.status_code == 200, issued.text
            names = x509.load_pem_x509_certificates(issued.json()["certificate"].encode())[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"kang://third/{made['id']}"]
            files = outside.keep(name, issued.json()["certificate"].encode(), key_pem(key))
            async with outside.caller(*files) as mine:
                tokens.append((await _token(mine, made["id"], secret)).json()["access_token"])
                assert (await mine.get("projects", headers={"Authorization": f"Bearer {tokens[-1]}"})).status_code == 200
                if name == "second":
                    assert (await mine.get("projects", headers={"Authorization": f"Bearer {tokens[0]}"})).status_code == 401
        async with outside.caller(outside.folder / "first.pem", outside.folder / "first.key") as before:
            assert (await _token(before, made["id"], secret)).status_code == 401
        refused = await admin.post(f"interfaces/clients/{made['id']}/certificate", json={"request": "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 100})
        assert refused.status_code == 422
    rows = outside.site.journal.rows(object_=made["id"])
    assert {r["operation"] for r in rows} >= {"interfaces.client.certificate"}


def test_the_listener_speaks_mozillas_intermediate_profile(outside: Outside) -> None:
    made = context(outside.folder / "credentials")
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2
    assert {c["name"] for c in made.get_ciphers()} <= {
        "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"}


async def test_a_curve_outside_the_profile_is_refused_and_one_inside_is_taken(outside: Outside) -> None:
    chain, key, _ = outside.pair("third", "curves")
    for curve, taken in (("secp521r1", False), ("prime256v1", True)):
        trust = ssl.create_default_context(cafile=str(outside.folder / "credentials" / "edge-ca.pem"))
        trust.load_cert_chain(chain, key)
        trust.set_ecdh_curve(curve)
        async with httpx.AsyncClient(base_url=f"https://localhost:{outside.port}/api/v1/", verify=trust) as caller:
            try:
                answer = (await caller.get("projects")).status_code
            except httpx.TransportError:
                answer = 0
        assert answer == (401 if taken else 0), curve
