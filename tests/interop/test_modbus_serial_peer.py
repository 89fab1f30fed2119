"""The Modbus driver against an independent server (npm `modbus-serial`, installed into build/peers)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from edge_agent.drivers.driver import ChannelSpec, DeviceSpec
from edge_agent.drivers.modbus import ModbusChannel, ModbusDriver
from edge_agent.templates import builtin
from tests.interop import peers

pytestmark = pytest.mark.interop
BOILER = builtin("electric_boiler_modbus")


async def test_our_driver_reads_and_writes_the_peers_registers():
    modules = await asyncio.to_thread(peers.modules)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(str(peers.node()), str(Path(__file__).with_name("modbus_serial_server.js")), str(port),
                                                   env={**os.environ, "NODE_PATH": str(modules)}, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            assert json.loads(await process.stdout.readline())["ready"]
        driver = ModbusDriver(ModbusChannel(ChannelSpec("peer", "modbus", host="127.0.0.1", port=port), timeout_s=2), DeviceSpec(1, 3, link=BOILER.link))
        values = await driver.read(list(BOILER.points.values()))
        assert (values["active_power"].value, values["run_state"].value) == (pytest.approx(1234.5), 1)
        assert (values["leaving_temp"].value, values["entering_temp"].value) == (pytest.approx(65.3), pytest.approx(-5.0))
        await driver.write(BOILER.points["leaving_temp_setpoint"], 61.5)
        await driver.write(BOILER.points["power_limit_setpoint"], 70_000.0)
        await driver.write(BOILER.points["enable_command"], 1.0)
        back = await driver.read([BOILER.points[k] for k in ("leaving_temp_setpoint", "power_limit_setpoint", "enable_command")])
        await driver.close()
    finally:
        process.terminate()
        await process.wait()
    assert {k: round(v.value, 3) for k, v in back.items()} == {"leaving_temp_setpoint": 61.5, "power_limit_setpoint": 70_000.0, "enable_command": 1.0}
