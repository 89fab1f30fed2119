"""mbpoll (libmodbus) reads and writes a served plant over TCP and over RTU on a pty pair made by socat (parity N)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from benchmarks.plants.servers.modbus import serve_rtu
from tests.benchmarks.plants.support import served, warm

pytestmark = pytest.mark.interop


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, output.decode()
    return output.decode()


def _numbers(text: str) -> list[int]:
    return [int(v) for v in re.findall(r"^\[\d+\]:\s+(-?\d+)", text, re.MULTILINE)]


@pytest.mark.needs("mbpoll")
async def test_mbpoll_reads_and_writes_over_tcp() -> None:
    plant = warm("boiler_storage")
    async with served(plant) as running:
        base = ["mbpoll", "-m", "tcp", "-p", str(running.port_base), "-0", "-1", "-o", "2"]
        shown = _numbers(await _run(*base, "-a", "14", "-r", "0", "-c", "4", "-t", "4", "127.0.0.1"))
        outdoor = shown[0] - 65536 if shown[0] > 32767 else shown[0]
        assert abs(outdoor / 10 - plant.community.image.get("QH-WS", "outdoor_temp")) <= 0.05 + 1e-9
        await _run("mbpoll", "-m", "tcp", "-p", str(running.port_base), "-0", "-o", "2", "-a", "101", "-r", "40", "-t", "4", "127.0.0.1", "215")
        assert plant.community.image.get("QH-H101", "room_temp_setpoint") == 21.5
        assert _numbers(await _run(*base, "-a", "101", "-r", "40", "-t", "4", "127.0.0.1")) == [215]
        await _run("mbpoll", "-m", "tcp", "-p", str(running.port_base), "-0", "-o", "2", "-a", "101", "-r", "0", "-t", "0", "127.0.0.1", "0")
        assert plant.community.wished("QH-H101", "valve_command", -1.0) == 0.0


@pytest.mark.needs("mbpoll", "socat")
async def test_mbpoll_reads_and_writes_over_rtu(tmp_path: Path) -> None:
    plant = warm("boiler_storage")
    ours, theirs = tmp_path / "plant", tmp_path / "master"
    pair = await asyncio.create_subprocess_exec("socat", f"pty,raw,echo=0,link={ours}", f"pty,raw,echo=0,link={theirs}")
    try:
        async with asyncio.timeout(5):
            while not (ours.exists() and theirs.exists()):  # noqa: ASYNC110 - another process makes them
                await asyncio.sleep(0.02)
        server = await serve_rtu(plant.community, "field", str(ours))
        line = ["mbpoll", "-m", "rtu", "-b", "19200", "-P", "none", "-0", "-o", "3", "-t", "4"]
        shown = _numbers(await _run(*line, "-1", "-a", "13", "-r", "0", "-c", "4", str(theirs)))
        assert abs(shown[0] / 10 - plant.community.image.get("QH-LOOP", "supply_temp")) <= 0.05 + 1e-9
        await _run(*line, "-a", "12", "-r", "40", str(theirs), "655")
        assert plant.community.image.get("QH-PUMP", "speed_setpoint") == 65.5
        await server.shutdown()
    finally:
        pair.terminate()
        await pair.wait()
