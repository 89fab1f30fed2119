"""CJ/T 188-2004 heat meters: a sans-IO codec of both directions, with the profiles makers force on us.

Frame: FE x2..n | 68 | T | A0..A6 | C | L | DATA | CS | 16; one 68, no +33H; CS = sum mod 256 from 68. DATA = DI (2) SER (1) values.
`FrameError` is the only exception any bytes can raise. Must not know: sockets, serial ports, points, templates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edge_agent.drivers import bcd
from edge_agent.errors import FrameError

WILDCARD: Final = "AA" * 7
READ, READ_ADDRESS, WRITE = 0x01, 0x03, 0x04
REPLY, ERROR = 0x80, 0x40
CURRENT, ADDRESS = 0x901F, 0x810A
HEAT: Final = 0x20
TYPES: Final = frozenset({0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x25, 0x27, 0x30, 0x40, 0xAA})
#: unit code -> (unit of protos.units, factor)
UNITS: Final[dict[int, tuple[str, float]]] = {
    0x01: ("J", 1.0), 0x02: ("Wh", 1.0), 0x05: ("kWh", 1.0), 0x08: ("MWh", 1.0), 0x0A: ("MWh", 100.0), 0x0B: ("kJ", 1.0), 0x0E: ("MJ", 1.0),
    0x11: ("GJ", 1.0), 0x13: ("GJ", 100.0), 0x14: ("W", 1.0), 0x17: ("kW", 1.0), 0x1A: ("MW", 1.0), 0x29: ("L", 1.0), 0x2C: ("m3", 1.0),
    0x32: ("L/h", 1.0), 0x35: ("m3/h", 1.0),
}
#: name, bytes, decimals, default unit code (0 = no unit byte)
_LAYOUT: Final = (("settle_energy", 4, 2, 0x05), ("heat_energy", 4, 2, 0x05), ("heat_power", 4, 2, 0x17), ("flow", 4, 4, 0x35), ("volume", 4, 2, 0x2C),
                  ("supply_temp", 3, 2, 0), ("return_temp", 3, 2, 0), ("operating_hours", 3, 0, 0))
_PLAIN: Final = {"supply_temp": "degC", "return_temp": "degC", "operating_hours": "h"}
_DIMENSION: Final = {
    "settle_energy": {0x01, 0x02, 0x05, 0x08, 0x0A, 0x0B, 0x0E, 0x11, 0x13}, "heat_energy": {0x01, 0x02, 0x05, 0x08, 0x0A, 0x0B, 0x0E, 0x11, 0x13},
    "heat_power": {0x14, 0x17, 0x1A}, "flow": {0x32, 0x35}, "volume": {0x29, 0x2C}}
FIELDS: Final = tuple(row[0] for row in _LAYOUT)


@dataclass(frozen=True, slots=True)
class Profile:
    """A maker's habits.

    Attributes:
        name: as named in templates.
        di_reversed: DI travels as 90 1F instead of 1F 90.
        unit_first: the unit byte precedes its value.
    """

    name: str
    di_reversed: bool = False
    unit_first: bool = False


PROFILES: Final = {p.name: p for p in (Profile("standard"), Profile("di_reversed", di_reversed=True), Profile("unit_first", di_reversed=True, unit_first=True))}
STANDARD: Final = PROFILES["standard"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: meter type T, address as fourteen hex digits (high byte first; not always BCD), control, data."""

    type: int
    address: str
    control: int
    data: bytes = b""

    def encode(self, *, preamble: int = 2) -> bytes:
        """Bytes on the wire, with `preamble` leading FE.

        Raises:
            FrameError: address, type, control, length.
        """
        try:
            address = bytes.fromhex(self.address)[::-1]
        except ValueError:
            raise FrameError("address", self.address) from None
        if len(address) != 7:
            raise FrameError("address", self.address)
        if self.type not in TYPES:
            raise FrameError("type", str(self.type))
        if not 0 <= self.control <= 255:
            raise FrameError("control", str(self.control))
        if len(self.data) > 255:
            raise FrameError("length", str(len(self.data)))
        body = bytes([0x68, self.type]) + address + bytes([self.control, len(self.data)]) + self.data
        return b"\xfe" * preamble + body + bytes([sum(body) & 0xFF, 0x16])


def decode(data: bytes) -> Frame:
    """One whole frame, leading FE allowed.

    Raises:
        FrameError: short, start, length, end, checksum, type.
    """
    frame = data.lstrip(b"\xfe")
    if len(frame) < 13:
        raise FrameError("short", frame.hex())
    if frame[0] != 0x68:
        raise FrameError("start", frame[:2].hex())
    size = 13 + frame[10]
    if len(frame) != size:
        raise FrameError("short" if len(frame) < size else "length", str(len(frame)))
    if frame[-1] != 0x16:
        raise FrameError("end", frame[-4:].hex())
    if sum(frame[:-2]) & 0xFF != frame[-2]:
        raise FrameError("checksum", f"{sum(frame[:-2]) & 0xFF:02X} != {frame[-2]:02X}")
    if frame[1] not in TYPES:
        raise FrameError("type", f"{frame[1]:02X}")
    return Frame(frame[1], frame[2:9][::-1].hex().upper(), frame[9], frame[11:-2])


@dataclass(slots=True)
class Extractor:
    """Finds frames in a byte stream that arrives in pieces, with noise, leading FE and line echo.

    Attributes:
        discarded: bytes thrown away as noise (leading FE not counted).
        rejects: refused candidates by reason.
    """

    discarded: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take bytes; return the frames completed by them. Never raises on any bytes; keeps at most one unfinished frame."""
        self._buffer += chunk
        found: list[Frame] = []
        buffer = self._buffer
        while buffer:
            start = buffer.find(0x68)
            self._skip(len(buffer) if start < 0 else start)
            if len(buffer) > 1 and buffer[1] not in TYPES:
                self._skip(1)
                continue
            if len(buffer) < 11 or len(buffer) < 13 + buffer[10]:
                break
            size = 13 + buffer[10]
            try:
                found.append(decode(bytes(buffer[:size])))
            except FrameError as error:
                self.rejects[error.reason] += 1
                self._skip(1)
            else:
                del buffer[:size]
        return found

    def reset(self) -> None:
        """Forget an unfinished frame (after a timeout)."""
        self._skip(len(self._buffer))

    def _skip(self, n: int) -> None:
        self.discarded += n - self._buffer[:n].count(0xFE)
        del self._buffer[:n]


def is_reply(frame: Frame) -> bool:
    """False for requests, thus also for the echo of our own request."""
    return bool(frame.control & REPLY)


def matches(asked: str, answered: str) -> bool:
    """True when a meter of address `answered` may answer a request to `asked`."""
    return asked.upper() in {WILDCARD, answered.upper()}


@dataclass(frozen=True, slots=True)
class Request:
    """What a master asks: service READ or READ_ADDRESS, data identifier as printed (0x901F), serial number."""

    address: str
    di: int = CURRENT
    sequence: int = 0
    service: int = READ
    type: int = HEAT

    def encode(self, *, profile: Profile = STANDARD, preamble: int = 2) -> bytes:
        """Bytes on the wire."""
        return Frame(self.type, self.address, self.service, _di(self.di, profile) + bytes([self.sequence])).encode(preamble=preamble)


def parse_request(frame: Frame, *, profile: Profile = STANDARD) -> Request:
    """Read a request (for meters that are served).

    Raises:
        FrameError: control, length.
    """
    if is_reply(frame):
        raise FrameError("control", f"{frame.control:02X}")
    if len(frame.data) < 3:
        raise FrameError("length", frame.data.hex())
    di = int.from_bytes(frame.data[:2], "big" if profile.di_reversed else "little")
    return Request(frame.address, di, frame.data[2], frame.control, frame.type)


@dataclass(frozen=True, slots=True)
class HeatReading:
    """A 901F reply.

    Attributes:
        address: the meter's own address.
        sequence: echo of the request's serial number.
        values: field -> (value, unit of protos.units); NaN = the meter has no value.
        clock: fourteen digits YYYYMMDDhhmmss.
        status: two bytes; bit 2 of the first = low battery, the rest is the maker's.
    """

    address: str
    sequence: int
    values: Mapping[str, tuple[float, str]]
    clock: str
    status: bytes
    type: int = HEAT

    @property
    def battery_low(self) -> bool:
        """The one status bit every maker keeps."""
        return bool(self.status[0] & 0x04)

    def encode(self, *, profile: Profile = STANDARD, preamble: int = 2) -> bytes:
        """Bytes on the wire (for meters that are served). Values must be in the layout's default units (kWh, kW, m3/h, m3, degC, h).

        Raises:
            FrameError: value, unit.
        """
        data = _di(CURRENT, profile) + bytes([self.sequence])
        for name, width, decimals, code in _LAYOUT:
            value, unit = self.values.get(name, (math.nan, UNITS[code][0] if code else _PLAIN[name]))
            if unit != (UNITS[code][0] if code else _PLAIN[name]):
                raise FrameError("unit", f"{name} {unit}")
            packed = bcd.pack(value, width, decimals, signed=not code)
            data += packed if not code else bytes([code]) + packed if profile.unit_first else packed + bytes([code])
        data += bcd.undigits(self.clock) + self.status
        return Frame(self.type, self.address, READ | REPLY, data).encode(preamble=preamble)


def parse_heat(frame: Frame, *, profile: Profile = STANDARD) -> HeatReading:
    """Read a 901F reply.

    Raises:
        FrameError: control, error_reply, length, di, unit, bcd.
    """
    data = _reply_data(frame, READ)
    if len(data) < 3:
        raise FrameError("length", data.hex())
    if data[:2] != _di(CURRENT, profile):
        raise FrameError("di", data[:2].hex())
    if len(data) != 46:
        raise FrameError("length", str(len(data)))
    values: dict[str, tuple[float, str]] = {}
    at = 3
    for name, width, decimals, code in _LAYOUT:
        if code:
            unit_byte = data[at] if profile.unit_first else data[at + width]
            piece = data[at + 1:at + 1 + width] if profile.unit_first else data[at:at + width]
            at += width + 1
            if unit_byte not in _DIMENSION[name]:
                raise FrameError("unit", f"{name} {unit_byte:02X}")
            unit, factor = UNITS[unit_byte]
            values[name] = bcd.number(piece, decimals) * factor, unit
        else:
            values[name] = bcd.number(data[at:at + width], decimals, signed=True), _PLAIN[name]
            at += width
    return HeatReading(frame.address, data[2], values, bcd.digits(data[at:at + 7]), data[at + 7:at + 9], frame.type)


def parse_address(frame: Frame, *, profile: Profile = STANDARD) -> str:
    """Read a read-address reply; returns the address.

    Raises:
        FrameError: control, error_reply, length, di.
    """
    data = _reply_data(frame, READ_ADDRESS)
    if len(data) != 3:
        raise FrameError("length", data.hex())
    if data[:2] not in {_di(ADDRESS, profile), _di(ADDRESS, STANDARD), _di(ADDRESS, PROFILES["di_reversed"])}:  # published frames use either order
        raise FrameError("di", data[:2].hex())
    return frame.address


def address_reply(address: str, sequence: int, *, profile: Profile = STANDARD, meter_type: int = HEAT, preamble: int = 2) -> bytes:
    """The answer to a read-address request."""
    return Frame(meter_type, address, READ_ADDRESS | REPLY, _di(ADDRESS, profile) + bytes([sequence])).encode(preamble=preamble)


def error_reply(request: Request, *, address: str, profile: Profile = STANDARD, preamble: int = 2) -> bytes:
    """The answer of a meter that cannot serve `request` (control with bit 6)."""
    return Frame(request.type, address, request.service | REPLY | ERROR, _di(request.di, profile) + bytes([request.sequence])).encode(preamble=preamble)


def _reply_data(frame: Frame, service: int) -> bytes:
    if not is_reply(frame) or frame.control & 0x1F != service:
        raise FrameError("control", f"{frame.control:02X}")
    if frame.control & ERROR:
        raise FrameError("error_reply", frame.data.hex())
    return frame.data


def _di(di: int, profile: Profile) -> bytes:
    return di.to_bytes(2, "big" if profile.di_reversed else "little")
