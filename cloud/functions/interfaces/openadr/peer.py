"""Speaks to another's OpenADR 3.1 server (VTN): token, pages, objects, over HTTPS with the standard library.

Blocking, for a thread. Must not know: ledgers, what the objects mean.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from cloud.functions.interfaces.openadr.errors import ExchangeError

_LARGEST: Final = 8 << 20
_PAGE: Final = 50
_PAGES: Final = 100


class PeerError(ExchangeError):
    """The other server cannot be reached, refuses, or answers what nobody understands."""

    code = "E-OPENADR-PEER"
    zh = "上级 OpenADR 服务不可用：{problem}。请核对 credentials/openadr.json 与对方状态；已受理的事件照常执行。"
    en = "The OpenADR server above cannot be used: {problem}. Check credentials/openadr.json and the other side; events taken before go on."


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """`credentials/openadr.json`.

    Attributes:
        url: base address of the VTN, https (http on loopback only).
        client_id, client_secret: ours there.
        ven_name: our name in reports.
        mandatory: True when its events are orders where its programs do not say (KANG_KIND).
        projects: codes of projects it may ask, None = all.
        every_s: seconds between two looks.
        ca: file with its CA, "" for the system's.
    """

    url: str
    client_id: str
    client_secret: str
    ven_name: str = "kang-ven"
    mandatory: bool = False
    projects: tuple[str, ...] | None = None
    every_s: float = 30.0
    ca: str = ""


def read(file: Path) -> PeerSettings | None:
    """The VTN of an installation, None where there is none.

    Raises:
        PeerError: the file is wrong.
    """
    if not file.exists():
        return None
    try:
        given = json.loads(file.read_text())
        found = PeerSettings(**{**given, "projects": None if given.get("projects") is None else tuple(given["projects"])})
        parts, every = urlsplit(found.url), float(found.every_s)
    except (ValueError, TypeError, AttributeError) as error:
        raise PeerError(problem=f"openadr.json: {error}") from None
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"})):
        raise PeerError(problem="openadr.json: the url must be an https address / url 必须是 https 地址")
    if not (1.0 <= every <= 3600.0) or found.ven_name == "kang" or not found.ven_name:
        raise PeerError(problem="openadr.json: every_s is 1 to 3600, ven_name not 'kang' / every_s 为 1–3600，ven_name 不能是 kang")
    return found


class AnswerError(PeerError):
    """An answer with a status that is no success."""

    code = "E-OPENADR-PEER-ANSWER"

    @property
    def status(self) -> int:
        """HTTP status."""
        return int(self.values["status"])


class _Stays(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: a redirect would carry our token to an address nobody set."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Peer:
    """One VTN.

    Args:
        settings: where, and who we are there.
        monotonic: seconds.
    """

    def __init__(self, settings: PeerSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.settings, self._monotonic = settings, monotonic
        self._token, self._until = "", -1e9
        self._opener = urllib.request.build_opener(_Stays, urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=settings.ca or None)))

    def all(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All objects of a search, page by page.

        Raises:
            PeerError: it cannot be asked, or there is no end to them.
        """
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        for page in range(_PAGES):
            rows = self.ask("GET", f"{path}?{urlencode({**query, 'skip': page * _PAGE, 'limit': _PAGE})}")
            if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("id"), str) for r in rows):
                raise PeerError(problem=f"GET {path}: no list of objects")
            new = [r for r in rows if r["id"] not in seen]
            seen |= {r["id"] for r in new}
            found += new
            if len(rows) < _PAGE or not new:
                return found
        raise PeerError(problem=f"GET {path}: more than {_PAGES * _PAGE} objects")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call; a token that is not good any more is replaced once.

        Raises:
            AnswerError: the status is no success.
            PeerError: nothing came, or no JSON.
        """
        for last in (False, True):
            if self._monotonic() >= self._until:
                self._sign_in()
            try:
                return self._call(method, path, None if body is None else json.dumps(body).encode(), {"authorization": f"Bearer {self._token}", "content-type": "application/json"})
            except AnswerError as error:
                if error.status != 401 or last:
                    raise
                self._until = -1e9
        raise AssertionError  # the second turn returns or raises

    def _sign_in(self) -> None:
        form = urlencode({"grant_type": "client_credentials", "client_id": self.settings.client_id, "client_secret": self.settings.client_secret}).encode()
        made = self._call("POST", "/auth/token", form, {"content-type": "application/x-www-form-urlencoded"})
        if not isinstance(made, dict) or not isinstance(made.get("access_token"), str):
            raise PeerError(problem="POST /auth/token: no token")
        lasts = made.get("expires_in")
        self._token, self._until = made["access_token"], self._monotonic() + (max(1.0, lasts * 0.8) if isinstance(lasts, int | float) and 0 < lasts < 1e6 else 240.0)

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        url = self.settings.url.rstrip("/") + path
        where = f"{method} {path.partition('?')[0]}"
        try:
            with self._opener.open(urllib.request.Request(url, body, headers, method=method), timeout=15) as answer:  # noqa: S310  scheme checked in read()
                text = answer.read(_LARGEST)
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(2000)
            raise AnswerError(problem=f"{where}: HTTP {error.code} {text.decode(errors='replace')[:200]}", status=error.code) from None
        except (OSError, ValueError) as error:
            raise PeerError(problem=f"{where}: {type(error).__name__}") from None
