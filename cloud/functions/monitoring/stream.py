"""The live streams of open pages (实时推送): one per tab, multiplexed, its subscription changed without reconnecting.

Every queue is bounded: when a page cannot keep up, value frames are dropped and counted, commands and alarms never are (the stream
ends instead, and the page reconnects and reads afresh). Must not know: HTTP, transports.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from cloud.core.ports import Live

QUEUE = 500
MAX_STREAMS = 500
MAX_STREAMS_PER_SESSION = 20
MAX_DEVICES = 500
#: Seconds between two beats: what tells a quiet stream from a dead one.
BEAT_S = 5.0


class StreamFullError(Exception):
    """A page fell so far behind that something it must not miss would be lost."""


class LiveStream:
    """One tab's stream."""

    def __init__(self, live: Live, owner: str, sees: Callable[[dict[str, Any]], bool], beat_s: float = BEAT_S) -> None:
        self.id = uuid.uuid4().hex
        self.owner = owner
        self.dropped = 0
        self._live = live
        self._sees = sees
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(QUEUE)
        self._beat_s = beat_s
        self._pump: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._overrun = False

    def subscribe(self, project_ids: Sequence[int], device_ids: Sequence[int]) -> None:
        """Watch these from now on, instead of what was watched before."""
        if self._pump is not None:
            self._pump.cancel()
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        self._pump = asyncio.create_task(self._run(tuple(project_ids), tuple(device_ids)[:MAX_DEVICES]))

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events as they come.

        Raises:
            StreamFullError: the reader is too slow for events that must not be lost.
        """
        while True:
            event = await self._queue.get()
            if event is None or self._overrun:
                if self._overrun:
                    raise StreamFullError
                return
            yield event

    def end(self) -> None:
        """Let the reader come to an end (the session is over)."""
        if self._queue.full():
            self._overrun = True
        else:
            self._queue.put_nowait(None)

    async def close(self) -> None:
        """Stop watching."""
        for task in (self._pump, self._beating):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _beat(self) -> None:
        """Say every few seconds that the stream is alive; a full queue has something to say already."""
        while True:
            await asyncio.sleep(self._beat_s)
            if not self._queue.full():
                self._queue.put_nowait({"type": "beat"})

    async def _run(self, project_ids: Sequence[int], device_ids: Sequence[int]) -> None:
        async for event in self._live.watch(project_ids, device_ids):
            if not self._sees(event):
                continue
            try:
                self._queue.put_nowait(event)
            except asyncio.QueueFull:
                if event.get("type") == "values":
                    self.dropped += 1
                else:
                    self._overrun = True
                    return


class LiveStreams:
    """All open streams of this portal."""

    def __init__(self, live: Live, *, beat_s: float = BEAT_S) -> None:
        self._live = live
        self._beat_s = beat_s
        self._open: dict[str, LiveStream] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, owner: str, sees: Callable[[dict[str, Any]], bool]) -> LiveStream:
        """A new stream; the caller keeps to MAX_STREAMS."""
        stream = LiveStream(self._live, owner, sees, self._beat_s)
        self._open[stream.id] = stream
        return stream

    def of(self, owner: str) -> int:
        """How many streams a session has open."""
        return sum(stream.owner == owner for stream in self._open.values())

    def find(self, stream_id: str, owner: str) -> LiveStream | None:
        """A stream of this owner."""
        stream = self._open.get(stream_id)
        return stream if stream is not None and stream.owner == owner else None

    async def close(self, stream: LiveStream) -> None:
        """End and forget a stream."""
        self._open.pop(stream.id, None)
        self.dropped += stream.dropped
        await stream.close()
