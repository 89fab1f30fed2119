"""A half-duplex byte channel (TCP tunnel or serial line) with one lock, timeouts and reconnect with backoff.

Must not know: frames, devices, points.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from edge_agent.backoff import Backoff
from edge_agent.drivers.driver import ChannelSpec
from edge_agent.errors import DeviceError, MissingExtra

T = TypeVar("T")


class ByteChannel:
    """Sends a request, feeds what comes back to `take` until it returns something."""

    def __init__(self, spec: ChannelSpec) -> None:
        self.spec = spec
        self.reconnects = 0
        self._lock = asyncio.Lock()
        self._backoff = Backoff()
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._send: Callable[[bytes], None] | None = None
        self._close: Callable[[], None] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Dial unless open.

        Raises:
            DeviceError: connect.
        """
        if self._send is not None:
            return
        now = time.monotonic()
        if not self._backoff.ready(now):
            raise DeviceError("connect", f"{self.spec.name}: next try in {self._backoff.ready_at - now:.1f} s")
        try:
            await (self._open_serial() if self.spec.transport == "serial" else self._open_tcp())
        except (OSError, TimeoutError, ValueError) as error:
            self._backoff.failed(time.monotonic(), random.random())
            raise DeviceError("connect", f"{self.spec.name}: {error}") from None
        self._backoff.succeeded()
        self.reconnects += 1

    async def exchange(self, request: bytes, take: Callable[[bytes], T | None], timeout_s: float) -> T:
        """One request and its answer; the channel is busy meanwhile.

        Args:
            request: bytes to send.
            take: fed with every chunk; returns the answer once complete.
            timeout_s: for the whole exchange.

        Raises:
            DeviceError: connect, timeout, closed.
        """
        async with self._lock:
            await self.open()
            while not self._incoming.empty():
                if not self._incoming.get_nowait():  # a late answer to somebody else's question, or the end of the line
                    self._drop()
                    await self.open()
            assert self._send is not None
            try:
                self._send(request)
                async with asyncio.timeout(timeout_s):
                    while True:
                        chunk = await self._incoming.get()
                        if not chunk:
                            self._drop()
                            raise DeviceError("closed", self.spec.name)
                        answer = take(chunk)
                        if answer is not None:
                            return answer
            except TimeoutError:
                raise DeviceError("timeout", f"{self.spec.name}: no answer within {timeout_s:g} s") from None
            except OSError as error:
                self._drop()
                raise DeviceError("closed", f"{self.spec.name}: {error}") from None

    async def close(self) -> None:
        """Close; the next exchange dials again."""
        async with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._close is not None:
            self._close()
        if self._reader is not None:
            self._reader.cancel()
        self._send = self._close = self._reader = None

    async def _open_tcp(self) -> None:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(self.spec.host, self.spec.port)
        incoming: asyncio.Queue[bytes] = asyncio.Queue()

        async def pump() -> None:
            try:
                while chunk := await reader.read(4096):
                    incoming.put_nowait(chunk)
            except OSError:
                pass
            incoming.put_nowait(b"")

        self._incoming, self._send, self._close = incoming, writer.write, writer.close
        self._reader = asyncio.create_task(pump())

    async def _open_serial(self) -> None:
        try:
            import serial
        except ImportError:
            raise MissingExtra(package="pyserial", extra="edge") from None
        port: Any = serial.Serial(self.spec.device, self.spec.baud, parity=self.spec.parity, timeout=0, exclusive=True)
        loop = asyncio.get_running_loop()
        incoming: asyncio.Queue[bytes] = asyncio.Queue()
        descriptor = port.fileno()

        def readable() -> None:
            try:
                chunk = port.read(4096)
            except OSError:
                chunk = b""
            if not chunk:
                loop.remove_reader(descriptor)
            incoming.put_nowait(chunk)

        def close() -> None:
            loop.remove_reader(descriptor)
            port.close()

        loop.add_reader(descriptor, readable)
        self._incoming, self._send, self._close = incoming, port.write, close
