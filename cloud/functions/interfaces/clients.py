"""External clients (外部接口): registered with operations, projects, hidden fields, rate and class; known again by a token of ten minutes.

A token is an Ed25519-signed JWT that names client and version: a changed, disabled or expired client's tokens are refused within a second.
Must not know: FastAPI, HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from sqlalchemy import select

from cloud.core.clock import now_ms
from cloud.functions.interfaces.errors import ClientInvalidError, ClientRefusedError, RateError
from cloud.functions.interfaces.tables import ExternalClient
from cloud.ledger import Ledger
from cloud.security import audit
from cloud.security.operations import ADMINS, PRIORITIES, Operation, OperationTable, Principal, Role

#: SHA-256 of the certificate the caller presented, hex; "" when there was none.
CERTIFICATE: ContextVar[str] = ContextVar("kang_certificate", default="")
TOKEN_S: Final = 600
ISSUER: Final = "kang"
AUDIENCE: Final = "kang-api"
_FRESH_S = 1.0
#: (request PEM, client id, days) -> (chain PEM, roots PEM): the certificate authority, asked for the third parties' zone.
Certify = Callable[[bytes, str, int], tuple[bytes, bytes]]


@dataclass(slots=True)
class Use:
    """What a client did lately, for the live list: (monotonic second, status) of its last calls."""

    calls: deque[tuple[float, int, float]] = field(default_factory=lambda: deque(maxlen=5000))
    address: str = ""
    last_ms: int = 0
    total: int = 0
    errors: int = 0
    limited: int = 0
    open: int = 0


@dataclass(slots=True)
class Bucket:
    """A token bucket."""

    rate: float
    burst: float
    level: float
    at: float

    def take(self, now: float) -> float:
        """0 when a call may go on, else seconds until one may."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1.0:
            self.level -= 1.0
            return 0.0
        return (1.0 - self.level) / self.rate


def grantable(row: Operation) -> bool:
    """May an external client have this operation at all? Nothing of the administrators', of one's own account, or that needs two persons."""
    return not row.open and not row.two_person and row.scope not in ("platform", "self") and bool(row.roles - ADMINS - {Role.RESIDENT}) and not row.name.startswith(("system.", "interfaces."))


class ClientService:
    """Registers clients, gives tokens, knows them again, counts their calls.

    Args:
        ledger: where clients are.
        key: Ed25519 private key that signs tokens, PEM.
        table: gives the operation table (it is complete only once the app is assembled).
        now: UTC milliseconds.
        monotonic: seconds.
    """

    def __init__(self, ledger: Ledger, key: bytes, table: Callable[[], OperationTable], now: Callable[[], int] = now_ms,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._table, self._now, self._monotonic = ledger, table, now, monotonic
        self._key = OKPKey.import_key(key)
        self._cache: dict[str, tuple[float, ExternalClient | None]] = {}
        self._bearers: dict[str, tuple[float, str | None]] = {}
        self._buckets: dict[str, tuple[int, Bucket]] = {}
        self.uses: dict[str, Use] = {}

    # -- configuring --------------------------------------------------------------------------------------------------

    def register(self, name: str, operations: Sequence[str], *, project_ids: Sequence[int] | None = None, hidden_fields: Sequence[str] = (), rate: float = 10.0,
                 burst: int = 20, priority: int = 5, certificate: str = "", expires_ms: int | None = None, actor: str = "") -> tuple[dict[str, Any], str]:
        """A new client.

        Returns:
            (its view, its secret: shown this once, only its hash is kept)

        Raises:
            ClientInvalidError: with the reason.
        """
        self._check(name, operations, rate, burst, priority, certificate)
        secret = secrets.token_urlsafe(32)
        row = ExternalClient(
            id="kc-" + secrets.token_hex(6), name=name, secret_hash=_hash(secret), certificate=certificate.lower(), operations=sorted(set(operations)),
            project_ids=None if project_ids is None else sorted(set(project_ids)), hidden_fields=sorted(set(hidden_fields)), rate=rate, burst=burst, priority=priority,
            disabled=False, version=1, created_ms=self._now(), created_by=actor, expires_ms=expires_ms)
        with self._ledger.write() as session:
            if session.scalar(select(ExternalClient.id).where(ExternalClient.name == name)) is not None:
                raise ClientInvalidError(reason_zh=f"名称“{name}”已存在", reason_en=f"the name '{name}' is taken")
            session.add(row)
            audit.record(session, "interfaces.client.create", at_ms=self._now(), target=f"client/{row.id}", object_=f"external_client/{row.id}", after=_document(row), level="warning",
                         operator=actor or None)
        return self.view(row), secret

    def change(self, client_id: str, changes: dict[str, Any], *, actor: str = "") -> dict[str, Any]:
        """Change a client; its present tokens end.

        Raises:
            ClientInvalidError: unknown client or values.
        """
        with self._ledger.write() as session:
            row = self._row(session, client_id)
            before = _document(row)
            for name, value in changes.items():
                setattr(row, name, value)
            self._check(row.name, row.operations, row.rate, row.burst, row.priority, row.certificate)
            row.version += 1
            audit.record(session, "interfaces.client.change", at_ms=self._now(), target=f"client/{row.id}", object_=f"external_client/{row.id}", before=before, after=_document(row),
                         level="warning", operator=actor or None)
        self._cache.pop(client_id, None)
        return self.view(row)

    def new_secret(self, client_id: str, *, actor: str = "") -> str:
        """Replace the secret; the old one and all tokens end."""
        secret = secrets.token_urlsafe(32)
        with self._ledger.write() as session:
            row = self._row(session, client_id)
            row.secret_hash, row.version = _hash(secret), row.version + 1
            audit.record(session, "interfaces.client.secret", at_ms=self._now(), target=f"client/{row.id}", object_=f"external_client/{row.id}", level="warning", operator=actor or None)
        self._cache.pop(client_id, None)
        return secret

    def certify(self, client_id: str, request: bytes, days: int, authority: Certify, *, actor: str = "") -> dict[str, Any]:
        """Have a certificate signed for a client's own key and bind the client to it: the one before and all tokens end.

        Returns:
            certificate and roots (PEM), its SHA-256 (hex), serial, end (UTC ms).

        Raises:
            ClientInvalidError: unknown client.
            KangError: the authority refuses the request, or does not answer.
        """
        with self._ledger.read() as session:
            self._row(session, client_id)
        chain, roots = authority(request, client_id, days)
        made = x509.load_pem_x509_certificates(chain)[0]
        digest = made.fingerprint(hashes.SHA256()).hex()
        with self._ledger.write() as session:
            row = self._row(session, client_id)
            before = _document(row)
            row.certificate, row.version = digest, row.version + 1
            audit.record(session, "interfaces.client.certificate", at_ms=self._now(), target=f"client/{row.id}", object_=f"external_client/{row.id}", before=before, after=_document(row),
                         level="warning", operator=actor or None)
        self._cache.pop(client_id, None)
        return {"id": client_id, "certificate": chain.decode(), "roots": roots.decode(), "sha256": digest, "serial": f"{made.serial_number:x}",
                "not_after_ms": int(made.not_valid_after_utc.timestamp() * 1000)}

    def _row(self, session: Any, client_id: str) -> ExternalClient:
        row: ExternalClient | None = session.get(ExternalClient, client_id)
        if row is None:
            raise ClientInvalidError(reason_zh=f"没有客户端 {client_id}", reason_en=f"there is no client {client_id}")
        return row

    def _check(self, name: str, operations: Sequence[str], rate: float, burst: int, priority: int, certificate: str) -> None:
        known = {row.name for row in self._table() if grantable(row)}
        wrong = sorted(set(operations) - known)
        for bad, zh, en in (
                (not name.strip() or len(name) > 120, "名称应为 1–120 个字符", "a name has 1-120 characters"),
                (bool(wrong), f"操作 {', '.join(wrong)} 不存在或不可授予外部系统", f"no external system may have {', '.join(wrong)}"),
                (not operations, "至少需要一个操作", "at least one operation is needed"),
                (not 0 < rate <= 10_000 or not 1 <= burst <= 100_000, "频率应为 0–10000 次/秒，突发 1–100000", "the rate is 0-10000 a second, the burst 1-100000"),
                (priority not in PRIORITIES, f"优先级应为 {PRIORITIES} 之一", f"the class is one of {PRIORITIES}"),
                (bool(certificate) and (len(certificate) != 64 or any(c not in "0123456789abcdefABCDEF" for c in certificate)), "证书指纹应为 SHA-256 十六进制", "a certificate is named by its SHA-256 in hex")):
            if bad:
                raise ClientInvalidError(reason_zh=zh, reason_en=en)

    def listing(self) -> list[dict[str, Any]]:
        """All clients with their use."""
        with self._ledger.read() as session:
            return [self.view(row) for row in session.scalars(select(ExternalClient).order_by(ExternalClient.created_ms))]

    def view(self, row: ExternalClient) -> dict[str, Any]:
        """A client as the page sees it."""
        use, now = self.uses.get(row.id, Use()), self._monotonic()
        recent = [c for c in use.calls if now - c[0] <= 60]
        waits = sorted(c[2] for c in recent)
        return {**_document(row), "expires_ms": row.expires_ms, "created_ms": row.created_ms, "created_by": row.created_by, "version": row.version, "last_ms": use.last_ms or None,
                "address": use.address, "open": use.open, "calls": use.total, "errors": use.errors, "limited": use.limited, "rate_now": round(len(recent) / 60, 2),
                "p95_ms": round(waits[int(len(waits) * 0.95)] * 1000, 1) if waits else None}

    # -- tokens -------------------------------------------------------------------------------------------------------

    def token(self, client_id: str, secret: str, *, certificate: str = "") -> dict[str, Any]:
        """A token for a client (RFC 6749, 4.4), bound to the certificate it was asked for with, where there was one (RFC 8705, 3).

        Raises:
            ClientRefusedError: whatever is wrong.
        """
        with self._ledger.read() as session:
            row = session.get(ExternalClient, client_id[:40])
        # The same work whether the client exists or not.
        right = hmac.compare_digest(_hash(secret), row.secret_hash if row is not None else _hash("nobody"))
        if row is None or not right or row.disabled or (row.expires_ms is not None and row.expires_ms <= self._now()) or (row.certificate and not hmac.compare_digest(row.certificate, certificate)):
            raise ClientRefusedError
        return {"access_token": self.mint(row, certificate), "token_type": "Bearer", "expires_in": TOKEN_S, "scope": " ".join(row.operations)}

    def mint(self, row: ExternalClient, certificate: str = "") -> str:
        """A signed token of a client, for whoever presents `certificate` (SHA-256, hex)."""
        now = self._now() // 1000
        claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": row.id, "iat": now, "exp": now + TOKEN_S, "ver": row.version, "jti": secrets.token_hex(8)}
        if certificate:
            claims["cnf"] = {"x5t#S256": thumbprint(certificate)}
        return jwt.encode({"alg": "Ed25519", "typ": "at+jwt"}, claims, self._key, algorithms=["Ed25519"])

    async def bearer(self, certificate: str) -> str | None:
        """A token for whoever presents a certificate a client is bound to: where the certificate alone is the identity (grid dispatch). None = nobody's.

        Args:
            certificate: SHA-256, hex, of what the connection really presented.
        """
        at, token = self._bearers.get(certificate, (-1e9, None))
        if self._monotonic() - at <= _FRESH_S:
            return token

        def read() -> ExternalClient | None:
            with self._ledger.read() as session:
                return session.scalar(select(ExternalClient).where(ExternalClient.certificate == certificate, ExternalClient.disabled.is_(False)).limit(1))

        row = await asyncio.to_thread(read) if certificate else None
        if len(self._bearers) > 10_000:
            self._bearers.clear()
        made = None if row is None else self.mint(row, certificate)
        self._bearers[certificate] = (self._monotonic(), made)
        return made

    async def client(self, token: str, *, certificate: str = "") -> ExternalClient | None:
        """The client a token belongs to, None when the token is not good any more."""
        try:
            decoded = jwt.decode(token, self._key, algorithms=["Ed25519"])
            claims = decoded.claims
            if decoded.header.get("typ") != "at+jwt" or claims.get("iss") != ISSUER or claims.get("aud") != AUDIENCE or int(claims["exp"]) * 1000 <= self._now() or int(claims["iat"]) * 1000 > self._now() + 60_000:
                return None
            client_id, version, bound = str(claims["sub"]), int(claims["ver"]), str(dict(claims.get("cnf") or {}).get("x5t#S256", ""))
        except (JoseError, ValueError, KeyError, TypeError):
            return None
        if bound and not hmac.compare_digest(bound, thumbprint(certificate)):
            return None
        row = await self._look(client_id)
        if row is None or row.version != version or row.disabled or (row.expires_ms is not None and row.expires_ms <= self._now()):
            return None
        if row.certificate and (not bound or not hmac.compare_digest(row.certificate, certificate)):
            return None
        return row

    async def _look(self, client_id: str) -> ExternalClient | None:
        at, row = self._cache.get(client_id, (-1e9, None))
        if self._monotonic() - at > _FRESH_S:
            def read() -> ExternalClient | None:
                with self._ledger.read() as session:
                    return session.get(ExternalClient, client_id)

            row = await asyncio.to_thread(read)
            if len(self._cache) > 10_000:
                self._cache.clear()
            self._cache[client_id] = (self._monotonic(), row)
        return row

    async def authenticate(self, token: str) -> Principal | None:
        """The principal of a token, as the guard asks for it. Which operations it may is the door's business: roles here are what its rows name."""
        row = await self.client(token, certificate=CERTIFICATE.get())
        return self.principal(row) if row is not None else None

    def principal(self, row: ExternalClient) -> Principal:
        """Who a client is to the guard."""
        table = {r.name: r for r in self._table()}
        roles = frozenset(role for name in row.operations if name in table for role in table[name].roles - ADMINS - {Role.RESIDENT})
        return Principal(user_id=0, name=f"client:{row.id}"[:60], display_name=row.name, roles=roles, project_ids=None if row.project_ids is None else frozenset(row.project_ids),
                         device_ids=None, session=f"client:{row.id}", csrf="", kind="client", factor_ms=self._now(), now=self._now)

    # -- use ----------------------------------------------------------------------------------------------------------

    def spend(self, row: ExternalClient) -> None:
        """Take one call from the client's bucket.

        Raises:
            RateError: it is empty.
        """
        now = self._monotonic()
        version, bucket = self._buckets.get(row.id, (0, None))
        if bucket is None or version != row.version:
            bucket = Bucket(row.rate, float(row.burst), float(row.burst), now)
            self._buckets[row.id] = (row.version, bucket)
        wait = bucket.take(now)
        if wait:
            self.uses.setdefault(row.id, Use()).limited += 1
            raise RateError(rate=f"{row.rate:g}", retry_after_s=max(1, round(wait + 0.5)))

    def begin(self, row: ExternalClient, address: str) -> Use:
        """A call begins."""
        use = self.uses.setdefault(row.id, Use())
        use.address, use.last_ms, use.open = address, self._now(), use.open + 1
        return use

    def end(self, use: Use, status: int, seconds: float) -> None:
        """A call ends."""
        use.open -= 1
        use.total += 1
        use.errors += status >= 400
        use.calls.append((self._monotonic(), status, seconds))


def thumbprint(certificate: str) -> str:
    """SHA-256 in hex as `x5t#S256` of RFC 8705; "" of none."""
    return base64.urlsafe_b64encode(bytes.fromhex(certificate)).decode().rstrip("=")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _document(row: ExternalClient) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "operations": list(row.operations), "project_ids": row.project_ids, "hidden_fields": list(row.hidden_fields), "rate": row.rate, "burst": row.burst,
            "priority": row.priority, "disabled": row.disabled, "certificate": row.certificate}
