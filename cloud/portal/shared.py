"""Answers shared between pages that ask at the same moment: newest values, active alarms and agents are asked once per second or two.

Wraps the ports and is one of them itself. Must not know: FastAPI, what the answers are for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

from cloud.core.ports import Historian, Latest, Live, Series

T = TypeVar("T")
_KEEP = 2000


class Shared:
    """One flight per question; the answer stands for `ttl_s`."""

    def __init__(self, ttl_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._flights: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to `key`, fresh enough."""
        now = self._monotonic()
        flight = self._flights.get(key)
        if flight is None or (flight[1].done() and (now - flight[0] > self._ttl_s or flight[1].cancelled() or flight[1].exception() is not None)):
            if len(self._flights) > _KEEP:
                self._flights.clear()
            task = asyncio.ensure_future(question())
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            flight = (now, task)
            self._flights[key] = flight
        return cast("T", await asyncio.shield(flight[1]))


class SharedHistorian:
    """A `Historian` whose newest values and active alarms are shared; all else passes through."""

    def __init__(self, inner: Historian, *, ttl_s: float = 1.5) -> None:
        self._inner = inner
        self._shared = Shared(ttl_s)

    async def latest(self, project_id: int, device_ids: Sequence[int] | None = None) -> list[Latest]:
        """Newest values; of whole projects shared."""
        rows = await self._shared.ask(("latest", project_id), lambda: self._inner.latest(project_id))
        if device_ids is None:
            return rows
        wanted = frozenset(device_ids)
        return [row for row in rows if row.device_id in wanted]

    async def history(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, *,
                      resolution_s: int | None = None, max_points: int = 2000) -> list[Series]:
        """History, as it stands."""
        return await self._inner.history(project_id, series, start_ms, end_ms, resolution_s=resolution_s, max_points=max_points)

    async def alarms(self, *, project_id: int | None = None, active: bool | None = None, limit: int = 200, before_ms: int | None = None
                     ) -> list[dict[str, Any]]:
        """Alarms, shared by question."""
        return await self._shared.ask(("alarms", project_id, active, limit, before_ms), lambda: self._inner.alarms(
            project_id=project_id, active=active, limit=limit, before_ms=before_ms))

    async def quarantine(self, *, project_id: int | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        """The quarantine, as it stands."""
        return await self._inner.quarantine(project_id=project_id, limit=limit, before_ms=before_ms)

    async def release(self, quarantine_id: str, *, offset_ms: int, actor: str) -> int:
        """Pass on."""
        return await self._inner.release(quarantine_id, offset_ms=offset_ms, actor=actor)

    async def discard(self, quarantine_id: str, *, actor: str) -> None:
        """Pass on."""
        await self._inner.discard(quarantine_id, actor=actor)


class SharedLive:
    """A `Live` whose agents are shared."""

    def __init__(self, inner: Live, *, ttl_s: float = 1.0) -> None:
        self._inner = inner
        self._shared = Shared(ttl_s)

    def watch(self, project_ids: Sequence[int], device_ids: Sequence[int] = ()) -> AsyncIterator[dict[str, Any]]:
        """Pass on."""
        return self._inner.watch(project_ids, device_ids)

    async def agents(self, project_id: int | None = None) -> list[dict[str, Any]]:
        """Agents as last heard."""
        rows = await self._shared.ask("agents", lambda: self._inner.agents(None))
        return rows if project_id is None else [row for row in rows if row["project_id"] == project_id]
