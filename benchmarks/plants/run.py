"""Run heated communities that speak real field protocols: `python -m benchmarks.plants.run COMMUNITY... --port-base N`.

One process may hold several communities; each takes ten ports from the base on (channel offsets in its file, +9 control socket).
Must not know: physics, the platform.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pymodbus.server import ModbusTcpServer

from benchmarks.plants.communities import COMMUNITIES, build
from benchmarks.plants.device import PlantError
from benchmarks.plants.history import DAYS
from benchmarks.plants.plant import Plant
from benchmarks.plants.servers import control, meters, modbus
from benchmarks.plants.servers.listener import Listener

PORTS_EACH, CONTROL_OFFSET = 10, 9
SAVE_EVERY_S = 300.0
#: Seeds by community, so that one number on the command line still gives four different places.
SEEDS = {"boiler_storage": 1, "heat_pump": 2, "metered_district": 3, "decentralised": 4}


class Running:
    """A plant with its servers; an async context manager."""

    def __init__(self, plant: Plant, port_base: int, host: str = "127.0.0.1") -> None:
        self.plant = plant
        self.port_base = port_base
        self.host = host
        self.fields: dict[str, modbus.Field] = {}
        self.buses: dict[str, meters.Bus] = {}
        self._modbus: list[ModbusTcpServer] = []
        self._servers: list[Listener] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        community = self.plant.community
        for channel in community.channels:
            port = self.port_base + channel.offset
            if channel.protocol == "modbus":
                server = await modbus.serve_tcp(community, channel.name, self.host, port)
                self._modbus.append(server)
                self.fields[channel.name] = modbus.context(server)
            else:
                bus = self.buses[channel.name] = meters.Bus(community, channel.name)
                self._servers.append(await meters.serve(bus, channel.protocol, self.host, port))
        self._servers.append(await control.serve(control.Control(self.plant), self.port_base + CONTROL_OFFSET))
        self.plant.begin()
        self._task = asyncio.create_task(self._keep_up())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for server in self._servers:
            await server.close()
        for field in self._modbus:
            await field.shutdown()
        self.plant.save()

    async def _keep_up(self) -> None:
        saved = time.monotonic()
        while True:
            steps = self.plant.tick()
            if time.monotonic() - saved >= SAVE_EVERY_S:
                self.plant.save()
                saved = time.monotonic()
            await asyncio.sleep(0 if steps * self.plant.step_s >= 3600 else min(self.plant.step_s / self.plant.speed, 1.0))


def prepare(key: str, *, seed: int | None = None, speed: float = 1.0, step_s: float = 5.0, state: Path | None = None, days: float = DAYS) -> Plant:
    """A warm plant, not yet served."""
    community = build(key, SEEDS[key] if seed is None else SEEDS[key] + seed - 1)
    plant = Plant(community, clock=time.time, speed=speed, step_s=step_s, state=state / f"{key}.json" if state else None)
    plant.warm_up(days)
    return plant


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plants.run", description="Serve heated communities over real field protocols.")
    parser.add_argument("communities", nargs="+", metavar="COMMUNITY", help=f"all, or some of: {', '.join(COMMUNITIES)}")
    parser.add_argument("--port-base", type=int, required=True, help="first port; each community takes ten")
    parser.add_argument("--host", default="127.0.0.1", help="address of the field buses (the control socket is always on loopback)")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=float, default=5.0, help="physics step, s; must divide 60")
    parser.add_argument("--state", type=Path, help="directory where registers and temperatures survive a restart")
    parser.add_argument("--days", type=float, default=float(DAYS), help="days of warm-up and history")
    arguments = parser.parse_args(argv)
    if arguments.communities == ["all"]:
        arguments.communities = list(COMMUNITIES)
    if unknown := [c for c in arguments.communities if c not in COMMUNITIES]:
        parser.error(f"unknown community {', '.join(unknown)}; known: all, {', '.join(COMMUNITIES)}")
    if arguments.speed <= 0 or arguments.step <= 0 or (60 / arguments.step) % 1:
        parser.error("--speed must be above 0, --step must divide 60")
    return arguments


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    running: list[Running] = []
    try:
        for k, key in enumerate(arguments.communities):
            plant = prepare(key, seed=arguments.seed, speed=arguments.speed, step_s=arguments.step, state=arguments.state, days=arguments.days)
            one = await Running(plant, arguments.port_base + PORTS_EACH * k, arguments.host).__aenter__()
            running.append(one)
            sys.stdout.write(json.dumps({"ready": key, "port_base": one.port_base, "control": one.port_base + CONTROL_OFFSET, "devices": len(plant.community.image.devices)}) + "\n")
            sys.stdout.flush()
        await stop.wait()
    finally:
        for one in running:
            await one.__aexit__()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        asyncio.run(_serve(arguments))
    except PlantError as error:
        sys.stderr.write(f"{error.code}: {error.message('zh')}\n{error.code}: {error.message('en')}\n")
        return 2
    except (OSError, RuntimeError) as error:  # pymodbus says RuntimeError when it cannot listen
        sys.stderr.write(f"E-PLANT: 端口无法监听（{error}）。请更换 --port-base。\nE-PLANT: cannot listen ({error}). Choose another --port-base.\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
