"""Knocks at the listener of external systems: no certificate, nobody's, another zone's; a stolen bound token without its certificate.

A client made for the attempt in a local installation, disabled at the end. Must not know: how tokens are bound.
"""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cloud.attack.leavings import Leavings
from cloud.attack.rows import Row
from cloud.core.settings import Settings
from cloud.functions.interfaces.clients import ClientService
from cloud.ledger import open_ledger
from cloud.portal.app import operation_table
from cloud.security import keys
from cloud.security.authority import AuthorityClient, certifier
from cloud.security.certificates import key_pem, make_request

GROUP: Final = "external systems"
SCOPE: Final = ["devices.project.read"]


def tried(settings: Settings, rogue: tuple[bytes, bytes], made: Leavings) -> Iterator[Row]:
    """All of it; nothing where the listener is switched off. `rogue` is (key, certificate) that nobody's authority signed."""
    if not settings.interfaces_port:
        return
    ledger = open_ledger(settings.effective_ledger_url)
    service = ClientService(ledger, keys.signing_pem(settings.credentials / "api-token.ed25519"), operation_table)
    view, secret = service.register(f"attack-{secrets.token_hex(3)}", SCOPE, actor="kang attack")
    made.clients.add(str(view["id"]))
    with tempfile.TemporaryDirectory(prefix="kang-attack-") as folder:
        try:
            yield from _tried(settings, service, (view["id"], secret), rogue, Path(folder))
        finally:
            service.change(view["id"], {"disabled": True}, actor="kang attack")
            ledger.close()


def _tried(settings: Settings, service: ClientService, who: tuple[str, str], rogue: tuple[bytes, bytes], folder: Path) -> Iterator[Row]:
    key, request = make_request("attack")
    mine = _pair(folder, "mine", key_pem(key), service.certify(who[0], request, 1, certifier(settings), actor="kang attack")["certificate"].encode())
    ca = AuthorityClient(settings.home)
    other = _pair(folder, "other", key_pem(key), ca.client(request, "third", "attack-other").chain)
    strangers = {"no certificate": None, "a certificate of a rogue authority": _pair(folder, "rogue", *rogue),
                 "a certificate of the zone platform": _pair(folder, "platform", key_pem(key), ca.client(request, "platform", "attack").chain)}
    form = f"grant_type=client_credentials&client_id={who[0]}&client_secret={who[1]}"
    for name, pair in strangers.items():
        status, _ = _ask(settings, pair, form=form)
        yield Row(GROUP, name, status == 0, str(status or "no connection"))
    status, body = _ask(settings, mine, form=form)
    token = str(json.loads(body)["access_token"]) if status == 200 else ""
    genuine, _ = _ask(settings, mine, token=token)
    yield Row(GROUP, "the genuine certificate and token must be taken", (status, genuine) == (200, 200), f"{status}, {genuine}")
    for name, status in (("a bound token with another's certificate", _ask(settings, other, token=token)[0]), ("a bound token without its certificate", _plain(settings, token)),
                         ("id and secret with another's certificate", _ask(settings, other, form=form)[0])):
        yield Row(GROUP, name, status == 401, str(status))


def _pair(folder: Path, name: str, key: bytes, chain: bytes) -> tuple[Path, Path]:
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(chain)
    keys.write_secret(files[1], key)
    return files


def _ask(settings: Settings, pair: tuple[Path, Path] | None, *, form: str = "", token: str = "") -> tuple[int, bytes]:
    """(status, body); (0, b"") when no answer came."""
    context = ssl.create_default_context(cafile=str(settings.credentials / "edge-ca.pem"))
    context.check_hostname = False
    if pair is not None:
        context.load_cert_chain(*pair)
    host = "127.0.0.1" if settings.interfaces_host in ("0.0.0.0", "::") else settings.interfaces_host  # noqa: S104 # nosec B104  compared, not bound
    return _call(http.client.HTTPSConnection(host, settings.interfaces_port, timeout=10, context=context), form, token)


def _plain(settings: Settings, token: str) -> int:
    return _call(http.client.HTTPConnection("127.0.0.1", settings.portal_port, timeout=10), "", token)[0]


def _call(connection: http.client.HTTPConnection, form: str, token: str) -> tuple[int, bytes]:
    try:
        if form:
            connection.request("POST", "/api/v1/oauth/token", form, {"Content-Type": "application/x-www-form-urlencoded"})
        else:
            connection.request("GET", "/api/v1/projects", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
