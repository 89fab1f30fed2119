"""Field devices of the rig: a minimal Modbus TCP server whose registers follow the clock, and which remembers every write it was given.

`python -m benchmarks.rig.field --port N --devices N --log FILE` appends one line of JSON per write. Must not know: agents, the platform.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import struct
import time
from pathlib import Path
from typing import Any


class Field:
    """`devices` units; register k of unit u shows a value made of time, so that a reading can be checked without a log."""

    def __init__(self, devices: int, log: Path) -> None:
        self._log = log.open("a", buffering=1)
        self.setpoints = [0] * (devices + 1)
        self.switches = [0] * (devices + 1)
        self.pulses = [0] * (devices + 1)
        self.devices = devices

    def word(self, unit: int, register: int) -> int:
        """A holding register."""
        if register == 20:
            return self.setpoints[unit]
        second = int(time.time())
        counter = (second * 7 + unit) & 0xFFFFFFFF
        if register == 8:
            return counter >> 16
        if register == 9:
            return counter & 0xFFFF
        return (second * (register + 1) + unit * 37) % 5000

    def write(self, unit: int, what: str, value: int) -> None:
        """Take a write and remember it."""
        if what == "setpoint":
            self.setpoints[unit] = value
        elif what == "switch":
            self.switches[unit] = value
        elif value:
            self.pulses[unit] += 1
        self._log.write(json.dumps({"at": time.time(), "unit": unit, "what": what, "value": value}) + "\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One master."""
        try:
            while True:
                head = await reader.readexactly(8)
                transaction, protocol, length, unit, function = struct.unpack(">HHHBB", head)
                body = await reader.readexactly(length - 2)
                answer = self._answer(unit, function, body)
                writer.write(struct.pack(">HHHB", transaction, protocol, len(answer) + 1, unit) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, unit: int, function: int, body: bytes) -> bytes:
        if not 1 <= unit <= self.devices:
            return bytes([function | 0x80, 0x0B])
        start, count = struct.unpack(">HH", body[:4])
        if function == 3:
            words = [self.word(unit, start + k) for k in range(count)]
            return bytes([3, 2 * count]) + struct.pack(f">{count}H", *words)
        if function == 1:
            bits = [(self.switches[unit], 0)[min(start + k, 1)] for k in range(count)]
            packed = sum(b << k for k, b in enumerate(bits))
            size = (count + 7) // 8
            return bytes([1, size]) + packed.to_bytes(size, "little")
        if function == 6 and start == 20:
            self.write(unit, "setpoint", count)
            return bytes([6]) + body[:4]
        if function == 16 and start == 20:
            self.write(unit, "setpoint", struct.unpack(">H", body[5:7])[0])
            return bytes([16]) + body[:4]
        if function == 5 and start in (0, 1):
            self.write(unit, "switch" if start == 0 else "pulse", int(count == 0xFF00))
            return bytes([5]) + body[:4]
        if function == 15 and start in (0, 1):
            self.write(unit, "switch" if start == 0 else "pulse", body[5] & 1)
            return bytes([15]) + body[:4]
        return bytes([function | 0x80, 0x02])


def writes(log: Path) -> list[dict[str, Any]]:
    """Every write a field remembers, in order."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def _main(args: argparse.Namespace) -> None:
    field = Field(args.devices, args.log)
    server = await asyncio.start_server(field.serve, "127.0.0.1", args.port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
