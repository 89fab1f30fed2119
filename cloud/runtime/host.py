"""A project host: one Ray actor that owns some partitions and, in them, many logical projects.

Detached, named, restarted for ever; it holds no durable state. Hosts pull their partitions from JetStream themselves: telemetry never travels
as a Ray argument. Must not know: HTTP, commands.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

from cloud.bus.connection import connect
from cloud.bus.streams import ClaimStore, FencedError, PartitionLog, StreamLostError
from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.settings import load
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.monitoring.live import LastAlarm
from cloud.historian.client import ClickHouse
from cloud.historian.reader import Reader
from cloud.historian.writer import Writer
from cloud.ledger import open_ledger
from cloud.runtime.decode import Decoder
from cloud.runtime.ingest import Limits, PartitionIngest
from cloud.security import keys
from protos import subjects
from protos.kang.v1 import link_pb2

log = logging.getLogger("kang.host")


class HistorianRecall:
    """What a project needs after a restart, from the historian."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def latest(self, project_id: int) -> Any:
        """Last values."""
        return await self._reader.latest(project_id)

    async def alarms(self, project_id: int) -> list[LastAlarm]:
        """The newest alarm of each rule: all that stand, and the last ten thousand that were cleared."""
        newest: dict[tuple[int, str], LastAlarm] = {}
        for active in (True, False):
            for a in await self._reader.alarms(project_id=project_id, active=active, limit=10_000):
                last = LastAlarm(a["device_id"], a["rule"], a["raised_ms"], a["cleared_ms"] or 0, a["value"])
                known = newest.get((last.device_id, last.rule))
                if known is None or last.raised_ms > known.raised_ms:
                    newest[last.device_id, last.rule] = last
        return list(newest.values())


class ProjectHost:
    """The actor's class; plain Python, so that it also runs without Ray (benchmarks and tests)."""

    def __init__(self, home: str, partitions: list[int], name: str = "host", limits: dict[str, float] | None = None) -> None:
        configure(name)
        self._settings = load(Path(home))
        self._partitions = partitions
        self._name = name
        self._limits = Limits(**limits) if limits else Limits()  # type: ignore[arg-type]
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ingests: dict[int, PartitionIngest] = {}
        self._states: dict[int, str] = {}
        self._checkpoint = b""
        self._witnesses: set[str] = set()
        self._started: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Connect and take up the partitions; safe to call again."""
        if self._started is None:
            self._started = asyncio.ensure_future(self._connect())
        await asyncio.shield(self._started)
        return self._name

    async def _connect(self) -> None:
        settings = self._settings
        credentials = settings.credentials
        self._client = await connect(settings.effective_nats_url, credentials, self._name)
        await self._client.subscribe("audit.checkpoint", cb=self._on_checkpoint)
        self._clickhouse = ClickHouse(settings, name=self._name)
        await self._clickhouse.wait()
        self._directory = LedgerDirectory(open_ledger(settings.effective_ledger_url))
        self._decoder = Decoder(self._directory, keys.box_keys(credentials, "telemetry").values(), (credentials / "release.pub").read_bytes())
        self._recall = HistorianRecall(Reader(self._clickhouse, settings.timezone))
        for partition in self._partitions:
            self._tasks[partition] = asyncio.create_task(self._own(partition), name=f"partition-{partition}")

    async def _own(self, partition: int) -> None:
        """Own a partition until fenced; every failure opens it again from claim and cursor."""
        pause = 0.2
        while True:
            ingest = PartitionIngest(
                partition, log=PartitionLog(self._client, subjects.telemetry_stream(partition), f"tel.{partition:03d}.>"), claims=ClaimStore(self._client),
                store=Writer(self._clickhouse), recall=self._recall, decoder=self._decoder, directory=self._directory, acknowledge=self._acknowledge,
                notify=self._notify, now_ms=now_ms, limits=self._limits)
            self._ingests[partition] = ingest
            try:
                self._states[partition] = "opening"
                await ingest.open()
                self._states[partition] = "open"
                pause = 0.2
                while True:
                    await ingest.step()
            except StreamLostError as error:
                log.warning("partition %d: %s", partition, error)
                self._states[partition] = "lost"
                await asyncio.sleep(0.2)
            except FencedError as error:
                # A newer host owns it. If that one is gone too, somebody must take it up again; until then two of us would only evict each other.
                log.warning("partition %d: %s", partition, error)
                self._states[partition] = "fenced"
                await asyncio.sleep(60)
            except Exception:
                log.exception("partition %d fails; opening it again", partition)
                self._states[partition] = "failed"
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _on_checkpoint(self, message: Any) -> None:
        """The audit log's newest checkpoint: each agent gets it once, in its next acknowledgement, and is a witness of it."""
        if message.data != self._checkpoint:
            self._checkpoint = message.data
            self._witnesses.clear()

    async def _acknowledge(self, project_id: int, agent_id: str, epoch: bytes, sequences: list[int]) -> None:
        ack = link_pb2.Ack(epoch=epoch)
        if self._checkpoint and agent_id not in self._witnesses:
            self._witnesses.add(agent_id)
            ack.checkpoint = self._checkpoint
        for first, last in _ranges(sequences):
            ack.ranges.add(first=first, last=last)
        await self._client.publish(subjects.down(project_id, agent_id, "ack"), ack.SerializeToString())

    async def _notify(self, event: dict[str, Any]) -> None:
        await self._client.publish(f"event.{event['project_id']}", json.dumps(event).encode())

    async def node(self) -> str:
        """The Ray node this host stands on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def stats(self) -> dict[str, Any]:
        """What this host does: counters and state per partition, its process id."""
        return {"name": self._name, "pid": os.getpid(), "partitions": {
            p: {"state": self._states.get(p, "starting"), "committed": i.committed, **dataclasses.asdict(i.counters)} for p, i in self._ingests.items()}}


def _ranges(sequences: list[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for sequence in sorted(set(sequences)):
        if out and out[-1][1] == sequence - 1:
            out[-1] = (out[-1][0], sequence)
        else:
            out.append((sequence, sequence))
    return out
