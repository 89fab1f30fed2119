"""Passkeys (WebAuthn): options for the browser, checks of what it brings. A challenge is a sealed token, good once for five minutes.

User verification is required, so a passkey is two factors by itself. Must not know: accounts, the ledger, HTTP.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json_dict
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from cloud.security.sealing import Seal
from protos.errors import KangError

LIFE_MS = 300_000
_KEEP = 10_000


class PasskeyError(KangError):
    """The passkey's answer is not right, not for us, or too late."""

    code = "E-PASSKEY"
    zh = "通行密钥验证未通过，或已超过五分钟。请重新发起验证。"
    en = "The passkey was not accepted, or five minutes have passed. Start again."


@dataclass(frozen=True, slots=True)
class Site:
    """Where the browser believes it is: host without port, and scheme://host[:port]."""

    host: str
    origin: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A new credential."""

    id: str
    public_key: bytes
    sign_count: int


class Passkeys:
    """Makes and checks challenges."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._used: dict[str, int] = {}

    def registration(self, site: Site, *, user_id: int, name: str, display_name: str, have: Sequence[str], now_ms: int) -> dict[str, Any]:
        """Options for `navigator.credentials.create`, with the token to bring back."""
        challenge = secrets.token_bytes(32)
        options = webauthn.generate_registration_options(
            rp_id=site.host, rp_name="Kang", user_id=f"kang-{user_id}".encode(), user_name=name, user_display_name=display_name, challenge=challenge,
            authenticator_selection=AuthenticatorSelectionCriteria(resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(i)) for i in have])
        return {"token": self._token("register", challenge, user_id, now_ms), "publicKey": options_to_json_dict(options)}

    def registered(self, site: Site, token: str, credential: dict[str, Any], *, user_id: int, now_ms: int) -> Registered:
        """Check a new credential.

        Raises:
            PasskeyError: it is not right.
        """
        challenge = self._challenge("register", token, user_id, now_ms)
        try:
            found = webauthn.verify_registration_response(credential=json.dumps(credential), expected_challenge=challenge, expected_rp_id=site.host, expected_origin=site.origin,
                                                          require_user_verification=True)
        except (WebAuthnException, ValueError, KeyError, TypeError) as error:
            raise PasskeyError from error
        self._use(token, now_ms)
        return Registered(bytes_to_base64url(found.credential_id), found.credential_public_key, found.sign_count)

    def request(self, site: Site, *, user_id: int, have: Sequence[str], now_ms: int) -> dict[str, Any]:
        """Options for `navigator.credentials.get`; user 0 = whoever the browser offers."""
        challenge = secrets.token_bytes(32)
        options = webauthn.generate_authentication_options(
            rp_id=site.host, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED,
            allow_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(i)) for i in have])
        return {"token": self._token("use", challenge, user_id, now_ms), "publicKey": options_to_json_dict(options)}

    def used(self, site: Site, token: str, credential: dict[str, Any], *, user_id: int, public_key: bytes, sign_count: int, now_ms: int) -> int:
        """Check an answer; gives the credential's new counter.

        Raises:
            PasskeyError: it is not right, or the counter went back (a copy of the key).
        """
        challenge = self._challenge("use", token, user_id, now_ms)
        try:
            found = webauthn.verify_authentication_response(
                credential=json.dumps(credential), expected_challenge=challenge, expected_rp_id=site.host, expected_origin=site.origin,
                credential_public_key=public_key, credential_current_sign_count=sign_count, require_user_verification=True)
        except (WebAuthnException, ValueError, KeyError, TypeError) as error:
            raise PasskeyError from error
        self._use(token, now_ms)
        return found.new_sign_count

    def _token(self, purpose: str, challenge: bytes, user_id: int, now_ms: int) -> str:
        return self._seal.token(f"passkey {purpose}", {"c": bytes_to_base64url(challenge), "u": user_id, "x": now_ms + LIFE_MS})

    def _challenge(self, purpose: str, token: str, user_id: int, now_ms: int) -> bytes:
        content = self._seal.read(f"passkey {purpose}", token)
        if content is None or content["u"] != user_id or now_ms >= content["x"] or content["c"] in self._used:
            raise PasskeyError
        return base64url_to_bytes(content["c"])

    def _use(self, token: str, now_ms: int) -> None:
        """Only what succeeded is remembered, so nobody fills this from outside."""
        content = self._seal.read("passkey register", token) or self._seal.read("passkey use", token) or {"c": "", "x": 0}
        if content["c"] in self._used:
            raise PasskeyError
        if len(self._used) >= _KEEP:
            self._used = {c: x for c, x in self._used.items() if x > now_ms}
        self._used[content["c"]] = content["x"]
