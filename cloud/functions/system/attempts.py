"""Wrong sign-in codes by address: after ten within a minute the address waits. Memory only, bounded. Must not know: FastAPI, the ledger."""

from __future__ import annotations

from collections.abc import Callable

from cloud.core.clock import now_ms
from cloud.functions.system.errors import TooManyCodesError

MOST = 10
WINDOW_MS = 60_000
_ADDRESSES = 10_000


class Attempts:
    """Counts wrong codes over a sliding minute."""

    def __init__(self, now: Callable[[], int] = now_ms) -> None:
        self._now = now
        self._wrong: dict[str, list[int]] = {}

    def check(self, address: str) -> None:
        """Let an address try.

        Raises:
            TooManyCodesError: ten wrong codes stand within the last minute.
        """
        now = self._now()
        recent = [at for at in self._wrong.get(address, ()) if now - at < WINDOW_MS]
        if len(recent) >= MOST:
            raise TooManyCodesError(retry_after_s=max(1, -(-(recent[-MOST] + WINDOW_MS - now) // 1000)))

    def failed(self, address: str) -> None:
        """A wrong code came from there; the oldest address is forgotten when there are too many."""
        recent = [at for at in self._wrong.pop(address, ()) if self._now() - at < WINDOW_MS]
        if len(self._wrong) >= _ADDRESSES:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = [*recent, self._now()][-MOST:]
