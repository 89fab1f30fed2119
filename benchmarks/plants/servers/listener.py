"""A TCP listener that can be closed whole: its open connections end with it, without a stray task.

Must not know: what is said on the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Serves `talk` for every connection; open with `start`."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> Listener:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._serve, host, port)
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = writer
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            pass  # the other side went away; the next connection begins clean
        finally:
            if task is not None:
                self._open.pop(task, None)
            writer.close()

    async def close(self) -> None:
        """Stop listening, end what is open."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._open)
        for writer in list(self._open.values()):
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=2)
