"""DL/T 645 against an independent implementation (PyPI `dlt645`), as its master and as its meter."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import dlt645 as peer
import pytest

from edge_agent.drivers import dlt645
from edge_agent.drivers.driver import ChannelSpec, DeviceSpec
from edge_agent.drivers.meters import Dlt645Driver
from edge_agent.drivers.stream import ByteChannel
from edge_agent.templates import builtin

_spec = importlib.util.spec_from_file_location("edge_driver_peers", Path(__file__).parents[1] / "edge_agent" / "drivers" / "test_drivers.py")
assert _spec is not None
assert _spec.loader is not None
ours = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ours)

pytestmark = pytest.mark.interop
METER = builtin("electricity_meter_dlt645")
ADDRESS = "000012345678"
REVERSED = bytes.fromhex(ADDRESS)[::-1].hex()  # the peer puts addresses on the wire as they are given


@pytest.fixture(autouse=True)
def quiet():
    peer.disable_logging()


async def test_our_driver_reads_the_peers_meter():
    server = peer.MeterServerService.new_tcp_server("127.0.0.1", 0)
    server.set_address(REVERSED)
    assert server.set_00(0x00020000, 1234.56)
    assert server.set_02(0x02040000, 1.2345)
    assert server.set_02(0x02060000, 0.985)
    assert server.set_02(0x02800002, 50.02)
    assert server.start()
    try:
        async with asyncio.timeout(5):
            while not server.server.port:  # noqa: ASYNC110 - set by the peer's thread
                await asyncio.sleep(0.02)
        driver = Dlt645Driver(ByteChannel(ChannelSpec("peer", "dlt645", host="127.0.0.1", port=server.server.port)), DeviceSpec(1, address=ADDRESS, link=METER.link))
        values = await driver.read([METER.points[k] for k in ("energy_export", "reactive_power", "power_factor", "frequency")])
        await driver.close()
    finally:
        server.stop()
    assert {k: v.value for k, v in values.items()} == {"energy_export": 1234.56, "reactive_power": 1.2345, "power_factor": 0.985, "frequency": 50.02}


async def test_the_peers_master_reads_our_meter():
    meter = ours.Meter645()
    # The peer reads the top bit of forward energy as a sign, which annex A gives to combined registers only; below 800,000 kWh both agree.
    meter.values |= {0x00010000: [787654.32], 0x02010100: [221.5]}

    async def serve(reader, writer):
        extractor = dlt645.Extractor()
        while chunk := await reader.read(256):
            for frame in extractor.feed(chunk):
                writer.write(b"".join(meter.answer(dlt645.parse_request(frame))))

    async with ours.listening(serve) as port:
        client = peer.MeterClientService.new_tcp_client("127.0.0.1", port)
        client.set_address(REVERSED)
        try:
            energy = await asyncio.to_thread(client.read_00, 0x00010000)
            voltage = await asyncio.to_thread(client.read_02, 0x02010100)
        finally:
            await asyncio.to_thread(client.disconnect)
    assert (energy.value, voltage.value) == (787654.32, 221.5)
