"""Modbus for a community: registers are made from the image when somebody asks, writes go to the community. TCP, and RTU over a serial device.

Exceptions as a device gives them: 02 outside the map or not writable, 03 value outside the template's range; silence when comms are lost.
Must not know: physics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from benchmarks.plants.community import Community
from benchmarks.plants.template import WIDTH, Place, load, number, registers
from protos.points import Kind, point

_TABLE = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 3: "holding", 6: "holding", 16: "holding", 22: "holding", 23: "holding", 4: "input"}


@dataclass(slots=True)
class RegisterMap:
    """One template's map: table -> places with their register; the spans bound what may be read."""

    places: dict[str, list[tuple[int, int, Place]]] = field(default_factory=dict)
    writes: dict[str, list[tuple[int, int, Place]]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    word_order: str = "big"


@cache
def register_map(template: str) -> RegisterMap:
    """The map of a template."""
    found = RegisterMap(word_order=str(load(template).link.get("word_order", "big")))
    for place in load(template).places.values():
        for address, into in ((place.address, found.places), (place.write_address, found.writes)):
            if address is not None:
                width = WIDTH[address["type"]]
                into.setdefault(address["table"], []).append((int(address["register"]), width, place))
    for table, rows in found.places.items():
        found.spans[table] = (min(r for r, _, _ in rows), max(r + w for r, w, _ in rows))
    return found


class Field:
    """What pymodbus asks for data: its context interface over one channel of a community."""

    def __init__(self, community: Community, channel: str) -> None:
        self.community = community
        self.channel = channel
        self.units = {int(d.address): k for k, d in enumerate(community.image.devices) if d.channel == channel}
        self.reads = 0
        self.refused = 0

    def device_ids(self) -> list[int]:
        """Units on this channel."""
        return list(self.units)

    def _device(self, unit: int) -> int:
        k = self.units.get(unit)
        if k is None or self.community.silent(self.community.image.devices[k].code, self.channel):
            raise NoSuchIdException(f"unit {unit} is silent")
        return k

    async def async_getValues(self, unit: int, function: int, address: int, count: int = 1) -> list[int] | list[bool] | ExcCodes:  # noqa: N802 - pymodbus's name
        """Registers or bits from the image."""
        k = self._device(unit)
        self.reads += 1
        rmap, table = register_map(self.community.image.devices[k].template), _TABLE.get(function, "")
        span = rmap.spans.get(table)
        if span is None or address < span[0] or address + count > span[1]:
            self.refused += 1
            return ExcCodes.ILLEGAL_ADDRESS
        words = self._words(k, rmap, table, address, address + count)
        return [bool(w) for w in words] if table in {"coil", "discrete"} else words

    def _words(self, k: int, rmap: RegisterMap, table: str, first: int, end: int) -> list[int]:
        image = self.community.image
        words = [0] * (end - first)
        for register, width, place in rmap.places[table]:
            if register < end and register + width > first:
                value = float(image.values[image.index[k, place.key]])
                kind = place.address["type"]
                if kind == "bit":
                    bit = int(place.address.get("bit") or 0)
                    words[register - first] |= int(value > 0.5) << bit
                    continue
                raw = place.to_raw(value)
                if point(place.key).kind is Kind.COUNTER and kind != "f32" and math.isfinite(raw):
                    raw = math.floor(raw + 1e-6) % (1 << 16 * width)
                for offset, word in enumerate(registers(raw, kind, rmap.word_order)):
                    if first <= register + offset < end:
                        words[register + offset - first] = word
        return words

    async def async_setValues(self, unit: int, function: int, address: int, values: list[int] | list[bool]) -> ExcCodes | None:  # noqa: N802 - pymodbus's name
        """Write through to the community; all or nothing."""
        k = self._device(unit)
        device = self.community.image.devices[k]
        rmap, table = register_map(device.template), _TABLE.get(function, "")
        end = address + len(values)
        covered: set[int] = set()
        writes: list[tuple[str, float]] = []
        for register, width, place in rmap.writes.get(table, []):
            if register >= end or register + width <= address:
                continue
            given = {a: int(values[a - address]) for a in range(max(register, address), min(register + width, end))}
            words = self._words(k, rmap, table, register, register + width) if place.write_address == place.address else [0] * width
            for a, word in given.items():
                words[a - register] = word
            covered |= set(given)
            kind = place.address["type"]
            value = float(bool(words[0])) if kind == "bit" else place.to_canonical(number(words, kind, rmap.word_order))
            if not place.low - 1e-9 <= value <= place.high + 1e-9:
                self.refused += 1
                return ExcCodes.ILLEGAL_VALUE
            writes.append((place.key, value))
        if covered != set(range(address, end)):
            self.refused += 1
            return ExcCodes.ILLEGAL_ADDRESS
        for key, value in writes:
            self.community.write(device.code, key, value)
        return None


def _placeholder() -> SimDevice:
    return SimDevice(id=0, simdata=[SimData(0, values=0, datatype=DataType.REGISTERS)])


async def serve_tcp(community: Community, channel: str, host: str, port: int) -> ModbusTcpServer:
    """Listen on TCP; a unit that does not exist or has lost comms is silent, as on a bus. Must run inside the loop."""
    server = ModbusTcpServer(_placeholder(), address=(host, port), ignore_missing_devices=True)
    server.context = Field(community, channel)
    await server.serve_forever(background=True)
    return server


async def serve_rtu(community: Community, channel: str, device: str, baud: int = 19200, parity: str = "N") -> ModbusSerialServer:
    """Serve RTU on a serial device (or a pty: parity N only)."""
    server = ModbusSerialServer(_placeholder(), framer=FramerType.RTU, port=device, baudrate=baud, parity=parity, ignore_missing_devices=True)
    server.context = Field(community, channel)
    await server.serve_forever(background=True)
    return server


def context(server: Any) -> Field:
    """The Field behind a server (counters for tests)."""
    found: Field = server.context
    return found
