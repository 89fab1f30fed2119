"""One life: fifty boxes (a dozen in three lives of four), the platform, people with wishes, whatever goes wrong; then the faults stop and all drains.

`live(seed)` returns what was found. Must not know: how many lives there are.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloud.control.desk import Desk
from cloud.runtime.ingest import PartitionIngest
from protos.points import BY_KEY
from tests.simulation import invariants, people
from tests.simulation.disk import Disk
from tests.simulation.edge import Box, SimAgent
from tests.simulation.network import Net, Records, Weather
from tests.simulation.platform import Control, Gateway, Hosts
from tests.simulation.store import Engine
from tests.simulation.world import Process, World

AGENTS: Final = 50
FEW: Final = 12
DRAIN_S: Final = 1500.0
SETPOINT, ENABLE, RESET = (BY_KEY[k].id for k in ("leaving_temp_setpoint", "enable_command", "reset_command"))


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays; the mutations replace a class by a broken one."""

    agent: Callable[[Box, Process], SimAgent] = SimAgent
    ingest: Callable[..., PartitionIngest] = PartitionIngest
    desk: Callable[..., Desk] = Desk


@dataclass(slots=True)
class Found:
    """What a life has shown."""

    seed: int
    violations: list[str]
    trace_hash: str
    counts: dict[str, int]


@dataclass
class Life:
    """The stage of one life."""

    world: World
    folder: Path
    cast: Cast
    boxes: list[Box] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        w, r = self.world, self.world.chance("life")
        self.agents = FEW if w.seed % 4 else AGENTS  # among few boxes each gets more attention
        stormy = r.random()
        self.seconds = r.uniform(25, 65)
        self.net = Net(w, Weather(drop=0.06 * stormy, double=0.08 * r.random(), flip=0.01 * (r.random() < 0.3), delay_s=r.choice((0.05, 0.4)), late=0.06 * r.random(), late_s=r.uniform(5, 40)))
        self.directory = people.Directory(self.agents, r.choice((4, 7, 10)))
        self.engine = Engine(w, window=r.choice((3, 10, 10_000)))
        self.gateway = Gateway(w, self.net, self.directory, r.choice((1, 2, 3)), r.choice((5.0, 30.0, 120.0)))
        self.records = Records()
        self.hosts = Hosts(w, self.gateway, self.engine, self.records, crash=0.02 * r.random(), pause=0.01 * r.random(), make_ingest=self.cast.ingest)
        self.disk = Disk(self.folder, "platform")
        self.control = Control(w, self.gateway, self.disk, crash=0.002 * r.random(), make_desk=self.cast.desk)
        self.gateway.control = self.control
        crash = 0.003 * r.random()
        for k in range(self.agents):
            self.boxes.append(Box(w, k, self.folder, self.gateway, self._freed, crash=crash, make_agent=self.cast.agent))

    def _freed(self, box: Box, first: int, last: int) -> None:
        epoch = box.agent.spool.epoch
        for sequence in range(first, last + 1):
            if (epoch, sequence) in box.batches and not self.engine.holds(box.project_id, box.agent_id, epoch, sequence):
                self.world.violate(f"{box.agent_id} freed batch {sequence}, which neither the historian nor the quarantine holds")

    def play(self) -> None:
        """Start everything, let the faults fall, stop them, wait until nothing is left to do."""
        loop, r = self.world.loop, self.world.chance("fate")
        for box in self.boxes:
            loop.call_later(r.uniform(0, 5), box.boot)
            for _ in range(r.choice((0, 0, 1, 1, 2))):
                at = r.uniform(5, self.seconds)
                loop.call_later(at, self._wire, box, False)
                loop.call_later(at + r.uniform(3, 60), self._wire, box, True)
        for partition in range(self.gateway.partitions):
            self.hosts.start(partition)
        for _ in range(r.choice((0, 1, 2))):
            at = r.uniform(5, self.seconds)
            loop.call_later(at, self._historian, True)
            loop.call_later(at + r.uniform(1, 15), self._historian, False)
        if r.random() < 0.3:
            streams = [*self.gateway.telemetry, self.gateway.results]
            loop.call_later(r.uniform(10, self.seconds), r.choice(streams).recreate)
        if r.random() < 0.2:
            at = r.uniform(5, self.seconds)
            loop.call_later(at, self.records.backup)
            loop.call_later(r.uniform(at, self.seconds), self.records.restore)
        for n in range(r.randint(20, 60)):
            loop.call_later(r.uniform(6, self.seconds), self._wish, f"k{n}", self._request(r), 0)
        loop.call_later(self.seconds, self._calm)
        loop.run_until_complete(self._until_quiet())

    def _wire(self, box: Box, up: bool) -> None:
        box.wire_up = up or not self.world.faults
        if not box.wire_up:
            self.gateway.cut(box.agent_id)

    def _historian(self, down: bool) -> None:
        self.engine.down = down and self.world.faults

    def _calm(self) -> None:
        self.world.note("the faults are over")
        self.world.faults = False
        self._historian(False)
        for box in self.boxes:
            box.wire_up = True

    # --- people

    def _request(self, r: random.Random) -> dict[str, Any]:
        device = r.randint(1, 12) if r.random() < 0.7 else r.randint(1, self.agents)  # some boilers get a lot of attention
        info = self.directory.device(device)
        assert info is not None
        kind = r.choices(("hold", "release", "pulse", "stop", "start", "lock", "unlock", "emergency_stop", "restore_heat"), (10, 2, 6, 3, 3, 2, 3, 2, 2))[0]
        body: dict[str, Any] = {"project_id": info.project_id, "device_id": device, "kind": kind, "authority": r.choice((4, 5, 5, 5, 6, 8)), "hold_s": r.choice((20, 40, 90, 3600)),
                                "deadline_s": r.choice((10, 30, 60)), "actor": r.choice(("wang", "li", "wang+li")), "reason": "simulated"}
        if kind in ("hold", "release"):
            body["point_id"] = r.choice((SETPOINT, SETPOINT, ENABLE))
        if kind == "hold":
            if body["point_id"] == ENABLE:
                body["value"] = float(r.randint(0, 1))
            elif r.random() < 0.8:
                body["value"] = float(r.randint(40, 80))
            else:
                body["low"], body["high"] = 40.0, float(r.randint(50, 70))
        if kind == "pulse":
            body["point_id"], body["value"] = RESET, 1.0
        return body

    def _wish(self, key: str, request: dict[str, Any], tries: int) -> None:
        """A request from the portal, repeated under its key while nobody answers."""
        if not tries:
            self.requests.append({**request, "idempotency_key": key})
        answer = self.control.submit({**request, "idempotency_key": key})
        if answer is None and tries < 8:
            self.world.loop.call_later(1.5, self._wish, key, request, tries + 1)
        else:
            self.world.note(f"{key} {request['kind']} for {request['device_id']}: {answer[:6] if answer else answer}")

    # --- the end

    async def _until_quiet(self) -> None:
        await asyncio.sleep(self.seconds + 1)
        end = self.world.loop.now + DRAIN_S
        calm = 0
        while self.world.loop.now < end and calm < 8:
            await asyncio.sleep(2)
            calm = calm + 1 if invariants.quiet(self) else 0
        if calm < 8:
            self.world.violate(f"nothing drains: {invariants.unquiet(self)}")


def live(seed: int, *, trace: bool = False, cast: Cast | None = None) -> Found:
    """One life from its seed."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="kang-simulation-", dir=shared if shared.is_dir() else None))
    world = World(seed, trace=trace)
    log = logging.getLogger("kang")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what goes wrong here goes wrong on purpose
    try:
        life = Life(world, folder, cast or Cast())
        life.play()
        invariants.judge(life)
        life.disk.close()
        for box in life.boxes:
            box.disk.close()
    finally:
        log.setLevel(level)
        world.close()
        shutil.rmtree(folder, ignore_errors=True)
    return Found(seed, world.violations, world.trace_hash, world.counts)
