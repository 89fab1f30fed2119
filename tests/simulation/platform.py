"""The platform's processes: gateway, project hosts, command service. Shells only; what they decide with is production code.

The shells mirror `cloud.gateways.relay`, `cloud.runtime.host` and `cloud.control.service`. Must not know: invariants.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloud.bus.streams import FencedError, Message, StreamLostError
from cloud.control.desk import Desk
from cloud.control.journal import Journal
from cloud.historian.client import HistorianUnavailableError
from cloud.historian.writer import Writer
from cloud.runtime.decode import Decoder
from cloud.runtime.host import _ranges
from cloud.runtime.ingest import Limits, PartitionIngest
from edge_agent.uplink.link import Outgoing
from protos import envelope, subjects
from protos.errors import KangError
from protos.kang.v1 import command_pb2, link_pb2, telemetry_pb2
from protos.suites import Suite
from tests.simulation import people
from tests.simulation.disk import Disk
from tests.simulation.edge import SimAgent
from tests.simulation.network import Net, Records, SimClaims, SimLog, Stream
from tests.simulation.store import Engine, SimClickHouse, SimRecall
from tests.simulation.world import Process, World

MakeIngest = Callable[..., PartitionIngest]
MakeDesk = Callable[..., Desk]


class Gateway:
    """Between the wires and the streams; has no memory worth losing but who is connected."""

    def __init__(self, world: World, net: Net, directory: people.Directory, partitions: int, window_s: float) -> None:
        self.world, self.net, self.directory, self.partitions = world, net, directory, partitions
        self.telemetry = [Stream(world, subjects.telemetry_stream(p), window_s) for p in range(partitions)]
        self.results = Stream(world, subjects.RESULT_STREAM, window_s)
        self.control: Control
        self._lines: dict[str, tuple[int, SimAgent]] = {}
        self._next_line = 0

    def project_of(self, agent_id: str) -> int:
        info = self.directory.agent(agent_id)
        assert info is not None
        return info.project_id

    def connect(self, agent: SimAgent) -> int:
        """A line stands until the wire is cut or a newer line replaces it."""
        self._next_line += 1
        self._lines[agent.box.agent_id] = (self._next_line, agent)
        return self._next_line

    def stands(self, agent: SimAgent, line: int) -> bool:
        return agent.box.wire_up and self._lines.get(agent.box.agent_id, (0, None))[0] == line

    def cut(self, agent_id: str) -> None:
        """The connection breaks; both sides see it."""
        gone = self._lines.pop(agent_id, None)
        if gone is not None:
            gone[1].link.wake.set()

    def heartbeat(self, agent: SimAgent, beat: telemetry_pb2.Heartbeat) -> link_pb2.Welcome | None:
        if not agent.box.wire_up:
            return None
        welcome = link_pb2.Welcome(wall_ms=self.world.now_ms, heartbeat_s=20, window=64)
        control = self.control
        if control.process.alive:
            control.process.run(control.heard, beat)
            if not beat.clock_trusted:
                welcome.signature = people.signing("command").sign(beat.challenge + welcome.wall_ms.to_bytes(8, "little", signed=True))
        return welcome

    def publish(self, agent: SimAgent, message: Outgoing) -> bool | None:
        if not agent.box.wire_up:
            return None
        wire, agent_id, project = self.net.damage(message.wire), agent.box.agent_id, agent.box.project_id
        if message.batch:
            partition = subjects.partition_of(project, self.partitions)
            return self.telemetry[partition].publish(subjects.telemetry(partition, project, agent_id), wire, f"{agent_id}:{message.epoch.hex()}:{message.sequence}")
        return self.results.publish(subjects.result(project, agent_id), wire, f"r:{agent_id}:{message.epoch.hex()}:{message.sequence}")

    def down(self, agent_id: str, message: link_pb2.Down) -> bool | None:
        """Deliver to a connected agent; None when it does not get through."""
        standing = self._lines.get(agent_id)
        if standing is None or not standing[1].box.wire_up or not standing[1].process.alive:
            return None
        agent = standing[1]
        return agent.process.run(agent.on_wire, message)

    def online(self, agent_id: str) -> bool:
        return agent_id in self._lines


class Hosts:
    """Starts hosts for partitions, replaces those that die or seem to, ends those that woke up too late."""

    def __init__(self, world: World, gateway: Gateway, engine: Engine, records: Records, *, crash: float, pause: float, make_ingest: MakeIngest = PartitionIngest) -> None:
        self._world, self._gateway, self._engine, self._records = world, gateway, engine, records
        self._crash, self._pause, self._make = crash, pause, make_ingest
        self._chance = world.chance("hosts")
        self._owner: dict[int, Process] = {}
        self._count = 0
        self.alarms: list[dict[str, Any]] = []

    def start(self, partition: int) -> None:
        self._count += 1
        name = f"host{self._count}.{partition}"
        process = Process(self._world, name, crash=self._crash, pause=self._pause, on_death=lambda: self._replace(partition, process), on_pause=lambda: self._suspect(partition, process))
        self._owner[partition] = process
        process.spawn(self._own(partition, process))

    def _replace(self, partition: int, process: Process) -> None:
        if self._owner.get(partition) is process:
            self._world.loop.call_later(self._chance.uniform(0.3, 6), self._start_if, partition, process)

    def _start_if(self, partition: int, process: Process) -> None:
        if self._owner.get(partition) is process:
            self.start(partition)

    def _suspect(self, partition: int, process: Process) -> None:
        """It does not answer: somebody starts another one; the old one is ended some time after it woke."""
        self._world.loop.call_later(self._chance.uniform(1, 8), self._start_if, partition, process)
        self._world.loop.call_later(self._chance.uniform(20, 70), process.die, "supervisor")

    async def _own(self, partition: int, process: Process) -> None:
        world, client = self._world, SimClickHouse(process, self._engine)
        r = world.chance(f"limits:{process.name}")
        limits = Limits(rows=r.choice((20, 200, 50_000)), messages=r.choice((3, 20, 2000)), linger_s=r.choice((0.1, 1.0, 3.0)), idle_s=5.0)
        while True:
            ingest = self._make(
                partition, log=SimLog(process, self._gateway.telemetry[partition]), claims=SimClaims(process, self._records), store=Writer(client), recall=SimRecall(client),
                decoder=Decoder(self._gateway.directory, [people.box("platform")], people.signing("command").public_key().public_bytes_raw()), directory=self._gateway.directory,
                acknowledge=lambda *a: self._acknowledge(process, *a), notify=self._notify, now_ms=lambda: world.now_ms, limits=limits)
            try:
                await ingest.open()
                world.note(f"{process.name} owns partition {partition} from {ingest.committed}")
                while True:
                    before = ingest.committed
                    await ingest.step()
                    if ingest.committed != before:
                        world.note(f"{process.name} committed {before + 1}..{ingest.committed}")
            except (FencedError, StreamLostError):
                world.note(f"{process.name} is fenced")
                world.count("fenced")
                await process.point("fenced", 2 + 3 * r.random())
            except HistorianUnavailableError:
                await process.point("historian down", 0.5)

    async def _acknowledge(self, process: Process, project_id: int, agent_id: str, epoch: bytes, sequences: list[int]) -> None:
        await process.point("host.acknowledge")
        ack = link_pb2.Ack(epoch=epoch)
        for first, last in _ranges(sequences):
            ack.ranges.add(first=first, last=last)
        self._gateway.net.send(self._gateway.down, agent_id, link_pb2.Down(ack=ack))

    async def _notify(self, event: dict[str, Any]) -> None:
        self.alarms.append(event)


class Control:
    """The command service."""

    def __init__(self, world: World, gateway: Gateway, disk: Disk, *, crash: float, make_desk: MakeDesk = Desk) -> None:
        self._world, self._gateway, self._disk, self._crash, self._make = world, gateway, disk, crash, make_desk
        self._chance = world.chance("control")
        self._ids = 0
        self.boot()

    def boot(self) -> None:
        self.process = Process(self._world, "control", crash=self._crash, on_death=self._died)
        journal = Journal(self._disk.path("control"))
        self._disk.watch(journal, "control", self.process)
        self.desk = self._make(journal, self._gateway.directory, {Suite.STD: people.signing("command")})
        self._opener = envelope.Opener(subjects.PLATFORM_IDENTITY, people.box("platform"))
        self._challenges: dict[str, bytes] = {}
        self._heard_at: dict[str, float] = {}
        self._sending: set[str] = set()
        for work in (self._send_loop(), self._tick_loop(), self._results_loop()):
            self.process.spawn(work)

    def _died(self) -> None:
        self._disk.power_cut()
        self._world.loop.call_later(self._chance.uniform(0.3, 5), self.boot)

    def _new_id(self) -> str:
        self._ids += 1
        return random.Random(f"{self._world.seed}:command:{self._ids}").randbytes(16).hex()

    def submit(self, request: dict[str, Any]) -> str | None:
        """A request from the portal; None when nobody answers. The same key is the same command."""
        def answer() -> str:
            try:
                return str(self.desk.submit(request, self._world.now_ms, self._new_id)[0]["id"])
            except KangError as error:
                return error.code
        return self.process.run(answer)

    def heard(self, beat: telemetry_pb2.Heartbeat) -> None:
        self._challenges[beat.agent_id] = beat.challenge
        self._heard_at[beat.agent_id] = self._world.loop.now

    def _online(self, _project_id: int, agent_id: str) -> bool:
        return self._world.loop.now - self._heard_at.get(agent_id, -1e9) < 60

    async def _send_loop(self) -> None:
        while True:
            for row in self.desk.due(self._world.now_ms, self._online):
                if row["id"] not in self._sending:
                    self._sending.add(row["id"])
                    self.process.spawn(self._send(row))
            await self.process.point("control.send", 0.5)

    async def _send(self, row: Any) -> None:
        try:
            if not self.desk.waits(row["id"]):
                return
            agent = self._gateway.directory.agent(row["agent_id"])
            challenge, outcome = self._challenges.get(row["agent_id"]), "offline"
            if agent is not None and challenge is not None and self._online(row["project_id"], row["agent_id"]):
                sealed = self.desk.seal(row, agent, challenge, self._world.now_ms)
                if self._gateway.online(row["agent_id"]):
                    try:
                        await self._gateway.net.call(self.process, "control.request", self._gateway.down, row["agent_id"], link_pb2.Down(command=sealed), timeout_s=2)
                        outcome = "sent"
                    except TimeoutError:
                        outcome = "maybe"
            self.desk.attempted(row["id"], outcome, self._world.now_ms)
            self._world.note(f"control sent {row['id'][:6]} {row['kind']} v{row['version']}: {outcome}")
        finally:
            self._sending.discard(row["id"])

    async def _tick_loop(self) -> None:
        while True:
            await self.process.point("control.tick", 1.0)
            for command_id in self.desk.tick(self._world.now_ms):
                self._world.note(f"control tick moved {command_id[:6]}")

    async def _results_loop(self) -> None:
        while True:
            stream = SimLog(self.process, self._gateway.results)
            try:
                await stream.open()
                await stream.seek(1)
                while True:
                    messages = await stream.fetch(500, 5.0)
                    acks: dict[tuple[str, bytes], list[int]] = {}
                    for message in messages:
                        self._take(message, acks)
                    for (agent_id, epoch), indices in acks.items():
                        ack = link_pb2.Ack(epoch=epoch)
                        for index in sorted(set(indices)):
                            ack.ranges.add(first=index, last=index)
                        self._gateway.net.send(self._gateway.down, agent_id, link_pb2.Down(ack=ack))
                    if messages:
                        await stream.purge(messages[-1].sequence)
            except (FencedError, StreamLostError):
                await asyncio.sleep(0.5)

    def _take(self, message: Message, acks: dict[tuple[str, bytes], list[int]]) -> None:
        agent_id = message.subject.split(".", 2)[2]
        agent = self._gateway.directory.agent(agent_id)
        assert agent is not None
        try:
            opened = self._opener.open(message.data, envelope.Kind.RESULT)
            opened.verify(Ed25519PublicKey.from_public_bytes(agent.signing_public), subjects.agent_identity(agent.project_id, agent_id))
        except envelope.EnvelopeError:
            self._world.count("damaged results")
            return
        result = command_pb2.Result.FromString(opened.body)
        moved = self.desk.take(result, opened.header.epoch, self._world.now_ms)
        if moved:
            self._world.note(f"control learns {moved[:6]} stage {result.stage} {result.code}")
        acks.setdefault((agent_id, opened.header.epoch), []).append(result.index)
