"""The agent's own drivers read every device of every community over real sockets and get the truth within the instrument's resolution."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plants import site
from benchmarks.plants.communities import COMMUNITIES
from benchmarks.plants.run import Running
from benchmarks.plants.template import load, number, registers
from edge_agent.drivers import dlt645
from edge_agent.drivers.driver import ChannelSpec, DeviceSpec
from edge_agent.drivers.meters import Cjt188Driver, Dlt645Driver
from edge_agent.drivers.modbus import ModbusChannel, ModbusDriver
from edge_agent.drivers.stream import ByteChannel
from edge_agent.errors import DeviceError
from edge_agent.templates import builtin
from tests.benchmarks.plants.support import advance, http, served, warm


class Agent:
    """Drivers for all devices of a community, made from its site file."""

    def __init__(self, running: Running, key: str) -> None:
        image = running.plant.community.image
        ids = {d.code: k + 1 for k, d in enumerate(image.devices)}
        config = site.site(key, device_ids=ids, project_id=1, agent_id="a", partitions=1, state_dir="s", credentials_dir="c", uplink={"kind": "nats"}, port_base=running.port_base)
        self.channels: dict[str, Any] = {}
        for row in config["channels"]:
            spec = ChannelSpec(row["name"], row["protocol"], row["transport"], row["host"], row["port"])
            self.channels[spec.name] = ModbusChannel(spec, timeout_s=0.5, retries=0) if spec.protocol == "modbus" else ByteChannel(spec)
        self.drivers: dict[str, Any] = {}
        for code, row in zip(ids, config["devices"], strict=True):
            link = dict(builtin(row["template"]).link) | {"timeout_s": 0.5, "retries": 0}
            spec = DeviceSpec(row["id"], unit=row.get("unit", 1), address=row.get("address", ""), ct_ratio=row.get("ct_ratio", 1.0), pt_ratio=row.get("pt_ratio", 1.0), link=link)
            kind = {"modbus": ModbusDriver, "dlt645": Dlt645Driver, "cjt188": Cjt188Driver}[builtin(row["template"]).protocol]
            self.drivers[code] = kind(self.channels[row["channel"]], spec)

    async def close(self) -> None:
        for channel in self.channels.values():
            if isinstance(channel, ModbusChannel):
                channel.drop()
            else:
                await channel.close()


@pytest.mark.parametrize("key", COMMUNITIES)
async def test_every_device_reads_back_as_the_plant_has_it(key: str) -> None:
    plant = warm(key)
    image = plant.community.image
    async with served(plant) as running:
        agent = Agent(running, key)
        compared = 0
        for k, device in enumerate(image.devices):
            specs = tuple(builtin(device.template).points.values())
            values = await agent.drivers[device.code].read(specs)
            for spec in specs:
                truth, seen = float(image.values[image.index[k, spec.key]]), values[spec.key]
                if spec.key in device.absent:
                    assert not spec.low <= seen.value <= spec.high
                    continue
                coarse = abs(spec.scale * spec.unit_factor) if device.channel.startswith(("field", "gateway")) and spec.address.type != "f32" else spec.resolution
                coarse = max(coarse, spec.resolution, 1e-4) * (device.ct_ratio if spec.ratio in {"ct", "ctpt"} else 1.0)
                assert abs(seen.value - truth) <= coarse + abs(truth) * 1e-6, (device.code, spec.key, seen, truth)
                compared += 1
        assert compared > 150
        await agent.close()


async def test_agent_writes_a_set_point_and_reads_it_back() -> None:
    plant = warm("boiler_storage")
    async with served(plant) as running:
        agent = Agent(running, "boiler_storage")
        specs = {s.key: s for s in builtin("onoff_valve_modbus").points.values()}
        driver = agent.drivers["QH-H204"]
        await driver.write(specs["room_temp_setpoint"], 21.5)
        await driver.write(specs["valve_command"], 0.0)
        values = await driver.read([specs["room_temp_setpoint"], specs["valve_command"]])
        assert (values["room_temp_setpoint"].value, values["valve_command"].value) == (21.5, 0.0)
        boiler = {s.key: s for s in builtin("electric_boiler_modbus").points.values()}
        await agent.drivers["QH-B1"].write(boiler["power_limit_setpoint"], 7_777.5)
        assert plant.community.image.get("QH-B1", "power_limit_setpoint") == 7_777.5
        await agent.close()


async def test_registers_outside_the_map_and_values_outside_the_range_are_refused() -> None:
    from pymodbus.client import AsyncModbusTcpClient
    plant = warm("boiler_storage")
    async with served(plant) as running:
        client = AsyncModbusTcpClient("127.0.0.1", port=running.port_base)
        await client.connect()
        assert (await client.read_holding_registers(200, count=2, device_id=101)).exception_code == 2
        assert (await client.write_register(0, 5, device_id=101)).exception_code == 2
        assert (await client.write_register(40, 900, device_id=101)).exception_code == 3
        assert not (await client.write_register(40, 190, device_id=101)).isError()
        assert running.fields["field"].refused == 3
        client.close()


async def test_comms_loss_is_silence_and_ends() -> None:
    plant = warm("heat_pump")
    async with served(plant) as running:
        agent = Agent(running, "heat_pump")
        points = tuple(builtin("weather_station_modbus").points.values())
        assert (await http(running, "/fault", {"kind": "comms_loss", "target": "GS-WS"}))[0] == 200
        with pytest.raises(DeviceError):
            await agent.drivers["GS-WS"].read(points)
        await agent.close()
        agent = Agent(running, "heat_pump")
        await agent.drivers["GS-LOOP"].read(tuple(builtin("network_loop_modbus").points.values()))
        await http(running, "/fault", {"kind": "comms_loss", "target": "meters_188"})
        with pytest.raises(DeviceError):
            await agent.drivers["GS-HM"].read(tuple(builtin("heat_meter_cjt188").points.values()))
        for target in ("GS-WS", "meters_188"):
            await http(running, "/fault", {"kind": "comms_loss", "target": target, "on": False})
        await agent.close()
        agent = Agent(running, "heat_pump")
        assert len(await agent.drivers["GS-WS"].read(points)) == len(points)
        assert len(await agent.drivers["GS-HM"].read(tuple(builtin("heat_meter_cjt188").points.values()))) > 5
        await agent.close()


async def _raw(port: int, request: bytes, *, wait_s: float = 0.3) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for k in range(0, len(request), 5):  # a tunnel cuts frames anywhere
        writer.write(request[k:k + 5])
        await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(4096), wait_s)
    except TimeoutError:
        return b""
    finally:
        writer.close()


async def test_electricity_meter_answers_as_the_protocol_says() -> None:
    plant = warm("decentralised")
    async with served(plant) as running:
        port = running.port_base + 1
        address = "202600004000"
        reply = dlt645.decode(await _raw(port, dlt645.Request(address, dlt645.READ, 0x02010100).encode()))
        volt = dlt645.decode_value(0x02010100, dlt645.parse_reply(reply).payload)[0]
        assert isinstance(volt, float) and 220 < volt < 235
        no_data = dlt645.parse_reply(dlt645.decode(await _raw(port, dlt645.Request(address, dlt645.READ, 0x04001234).encode())))
        assert no_data.errors == ("no_data",)
        refused = dlt645.parse_reply(dlt645.decode(await _raw(port, dlt645.Request(address, dlt645.WRITE, 0x04000103, payload=bytes(9)).encode())))
        assert refused.errors == ("not_authorised",)
        assert await _raw(port, dlt645.Request("999900000000", dlt645.READ, 0x02010100).encode()) == b""
        clock = dlt645.decode_value(0x04000102, dlt645.parse_reply(dlt645.decode(await _raw(port, dlt645.Request(address, dlt645.READ, 0x04000102).encode()))).payload)[0]
        assert clock[:2] == f"{int(plant.community.local_hour):02d}"
        assert running.buses["meters_645"].refused == 2


async def test_meter_registers_roll_over_on_the_wire() -> None:
    plant = warm("boiler_storage")
    meter = plant.community.components["meter"]
    meter.registers.total[0] = 999_999.97
    plant.community.publish()
    async with served(plant) as running:
        agent = Agent(running, "boiler_storage")
        points = [s for s in builtin("electricity_meter_dlt645").points.values() if s.key == "energy_import"]
        before = (await agent.drivers["QH-EM"].read(points))["energy_import"].value
        assert before == pytest.approx(999_999.97 * 120)
        meter.registers.add([0.05, 0, 0, 0, 0, 0, 0])
        plant.community.publish()
        after = (await agent.drivers["QH-EM"].read(points))["energy_import"].value
        assert after == pytest.approx(0.02 * 120)
        await agent.close()


async def test_garbage_on_a_meter_bus_harms_nobody() -> None:
    plant = warm("metered_district")
    async with served(plant) as running:
        assert await _raw(running.port_base + 2, bytes(range(256)) * 4) == b""
        assert await _raw(running.port_base + 1, b"\x68" * 300) == b""
        agent = Agent(running, "metered_district")
        assert math.isfinite((await agent.drivers["BM-HM24"].read(tuple(builtin("heat_meter_cjt188").points.values())))["heat_energy"].value)
        await agent.close()


async def test_control_socket_tells_truth_values_and_refuses_nonsense() -> None:
    plant = warm("heat_pump")
    async with served(plant) as running:
        status, health = await http(running, "/health")
        assert (status, health["community"], health["devices"]) == (200, "heat_pump", 34)
        truth = (await http(running, "/truth"))[1]
        assert len(truth["room_temp"]) == 24
        values = (await http(running, "/values"))[1]["values"]
        assert values["GS-H101"].keys() >= {"valve_state", "room_temp"}
        assert any(v["room_temp"] is None for c, v in values.items() if "-H" in c and "room_temp" in v)
        for path, body in (("/nothing", None), ("/fault", {"kind": "explode"}), ("/fault", {"target": "x"}), ("/history?start=yesterday", None)):
            status, answer = await http(running, path, body)
            assert status == 400 and answer["code"] == "E-PLANT", path
        advance(plant, 5)


@given(st.sampled_from(["u16", "s16", "u32", "s32"]), st.integers(-(2**31), 2**32 - 1), st.sampled_from(["big", "little"]))
def test_register_encoding_is_reversible_or_clipped(kind: str, value: int, order: str) -> None:
    low, high = {"u16": (0, 65535), "s16": (-32768, 32767), "u32": (0, 2**32 - 1), "s32": (-(2**31), 2**31 - 1)}[kind]
    assert number(registers(value, kind, order), kind, order) == min(max(value, low), high)


def test_plants_and_agent_read_the_same_map() -> None:
    for name in {d["template"] for key in COMMUNITIES for d in site.devices(key)}:
        ours, theirs = load(name), builtin(name)
        assert set(ours.places) == {s.key for s in theirs.points.values()}
        for spec in theirs.points.values():
            assert ours.places[spec.key].to_canonical(123.0) == pytest.approx(spec.canonical(123.0))
