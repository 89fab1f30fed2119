"""DL/T 645-2007 (and the read service of 645-1997): a sans-IO codec of both directions, so that meters can be served too.

Frame: FE x0..n | 68 | A0..A5 | 68 | C | L | DATA(L), each byte +33H | CS | 16; CS = sum mod 256 from the first 68.
`FrameError` is the only exception any bytes can raise. Must not know: sockets, serial ports, points, templates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_agent.drivers import bcd
from edge_agent.errors import FrameError

WILDCARD: Final = "AAAAAAAAAAAA"
BROADCAST: Final = "999999999999"
READ, READ_FOLLOWING, READ_ADDRESS, WRITE, RELAY = 0x11, 0x12, 0x13, 0x14, 0x1C
READ_1997: Final = 0x01
REPLY, ERROR, MORE = 0x80, 0x40, 0x20
MAX_DATA: Final = 200            # 645-2007 7.1: L <= 200 when reading
NO_DATA, NOT_AUTHORISED = 0x02, 0x04
_ERRORS: Final = ("other", "no_data", "not_authorised", "baud", "year_zones", "day_slots", "tariffs")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        address: twelve hex digits as printed on the meter (high byte first); AA = wildcard byte.
        control: C.
        data: DATA without the +33H.
    """

    address: str
    control: int
    data: bytes = b""

    def encode(self, *, preamble: int = 4) -> bytes:
        """Bytes on the wire, with `preamble` leading FE.

        Raises:
            FrameError: address, control or length.
        """
        try:
            address = bytes.fromhex(self.address)[::-1]
        except ValueError:
            raise FrameError("address", self.address) from None
        if len(address) != 6:
            raise FrameError("address", self.address)
        if not 0 <= self.control <= 255:
            raise FrameError("control", str(self.control))
        if len(self.data) > 255:
            raise FrameError("length", str(len(self.data)))
        head = b"\x68" + address + b"\x68" + bytes([self.control, len(self.data)])
        body = head + bytes((b + 0x33) & 0xFF for b in self.data)
        return b"\xfe" * preamble + body + bytes([sum(body) & 0xFF, 0x16])


def decode(data: bytes) -> Frame:
    """One whole frame, leading FE allowed.

    Raises:
        FrameError: short, start, end, length, checksum, address.
    """
    frame = data.lstrip(b"\xfe")
    if len(frame) < 12:
        raise FrameError("short", frame.hex())
    if frame[0] != 0x68 or frame[7] != 0x68:
        raise FrameError("start", frame[:12].hex())
    size = frame[9]
    if len(frame) != 12 + size:
        raise FrameError("short" if len(frame) < 12 + size else "length", str(len(frame)))
    if frame[-1] != 0x16:
        raise FrameError("end", frame[-4:].hex())
    if sum(frame[:-2]) & 0xFF != frame[-2]:
        raise FrameError("checksum", f"{sum(frame[:-2]) & 0xFF:02X} != {frame[-2]:02X}")
    address = frame[1:7][::-1].hex().upper()
    if not all(c.isdecimal() or c == "A" for c in address):
        raise FrameError("address", address)
    return Frame(address, frame[8], bytes((b - 0x33) & 0xFF for b in frame[10:-2]))


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
            if len(buffer) < 10:
                if len(buffer) >= 8 and buffer[7] != 0x68:
                    self._skip(1)
                    continue
                break
            if buffer[7] != 0x68:
                self._skip(1)
                continue
            size = 12 + buffer[9]
            if len(buffer) < size:
                break
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
    """True when a meter of address `answered` may answer a request to `asked` (AA = any byte)."""
    return all(a in {"AA", b} for a, b in zip(_pairs(asked), _pairs(answered), strict=True)) if len(asked) == len(answered) == 12 else False


def _pairs(address: str) -> list[str]:
    return [address[i:i + 2].upper() for i in range(0, len(address), 2)]


# --- requests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What a master asks: `service` is READ, READ_FOLLOWING, READ_ADDRESS, READ_1997, WRITE or another C; `di` as printed (0x02010100)."""

    address: str
    service: int
    di: int = 0
    sequence: int = 0
    payload: bytes = b""

    def encode(self, *, preamble: int = 4) -> bytes:
        """Bytes on the wire."""
        width = 2 if self.service == READ_1997 else 4
        data = b"" if self.service == READ_ADDRESS else self.di.to_bytes(width, "little")
        if self.service == READ_FOLLOWING:
            data += bytes([self.sequence])
        return Frame(self.address, self.service, data + self.payload).encode(preamble=preamble)


def parse_request(frame: Frame) -> Request:
    """Read a request (for meters that are served).

    Raises:
        FrameError: control (not a request), length.
    """
    if is_reply(frame):
        raise FrameError("control", f"{frame.control:02X}")
    data = frame.data
    if frame.control == READ_ADDRESS:
        return Request(frame.address, READ_ADDRESS)
    if frame.control == READ_1997:
        if len(data) < 2:
            raise FrameError("length", data.hex())
        return Request(frame.address, READ_1997, int.from_bytes(data[:2], "little"), payload=data[2:])
    if frame.control in {READ, READ_FOLLOWING, WRITE}:
        if len(data) < 4 + (frame.control == READ_FOLLOWING):
            raise FrameError("length", data.hex())
        di = int.from_bytes(data[:4], "little")
        if frame.control == READ_FOLLOWING:
            return Request(frame.address, READ_FOLLOWING, di, data[4], data[5:])
        return Request(frame.address, frame.control, di, payload=data[4:])
    return Request(frame.address, frame.control, payload=data)


# --- replies --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """What a meter answers.

    Attributes:
        address: the meter's own address.
        service: the C of the request.
        di: data identifier.
        payload: value bytes, little-endian BCD.
        more: following frames exist.
        sequence: of a following frame.
        error: error bits, 0 = none.
    """

    address: str
    service: int
    di: int = 0
    payload: bytes = b""
    more: bool = False
    sequence: int = 0
    error: int = 0

    @property
    def errors(self) -> tuple[str, ...]:
        """The error bits as stable words."""
        return tuple(word for bit, word in enumerate(_ERRORS) if self.error >> bit & 1)

    def encode(self, *, preamble: int = 4) -> bytes:
        """Bytes on the wire."""
        if self.error:
            return Frame(self.address, self.service | REPLY | ERROR, bytes([self.error])).encode(preamble=preamble)
        control = self.service | REPLY | (MORE if self.more else 0)
        if self.service == READ_ADDRESS:
            return Frame(self.address, control, bytes.fromhex(self.address)[::-1]).encode(preamble=preamble)
        data = self.di.to_bytes(2 if self.service == READ_1997 else 4, "little") + self.payload
        if self.service == READ_FOLLOWING:
            data += bytes([self.sequence])
        return Frame(self.address, control, data).encode(preamble=preamble)


def parse_reply(frame: Frame) -> Reply:
    """Read a reply.

    Raises:
        FrameError: control (a request or an echo), length, address.
    """
    if not is_reply(frame):
        raise FrameError("control", f"{frame.control:02X}")
    service, more, data = frame.control & 0x1F, bool(frame.control & MORE), frame.data
    if frame.control & ERROR:
        if not data or not data[0]:
            raise FrameError("length", data.hex())
        return Reply(frame.address, service, error=data[0])
    if service == READ_ADDRESS:
        if data[::-1].hex().upper() != frame.address:
            raise FrameError("address", data.hex())
        return Reply(frame.address, service)
    if service not in {READ, READ_FOLLOWING, READ_1997}:
        return Reply(frame.address, service, payload=data)
    width = 2 if service == READ_1997 else 4
    tail = 1 if service == READ_FOLLOWING else 0
    if len(data) < width + tail:
        raise FrameError("length", data.hex())
    payload = data[width:len(data) - tail]
    return Reply(frame.address, service, int.from_bytes(data[:width], "little"), payload, more, data[-1] if tail else 0)


def check_reply(request: Request, reply: Reply) -> None:
    """Raise unless `reply` answers `request`.

    Raises:
        FrameError: address, control, di, sequence, error_reply.
    """
    if not matches(request.address, reply.address):
        raise FrameError("address", reply.address)
    if reply.service != request.service:
        raise FrameError("control", f"{reply.service:02X}")
    if reply.error:
        raise FrameError("error_reply", ",".join(reply.errors) or f"{reply.error:02X}")
    if reply.di != request.di:
        raise FrameError("di", f"{reply.di:08X}")
    if request.service == READ_FOLLOWING and reply.sequence != request.sequence:
        raise FrameError("sequence", str(reply.sequence))


# --- data items -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One value within an item: `width` bytes, `decimals` places; `decimals` < 0 = digits as text (dates, addresses)."""

    width: int
    decimals: int
    unit: str
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A data item: its parts, in wire order; `repeat` = the last part may occur 1..n times (blocks)."""

    parts: tuple[Part, ...]
    repeat: bool = False


def _items() -> dict[int, Item]:
    energy, signed_energy = Part(4, 2, "kWh"), Part(4, 2, "kWh", signed=True)
    reactive = Part(4, 2, "kvarh", signed=True)
    volt, amp, factor = Part(2, 1, "V"), Part(3, 3, "A", signed=True), Part(2, 3, "1", signed=True)
    demand = (Part(3, 4, "kW", signed=True), Part(5, -1, ""))
    items: dict[int, Item] = {}
    for tariff in range(16):
        items[0x00000000 | tariff << 8] = Item((signed_energy,))
        items[0x00010000 | tariff << 8] = items[0x00020000 | tariff << 8] = Item((energy,))
        items[0x00030000 | tariff << 8] = items[0x00040000 | tariff << 8] = Item((reactive,))
        items[0x01010000 | tariff << 8] = items[0x01020000 | tariff << 8] = Item(demand)
    items[0x0000FF00], items[0x0001FF00], items[0x0002FF00] = Item((signed_energy,), True), Item((energy,), True), Item((energy,), True)
    items[0x0003FF00] = items[0x0004FF00] = Item((reactive,), True)
    for base, phases, part in ((0x02010000, (1, 2, 3), volt), (0x02020000, (1, 2, 3), amp), (0x02030000, (0, 1, 2, 3), Part(3, 4, "kW", signed=True)),
                               (0x02040000, (0, 1, 2, 3), Part(3, 4, "kvar", signed=True)), (0x02050000, (0, 1, 2, 3), Part(3, 4, "kVA", signed=True)),
                               (0x02060000, (0, 1, 2, 3), factor)):
        for phase in phases:
            items[base | phase << 8] = Item((part,))
        items[base | 0xFF00] = Item((part,), True)
    items |= {
        0x02800001: Item((Part(3, 3, "A", signed=True),)), 0x02800002: Item((Part(2, 2, "Hz"),)), 0x02800003: Item((Part(3, 4, "kW", signed=True),)),
        0x02800004: Item((Part(3, 4, "kW", signed=True),)), 0x02800007: Item((Part(2, 1, "degC", signed=True),)),
        0x04000101: Item((Part(4, -1, ""),)), 0x04000102: Item((Part(3, -1, ""),)), 0x04000401: Item((Part(6, -1, ""),)), 0x04000402: Item((Part(6, -1, ""),)),
    }
    return items


#: DL/T 645-2007 annex A, the items this platform reads.
ITEMS: Final[dict[int, Item]] = _items()
#: DL/T 645-1997, two-byte identifiers.
ITEMS_1997: Final[dict[int, Item]] = {
    0x9010: Item((Part(4, 2, "kWh"),)), 0x9020: Item((Part(4, 2, "kWh"),)), 0x901F: Item((Part(4, 2, "kWh"),), True), 0x9110: Item((Part(4, 2, "kvarh"),)),
    **{0xB610 | p: Item((Part(2, 0, "V"),)) for p in (1, 2, 3)}, **{0xB620 | p: Item((Part(2, 2, "A"),)) for p in (1, 2, 3)},
    **{0xB630 | p: Item((Part(3, 4, "kW"),)) for p in (0, 1, 2, 3)}, **{0xB650 | p: Item((Part(2, 3, "1"),)) for p in (0, 1, 2, 3)},
}


def item(di: int, *, edition: int = 2007) -> Item:
    """The item of a data identifier.

    Raises:
        FrameError: di, when it is not in the table.
    """
    found = (ITEMS_1997 if edition == 1997 else ITEMS).get(di)
    if found is None:
        raise FrameError("di", f"{di:08X}")
    return found


def decode_value(di: int, payload: bytes, *, edition: int = 2007) -> tuple[float | str, ...]:
    """The values of an item; "no value" (all FF) is NaN, dates are digit strings.

    Raises:
        FrameError: di, length, bcd.
    """
    shape = item(di, edition=edition)
    parts = list(shape.parts)
    if shape.repeat:
        # A block may close with AA separators of the 1997 edition; only whole values are accepted.
        if not payload or len(payload) % parts[0].width:
            raise FrameError("length", str(len(payload)))
        parts *= len(payload) // parts[0].width
    if sum(p.width for p in parts) != len(payload):
        raise FrameError("length", str(len(payload)))
    out: list[float | str] = []
    at = 0
    for part in parts:
        piece = payload[at:at + part.width]
        at += part.width
        out.append(bcd.digits(piece) if part.decimals < 0 else bcd.number(piece, part.decimals, signed=part.signed))
    return tuple(out)


def encode_value(di: int, values: Sequence[float | str], *, edition: int = 2007) -> bytes:
    """Undo `decode_value` (for meters that are served).

    Raises:
        FrameError: di, length, value.
    """
    shape = item(di, edition=edition)
    parts = shape.parts * len(values) if shape.repeat else shape.parts
    if len(parts) != len(values):
        raise FrameError("length", str(len(values)))
    out = b""
    for part, value in zip(parts, values, strict=True):
        if isinstance(value, str):
            if part.decimals >= 0 or len(value) != 2 * part.width:
                raise FrameError("value", value)
            out += bcd.undigits(value)
        else:
            if part.decimals < 0:
                raise FrameError("value", str(value))
            out += bcd.pack(value, part.width, part.decimals, signed=part.signed)
    return out
