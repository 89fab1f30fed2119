"""The meters of DL/T 645 and CJ/T 188 as drivers over a byte channel; transformer ratios and units are applied here.

Must not know: the spool, commands, Modbus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_agent.drivers import cjt188, dlt645
from edge_agent.drivers.driver import Counters, DeviceSpec, Value
from edge_agent.drivers.stream import ByteChannel
from edge_agent.errors import DeviceError, FrameError
from edge_agent.templates import PointSpec
from protos.points import Quality
from protos.units import UnitError, conversion

MAX_FOLLOWING = 16


class Dlt645Driver:
    """One electricity meter. Its data items are read one by one; a block item serves many points."""

    def __init__(self, channel: ByteChannel, device: DeviceSpec) -> None:
        self.counters = Counters()
        self._channel, self._device = channel, device
        self._edition = int(device.number("edition", 2007))
        self._timeout_s = device.number("timeout_s", 1.5)
        self._tries = 1 + int(device.number("retries", 1))

    async def open(self) -> None:
        """Dial the channel if it is not open."""
        await self._channel.open()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def write(self, spec: PointSpec, value: float) -> None:
        """Meters are not written."""
        raise DeviceError("read_only", f"{spec.key}={value:g}")

    async def read(self, points: Sequence[PointSpec]) -> dict[str, Value]:
        """Read points; an item the meter does not have makes its points BAD, a silent meter raises."""
        values: dict[str, Value] = {}
        answers: dict[int, tuple[float | str, ...]] = {}
        for spec in points:
            di = spec.address.di
            if di not in answers:
                try:
                    answers[di] = dlt645.decode_value(di, await self._item(di), edition=self._edition)
                except FrameError as error:
                    self.counters.failed(error)
                    answers[di] = ()
            parts = answers[di]
            part = parts[spec.address.index] if spec.address.index < len(parts) else math.nan
            if isinstance(part, str) or math.isnan(part):
                values[spec.key] = Value(math.nan, Quality.BAD)
            else:
                values[spec.key] = Value(spec.canonical(part, ratio=self._device.ratio(spec)))
        if any(answers.values()):
            self.counters.error = ""
        return values

    async def _item(self, di: int) -> bytes:
        service = dlt645.READ_1997 if self._edition == 1997 else dlt645.READ
        reply = await self._ask(dlt645.Request(self._device.address, service, di))
        payload, sequence = reply.payload, 0
        while reply.more:
            sequence += 1
            if sequence > MAX_FOLLOWING:
                raise FrameError("sequence", str(sequence))
            reply = await self._ask(dlt645.Request(self._device.address, dlt645.READ_FOLLOWING, di, sequence))
            payload += reply.payload
        return payload

    async def _ask(self, request: dlt645.Request) -> dlt645.Reply:
        for last in (*[False] * (self._tries - 1), True):
            extractor = dlt645.Extractor()
            self.counters.requests += 1

            def take(chunk: bytes, extractor: dlt645.Extractor = extractor) -> dlt645.Reply | None:
                for frame in extractor.feed(chunk):
                    if not dlt645.is_reply(frame) or not dlt645.matches(request.address, frame.address):
                        continue  # the echo of our own request, or another meter
                    reply = dlt645.parse_reply(frame)
                    dlt645.check_reply(request, reply)
                    return reply
                return None

            try:
                return await self._channel.exchange(request.encode(), take, self._timeout_s)
            except DeviceError as error:
                cause = _cause(error, extractor.rejects)
                if last or error.reason == "connect":
                    self.counters.failed(cause)
                    raise
        raise AssertionError("unreachable")


class Cjt188Driver:
    """One heat meter: everything comes in one 901F reply."""

    def __init__(self, channel: ByteChannel, device: DeviceSpec) -> None:
        self.counters = Counters()
        self._channel, self._device = channel, device
        self._profile = cjt188.PROFILES[str(device.link.get("profile", "standard"))]
        self._type = int(device.number("meter_type", cjt188.HEAT))
        self._timeout_s = device.number("timeout_s", 2.0)
        self._tries = 1 + int(device.number("retries", 1))
        self._sequence = 0

    async def open(self) -> None:
        """Dial the channel if it is not open."""
        await self._channel.open()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def write(self, spec: PointSpec, value: float) -> None:
        """Meters are not written."""
        raise DeviceError("read_only", f"{spec.key}={value:g}")

    async def read(self, points: Sequence[PointSpec]) -> dict[str, Value]:
        """Read points; a field the meter has no value for is BAD, a silent meter raises."""
        try:
            reading = await self._ask()
        except FrameError as error:
            self.counters.failed(error)
            return {spec.key: Value(math.nan, Quality.BAD) for spec in points}
        self.counters.error = ""
        return {spec.key: heat_value(reading, spec) for spec in points}

    async def _ask(self) -> cjt188.HeatReading:
        for last in (*[False] * (self._tries - 1), True):
            self._sequence = (self._sequence + 1) & 0xFF
            request = cjt188.Request(self._device.address, cjt188.CURRENT, self._sequence, type=self._type)
            extractor = cjt188.Extractor()
            self.counters.requests += 1

            def take(chunk: bytes, extractor: cjt188.Extractor = extractor) -> cjt188.HeatReading | None:
                for frame in extractor.feed(chunk):
                    if cjt188.is_reply(frame) and cjt188.matches(self._device.address, frame.address):
                        return cjt188.parse_heat(frame, profile=self._profile)
                return None

            try:
                return await self._channel.exchange(request.encode(profile=self._profile), take, self._timeout_s)
            except DeviceError as error:
                cause = _cause(error, extractor.rejects)
                if last or error.reason == "connect":
                    self.counters.failed(cause)
                    raise
        raise AssertionError("unreachable")


def heat_value(reading: cjt188.HeatReading, spec: PointSpec) -> Value:
    """One point of a heat meter's reply, in the catalogue's unit (the unit travels with every value)."""
    if spec.address.field == "battery_low":
        return Value(float(reading.battery_low))
    if spec.address.field not in reading.values:
        return Value(math.nan, Quality.BAD)
    value, unit = reading.values[spec.address.field]
    if math.isnan(value):
        return Value(math.nan, Quality.BAD)
    try:
        factor, offset = (1.0, 0.0) if unit == spec.point.unit else conversion(unit, spec.point.unit)
    except UnitError:
        return Value(math.nan, Quality.BAD)
    return Value((value * spec.scale + spec.offset) * factor + offset)


def _cause(error: DeviceError, rejects: dict[str, int]) -> DeviceError | FrameError:
    """A timeout behind which stood broken frames is counted as what it was."""
    return FrameError(next(iter(rejects))) if error.reason == "timeout" and rejects else error
