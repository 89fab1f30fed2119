"""The drivers over real sockets, against peers written here that can be silent, rude, slow and gone."""

from __future__ import annotations

import asyncio
import math
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from edge_agent.drivers import cjt188, dlt645
from edge_agent.drivers.driver import ChannelSpec, DeviceSpec
from edge_agent.drivers.meters import Cjt188Driver, Dlt645Driver
from edge_agent.drivers.modbus import ModbusChannel, ModbusDriver, plan
from edge_agent.drivers.stream import ByteChannel
from edge_agent.errors import DeviceError
from edge_agent.templates import builtin
from protos.points import Quality

BOILER, METER, HEAT = builtin("electric_boiler_modbus"), builtin("electricity_meter_dlt645"), builtin("heat_meter_cjt188")


class Slave:
    """A Modbus TCP slave in forty lines."""

    def __init__(self) -> None:
        self.holding = dict.fromkeys(range(100), 0)
        self.coils = dict.fromkeys(range(8), False)
        self.forbidden: set[int] = set()
        self.silent = False
        self.requests = 0
        self.overlap = 0
        self.units: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                self.requests += 1
                self.units.append(unit)
                if self.silent:
                    continue
                self.overlap += reader._buffer != b""
                answer = self.answer(pdu)
                frame = struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer
                writer.write(frame[:5])
                await asyncio.sleep(0)
                writer.write(frame[5:])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        touched = set(range(address, address + (count if function in {1, 3, 16} else 1)))
        table = self.coils if function in {1, 5} else self.holding
        if touched & self.forbidden or not touched <= set(table):
            return bytes([function | 0x80, 2])
        if function == 3:
            return struct.pack(f">BB{count}H", 3, 2 * count, *(self.holding[a] for a in range(address, address + count)))
        if function == 1:
            bits = sum(self.coils[address + k] << k for k in range(count))
            return bytes([1, (count + 7) // 8]) + bits.to_bytes((count + 7) // 8, "little")
        if function == 5:
            self.coils[address] = count == 0xFF00
        elif function == 6:
            self.holding[address] = count
        elif function == 16:
            for k, word in enumerate(struct.unpack(f">{count}H", pdu[6:6 + 2 * count])):
                self.holding[address + k] = word
        return pdu[:5]


@asynccontextmanager
async def listening(serve, port: int = 0) -> AsyncIterator[int]:
    peers: list[asyncio.StreamWriter] = []

    async def accept(reader, writer):
        peers.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for peer in peers:
            peer.close()
        await asyncio.sleep(0.01)


def modbus(port: int, *, unit: int = 3, timeout_s: float = 0.3, channel: ModbusChannel | None = None) -> ModbusDriver:
    channel = channel or ModbusChannel(ChannelSpec("bus", "modbus", host="127.0.0.1", port=port), timeout_s=timeout_s, retries=0)
    return ModbusDriver(channel, DeviceSpec(1, unit, link=BOILER.link))


async def test_a_boiler_is_read_in_few_requests_and_converted_once():
    slave = Slave()
    slave.holding |= {0: 0, 1: 12345, 4: 653, 5: 65486, 30: 0b1000_0000_0001 & 0xFFF, 40: 600}
    slave.coils[0] = True
    async with listening(slave.serve) as port:
        driver = modbus(port)
        values = await driver.read(list(BOILER.points.values()))
        await driver.close()
    assert set(values) == set(BOILER.points)
    assert values["active_power"].value == pytest.approx(1234.5)
    assert values["entering_temp"].value == pytest.approx(-5.0)
    assert (values["run_state"].value, values["phase_loss_alarm"].value, values["low_water_alarm"].value, values["enable_command"].value) == (1, 1, 0, 1)
    assert slave.requests <= 4
    assert set(slave.units) == {3}


async def test_a_write_reaches_the_register_and_reads_back():
    slave = Slave()
    async with listening(slave.serve) as port:
        driver = modbus(port)
        await driver.write(BOILER.points["leaving_temp_setpoint"], 61.5)
        await driver.write(BOILER.points["power_limit_setpoint"], 70_000.0)
        await driver.write(BOILER.points["enable_command"], 1.0)
        values = await driver.read([BOILER.points[k] for k in ("leaving_temp_setpoint", "power_limit_setpoint", "enable_command")])
        await driver.close()
    assert slave.holding[40] == 615
    assert {k: v.value for k, v in values.items()} == {"leaving_temp_setpoint": pytest.approx(61.5), "power_limit_setpoint": pytest.approx(70_000), "enable_command": 1.0}


async def test_one_missing_register_spoils_only_its_own_point_and_is_remembered():
    slave = Slave()
    slave.forbidden = {7}
    slave.holding[4] = 500
    async with listening(slave.serve) as port:
        driver = modbus(port)
        points = list(BOILER.points.values())
        first = await driver.read(points)
        asked = slave.requests
        second = await driver.read(points)
        await driver.close()
    assert first["outlet_pressure"].quality is Quality.BAD
    assert math.isnan(first["outlet_pressure"].value)
    assert first["leaving_temp"].value == second["leaving_temp"].value == pytest.approx(50.0)
    assert driver.counters.failures["E-DEVICE.refused"] >= 2
    assert slave.requests - asked < asked


async def test_a_silent_device_times_out_and_comes_back_on_the_same_line():
    slave = Slave()
    async with listening(slave.serve) as port:
        driver = modbus(port, timeout_s=0.15)
        slave.silent = True
        with pytest.raises(DeviceError) as caught:
            await driver.read([BOILER.points["leaving_temp"]])
        assert caught.value.reason == "timeout"
        assert driver.counters.error == "E-DEVICE.timeout"
        slave.silent = False
        slave.holding[4] = 400
        values = await driver.read([BOILER.points["leaving_temp"]])
        await driver.close()
    assert values["leaving_temp"].value == pytest.approx(40.0)


async def test_a_refused_connection_backs_off_and_a_new_server_is_found():
    async with listening(Slave().serve) as port:
        pass
    driver = modbus(port)
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            await driver.read([BOILER.points["leaving_temp"]])
        assert caught.value.reason == "connect"
    assert "next try in" in str(caught.value.values["detail"])
    async with listening(Slave().serve, port):
        async with asyncio.timeout(5):
            while True:
                try:
                    values = await driver.read([BOILER.points["leaving_temp"]])
                    break
                except DeviceError:
                    await asyncio.sleep(0.05)
        await driver.close()
    assert values["leaving_temp"].quality is Quality.GOOD


async def test_two_devices_share_a_bus_one_request_at_a_time():
    slave = Slave()
    async with listening(slave.serve) as port:
        channel = ModbusChannel(ChannelSpec("bus", "modbus", host="127.0.0.1", port=port), timeout_s=1, retries=0)
        drivers = [modbus(port, unit=u, channel=channel) for u in (1, 2, 3)]
        await asyncio.gather(*(d.read(list(BOILER.points.values())) for d in drivers for _ in range(5)))
        await drivers[0].close()
    assert slave.overlap == 0
    assert set(slave.units) == {1, 2, 3}
    assert channel.reconnects == 1


def test_merging_covers_every_point_within_the_limits():
    for gap, limit in ((0, 10), (8, 100), (200, 125)):
        blocks = plan(list(BOILER.points.values()), max_gap=gap, max_registers=limit)
        assert sorted(s.key for b in blocks for s in b.points) == sorted(BOILER.points)
        assert all(b.count <= limit for b in blocks)
        assert all(b.start <= s.address.register and s.address.register + s.address.width <= b.start + b.count for b in blocks for s in b.points)
        assert len(blocks) < len(BOILER.points)


class Meter645:
    """A DL/T 645 meter that echoes the line, precedes its answers with FE and splits them."""

    def __init__(self) -> None:
        self.values: dict[int, list] = {0x0001FF00: [100.0, 10.0, 20.0, 30.0, 40.0], 0x00020000: [1.5], 0x0201FF00: [220.1, math.nan, 221.0], 0x0202FF00: [5.0, -5.0, 0.5],
                                        0x0203FF00: [1.2345, 0.4, 0.4, 0.4345], 0x02040000: [-0.1], 0x02060000: [0.985], 0x02800002: [50.02], 0x02800004: [1.2],
                                        0x01010000: [2.5, "2611241200"]}
        self.follow = False
        self.damage = 0

    async def serve(self, reader, writer) -> None:
        extractor = dlt645.Extractor()
        while chunk := await reader.read(256):
            writer.write(chunk)  # the line's echo
            for frame in extractor.feed(chunk):
                for piece in self.answer(dlt645.parse_request(frame)):
                    writer.write(piece)
                    await asyncio.sleep(0.002)

    def answer(self, request: dlt645.Request) -> list[bytes]:
        if request.address != "000012345678":
            return []
        if request.di not in self.values:
            wire = dlt645.Reply(request.address, request.service, error=dlt645.NO_DATA).encode()
        else:
            payload = dlt645.encode_value(request.di, self.values[request.di])
            if request.service == dlt645.READ and self.follow and request.di == 0x0001FF00:
                wire = dlt645.Reply(request.address, dlt645.READ, request.di, payload[:8], more=True).encode()
            elif request.service == dlt645.READ_FOLLOWING:
                wire = dlt645.Reply(request.address, dlt645.READ_FOLLOWING, request.di, payload[8:], sequence=request.sequence).encode()
            else:
                wire = dlt645.Reply(request.address, request.service, request.di, payload).encode()
        if self.damage:
            self.damage -= 1
            wire = wire[:-3] + bytes([wire[-3] ^ 1]) + wire[-2:]
        return [wire[k:k + 7] for k in range(0, len(wire), 7)]


def meter(port: int, address: str = "000012345678", **options) -> Dlt645Driver:
    channel = ByteChannel(ChannelSpec("line", "dlt645", host="127.0.0.1", port=port))
    return Dlt645Driver(channel, DeviceSpec(2, address=address, link={**METER.link, "timeout_s": 0.3}, **options))


async def test_a_meter_is_read_with_transformer_ratios_and_a_missing_phase_is_bad():
    async with listening(Meter645().serve) as port:
        driver = meter(port, ct_ratio=40.0, pt_ratio=1.0)
        values = await driver.read(list(METER.points.values()))
        await driver.close()
    assert values["energy_import"].value == pytest.approx(4000)
    assert values["energy_import_t4"].value == pytest.approx(1600)
    assert values["active_power"].value == pytest.approx(49.38)
    assert values["current_b"].value == pytest.approx(-200)
    assert values["voltage_a"].value == pytest.approx(220.1)
    assert values["voltage_b"].quality is Quality.BAD
    assert values["demand_max"].value == pytest.approx(100)
    assert driver.counters.requests == 10


async def test_following_frames_are_joined():
    peer = Meter645()
    peer.follow = True
    async with listening(peer.serve) as port:
        driver = meter(port)
        values = await driver.read([METER.points["energy_import"], METER.points["energy_import_t4"]])
        await driver.close()
    assert (values["energy_import"].value, values["energy_import_t4"].value) == (100.0, 40.0)


async def test_an_item_the_meter_lacks_is_bad_and_the_others_good():
    peer = Meter645()
    del peer.values[0x02800004]
    async with listening(peer.serve) as port:
        driver = meter(port)
        values = await driver.read([METER.points["demand"], METER.points["frequency"]])
        await driver.close()
    assert (values["demand"].quality, values["frequency"].quality) == (Quality.BAD, Quality.GOOD)
    assert driver.counters.failures["E-FRAME.error_reply"] == 1


async def test_a_damaged_answer_is_asked_again():
    peer = Meter645()
    peer.damage = 1
    async with listening(peer.serve) as port:
        driver = meter(port)
        values = await driver.read([METER.points["frequency"]])
        await driver.close()
    assert values["frequency"].value == 50.02
    assert driver.counters.requests == 2


async def test_another_address_is_silence():
    async with listening(Meter645().serve) as port:
        driver = meter(port, "999900000000")
        with pytest.raises(DeviceError) as caught:
            await driver.read([METER.points["frequency"]])
        await driver.close()
    assert caught.value.reason == "timeout"


async def test_a_dropped_tunnel_is_dialled_again():
    peer = Meter645()
    async with listening(peer.serve) as port:
        driver = meter(port)
        await driver.read([METER.points["frequency"]])
    with pytest.raises(DeviceError):
        await driver.read([METER.points["frequency"]])
    async with listening(peer.serve, port):
        async with asyncio.timeout(5):
            while True:
                try:
                    values = await driver.read([METER.points["frequency"]])
                    break
                except DeviceError:
                    await asyncio.sleep(0.05)
        await driver.close()
    assert values["frequency"].value == 50.02


async def test_meters_are_never_written():
    driver = meter(1)
    with pytest.raises(DeviceError) as caught:
        await driver.write(METER.points["frequency"], 50)
    assert caught.value.reason == "read_only"


@pytest.mark.parametrize("profile", list(cjt188.PROFILES))
async def test_a_heat_meter_of_any_profile_is_read_in_canonical_units(profile):
    habit = cjt188.PROFILES[profile]
    reading = cjt188.HeatReading("11110059200991", 1, {
        "heat_energy": (1234.56, "kWh"), "heat_power": (math.nan, "kW"), "flow": (1.2345, "m3/h"), "volume": (9.5, "m3"), "supply_temp": (45.5, "degC"), "return_temp": (35.5, "degC"),
        "operating_hours": (100, "h")}, "20261124120000", b"\x04\x00")

    async def serve(reader, writer):
        extractor = cjt188.Extractor()
        while chunk := await reader.read(256):
            for frame in extractor.feed(chunk):
                if cjt188.parse_request(frame, profile=habit).di == cjt188.CURRENT:
                    wire = reading.encode(profile=habit, preamble=12)
                    for k in range(0, len(wire), 9):
                        writer.write(wire[k:k + 9])
                        await asyncio.sleep(0.001)

    async with listening(serve) as port:
        channel = ByteChannel(ChannelSpec("line", "cjt188", host="127.0.0.1", port=port))
        driver = Cjt188Driver(channel, DeviceSpec(3, address="11110059200991", link={**HEAT.link, "profile": profile, "timeout_s": 0.5}))
        values = await driver.read(list(HEAT.points.values()))
        await driver.close()
    assert values["heat_energy"].value == pytest.approx(1234.56)
    assert values["heat_power"].quality is Quality.BAD
    assert (values["supply_temp"].value, values["battery_low"].value) == (45.5, 1.0)


async def test_a_meter_on_a_serial_line_is_read():
    """A pseudo-terminal pair: the driver opens one end as a serial port, the meter answers on the other."""
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    loop = asyncio.get_running_loop()
    extractor, peer = dlt645.Extractor(), Meter645()

    def readable() -> None:
        for frame in extractor.feed(os.read(ours, 256)):
            if not dlt645.is_reply(frame):
                os.write(ours, b"".join(peer.answer(dlt645.parse_request(frame))))

    loop.add_reader(ours, readable)
    try:
        driver = Dlt645Driver(ByteChannel(ChannelSpec("serial", "dlt645", "serial", device=name, baud=2400)), DeviceSpec(2, address="000012345678", link=METER.link))
        values = await driver.read([METER.points["frequency"]])
        await driver.close()
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)
    assert values["frequency"].value == 50.02
