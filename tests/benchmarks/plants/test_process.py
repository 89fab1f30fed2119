"""The command itself: ready line, clean stop, state that survives, errors a person can read."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.benchmarks.plants.support import free_base


async def _start(base: int, state: Path, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.plants.run", "heat_pump", "metered_district", "--port-base", str(base), "--state", str(state), "--days", "0.2", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)


@pytest.mark.slow
async def test_two_plants_in_one_process_survive_a_restart_with_their_registers(tmp_path: Path) -> None:
    totals = []
    for _ in range(2):
        process = await _start(free_base(), tmp_path)
        assert process.stdout is not None and process.stderr is not None
        ready = [json.loads(await asyncio.wait_for(process.stdout.readline(), 30)) for _ in range(2)]
        assert [r["ready"] for r in ready] == ["heat_pump", "metered_district"]
        assert ready[1]["port_base"] == ready[0]["port_base"] + 10
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0
        assert await process.stderr.read() == b""
        totals.append(json.loads((tmp_path / "heat_pump.json").read_text())["components"]["meter"]["registers"]["total"][0])
    assert totals[0] <= totals[1] < totals[0] + 0.5


@pytest.mark.slow
async def test_a_foreign_state_and_a_taken_port_end_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "heat_pump.json").write_text("{")
    process = await _start(free_base(), tmp_path)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert b"E-PLANT" in errors and b"delete it" in errors and b"Traceback" not in errors
    taken = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    base = taken.sockets[0].getsockname()[1]
    process = await _start(base, tmp_path / "other")
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    taken.close()
    assert process.returncode == 2
    assert b"--port-base" in errors and b"Traceback" not in errors
