"""The proxy really cuts, the steady field is steady at the sampling instants, the meters see processes and the edge's weight."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data import meter
from benchmarks.data.cut import Proxy
from benchmarks.data.footprint import closure, installed_bytes
from benchmarks.data.steady import PERIOD_S, Steady
from benchmarks.peers.engine import bodies, tree_bytes
from benchmarks.peers.packages import PeerMissingError, program


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_the_proxy_cuts_and_mends() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1])
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"a")
    assert await reader.readexactly(1) == b"a"
    proxy.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        writer.write(b"b")
        await asyncio.wait_for(reader.readexactly(1), 5)
    proxy.mend()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"c")
    assert await asyncio.wait_for(reader.readexactly(1), 5) == b"c"
    writer.close()
    await proxy.close()
    server.close()


def test_the_steady_field_does_not_move_around_a_sampling_instant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    field = Steady(3, tmp_path / "log")
    clock: dict[str, float] = {}
    monkeypatch.setattr("benchmarks.data.steady.time.time", lambda: clock["now"])

    def words(now: float) -> list[int]:
        clock["now"] = now
        return [field.word(2, r) for r in range(11)]

    instant = 1_700_000_000 // PERIOD_S * PERIOD_S
    assert words(instant) == words(instant + 0.99) == words(instant - 0.99)
    assert words(instant) != words(instant + PERIOD_S)


def test_processor_time_and_memory_are_booked_by_stage() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; x = sum(k * k for k in range(2_000_000)); print('worked', flush=True); sys.stdin.read()", "benchmarks.data.edge"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        assert meter.cpu([child.pid])["edge"] > 0.01
        assert meter.pss_bytes([child.pid])["edge"] > 1 << 20
        assert meter.cpu([child.pid]).keys() == {"edge"}
    finally:
        child.communicate(b"")
    assert meter.cpu([child.pid]) == {}
    assert meter.spent({"a": 1.0}, {"a": 1.5, "b": 2.0}) == {"a": 0.5, "b": 2.0}


def test_the_agents_closure_holds_its_uplink_and_no_platform() -> None:
    nats, grpc = closure("edge-nats"), closure("edge-grpc")
    assert {"protobuf", "cryptography", "pymodbus", "pyyaml", "nats-py"} <= nats
    assert "grpcio" in grpc - nats
    assert not {"numpy", "ray", "chdb", "fastapi"} & (nats | grpc)
    assert installed_bytes({"cryptography"}) > 1 << 20


def test_bodies_and_sizes(tmp_path: Path) -> None:
    made = bodies((str(k) for k in range(5)), 2)
    assert made == [b"0\n1\n", b"2\n3\n", b"4\n"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(10))
    assert tree_bytes(tmp_path) == 10


def test_a_missing_peer_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folder: Any = tmp_path / "bin"
    folder.mkdir()
    apt = folder / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package no-such' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    with pytest.raises(PeerMissingError, match="Unable to locate package"):
        program("no-such-engine", "no-such")
