"""Answers kept for repeated requests (幂等键): the same key and body get the same answer for a day, another body is refused.

Must not know: HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from cloud.core.clock import now_ms
from cloud.functions.interfaces.errors import InProgressError, RepeatedError
from cloud.functions.interfaces.tables import IdempotentAnswer
from cloud.ledger import Ledger

KEEP_MS: Final = 24 * 3_600_000
_STALE_MS: Final = 120_000  # a first call that never settled (its process died): it may be tried again


class IdempotentAnswers:
    """Keeps answers in the ledger."""

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms) -> None:
        self._ledger, self._now, self._swept_ms = ledger, now, 0

    @staticmethod
    def digests(caller: str, method: str, path: str, key: str, body: bytes) -> tuple[str, str]:
        """(place of the answer, digest of the request)."""
        return hashlib.sha256("\0".join((caller, method, path, key)).encode()).hexdigest(), hashlib.sha256(body).hexdigest()

    def begin(self, place: str, body: str) -> tuple[int, Any] | None:
        """None when this is the first call (and claims the place), else the kept (status, answer).

        Raises:
            RepeatedError: the key was used for another body.
            InProgressError: the first call is under way, or its answer is not kept.
        """
        now = self._now()
        if now - self._swept_ms > 600_000:
            self._swept_ms = now
            with self._ledger.write() as session:
                session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.at_ms < now - KEEP_MS))
        try:
            with self._ledger.write() as session:
                row = session.get(IdempotentAnswer, place)
                if row is not None and (row.at_ms < now - KEEP_MS or (row.status == 0 and row.at_ms < now - _STALE_MS)):
                    session.delete(row)
                    session.flush()
                    row = None
                if row is None:
                    session.add(IdempotentAnswer(key=place, body=body, at_ms=now, status=0, answer=None))
                    return None
        except IntegrityError:
            raise InProgressError from None
        if row.body != body:
            raise RepeatedError
        if row.status == 0 or row.answer is None:
            raise InProgressError
        return row.status, row.answer["body"]

    def settle(self, place: str, status: int, answer: Any, *, kept: bool) -> None:
        """Keep the answer, or only that it was done."""
        with self._ledger.write() as session:
            row = session.get(IdempotentAnswer, place)
            if row is not None:
                row.status, row.answer = status, {"body": answer} if kept else None

    def forget(self, place: str) -> None:
        """The first call failed: it may be tried again with the same key."""
        with self._ledger.write() as session:
            session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.key == place))
