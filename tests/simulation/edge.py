"""An edge box that can lose its power: the production agent on a simulated clock, disk and line, beside a boiler that has moods.

The box (disk, boiler, clock crystal) outlives the agent. Must not know: what the platform does with what is sent.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.agent import Agent, Unit
from edge_agent.commands.actuation import Act
from edge_agent.commands.desk import Device
from edge_agent.config import Credentials, Site, SiteDevice, Uplink
from edge_agent.drivers.driver import Counters, DeviceSpec, Value
from edge_agent.errors import DeviceError
from edge_agent.sampling import Sampler
from edge_agent.templates import PointSpec
from edge_agent.uplink.link import Outgoing
from protos import envelope
from protos.batch import Reading
from protos.kang.v1 import link_pb2, telemetry_pb2
from tests.simulation import people
from tests.simulation.disk import Disk
from tests.simulation.world import START_MS, Process, World

if TYPE_CHECKING:
    from tests.simulation.platform import Gateway


@dataclass(frozen=True, slots=True)
class Effect:
    """A write as the boiler felt it. `at` is loop time when it was begun, `wall_ms` what the agent believed then."""

    at: float
    wall_ms: int
    point: str
    value: float
    command: bytes
    done: bool


@dataclass(slots=True)
class Boiler:
    """A field device."""

    world: World
    device: int
    chance: random.Random
    temperature: float = 60.0
    setpoint: float = 60.0
    enabled: float = 1.0
    running: float = 1.0
    follows_at: float = 0.0
    stuck: bool = False
    fault: float = 0.0
    low_water: float = 0.0
    energy: float = 1000.0
    log: list[Effect] = field(default_factory=list)

    def look(self) -> dict[str, float]:
        """What its registers say now; life goes on with every look."""
        r = self.chance
        if self.world.faults:
            self.energy += r.choice((0.0, 0.7, 1.5))
            self.temperature = min(120.0, max(10.0, self.temperature + r.gauss(0, 6)))
            if r.random() < 0.03:
                self.fault = 7.0
            if r.random() < 0.03:
                self.low_water = 1.0 - self.low_water
            if r.random() < 0.04:
                self.stuck = not self.stuck
        else:
            self.stuck, self.low_water = False, 0.0
        if self.world.loop.now >= self.follows_at and not self.stuck:
            self.running = self.enabled
        return {"leaving_temp": round(self.temperature, 1), "energy_import": round(self.energy, 1), "run_state": self.running, "low_water_alarm": self.low_water,
                "fault_code": self.fault, "leaving_temp_setpoint": self.setpoint, "enable_command": self.enabled, "reset_command": 0.0}

    def obey(self, point: str, value: float) -> None:
        """A write arrives."""
        if point == "leaving_temp_setpoint":
            self.setpoint = value
        elif point == "enable_command":
            self.enabled = value
            self.follows_at = self.world.loop.now + self.chance.uniform(0.5, 8)
        elif not self.stuck:
            self.fault = 0.0


class BoilerDriver:
    """The line to the boiler, as one agent process has it."""

    def __init__(self, box: Box, process: Process) -> None:
        self.counters = Counters()
        self.command = b""
        self._box, self._process = box, process

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def read(self, points: Sequence[PointSpec]) -> dict[str, Value]:
        r = self._box.chance
        await self._process.point("driver.read", r.uniform(0.02, 0.3))
        if self._box.world.faults and r.random() < 0.04:
            await self._process.point("driver.read", 1.0)
            raise DeviceError("timeout", "no answer")
        seen = self._box.boiler.look()
        return {p.key: Value(seen[p.key]) for p in points}

    async def write(self, spec: PointSpec, value: float) -> None:
        box, r = self._box, self._box.chance
        begun, wall_ms, command = box.world.loop.now, box.agent.now().wall_ms, self.command
        mood = r.random() if box.world.faults else 1.0

        def felt(*, done: bool) -> None:
            if done:
                box.boiler.obey(spec.key, value)
            box.boiler.log.append(Effect(begun, wall_ms, spec.key, value, command, done))
            box.world.note(f"{box.agent_id} writes {spec.key}={value:g} by {command.hex()[:6]} done={done}")

        if mood < 0.05:
            raise DeviceError("connect", "the channel is down")
        await self._process.point("driver.write", r.uniform(0.02, 0.4))
        if mood < 0.08:
            felt(done=False)
            raise DeviceError("refused", "illegal value")
        if mood < 0.16:
            felt(done=mood < 0.12)
            await self._process.point("driver.write", 1.0)
            raise DeviceError("timeout", "no answer")
        felt(done=True)
        await self._process.point("driver.written", r.uniform(0.01, 0.1))


class BoxSystem:
    """The operating system of a box: `edge_agent.agent.System`."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def wall_ms(self) -> int:
        box = self._box
        return self.mono_ms() + 7_000 if box.no_battery else START_MS + round(box.world.loop.now * 1000) + box.skew_ms

    def mono_ms(self) -> int:
        return 30_000 + round((self._box.world.loop.now - self._box.booted_at) * 1000)

    def boot_id(self) -> bytes:
        return f"boot{self._box.boots:04d}".encode().ljust(16, b"-")

    def cpu_s(self) -> float:
        return 0.0

    def clock_synchronised(self) -> bool:
        return not self._box.no_battery and self._box.world.loop.now >= self._box.synchronised_at


class SimAgent(Agent):
    """The production agent; only the wire is ours."""

    def __init__(self, box: Box, process: Process) -> None:
        self.process, self.box = process, box
        super().__init__(box.site, box.credentials, system=BoxSystem(box), units=self._boilers)
        box.disk.watch(self.spool, "spool.db", process, box.spool_committed)
        box.disk.watch(self.journal, "journal.db", process, box.journal_committed, weight=4.0)

    def _boilers(self, site: Site) -> dict[int, Unit]:
        return {d.device.id: Unit(d, BoilerDriver(self.box, self.process), Sampler(d.device.id, d.device.points, int(d.poll_s * 1000))) for d in site.devices.values()}

    def start(self) -> None:
        for work in (self._cycle(), self._flush_loop(), self._tend_clock(), self._uplink(), *(self._poll(u) for u in self.units.values())):
            self.process.spawn(work)

    async def _flush(self) -> None:
        promised = list(self._dated)
        await super()._flush()
        self.box.promised += promised

    async def _write(self, act: Act) -> None:
        driver = self.units[act.device].driver
        assert isinstance(driver, BoilerDriver)
        driver.command = act.command
        await super()._write(act)

    def heartbeat(self) -> telemetry_pb2.Heartbeat:
        now = self.now()
        self.clock.asked(now.mono_ms)
        fresh = self.box.chance.randbytes(12)
        return telemetry_pb2.Heartbeat(project_id=self.site.project_id, agent_id=self.site.agent_id, boot_id=self.boot_id, challenge=self.challenges.current(now.mono_ms, fresh),
                                       clock_trusted=now.trusted)

    # --- the wire

    def _uplink(self) -> Coroutine[Any, Any, None]:
        return self._dial()

    async def _dial(self) -> None:
        process, net, gateway = self.process, self.box.gateway.net, self.box.gateway
        while True:
            await process.point("uplink.dial", self.box.chance.uniform(0.1, 3))
            try:
                self.on_wire(link_pb2.Down(welcome=await net.call(process, "uplink.hello", self._hello)))
            except TimeoutError:
                continue
            line = gateway.connect(self)
            self.link.connected()
            next_beat = self.box.world.loop.now + self.link.heartbeat_s
            while gateway.stands(self, line):
                if self.box.world.loop.now >= next_beat:
                    next_beat = self.box.world.loop.now + self.link.heartbeat_s
                    process.spawn(self._beat())
                messages = self.link.due()
                for message in messages:
                    process.spawn(self._publish(message))
                if not messages:
                    await self.link.pause(max(0.01, min(self.box.idle_s, next_beat - self.box.world.loop.now)))
                else:
                    await process.point("uplink.sent")
            self.link.lost()

    def _hello(self) -> link_pb2.Welcome | None:
        return self.box.gateway.heartbeat(self, self.heartbeat())

    async def _beat(self) -> None:
        try:
            welcome = await self.box.gateway.net.call(self.process, "uplink.beat", self._hello)
        except TimeoutError:
            return
        self.link.on_welcome(welcome)

    async def _publish(self, message: Outgoing) -> None:
        gateway = self.box.gateway
        try:
            await gateway.net.call(self.process, "uplink.publish", gateway.publish, self, message)
        except TimeoutError:
            self.link.failed(message, "TimeoutError")

    def on_wire(self, down: link_pb2.Down) -> bool:
        """A message from the platform."""
        body = down.WhichOneof("body")
        if body == "ack":
            self.link.on_ack(down.ack)
        elif body == "command":
            self.on_command(down.command)
        elif body == "welcome":
            self.link.on_welcome(down.welcome)
        return True


class Box:
    """A machine beside a boiler, across the lives of its agent."""

    def __init__(self, world: World, k: int, folder: Path, gateway: Gateway, freed: Callable[[Box, int, int], None], *, crash: float,
                 make_agent: Callable[[Box, Process], SimAgent] = SimAgent) -> None:
        info = people.agent_info(f"edge{k:02d}", gateway.project_of(f"edge{k:02d}"))
        self.world, self.gateway, self.agent_id, self.project_id = world, gateway, info.agent_id, info.project_id
        self.chance = r = world.chance(f"box:{info.agent_id}")
        self.disk = Disk(folder, info.agent_id)
        self.boiler = Boiler(world, k + 1, world.chance(f"boiler:{k}"))
        self.no_battery = r.random() < 0.15
        self.skew_ms = r.choice((0, 0, r.randint(-1500, 1500)))
        self.synchronised_at = 0.0 if r.random() < 0.9 else r.uniform(5, 60)
        self.idle_s = r.uniform(6, 15)
        self.booted_at, self.boots, self.wire_up = -r.uniform(0, 1000), 1, True
        self.batches: dict[tuple[bytes, int], bytes] = {}
        self.promised: list[Reading] = []
        self.stages: dict[bytes, list[tuple[float, int]]] = {}
        self.lockouts: list[tuple[float, bool]] = []
        self.result_times: list[int] = []
        self.counts: Counter[str] = Counter()
        self._crash, self._freed, self._make = crash, freed, make_agent
        template = people.boiler()
        device = Device(k + 1, template, template.points)
        poll_s = float(r.choice((10, 10, 12, 15, 20)))
        self.site = Site(info.project_id, info.agent_id, gateway.partitions, self.disk, folder, Uplink("nats"), {}, {k + 1: SiteDevice(device, "line", DeviceSpec(k + 1), poll_s)},
                         cycle_s=20.0, linger_s=r.uniform(5, 12), heartbeat_s=20.0, clock="auto" if r.random() < 0.9 else "platform")
        self.credentials = Credentials(people.signing(info.agent_id), people.box(info.agent_id), people.telemetry_public(), people.signing("command").public_key(), "", folder)
        self.agent: SimAgent
        self.process: Process

    def boot(self) -> None:
        """Power on."""
        self.process = Process(self.world, self.agent_id, crash=self._crash, on_death=self._died)
        self.agent = self._make(self, self.process)
        for command, moves in self.stages.items():  # what was settled while the agent started
            entry = self.agent.journal.entry(command)
            if entry is not None and entry.stage != moves[-1][1]:
                moves.append((self.world.loop.now, entry.stage))
        self.agent.start()

    def _died(self) -> None:
        self.disk.power_cut()
        if self.chance.random() < 0.4:  # the box, not only the process
            self.boots += 1
            self.world.loop.call_later(self.chance.uniform(3, 25), self._reboot)
        else:
            self.world.loop.call_later(self.chance.uniform(0.5, 6), self.boot)

    def _reboot(self) -> None:
        self.booted_at = self.world.loop.now
        self.boot()

    # --- what its disk has seen committed

    def spool_committed(self, statements: list[tuple[str, Any]]) -> None:
        for sql, p in statements:
            if sql.startswith("INSERT INTO batch"):
                self.batches[self.agent.spool.epoch, p[0]] = p[4]
            elif sql.startswith("DELETE FROM batch"):
                self._freed(self, p[0], p[1])

    def journal_committed(self, statements: list[tuple[str, Any]]) -> None:
        now = self.world.loop.now
        for sql, p in statements:
            if sql.startswith("INSERT INTO command"):
                self.stages.setdefault(p[0], []).append((now, p[7]))
                self.world.note(f"{self.agent_id} takes {p[0].hex()[:6]} kind {p[3]} stage {p[7]} {p[15]}")
            elif sql.startswith("UPDATE command SET stage"):
                self.stages.setdefault(p[1], []).append((now, p[0]))
                self.world.note(f"{self.agent_id} moves {p[1].hex()[:6]} to stage {p[0]}")
            elif sql.startswith("INSERT INTO result"):
                self.result_times.append(envelope.Header.unpack(p[1]).sent_ms)
            elif "INTO lockout" in sql:
                self.lockouts.append((now, True))
            elif sql.startswith("DELETE FROM lockout"):
                self.lockouts.append((now, False))


def stage_at(stages: Mapping[bytes, list[tuple[float, int]]], command: bytes, at: float) -> int | None:
    """The stage of a command at a moment, as its agent had journalled it."""
    found = None
    for when, stage in stages.get(command, ()):
        if when <= at:
            found = stage
    return found
