"""NATS operator mode: nkeys and the JWTs of operator, accounts and users, made here so that no broker can admit anybody by itself.

One account per zone; an agent is a user with the subjects of its own site, for a day. Must not know: files, sockets, who asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.security.keys import crc16
from protos.suites import raw_private

OPERATOR: Final = 14 << 3
ACCOUNT: Final = 0
USER: Final = 20 << 3
_SEED: Final = 18 << 3
#: A NATS agent's JWT lives a day; it is renewed at two thirds of it.
USER_LIFE_S: Final = 86_400
_FREE: Final = {"subs": -1, "data": -1, "payload": -1}


@dataclass(frozen=True, slots=True)
class NatsKey:
    """An nkey of one kind (OPERATOR, ACCOUNT, USER)."""

    kind: int
    private: Ed25519PrivateKey

    @classmethod
    def make(cls, kind: int) -> NatsKey:
        """A new key."""
        return cls(kind, Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> NatsKey:
        """Read a seed text."""
        raw = base64.b32decode(seed + b"=" * (-len(seed) % 8))
        return cls(((raw[0] & 7) << 5 | raw[1] >> 3) & 0xF8, Ed25519PrivateKey.from_private_bytes(raw[2:34]))

    @property
    def seed(self) -> bytes:
        """The seed text."""
        body = bytes([_SEED | (self.kind >> 5), (self.kind & 31) << 3]) + raw_private(self.private)
        return base64.b32encode(body + crc16(body)).rstrip(b"=")

    @property
    def public(self) -> str:
        """The public text."""
        body = bytes([self.kind]) + self.private.public_key().public_bytes_raw()
        return base64.b32encode(body + crc16(body)).rstrip(b"=").decode()

    def token(self, name: str, subject: str, claims: Mapping[str, Any], *, issued_s: int, expires_s: int = 0) -> str:
        """A JWT issued by this key."""
        body: dict[str, Any] = {"iat": issued_s, "iss": self.public, "name": name, "sub": subject, "nats": {**claims, "version": 2}}
        if expires_s:
            body["exp"] = expires_s
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()).decode().rstrip("=")
        text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(body)}"
        return f"{text}.{_b64(self.private.sign(text.encode()))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(value: Mapping[str, Any]) -> str:
    return _b64(json.dumps(value, separators=(",", ":")).encode())


def operator_jwt(operator: NatsKey, system_account: str, *, issued_s: int) -> str:
    """The operator's own claims."""
    return operator.token("kang", operator.public, {"type": "operator", "system_account": system_account}, issued_s=issued_s)


def account_jwt(operator: NatsKey, account: str, name: str, *, issued_s: int, revoked: Mapping[str, int] | None = None, jetstream: bool = False, exports: Iterable[str] = (),
                imports: Mapping[str, str] | None = None) -> str:
    """An account's claims.

    Args:
        operator: who signs.
        account: public key.
        name: shown in the server's own reports.
        issued_s: UTC seconds.
        revoked: user's public nkey -> the second up to which its JWTs are refused.
        jetstream: may it have streams?
        exports: subjects others may send requests to; one answer each. No token is asked for: whoever could import them got its account from this operator.
        imports: subject -> public key of the account that exports it.
    """
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1) if jetstream else {}
    limits = {**_FREE, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": 0, **storage}
    claims = {"type": "account", "limits": limits, "default_permissions": {"pub": {}, "sub": {}}, "revocations": dict(revoked or {}),
              "exports": [{"name": s, "subject": s, "type": "service", "response_type": "Singleton"} for s in exports],
              "imports": [{"name": s, "subject": s, "account": a, "type": "service"} for s, a in (imports or {}).items()]}
    return operator.token(name, account, claims, issued_s=issued_s)


def user_jwt(account: NatsKey, user: str, name: str, *, issued_s: int, expires_s: int = 0, publish: list[str] | None = None,
             subscribe: list[str] | None = None) -> str:
    """A user's claims; without subjects it may use all of its account."""
    claims: dict[str, Any] = {"type": "user", **_FREE, "pub": {}, "sub": {}}
    if publish is not None:
        claims |= {"pub": {"allow": publish}, "sub": {"allow": subscribe or []}, "resp": {"max": 1, "ttl": 10_000_000_000}}
    return account.token(name, user, claims, issued_s=issued_s, expires_s=expires_s)


def expiry(token: str) -> int:
    """Second at which a JWT ends, 0 = never. For its holder: nothing is verified."""
    body = token.split(".")[1]
    return int(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))).get("exp", 0))


def valid_user_key(text: str) -> bool:
    """Is this the public text of a user nkey?"""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        return False
    return len(raw) == 35 and raw[0] == USER and crc16(raw[:33]) == raw[33:]
