"""Meters on TCP-tunnelled buses: DL/T 645-2007 and CJ/T 188-2004, answered with the agent's own codecs in the other direction.

Wrong addresses are met with silence, unknown identifiers with the protocol's error reply, writes with "not authorised". Must not know: physics.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks.plants.community import Community
from benchmarks.plants.servers.listener import Listener
from benchmarks.plants.weather import UTC_OFFSET_S
from edge_agent.drivers import cjt188, dlt645
from edge_agent.errors import FrameError
from protos.points import point

_RATED = {"kW", "kWh", "kvar", "kvarh", "kVA", "A"}
_PHASES = "abc"
#: data identifier -> points in wire order
DLT645: dict[int, tuple[str, ...]] = {
    0x00000000: ("energy_import",), 0x00010000: ("energy_import",), 0x00020000: ("energy_export",), 0x00030000: ("reactive_energy",),
    **{0x00010000 | k << 8: (f"energy_import_t{k}",) for k in range(1, 5)},
    0x0001FF00: ("energy_import", *(f"energy_import_t{k}" for k in range(1, 5))),
    **{0x02010000 | (k + 1) << 8: (f"voltage_{p}",) for k, p in enumerate(_PHASES)}, 0x0201FF00: tuple(f"voltage_{p}" for p in _PHASES),
    **{0x02020000 | (k + 1) << 8: (f"current_{p}",) for k, p in enumerate(_PHASES)}, 0x0202FF00: tuple(f"current_{p}" for p in _PHASES),
    0x02030000: ("active_power",), **{0x02030000 | (k + 1) << 8: (f"active_power_{p}",) for k, p in enumerate(_PHASES)},
    0x0203FF00: ("active_power", *(f"active_power_{p}" for p in _PHASES)), 0x02040000: ("reactive_power",), 0x02050000: ("apparent_power",),
    0x02060000: ("power_factor",), 0x02800002: ("frequency",), 0x02800004: ("demand",), 0x01010000: ("demand_max",),
}


class Bus:
    """One meter channel of a community."""

    def __init__(self, community: Community, channel: str) -> None:
        self.community = community
        self.channel = channel
        self.meters = {str(d.address).upper(): k for k, d in enumerate(community.image.devices) if d.channel == channel}
        self.requests = 0
        self.refused = 0

    def _local(self) -> datetime:
        return datetime.fromtimestamp(self.community.now_s, UTC) + timedelta(seconds=UTC_OFFSET_S)

    def _value(self, k: int, key: str) -> float:
        """A value as the meter itself has it: secondary side; NaN when it has none."""
        image = self.community.image
        at = image.index.get((k, key))
        value = float(image.values[at]) if at is not None else math.nan
        return value / image.devices[k].ct_ratio if point(key).unit in _RATED else value

    def _listening(self) -> list[tuple[str, int]]:
        devices = self.community.image.devices
        return [(a, k) for a, k in self.meters.items() if not self.community.silent(devices[k].code, self.channel)]

    def answer_645(self, frame: dlt645.Frame) -> bytes:
        """The answers on the wire; empty when nobody is meant."""
        try:
            request = dlt645.parse_request(frame)
        except FrameError:
            self.refused += 1
            return b""
        self.requests += 1
        return b"".join(self._reply_645(request, address, k) for address, k in self._listening() if dlt645.matches(request.address, address))

    def _reply_645(self, request: dlt645.Request, address: str, k: int) -> bytes:
        if request.service == dlt645.READ_ADDRESS:
            return dlt645.Reply(address, request.service).encode()
        if request.service == 0x08:
            return b""  # broadcast time is never answered
        if request.service != dlt645.READ:
            self.refused += 1
            return dlt645.Reply(address, request.service, error=dlt645.NOT_AUTHORISED).encode()
        payload = self._payload_645(request.di, address, k)
        if payload is None:
            self.refused += 1
            return dlt645.Reply(address, request.service, error=dlt645.NO_DATA).encode()
        return dlt645.Reply(address, request.service, request.di, payload).encode()

    def _payload_645(self, di: int, address: str, k: int) -> bytes | None:
        now = self._local()
        if di == 0x04000101:
            return dlt645.encode_value(di, (f"{now:%y%m%d}{(now.weekday() + 1) % 7:02d}",))
        if di == 0x04000102:
            return dlt645.encode_value(di, (f"{now:%H%M%S}",))
        if di in {0x04000401, 0x04000402}:
            return dlt645.encode_value(di, (address,))
        if (keys := DLT645.get(di)) is None:
            return None
        values: list[float | str] = [self._value(k, key) for key in keys]
        if di == 0x01010000:
            values.append(f"{now:%y%m%d}0600")
        return dlt645.encode_value(di, values)

    def answer_188(self, frame: cjt188.Frame) -> bytes:
        """The answers on the wire; empty when nobody is meant."""
        try:
            request = cjt188.parse_request(frame)
        except FrameError:
            self.refused += 1
            return b""
        self.requests += 1
        return b"".join(self._reply_188(request, address, k) for address, k in self._listening() if cjt188.matches(request.address, address))

    def _reply_188(self, request: cjt188.Request, address: str, k: int) -> bytes:
        if request.service == cjt188.READ_ADDRESS:
            return cjt188.address_reply(address, request.sequence)
        if request.service != cjt188.READ or request.di != cjt188.CURRENT:
            self.refused += 1
            return cjt188.error_reply(request, address=address)
        units = {"heat_energy": "kWh", "heat_power": "kW", "flow": "m3/h", "volume": "m3", "supply_temp": "degC", "return_temp": "degC", "operating_hours": "h"}
        values = {key: (self._value(k, key), unit) for key, unit in units.items()}
        values["heat_power"] = (max(0.0, values["heat_power"][0]), "kW")
        values["settle_energy"] = (0.0, "kWh")
        status = bytes([0x04 if self._value(k, "battery_low") > 0.5 else 0x00, 0x00])
        return cjt188.HeatReading(address, request.sequence, values, f"{self._local():%Y%m%d%H%M%S}", status).encode()


async def serve(bus: Bus, protocol: str, host: str, port: int) -> Listener:
    """Listen on TCP as a serial tunnel does: bytes in, frames found, bytes out."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feed: Callable[[bytes], bytes]
        if protocol == "dlt645":
            extractor645 = dlt645.Extractor()
            feed = lambda chunk: b"".join(bus.answer_645(f) for f in extractor645.feed(chunk))  # noqa: E731 - one line per protocol
        else:
            extractor188 = cjt188.Extractor()
            feed = lambda chunk: b"".join(bus.answer_188(f) for f in extractor188.feed(chunk))  # noqa: E731 - one line per protocol
        while chunk := await reader.read(4096):
            if answer := feed(chunk):
                writer.write(answer)
                await writer.drain()

    return await Listener(talk).start(host, port)
