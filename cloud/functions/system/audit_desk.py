"""What the audit page asks for (审计): health, verification, export. Must not know: FastAPI, the audit key's private half."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select

from cloud.core.clock import now_ms
from cloud.ledger import Ledger
from cloud.security.audit import AuditCheckpoint, health
from cloud.security.audit_verify import verify


@dataclass(frozen=True)
class AuditDesk:
    """Reads the chain's files and the ledger of one installation."""

    ledger: Ledger
    public: bytes
    folder: Path
    control: Path
    now: Callable[[], int] = now_ms

    def health(self) -> dict[str, Any]:
        """How far the chain is behind, and its newest checkpoint."""
        with self.ledger.read() as session:
            state = health(session, self.now())
            newest = session.scalar(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1))
        return {"known": state.known, "failing": state.failing, "beat_age_ms": state.beat_age_ms, "lag_ms": state.lag_ms, "waiting": state.waiting, "linked": state.linked,
                "checkpoint": newest.document if newest is not None else None}

    def verify(self) -> dict[str, Any]:
        """Check everything; takes about a second for 300,000 records."""
        report = verify(self.ledger, Ed25519PublicKey.from_public_bytes(self.public), self.folder, now_ms=self.now(), control=self.control)
        return {"ok": report.ok, "records": report.records, "commands": report.commands, "checkpoints": report.checkpoints, "at_ms": self.now(),
                "cut": {"n": report.cut.n, "at_ms": report.cut.at_ms, "covered_ms": report.cut.covered_ms, "days": report.cut.days} if report.cut is not None else None,
                "findings": [dataclasses.asdict(f) for f in report.findings]}


def pages(rows: Callable[..., list[dict[str, Any]]], filters: dict[str, Any], most: int = 100_000) -> Iterator[dict[str, Any]]:
    """All rows that match, newest first, a thousand at a time."""
    before: int | None = None
    given = 0
    while given < most:
        found = rows(before=before, limit=1000, **filters)
        yield from found
        given += len(found)
        if len(found) < 1000:
            return
        before = found[-1]["id"]
