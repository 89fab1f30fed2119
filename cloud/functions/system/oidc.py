"""Signing in through an organisation's own identity provider (统一身份认证): OpenID Connect, authorization code with PKCE, one provider.

Accounts are made here as ever; the provider only proves who somebody is, by one claim that must be the account's name. What it does not say of a
second factor is not believed: such a session must prove identity again before what asks for it. Must not know: FastAPI.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select

from cloud.core.clock import now_ms
from cloud.functions.system.sessions import SessionService
from cloud.functions.system.tables import User
from cloud.security.operations import Principal
from protos.errors import KangError

#: Seconds between leaving for the provider and coming back.
PATIENCE_S: Final = 600
ALGORITHMS: Final = ("ES256", "RS256", "PS256", "Ed25519", "EdDSA")
#: Words of `amr` (RFC 8176) that say a second factor was used.
STRONG: Final = frozenset({"mfa", "otp", "hwk", "swk", "sc", "fpt", "face", "iris"})
_MOST, _LARGEST, _SKEW_S = 5_000, 1 << 20, 120


class ProviderRefusedError(KangError):
    """What came back is not good, or belongs to nobody here; which of them is not told."""

    code = "E-SIGN-IN-PROVIDER"
    zh = "统一身份认证登录未通过：请重新发起登录；若仍失败，请管理员核对账号名与身份提供方的一致性。"
    en = "Signing in through the identity provider failed: begin again. If it persists, ask the administrator whether your account has the name the provider gives."


class ProviderDownError(KangError):
    """The provider cannot be reached, or is set up wrongly."""

    code = "E-OIDC"
    zh = "身份提供方不可用：{problem}。请稍后重试，或使用其他登录方式。"
    en = "The identity provider cannot be used: {problem}. Try again later, or sign in another way."


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """`credentials/oidc.json`.

    Attributes:
        issuer: https address of the provider (http on loopback only).
        client_id: our name there.
        client_secret: "" for a public client: PKCE alone.
        claim: whose value is the account's name; one that people cannot choose for themselves.
        name_zh: on the button.
        name_en: on the button.
        ca: file with the provider's CA, "" for the system's.
    """

    issuer: str
    client_id: str
    client_secret: str = ""
    claim: str = "preferred_username"
    name_zh: str = "统一身份认证"
    name_en: str = "Single sign-on"
    ca: str = ""


def read(file: Path) -> ProviderSettings | None:
    """The provider of an installation, None where there is none.

    Raises:
        ProviderDownError: the file is wrong.
    """
    if not file.exists():
        return None
    try:
        found = ProviderSettings(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise ProviderDownError(problem=f"oidc.json: {error}") from None
    parts = urlsplit(found.issuer)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))):
        raise ProviderDownError(problem="oidc.json: the issuer must be an https address / issuer 必须是 https 地址")
    return found


@dataclass(frozen=True, slots=True)
class _Leaving:
    browser: str
    nonce: str
    verifier: str
    redirect: str
    until: float


class Provider:
    """One provider; blocking, for worker threads."""

    def __init__(self, settings: ProviderSettings, sessions: SessionService, now: Callable[[], int] = now_ms, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.settings, self._sessions, self._now, self._monotonic = settings, sessions, now, monotonic
        self._context = ssl.create_default_context(cafile=settings.ca or None)
        self._leaving: OrderedDict[str, _Leaving] = OrderedDict()
        self._document: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def begin(self, redirect: str) -> tuple[str, str]:
        """Leave for the provider.

        Returns:
            (address to go to, secret for the browser's cookie: only that browser may come back)

        Raises:
            ProviderDownError: it is not there.
        """
        where = str(self._discover()["authorization_endpoint"])
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        self._leaving[state] = _Leaving(_hash(browser), nonce, verifier, redirect, self._monotonic() + PATIENCE_S)
        while len(self._leaving) > _MOST:
            self._leaving.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {"response_type": "code", "client_id": self.settings.client_id, "redirect_uri": redirect, "scope": "openid profile", "state": state, "nonce": nonce, "code_challenge": challenge,
                 "code_challenge_method": "S256"}
        return f"{where}{'&' if '?' in where else '?'}{urlencode(query)}", browser

    def finish(self, state: str, code: str, browser: str, *, address: str, agent: str) -> tuple[str, Principal]:
        """Come back: the code becomes a session; each state works once.

        Returns:
            (session token, who it is)

        Raises:
            ProviderRefusedError: anything is wrong.
            ProviderDownError: the provider does not answer.
        """
        left = self._leaving.pop(state, None)
        if left is None or self._monotonic() > left.until or not hmac.compare_digest(left.browser, _hash(browser)):
            raise ProviderRefusedError
        claims = self._claims(self._exchange(code, left), left.nonce)
        name, proofs = claims.get(self.settings.claim), claims.get("amr")
        if not isinstance(name, str) or (self.settings.claim == "email" and claims.get("email_verified") is not True):
            raise ProviderRefusedError
        strong = isinstance(proofs, list) and not STRONG.isdisjoint(p for p in proofs if isinstance(p, str))
        with self._sessions.ledger.write() as session:
            user = session.scalar(select(User).where(User.name == name))
            if user is None or not self._sessions.welcome(session, user):
                raise ProviderRefusedError
            return self._sessions.start(session, user, method="provider", address=address, agent=agent, proved=strong)

    # -- the provider -------------------------------------------------------------------------------------------------

    def _exchange(self, code: str, left: _Leaving) -> str:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": left.redirect, "client_id": self.settings.client_id, "code_verifier": left.verifier}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self.settings.client_secret:
            pair = urlencode({"": self.settings.client_id})[1:] + ":" + urlencode({"": self.settings.client_secret})[1:]
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        answer = self._ask(str(self._discover()["token_endpoint"]), urlencode(form).encode(), headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderRefusedError
        return token

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        """Signature, issuer, audience, times and nonce of an ID token (OpenID Connect Core, 3.1.3.7)."""
        try:
            try:
                claims = jwt.decode(token, self._known(), algorithms=list(ALGORITHMS)).claims
            except (JoseError, ValueError):
                claims = jwt.decode(token, self._known(anew=True), algorithms=list(ALGORITHMS)).claims  # the provider may have changed its keys
            audience, now = claims["aud"], self._now() // 1000
            listed = audience if isinstance(audience, list) else [audience]
            good = (claims["iss"] == self.settings.issuer and self.settings.client_id in listed and (len(listed) == 1 or claims.get("azp") == self.settings.client_id)
                    and int(claims["exp"]) > now - _SKEW_S and int(claims["iat"]) < now + _SKEW_S and hmac.compare_digest(str(claims.get("nonce", "")), nonce))
        except (JoseError, ValueError, KeyError, TypeError):
            raise ProviderRefusedError from None
        if not good:
            raise ProviderRefusedError
        return dict(claims)

    def _discover(self) -> dict[str, Any]:
        if self._document is None or self._monotonic() - self._document[0] > 3600:
            found = self._ask(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self.settings.issuer or not all(isinstance(found.get(k), str) for k in ("authorization_endpoint", "token_endpoint", "jwks_uri")):
                raise ProviderDownError(problem="its description names another issuer / 描述与 issuer 不符")
            self._document = (self._monotonic(), found)
        return self._document[1]

    def _known(self, *, anew: bool = False) -> KeySet:
        at, keys = self._keys or (-1e9, None)
        if keys is None or self._monotonic() - at > 3600 or (anew and self._monotonic() - at > 10):
            keys = KeySet.import_key_set(self._ask(str(self._discover()["jwks_uri"])))  # type: ignore[arg-type]  # what is wrong in it raises
            self._keys = (self._monotonic(), keys)
        return keys

    def _ask(self, url: str, form: bytes | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        if urlsplit(url).scheme != urlsplit(self.settings.issuer).scheme:
            raise ProviderDownError(problem="an address without https / 地址不是 https")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, form, headers or {}), timeout=10, context=self._context if url.startswith("https") else None) as answer:  # noqa: S310 # nosec B310  scheme checked above
                found = json.loads(answer.read(_LARGEST))
        except urllib.error.HTTPError as error:
            if form is not None and error.code in (400, 401):
                raise ProviderRefusedError from None
            raise ProviderDownError(problem=f"HTTP {error.code}") from None
        except (OSError, ValueError) as error:
            raise ProviderDownError(problem=type(error).__name__) from None
        if not isinstance(found, dict):
            raise ProviderDownError(problem="not an object")
        return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
