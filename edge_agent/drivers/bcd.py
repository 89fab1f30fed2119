"""Little-endian packed decimal (BCD) of Chinese meters, shared by DL/T 645 and CJ/T 188.

Must not know: frames, points, units.
"""

from __future__ import annotations

import math

from edge_agent.errors import FrameError


def digits(data: bytes) -> str:
    """Decimal digits of `data`, most significant first (the wire is low byte first).

    Raises:
        FrameError: bcd, when a nibble is not a digit.
    """
    text = data[::-1].hex()
    if not text.isdecimal():
        raise FrameError("bcd", data.hex())
    return text


def undigits(text: str) -> bytes:
    """Undo `digits`: an even number of digits, most significant first.

    Raises:
        FrameError: value.
    """
    if len(text) % 2 or not (text.isascii() and text.isdecimal()):
        raise FrameError("value", text)
    return bytes.fromhex(text)[::-1]


def number(data: bytes, decimals: int, *, signed: bool = False) -> float:
    """A number with `decimals` decimal places; all FF means "no value" and becomes NaN.

    Args:
        data: little-endian BCD.
        decimals: digits after the point.
        signed: the top bit of the last byte is the sign.

    Raises:
        FrameError: bcd.
    """
    if data and data.count(0xFF) == len(data):
        return math.nan
    negative = False
    if signed and data and data[-1] & 0x80:
        data, negative = data[:-1] + bytes([data[-1] & 0x7F]), True
    divisor: int = 10**decimals
    value = int(digits(data) or "0") / divisor
    return -value if negative else value


def pack(value: float, width: int, decimals: int, *, signed: bool = False) -> bytes:
    """Undo `number`; NaN becomes FF..FF.

    Args:
        value: the number.
        width: bytes.
        decimals: digits after the point.
        signed: see `number`.

    Raises:
        FrameError: value, when it does not fit.
    """
    if math.isnan(value):
        return b"\xff" * width
    if not math.isfinite(value):
        raise FrameError("value", str(value))
    steps = round(abs(value) * 10**decimals)
    limit = 8 * 10 ** (2 * width - 1) if signed else 10 ** (2 * width)
    if steps >= limit or (value < 0 and steps and not signed):
        raise FrameError("value", str(value))
    out = undigits(f"{steps:0{2 * width}d}")
    return out[:-1] + bytes([out[-1] | 0x80]) if value < 0 and steps else out
