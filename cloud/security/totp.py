"""One-time codes of an authenticator app (RFC 6238) and recovery codes on paper. Must not know: accounts, the ledger."""

from __future__ import annotations

import hashlib
import hmac
import io
import secrets

import pyotp
import segno

STEP_S, WINDOW = 30, 1
RECOVERY_CODES = 10


def new_secret() -> str:
    """A base32 secret of 160 bits."""
    return pyotp.random_base32(32)


def address(secret: str, account: str) -> str:
    """The otpauth:// address an authenticator app reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name="Kang")


def picture(text: str) -> str:
    """A QR code as an SVG document, dark on white whatever the theme, with its quiet zone."""
    out = io.BytesIO()
    segno.make(text, error="m").save(out, kind="svg", scale=5, border=4, dark="#26221e", light="#ffffff", xmldecl=False, svgclass=None, lineclass=None)
    return out.getvalue().decode()


def matching_step(secret: str, code: str, now_ms: int) -> int | None:
    """The time step whose code this is, one before and one after included; None when it is none of theirs."""
    if len(code) != 6 or not code.isascii() or not code.isdigit():
        return None
    generator, step = pyotp.TOTP(secret), now_ms // 1000 // STEP_S
    found = None
    for candidate in range(step - WINDOW, step + WINDOW + 1):
        if hmac.compare_digest(generator.generate_otp(candidate), code):
            found = candidate
    return found


def recovery_codes() -> list[str]:
    """Ten codes of 80 bits, in groups that can be read aloud."""
    alphabet = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
    return ["-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4)) for _ in range(RECOVERY_CODES)]


def digest(code: str) -> str:
    """What is stored of a recovery code."""
    return hashlib.sha256(code.strip().upper().replace(" ", "").encode()).hexdigest()
