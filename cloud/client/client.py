"""The client: token kept fresh, problems as exceptions, retries that cannot do anything twice.

A changing call gets an idempotency key of its own and is repeated with the same one; 429 and 503 are waited out as the platform asks.
Must not know: anything of the platform's inside.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

_RETRIES = 4
_TIMEOUT_S = 30.0


class KangProblem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """What the platform refused, as RFC 9457 says it.

    Attributes:
        status: HTTP status.
        code: stable code, e.g. "E-CLIENT-SCOPE".
        document: the whole problem.
    """

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status, self.code, self.document = status, str(document.get("code", "")), dict(document)
        super().__init__(f"{status} {self.code}: {document.get('detail', '')}")

    def text(self, language: str = "en") -> str:
        """The platform's words, "zh" or "en"."""
        return str(self.document.get(language) or self.document.get("detail", ""))


class Busy(KangProblem):
    """Asked too often, or the platform is too busy for this client's class; after the retries."""


@dataclass(frozen=True, slots=True)
class Project:
    """A heating project."""

    id: int
    code: str
    name_zh: str
    name_en: str
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of a point; UTC milliseconds, canonical unit."""

    device_id: int
    point_id: int
    at_ms: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True)
class Series:
    """History of a point; `resolution_s` 0 = raw."""

    device_id: int
    point_id: int
    resolution_s: int
    at_ms: list[int]
    mean: list[float | None]


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its state: accepted ... verified, failed, expired, superseded, refused, unknown."""

    id: str
    state: str
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def final(self) -> bool:
        """True when nothing more will happen by itself."""
        return self.state in ("verified", "failed", "expired", "superseded", "refused", "unknown")


class Kang:
    """One platform, one client id.

    Args:
        url: e.g. "https://kang.example:8420".
        client_id: from the interface page.
        secret: shown once, when the client was registered.
        context: TLS context, with the client's certificate where it is bound to one.
        sleep: how to wait (tests give their own).
    """

    def __init__(self, url: str, client_id: str, secret: str, *, context: ssl.SSLContext | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an address: {url}")
        self._https, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._id, self._secret, self._context, self._sleep = client_id, secret, context, sleep
        self._connection: http.client.HTTPConnection | None = None
        self._token, self._until = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- what can be asked --------------------------------------------------------------------------------------------

    def myself(self) -> dict[str, Any]:
        """Scope, rate and class of this client."""
        found: dict[str, Any] = self.get("interfaces/self")
        return found

    def projects(self) -> list[Project]:
        """Projects in scope."""
        found = self.get("projects")
        return [Project(int(r["id"]), str(r["code"]), str(r.get("name_zh", "")), str(r.get("name_en", "")), r) for r in found]

    def latest(self, project_id: int) -> list[Latest]:
        """Newest values of a project."""
        found = self.get(f"projects/{project_id}/latest")
        return [Latest(int(d), int(p), int(at), float("nan") if value is None else float(value), int(quality)) for d, p, at, value, quality in found["rows"]]

    def history(self, project_id: int, points: Iterable[tuple[int, int]], start_ms: int, end_ms: int) -> list[Series]:
        """History of (device, point) pairs over [start, end), UTC milliseconds."""
        found = self.get(f"projects/{project_id}/history", {"series": ",".join(f"{d}:{p}" for d, p in points), "start_ms": start_ms, "end_ms": end_ms})
        rows = found["series"] if isinstance(found, dict) else found
        return [Series(int(r["device_id"]), int(r["point_id"]), int(r["resolution_s"]), list(r["at_ms"]), list(r["mean"])) for r in rows]

    def alarms(self, *, active: bool | None = None) -> list[dict[str, Any]]:
        """Alarms in scope, newest first."""
        found: list[dict[str, Any]] = self.get("alarms", {} if active is None else {"active": str(active).lower()})
        return found

    def command(self, device_id: int, kind: str, **more: Any) -> Command:
        """Send a command once, however often the network makes us ask."""
        found = self.post("commands", {"device_id": device_id, "kind": kind, **more})
        return Command(str(found["id"]), str(found["state"]), found)

    def follow(self, command: Command, *, seconds: float = 60.0, every: float = 0.5) -> Command:
        """Ask until the command's state is final or the time is over."""
        until = time.monotonic() + seconds
        while not command.final and time.monotonic() < until:
            self._sleep(every)
            found = self.get(f"commands/{quote(command.id, safe='')}")
            command = Command(str(found["id"]), str(found["state"]), found)
        return command

    # -- how it is asked ----------------------------------------------------------------------------------------------

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Any reading call.

        Raises:
            KangProblem: refused; `Busy` when it is a matter of waiting.
        """
        return self._ask("GET", path + ("?" + urlencode(query) if query else ""), None, "")

    def post(self, path: str, body: Any, *, key: str = "") -> Any:
        """Any changing call; done once for a key.

        Raises:
            KangProblem: refused.
        """
        return self._ask("POST", path, body, key or uuid.uuid4().hex)

    def _ask(self, method: str, path: str, body: Any, key: str) -> Any:
        problem = KangProblem(0, {"detail": "never asked"})
        renewed = False
        for attempt in range(_RETRIES + 1):
            if time.monotonic() >= self._until:
                self._renew()
            headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            if key:
                headers["Idempotency-Key"] = key
            try:
                status, answered, after = self._send(method, "/api/v1/" + path, None if body is None else json.dumps(body).encode(), headers)
            except (OSError, http.client.HTTPException):
                self.close()
                if attempt == _RETRIES:
                    raise
                self._sleep(min(2.0**attempt * 0.2, 5.0))
                continue
            if status < 400:
                return answered
            problem = (Busy if status in (429, 503) else KangProblem)(status, answered if isinstance(answered, dict) else {"detail": str(answered)})
            if status == 401 and not renewed:
                renewed, self._until = True, 0.0
                continue
            if not isinstance(problem, Busy) or attempt == _RETRIES:
                raise problem
            self._sleep(min(after or 2.0**attempt * 0.2, 30.0))
        raise problem

    def _renew(self) -> None:
        basic = base64.b64encode(f"{quote(self._id, safe='')}:{quote(self._secret, safe='')}".encode()).decode()
        status, answered, _ = self._send("POST", "/api/v1/oauth/token", b"grant_type=client_credentials",
                                         {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"})
        if status != 200:
            raise (Busy if status == 429 else KangProblem)(status, answered if isinstance(answered, dict) else {"detail": str(answered)})
        self._token, self._until = str(answered["access_token"]), time.monotonic() + float(answered["expires_in"]) * 0.9

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any, float]:
        if self._connection is None:
            self._connection = (http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=self._context or ssl.create_default_context())
                                if self._https else http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S))
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        data = answer.read()
        after = answer.getheader("Retry-After", "")
        document = json.loads(data) if data and "json" in (answer.getheader("Content-Type") or "") else data.decode(errors="replace")
        return answer.status, document, float(after) if after.isdigit() else 0.0
