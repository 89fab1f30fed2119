"""Seals small secrets at rest and short-lived tokens (AES-256-GCM), each for one purpose. Must not know: what is sealed."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Seal:
    """Keys by purpose from one secret of at least 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("a seal needs 32 bytes")
        self._secret = secret

    def _key(self, purpose: str) -> AESGCM:
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=b"kang people " + purpose.encode()).derive(self._secret))

    def close(self, purpose: str, data: bytes, about: str = "") -> bytes:
        """Seal `data`; it opens only for the same purpose and `about`."""
        nonce = secrets.token_bytes(12)
        return nonce + self._key(purpose).encrypt(nonce, data, about.encode())

    def open(self, purpose: str, sealed: bytes, about: str = "") -> bytes | None:
        """What was sealed, None when it was not sealed here for this."""
        try:
            return self._key(purpose).decrypt(sealed[:12], sealed[12:], about.encode())
        except (InvalidTag, ValueError):
            return None

    def token(self, purpose: str, content: dict[str, Any]) -> str:
        """A sealed token as text."""
        return base64.urlsafe_b64encode(self.close(purpose, json.dumps(content).encode())).decode()

    def read(self, purpose: str, token: str) -> dict[str, Any] | None:
        """A token's content, None when it is not ours."""
        try:
            data = self.open(purpose, base64.urlsafe_b64decode(token.encode()))
        except ValueError:
            return None
        return None if data is None else dict(json.loads(data))
