"""The portal's fixtures, and a software passkey that verifies its user."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from soft_webauthn import SoftWebauthnDevice

from tests.portal.conftest import Clock, SignIn, clock, furnished, ledger, sign_in, site

__all__ = ["Clock", "Device", "SignIn", "clock", "furnished", "ledger", "sign_in", "site"]
ORIGIN = "http://portal.test"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Device:
    """A phone with one passkey; `verified` sets the user-verification flag, `origin` is where the browser believes it is."""

    def __init__(self) -> None:
        self.inner = SoftWebauthnDevice()

    def create(self, options: dict[str, Any], *, origin: str = ORIGIN, verified: bool = True) -> dict[str, Any]:
        public = options["publicKey"]
        made = self.inner.create({"publicKey": {**public, "challenge": raw(public["challenge"]), "user": {**public["user"], "id": raw(public["user"]["id"])}, "attestation": "none"}}, origin)
        attestation = cbor.decode(made["response"]["attestationObject"])
        if verified:
            data = bytearray(attestation["authData"])
            data[32] |= 4
            attestation = {**attestation, "authData": bytes(data)}
        return {"id": b64(made["rawId"]), "rawId": b64(made["rawId"]), "type": "public-key",
                "response": {"clientDataJSON": b64(made["response"]["clientDataJSON"]), "attestationObject": b64(cbor.encode(attestation))}}

    def get(self, options: dict[str, Any], *, origin: str = ORIGIN, verified: bool = True) -> dict[str, Any]:
        public = options["publicKey"]
        made = self.inner.get({"publicKey": {**public, "challenge": raw(public["challenge"])}}, origin)
        answer = made["response"]
        data = bytearray(answer["authenticatorData"])
        if verified:
            data[32] |= 4
        digest = hashes.Hash(hashes.SHA256())
        digest.update(answer["clientDataJSON"])
        signature = self.inner.private_key.sign(bytes(data) + digest.finalize(), ec.ECDSA(hashes.SHA256()))
        return {"id": b64(made["rawId"]), "rawId": b64(made["rawId"]), "type": "public-key",
                "response": {"clientDataJSON": b64(answer["clientDataJSON"]), "authenticatorData": b64(bytes(data)), "signature": b64(signature), "userHandle": None}}


@pytest.fixture
def device() -> Device:
    return Device()
