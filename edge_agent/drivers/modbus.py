"""Modbus TCP and RTU through pymodbus: neighbouring registers are read in one request, values become canonical here.

Must not know: the spool, commands, other protocols.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.backoff import Backoff
from edge_agent.drivers.driver import ChannelSpec, Counters, DeviceSpec, Value
from edge_agent.errors import DeviceError, FrameError, MissingExtra
from edge_agent.templates import Address, PointSpec
from protos.points import Quality

_READ = {"holding": "read_holding_registers", "input": "read_input_registers", "coil": "read_coils", "discrete": "read_discrete_inputs"}
_LIMITS = {"u16": (0, 0xFFFF), "s16": (-0x8000, 0x7FFF), "u32": (0, 0xFFFFFFFF), "s32": (-0x80000000, 0x7FFFFFFF), "bit": (0, 1)}


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` registers or bits of `table` from `start`, and the points inside."""

    table: str
    start: int
    count: int
    points: tuple[PointSpec, ...]


def plan(points: Sequence[PointSpec], *, max_gap: int = 8, max_registers: int = 100) -> list[Block]:
    """Merge points into few requests.

    Args:
        points: to be read.
        max_gap: unused registers worth reading to save a request.
        max_registers: largest request (the protocol allows 125 registers).
    """
    blocks: list[Block] = []
    for spec in sorted(points, key=lambda s: (s.address.table, s.address.register)):
        address = spec.address
        end = address.register + address.width
        if blocks:
            last = blocks[-1]
            reach = max(end, last.start + last.count) - last.start
            if last.table == address.table and address.register - (last.start + last.count) <= max_gap and reach <= max_registers:
                blocks[-1] = Block(last.table, last.start, reach, (*last.points, spec))
                continue
        blocks.append(Block(address.table, address.register, address.width, (spec,)))
    return blocks


def decode(address: Address, words: Sequence[int], *, word_order: str = "big") -> float:
    """Registers (or one bit) -> number on the wire.

    Raises:
        FrameError: length, when there are too few registers.
    """
    if len(words) < address.width:
        raise FrameError("length", str(len(words)))
    if address.table in {"coil", "discrete"}:
        return float(bool(words[0]))
    if address.type == "bit":
        return float(words[0] >> address.bit & 1)
    raw = b"".join(w.to_bytes(2, "big") for w in (words[:address.width] if word_order == "big" else reversed(words[:address.width])))
    code = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f"}[address.type]
    return float(struct.unpack(code, raw)[0])


def encode(address: Address, value: float, *, word_order: str = "big") -> list[int]:
    """Number on the wire -> registers (or one bit).

    Raises:
        FrameError: value, when it does not fit.
    """
    if address.type == "f32":
        try:
            raw = struct.pack(">f", value)
        except (OverflowError, struct.error):
            raise FrameError("value", str(value)) from None
    else:
        low, high = _LIMITS[address.type]
        if not low - 0.5 <= value <= high + 0.5:  # NaN fails too
            raise FrameError("value", str(value))
        number = min(max(round(value), low), high)
        if address.type == "bit":
            return [number]
        raw = number.to_bytes(2 * address.width, "big", signed=address.type[0] == "s")
    words = [int.from_bytes(raw[i:i + 2], "big") for i in range(0, len(raw), 2)]
    return words if word_order == "big" else words[::-1]


class ModbusChannel:
    """One connection (or serial line) shared by the devices behind it."""

    def __init__(self, spec: ChannelSpec, *, timeout_s: float = 1.0, retries: int = 1) -> None:
        self.spec = spec
        self.reconnects = 0
        self.lock = asyncio.Lock()
        self._timeout_s, self._retries = timeout_s, retries
        self._backoff = Backoff()
        self._client: Any = None

    async def open(self) -> None:
        """Dial unless open (the caller holds the lock or is alone).

        Raises:
            DeviceError: connect.
        """
        if self._client is not None and self._client.connected:
            return
        now = time.monotonic()
        if not self._backoff.ready(now):
            raise DeviceError("connect", f"{self.spec.name}: next try in {self._backoff.ready_at - now:.1f} s")
        self.drop()
        client = self._make()
        try:
            connected = await client.connect()
        except OSError:
            connected = False
        if not connected:
            client.close()
            self._backoff.failed(time.monotonic(), random.random())
            raise DeviceError("connect", self.spec.name)
        self._client = client
        self._backoff.succeeded()
        self.reconnects += 1

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """One request; the channel is busy meanwhile.

        Raises:
            DeviceError: connect, timeout, refused.
        """
        from pymodbus.exceptions import ModbusException
        async with self.lock:
            await self.open()
            try:
                answer = await getattr(self._client, method)(*args, **options)
            except (ModbusException, OSError, TimeoutError) as error:
                if self._client is not None and not self._client.connected:
                    self.drop()
                raise DeviceError("timeout", f"{self.spec.name}: {error}") from None
            except asyncio.CancelledError:
                self.drop()  # an answer may still come; it must not meet the next question
                raise
        if answer.isError():
            raise DeviceError("refused", f"{self.spec.name}: exception {getattr(answer, 'exception_code', 0)}")
        return answer

    def drop(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _make(self) -> Any:
        try:
            from pymodbus import FramerType
            from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
        except ImportError:
            raise MissingExtra(package="pymodbus", extra="edge") from None
        common: dict[str, Any] = {"timeout": self._timeout_s, "retries": self._retries, "reconnect_delay": 0, "name": self.spec.name}
        if self.spec.transport == "serial":
            return AsyncModbusSerialClient(self.spec.device, baudrate=self.spec.baud, parity=self.spec.parity, **common)
        framer = FramerType.RTU if self.spec.framing == "rtu" else FramerType.SOCKET
        return AsyncModbusTcpClient(self.spec.host, port=self.spec.port, framer=framer, **common)


class ModbusDriver:
    """One Modbus device."""

    def __init__(self, channel: ModbusChannel, device: DeviceSpec) -> None:
        self.counters = Counters()
        self._channel, self._device = channel, device
        self._order = str(device.link.get("word_order", "big"))
        self._plans: dict[tuple[str, ...], list[Block]] = {}

    async def open(self) -> None:
        """Dial the channel if it is not open."""
        async with self._channel.lock:
            await self._channel.open()

    async def close(self) -> None:
        """Close the channel."""
        async with self._channel.lock:
            self._channel.drop()

    async def read(self, points: Sequence[PointSpec]) -> dict[str, Value]:
        """Read points; a refused register makes its points BAD (a refused block is split once and remembered)."""
        key = tuple(s.key for s in points)
        blocks = self._plans.get(key)
        if blocks is None:
            blocks = self._plans[key] = plan(points, max_gap=int(self._device.number("max_gap", 8)), max_registers=int(self._device.number("max_registers", 100)))
        values: dict[str, Value] = {}
        for block in list(blocks):
            try:
                words = await self._fetch(block)
            except DeviceError as error:
                self.counters.failed(error)
                if error.reason != "refused":
                    raise
                if len(block.points) > 1:
                    singles = [Block(s.address.table, s.address.register, s.address.width, (s,)) for s in block.points]
                    self._plans[key] = [b for b in self._plans[key] if b is not block] + singles
                    values |= await self._singles(singles)
                else:
                    values[block.points[0].key] = Value(float("nan"), Quality.BAD)
                continue
            values |= self._values(block, words)
        self.counters.error = ""
        return values

    async def write(self, spec: PointSpec, value: float) -> None:
        """Write one canonical value."""
        if spec.write is None:
            raise DeviceError("read_only", spec.key)
        address = spec.write.address
        try:
            words = encode(address, spec.wire(value, ratio=self._device.ratio(spec)), word_order=self._order)
        except FrameError as error:
            raise DeviceError("refused", f"{spec.key}: {error.reason}") from None
        self.counters.requests += 1
        try:
            if address.table == "coil":
                await self._channel.call("write_coil", address.register, bool(words[0]), device_id=self._device.unit)
            elif address.type == "bit":
                mask = 1 << address.bit
                await self._channel.call("mask_write_register", address=address.register, and_mask=0xFFFF & ~mask, or_mask=mask * words[0], device_id=self._device.unit)
            elif len(words) == 1:
                await self._channel.call("write_register", address.register, words[0], device_id=self._device.unit)
            else:
                await self._channel.call("write_registers", address.register, words, device_id=self._device.unit)
        except DeviceError as error:
            self.counters.failed(error)
            raise

    async def _singles(self, blocks: Sequence[Block]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for block in blocks:
            try:
                values |= self._values(block, await self._fetch(block))
            except DeviceError as error:
                self.counters.failed(error)
                if error.reason != "refused":
                    raise
                values[block.points[0].key] = Value(float("nan"), Quality.BAD)
        return values

    async def _fetch(self, block: Block) -> list[int]:
        self.counters.requests += 1
        answer = await self._channel.call(_READ[block.table], block.start, count=block.count, device_id=self._device.unit)
        return list(answer.bits if block.table in {"coil", "discrete"} else answer.registers)

    def _values(self, block: Block, words: Sequence[int]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for spec in block.points:
            at = spec.address.register - block.start
            try:
                wire = decode(spec.address, words[at:at + spec.address.width], word_order=self._order)
                values[spec.key] = Value(spec.canonical(wire, ratio=self._device.ratio(spec)))
            except FrameError as error:
                self.counters.failed(error)
                values[spec.key] = Value(float("nan"), Quality.BAD)
        return values
