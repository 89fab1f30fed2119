"""Knocks at the portal: roles, scopes, sessions, tokens, forged requests, sizes, paths, headers.

Must not know: functions, the guard; it reads /openapi.json like anybody.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pyotp

from cloud.attack.rows import Row

CSRF = "X-Kang-CSRF"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    code: str
    body: bytes
    cookies: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.status} {self.code}"


@dataclass
class Caller:
    """A browser: host, cookies, token."""

    host: str
    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, raw: bytes | None = None) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        sent = {"Accept": "application/json", **self.headers, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if body is not None and raw is None:
            raw = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, raw, sent)
            answer = connection.getresponse()
            data = answer.read()
            cookies = tuple(answer.headers.get_all("Set-Cookie") or ())
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, type(error).__name__, b"")
        finally:
            connection.close()
        return Answer(answer.status, _code(data), data, cookies)

    def sign_in(self, code: str) -> Answer:
        """Take a one-time code; keeps cookie and token."""
        answer = self.ask("POST", "/api/v1/session", {"code": code})
        if answer.status == 200:
            for cookie in answer.cookies:
                name, _, value = cookie.partition(";")[0].partition("=")
                if value and value != '""':
                    self.cookies[name] = value
            self.headers[CSRF] = str(json.loads(answer.body)["csrf"])
        return answer


def _code(data: bytes) -> str:
    try:
        found = json.loads(data)
    except ValueError:
        return ""
    return str(found.get("code", "")) if isinstance(found, dict) else ""


@dataclass(frozen=True)
class Door:
    """The portal and who may be used to knock.

    Attributes:
        codes: one-time code by person, given when asked.
        roles: role by person.
        projects: projects of each bounded person; None = all.
    """

    url: str
    codes: Callable[[str], str]
    roles: Mapping[str, str]
    outside: Mapping[str, int]  # person -> a project that is not theirs
    outside_device: Mapping[str, int]

    def caller(self, person: str = "") -> Caller:
        """A fresh browser, signed in as `person`."""
        parts = urlsplit(self.url)
        made = Caller(parts.hostname or "127.0.0.1", parts.port or 80)
        if person:
            answer = made.sign_in(self.codes(person))
            if answer.status != 200:
                raise RuntimeError(f"{person} cannot sign in: {answer}")
        return made

    def description(self) -> dict[str, Any]:
        """The interface description."""
        found: dict[str, Any] = json.loads(self.caller().ask("GET", "/openapi.json").body)
        return found


def _operations(description: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, entry in methods.items():
            yield method.upper(), path, entry


def _filled(path: str, project: int, device: int) -> str:
    out = path.replace("{project_id}", str(project)).replace("{device_id}", str(device)).replace("{client_id}", "kc-000000000000")
    while "{" in out:
        start, end = out.index("{"), out.index("}")
        out = out[:start] + "1" + out[end + 1:]
    return out


def roles(door: Door) -> Iterator[Row]:
    """Every role at every operation its row does not name; everybody without a session at every operation."""
    listed = list(_operations(door.description()))
    stranger = door.caller()
    for method, path, entry in listed:
        if entry["security"]:
            answer = stranger.ask(method, _filled(path, 1, 1), {} if method != "GET" else None, {"Idempotency-Key": "attack-stranger"})
            yield Row("no session", f"{method} {path}", answer.status == 401, str(answer))
    for person, role in door.roles.items():
        caller = door.caller(person)
        for method, path, entry in listed:
            known = entry["x-kang-operation"]
            if not entry["security"] or role in known["roles"] or len(known["roles"]) > 9:
                continue
            answer = caller.ask(method, _filled(path, 1, 1), {} if method != "GET" else None, {"Idempotency-Key": "attack-role-row"})
            yield Row("role x operation", f"{role} {method} {path}", 400 <= answer.status < 500 and answer.status in (401, 403), str(answer))


def scopes(door: Door) -> Iterator[Row]:
    """People of one project (and providers without a contract) at another's data."""
    listed = list(_operations(door.description()))
    for person, project in door.outside.items():
        caller = door.caller(person)
        for method, path, entry in listed:
            if method != "GET" or not entry["security"] or ("{project_id}" not in path and "{device_id}" not in path):
                continue
            query = "?series=1:1&start_ms=0&end_ms=3600000" if path.endswith(("history", "power")) else ""
            answer = caller.ask(method, _filled(path, project, door.outside_device[person]) + query)
            yield Row("scope", f"{person} {method} {path}", answer.status in (401, 403, 404), str(answer))
        body = {"device_id": door.outside_device[person], "kind": "stop"}
        answer = caller.ask("POST", "/api/v1/commands", body, {"Idempotency-Key": f"attack-{person}"})
        yield Row("scope", f"{person} POST /commands of another project", answer.status in (401, 403, 404), str(answer))
        listed_projects = caller.ask("GET", "/api/v1/projects")
        yield Row("scope", f"{person} GET /projects holds none of another's", f'"id":{project},'.encode() not in listed_projects.body, str(listed_projects))


def sessions(door: Door, person: str) -> Iterator[Row]:
    """Codes used twice, sessions chosen beforehand, ended or guessed."""
    code = door.codes(person)
    first = door.caller()
    first.sign_in(code)
    again = door.caller().sign_in(code)
    yield Row("sessions", "a one-time code used twice", again.status == 401, str(again))
    fixed = door.caller()
    fixed.cookies["kang_session"] = "A" * 43
    signed = fixed.sign_in(door.codes(person))
    yield Row("sessions", "fixation: a session id chosen beforehand is kept", signed.status == 200 and fixed.cookies["kang_session"] != "A" * 43, str(signed))
    victim = door.caller()
    victim.cookies["kang_session"] = "A" * 43
    answer = victim.ask("GET", "/api/v1/session")
    yield Row("sessions", "fixation: the chosen id is signed in", answer.status == 401, str(answer))
    stolen = Caller(first.host, first.port, dict(first.cookies), dict(first.headers))
    first.ask("DELETE", "/api/v1/session")
    answer = stolen.ask("GET", "/api/v1/session")
    yield Row("sessions", "a session used after signing out", answer.status == 401, str(answer))
    for name in ("kang_session", "__Host-kang_session", "kang_resident"):
        for value in ("", "x", "../../etc/passwd", "0" * 5000, "' OR 1=1 --", "null"):
            guess = door.caller()
            guess.cookies[name] = value
            answer = guess.ask("GET", "/api/v1/session")
            yield Row("sessions", f"cookie {name}={value[:20]}", answer.status in (400, 401, 431), str(answer))


def factors(door: Door, person: str) -> Iterator[Row]:
    """An authenticator's code used twice, codes of other moments, a password alone; bound by the person whom it belongs to."""
    caller, password = door.caller(person), f"{secrets.token_urlsafe(18)}aA1!"
    set_ = caller.ask("PUT", "/api/v1/me/password", {"new": password})
    begun = caller.ask("POST", "/api/v1/me/authenticator", {})
    if set_.status != 204 or begun.status != 200:
        yield Row("factors", "a password and an authenticator must be accepted", False, f"{set_}, {begun}")
        return
    code, now = pyotp.TOTP(str(json.loads(begun.body)["secret"])), int(time.time())
    bound = caller.ask("POST", "/api/v1/me/authenticator/confirm", {"code": code.at(now - 30)})
    papers = json.loads(bound.body)["recovery_codes"] if bound.status == 200 else [""]

    def enter(second: str, with_: str = password) -> Answer:
        return door.caller().ask("POST", "/api/v1/session", {"name": person, "password": with_, "second": second})

    good = enter(code.at(now))
    yield Row("factors", "the right password and code must be taken", good.status == 200, str(good))
    for name, answer in (("the code that bound the app", enter(code.at(now - 30))), ("a code used twice", enter(code.at(now))), ("a code of ten minutes ago", enter(code.at(now - 600))),
                         ("a password alone", enter(""))):
        yield Row("factors", name, answer.status in (401, 429), str(answer))
    first = enter(papers[0])
    yield Row("factors", "a recovery code used twice", first.status == 200 and (again := enter(papers[0])).status in (401, 429), f"{first}, {again if first.status == 200 else ''}")
    one, nobody = enter("000000", "wrong"), door.caller().ask("POST", "/api/v1/session", {"name": "nobody-at-all", "password": "wrong", "second": "000000"})
    yield Row("factors", "wording tells whether an account exists", (one.status, one.code) == (nobody.status, nobody.code), f"{one} / {nobody}")


def forgery(door: Door, person: str) -> Iterator[Row]:
    """Requests a foreign page would make with this browser's cookie."""
    caller = door.caller(person)
    token = caller.headers.pop(CSRF)
    for method, path, entry in _operations(door.description()):
        if not entry["security"] or method == "GET" or not entry["x-kang-operation"]["recorded"]:
            continue
        for name, headers in (("no token", {}), ("wrong token", {CSRF: token[:-1] + ("a" if token[-1] != "a" else "b")}), ("cross-site", {CSRF: token, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})):
            answer = caller.ask(method, _filled(path, 1, 1), {}, {"Idempotency-Key": "attack-forgery", **headers})
            yield Row("cross-site forgery", f"{name} {method} {path}", answer.status in (401, 403), str(answer))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = caller.ask("POST", "/api/v1/commands/emergency-stop", None, {"Content-Type": kind, "Idempotency-Key": "attack-form"}, raw=b'{"device_id": 1}')
        yield Row("cross-site forgery", f"a form as {kind}", answer.status in (401, 403, 415, 422), str(answer))


def tokens(door: Door) -> Iterator[Row]:
    """Bearer tokens of nobody."""
    def part(document: Mapping[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    claims = part({"iss": "kang", "aud": "kang-api", "sub": "kc-000000000000", "iat": 1, "exp": 1 << 40, "ver": 1})
    for name, token in (("alg none", f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{claims}."), ("alg HS256", f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{claims}.{'A' * 43}"),
                        ("no signature", f"{part({'alg': 'Ed25519', 'typ': 'at+jwt'})}.{claims}."), ("zero signature", f"{part({'alg': 'Ed25519', 'typ': 'at+jwt'})}.{claims}.{'A' * 86}"),
                        ("empty", ""), ("one part", "x"), ("huge", "A" * 60_000), ("a cookie's", "A" * 43)):
        answer = door.caller().ask("GET", "/api/v1/projects", headers={"Authorization": f"Bearer {token}"})
        yield Row("tokens", name, answer.status in (0, 400, 401, 431), str(answer))
    for name, form in (("wrong secret", b"grant_type=client_credentials&client_id=kc-000000000000&client_secret=x"), ("password grant", b"grant_type=password&username=a&password=b"), ("no grant", b"x=y")):
        answer = door.caller().ask("POST", "/api/v1/oauth/token", headers={"Content-Type": "application/x-www-form-urlencoded"}, raw=form)
        yield Row("tokens", name, answer.status in (400, 401, 429), str(answer))


def hostile(door: Door, person: str) -> Iterator[Row]:
    """Sizes, shapes, paths and headers."""
    caller = door.caller(person)
    key = {"Idempotency-Key": "attack-hostile"}
    answer = caller.ask("POST", "/api/v1/commands", headers=key, raw=b'{"device_id":1,"kind":"hold","reason":"' + b"a" * (2 << 20) + b'"}')
    yield Row("input", "a body of 2 MiB", answer.status in (0, 413), str(answer))
    for name, raw in (("truncated", b'{"device_id": 1, "ki'), ("deep", b"[" * 100_000), ("not UTF-8", b'{"device_id": "\xff\xfe"}'), ("wrong types", b'{"device_id": "1", "kind": 7}'),
                      ("huge number", b'{"device_id": 1e999, "kind": "stop"}'), ("NaN", b'{"device_id": 1, "kind": "hold", "value": NaN}'), ("empty", b""), ("null", b"null"), ("list", b"[]")):
        answer = caller.ask("POST", "/api/v1/commands", headers={**key, "Content-Type": "application/json"}, raw=raw)
        yield Row("input", name, 400 <= answer.status < 500, str(answer))
    for path in ("/../../../../etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/assets/../../../etc/passwd", "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/static/..\\..\\etc\\passwd", "/.git/config",
                 "/credentials/command.ed25519", "/api/v1/projects/1/../../../../etc/passwd", "/%00", "//etc/passwd", "/api/v1/projects/' OR 1=1", "/api/v1/projects/1%00"):
        answer = caller.ask("GET", path)
        leaked = b"root:" in answer.body or b"[core]" in answer.body
        yield Row("traversal", path, not leaked and (answer.status >= 400 or b"<html" in answer.body.lower() or b"<!doctype" in answer.body.lower() or answer.status == 0), str(answer))
    host = f"{caller.host}:{caller.port}"
    cookie = "; ".join(f"{k}={v}" for k, v in caller.cookies.items())
    for name, raw in (
            ("two lengths", f"POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n{{}}".encode()),
            ("length and chunked", f"POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX".encode()),
            ("negative length", f"POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n".encode()),
            ("a header of 1 MiB", f"GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nX: {'a' * (1 << 20)}\r\n\r\n".encode()),
            ("a space in a name", f"GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nCookie : {cookie}\r\n\r\n".encode()),
            ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64))):
        status = _raw(caller, raw)
        yield Row("headers", name, not status.startswith("2"), status or "closed")
    for name, headers in (("metrics behind a proxy", {"X-Forwarded-For": "203.0.113.9"}), ("metrics behind a proxy (RFC 7239)", {"Forwarded": "for=203.0.113.9"})):
        answer = door.caller().ask("GET", "/metrics", headers=headers)
        yield Row("headers", name, answer.status == 401, str(answer))


def _raw(caller: Caller, data: bytes) -> str:
    try:
        with socket.create_connection((caller.host, caller.port), timeout=10) as connection:
            connection.sendall(data)
            got = connection.recv(200)
    except OSError as error:
        return type(error).__name__
    return got.split(b" ")[1].decode(errors="replace") if got.startswith(b"HTTP/") else ""
