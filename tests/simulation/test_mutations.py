"""The simulator can fail: each broken variant of a production class is found out within fifty lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud.control.desk import Desk
from cloud.historian.writer import Flush, Writer
from cloud.runtime.ingest import PartitionIngest
from edge_agent.clock import Now
from edge_agent.commands.actuation import Act
from edge_agent.commands.desk import Image
from edge_agent.commands.journal import ACTING, WAIT, Journal
from edge_agent.uplink.link import Outgoing
from protos import envelope
from protos.kang.v1 import command_pb2 as pb
from tests.simulation.edge import Box, SimAgent
from tests.simulation.life import Cast, live
from tests.simulation.world import Process

LIVES = 50


class FreesWhatWasSent(SimAgent):
    """Takes JetStream's word for the historian's."""

    async def _publish(self, message: Outgoing) -> None:
        await super()._publish(message)
        if message.batch:
            self.spool.free([(message.sequence, message.sequence)])


class RepeatsPulses(SimAgent):
    """After a crash it tries again what it had begun."""

    def __init__(self, box: Box, process: Process) -> None:
        journal = Journal(box.disk.path("journal.db"), project_id=box.project_id, agent_id=box.agent_id, signing_key=box.credentials.signing, new_epoch=bytes(16))
        with journal.transaction():
            for entry in journal.open_entries():
                if entry.phase == ACTING:
                    journal.progress(entry.id, phase=WAIT)
        journal.close()
        super().__init__(box, process)


class ForgetsThePulseMark(SimAgent):
    """Writes a pulse before it is journalled."""

    def __init__(self, box: Box, process: Process) -> None:
        super().__init__(box, process)
        self.actuation.begin = lambda act, now, image: True  # type: ignore[method-assign]


class ObeysAnything(SimAgent):
    """Does not look once more before it writes."""

    def __init__(self, box: Box, process: Process) -> None:
        super().__init__(box, process)
        careful = self.actuation.begin

        def hasty(act: Act, now: Now, image: Image) -> bool:
            return careful(act, now, image) if act.pulse else True

        self.actuation.begin = hasty  # type: ignore[method-assign]


class ForgetsWhatItDid(SimAgent):
    """Neither the replay window nor closed commands are kept: an old envelope is as good as a new one."""

    def on_command(self, wire: bytes) -> None:
        with self.journal.transaction():
            self.journal._db.execute("DELETE FROM command WHERE stage NOT IN (1, 2)")
            self.journal._db.execute("DELETE FROM version")
        self.desk._window = envelope.ReplayWindow()
        super().on_command(wire)


class WithoutClaim(PartitionIngest):
    """Commits without asking whether the partition is still its own."""

    async def _process(self, messages: Any, first: int, last: int, *, claim: bool) -> None:
        await super()._process(messages, first, last, claim=False)


class CursorFirst(Writer):
    """The cursor goes before what it stands for."""

    async def commit(self, flush: Flush) -> None:
        store = self._store
        later: list[tuple[Any, ...]] = []

        class Reordered:
            async def insert(self, *args: Any) -> None:
                if args[0] == "heat.batch":
                    await store.insert(*args)
                else:
                    later.append(args)

        self._store = Reordered()  # type: ignore[assignment]
        try:
            await super().commit(flush)
        finally:
            self._store = store
        for args in later:
            await store.insert(*args)


def ingest_with(writer: type[Writer]) -> Callable[..., PartitionIngest]:
    def make(partition: int, *, store: Writer, **rest: Any) -> PartitionIngest:
        return PartitionIngest(partition, store=writer(store._store), **rest)
    return make


class AcknowledgesFirst(PartitionIngest):
    """Tells the agent before the historian knows."""

    async def _commit(self, flush: Flush) -> None:
        for row in flush.batches:
            if row.agent_seq:
                await self._acknowledge(row.project_id, row.agent_id, row.epoch, [row.agent_seq])
        await super()._commit(flush)


class NeverKnows(Desk):
    """Calls unknown what it could have learnt: results are not taken once a deadline has passed."""

    def take(self, result: pb.Result, epoch: bytes, now_ms: int) -> str | None:
        row = self.journal.row(result.command_id.hex())
        return None if row is not None and row["state"] == "unknown" else super().take(result, epoch, now_ms)


BROKEN = {
    "the spool is freed by the hand-over": Cast(agent=FreesWhatWasSent),
    "a pulse is repeated after a crash": Cast(agent=RepeatsPulses),
    "a pulse is not journalled before it goes out": Cast(agent=ForgetsThePulseMark),
    "a write is not looked at once more": Cast(agent=ObeysAnything),
    "a replayed command is new again": Cast(agent=ForgetsWhatItDid),
    "ingest without claim": Cast(ingest=WithoutClaim),
    "the cursor is written first": Cast(ingest=ingest_with(CursorFirst)),
    "acknowledged before it is committed": Cast(ingest=AcknowledgesFirst),
    "a late result is not taken": Cast(desk=NeverKnows),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_simulator_finds_out_when(what: str) -> None:
    assert any(live(seed, cast=BROKEN[what]).violations for seed in range(LIVES)), f"{what}: not found in {LIVES} lives"
