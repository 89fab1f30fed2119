"""What the agents page shows (边缘代理): certificate, clock, link and a state in one word; an invitation as text.

Must not know: FastAPI, certificates' bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A certificate is due at two thirds of its life; after its end an unrevoked box may still renew for 90 days.
DUE_SHARE = 2 / 3
GRACE_MS = 90 * 86_400_000


def identity_state(info_revoked: bool, standing: Mapping[str, Any] | None, now_ms: int) -> str:
    """active, renewal_due, grace, expired, revoked, clone, or unknown when the certificate was never recorded."""
    facts = standing or {}
    if info_revoked:
        return "revoked"
    if facts.get("clone_ms"):
        return "clone"
    end, issued = facts.get("not_after_ms"), facts.get("issued_ms")
    if not end:
        return "unknown"
    if now_ms > end + GRACE_MS:
        return "expired"
    if now_ms > end:
        return "grace"
    return "renewal_due" if issued and now_ms > issued + (end - issued) * DUE_SHARE else "active"


def invitation_text(url: str, token: str, fingerprint: str) -> str:
    """What the QR code says: the command for the box."""
    return f"kang-edge enrol {url} {token} {fingerprint}"
