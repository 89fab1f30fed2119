"""Figures for Prometheus on the loopback interface, only when a port is given.

Must not know: how figures come about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping


def render(figures: Mapping[str, float]) -> str:
    """The text format, one gauge per figure; labels may stand in the name."""
    return "".join(f"kang_edge_{name} {value:g}\n" for name, value in sorted(figures.items()))


async def serve(port: int, figures: Callable[[], Mapping[str, float]]) -> asyncio.Server:
    """Answer every request on 127.0.0.1:`port` with the figures."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
            body = render(figures()).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port)
