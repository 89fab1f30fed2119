"""What both uplinks share: durable hand-over of sealed messages to JetStream, presence, live frames, signed time.

A batch or result counts as handed over only when JetStream has acknowledged it; only the historian's ranges free a spool.
Must not know: gRPC, TLS, what sealed bytes contain.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import nats
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy.exc import SQLAlchemyError

from cloud import __version__
from cloud.bus.streams import STREAM_BYTES, ensure_results, ensure_stream
from cloud.core.clock import now_ms
from cloud.core.ports import AgentInfo, ProjectDirectory
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.system.dialogue import DialogueService
from cloud.gateways.flows import NatsPresence
from cloud.gateways.trust import CloneWatch
from cloud.runtime.placement import partition_for
from protos import subjects
from protos.kang.v1 import link_pb2, telemetry_pb2
from protos.suites import Suite

#: Batches an agent may have unacknowledged: at 500 readings each, about a second of what one partition commits, so that a backlog never waits for the linger of a flush.
WINDOW = 512
log = logging.getLogger("kang.gateway")
MAX_SEALED = 1 << 20


class Relay:
    """Between agents and the bus."""

    def __init__(self, client: Client, directory: ProjectDirectory, *, partitions: int, heartbeat_s: int, agents: AgentService, clones: CloneWatch,
                 presence: NatsPresence | None = None, dialogue: DialogueService | None = None) -> None:
        self._presence, self._dialogue = presence, dialogue
        self._agents, self.clones = agents, clones
        self._client = client
        self._js = client.jetstream(timeout=5)
        self._directory = directory
        self._partitions = partitions
        self._heartbeat_s = heartbeat_s
        self._streams: set[str] = set()
        self._signed: set[tuple[str, bytes]] = set()
        self.counters: dict[str, int] = {"batches": 0, "results": 0, "heartbeats": 0, "live": 0, "refused": 0, "asked_again": 0}

    async def start(self) -> None:
        """Make the streams and listen to agents that use NATS themselves."""
        while True:
            try:
                await ensure_results(self._js)
                for partition in range(self._partitions):
                    await self._stream(partition)
                break
            except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
                log.warning("waiting for JetStream: %s", error)
                await asyncio.sleep(0.3)
        await self._client.subscribe("up.*.*.heartbeat", queue="gateway", cb=self._on_heartbeat)
        await self._client.subscribe("up.*.*.live", queue="gateway", cb=self._on_live)

    async def _stream(self, partition: int) -> None:
        name = subjects.telemetry_stream(partition)
        if name not in self._streams:
            await ensure_stream(self._js, name, f"tel.{partition:03d}.>", max_bytes=STREAM_BYTES)
            self._streams.add(name)

    def agent(self, project_id: int, agent_id: str) -> AgentInfo | None:
        """The admitted agent, or None."""
        known = self._directory.agent(agent_id)
        return known if known is not None and known.project_id == project_id and not known.revoked else None

    async def batch(self, agent: AgentInfo, sealed: bytes, epoch: bytes, sequence: int) -> str:
        """Hand a batch to its partition; returns "" or the code of a refusal the agent should retry after."""
        if len(sealed) > MAX_SEALED:
            return "E-LINK-SIZE"
        project = self._directory.project(agent.project_id)
        if project is None:
            return "E-LINK-PROJECT"
        partition = partition_for(project, self._partitions)
        subject = subjects.telemetry(partition, agent.project_id, agent.agent_id)
        code = await self._publish(subject, sealed, f"{agent.agent_id}:{epoch.hex()}:{sequence}", partition)
        self.counters["refused" if code else "batches"] += 1
        return code

    async def result(self, agent: AgentInfo, sealed: bytes, epoch: bytes, sequence: int) -> str:
        """Hand a command result over; as `batch`."""
        if len(sealed) > MAX_SEALED:
            return "E-LINK-SIZE"
        code = await self._publish(subjects.result(agent.project_id, agent.agent_id), sealed, f"r:{agent.agent_id}:{epoch.hex()}:{sequence}", None)
        self.counters["refused" if code else "results"] += 1
        return code

    async def _publish(self, subject: str, data: bytes, message_id: str, partition: int | None) -> str:
        try:
            if partition is not None:
                await self._stream(partition)
            taken = await self._js.publish(subject, data, headers={"Nats-Msg-Id": message_id}, timeout=5)
            if taken.duplicate:
                # It stands in the log, and its acknowledgement may have been lost on the way down: only a second copy makes the platform say it again.
                self.counters["asked_again"] += 1
                await self._js.publish(subject, data, timeout=5)
        except nats.js.errors.NoStreamResponseError:
            self._streams.clear()
            try:
                await ensure_results(self._js)
            except (nats.errors.Error, nats.js.errors.Error, OSError):
                log.warning("the results stream is gone and cannot be made yet")
            return "E-LINK-BUSY"
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError) as error:
            log.warning("hand-over refused: %s", type(error).__name__)
            return "E-LINK-BUSY"
        return ""

    async def heartbeat(self, beat: telemetry_pb2.Heartbeat) -> link_pb2.Welcome:
        """Publish presence; answer with the platform's time, signed by the command service when the agent needs it."""
        self.counters["heartbeats"] += 1
        await self._judge(beat)
        if self.clones.trusted(beat.agent_id, beat.boot_id):  # a command must echo the challenge heard last: never the suspected clone's
            await self._client.publish(f"presence.{beat.project_id}.{beat.agent_id}", beat.SerializeToString())
        welcome = link_pb2.Welcome(wall_ms=now_ms(), heartbeat_s=self._heartbeat_s, window=WINDOW, version=__version__)
        if not beat.clock_trusted or (beat.agent_id, beat.boot_id) not in self._signed:
            try:
                known = self._directory.agent(beat.agent_id)
                subject = "svc.control.time_sm" if known is not None and known.suite is Suite.SM else "svc.control.time"
                answer = await self._client.request(subject, beat.challenge, timeout=2)
                signed = json.loads(answer.data)
                welcome.wall_ms, welcome.signature = signed["wall_ms"], bytes.fromhex(signed["signature"])
                self._signed.add((beat.agent_id, beat.boot_id))
            except (TimeoutError, nats.errors.Error, OSError):
                log.warning("no signed time: the command service does not answer")
        if self._dialogue is not None:
            await self._converse(self._dialogue, beat, welcome)
        return welcome

    async def _converse(self, dialogue: DialogueService, beat: telemetry_pb2.Heartbeat, welcome: link_pb2.Welcome) -> None:
        """Notes of the people on both sides; whatever goes wrong there never holds up a heartbeat."""
        try:
            if beat.notes or beat.note_states or dialogue.waits(beat.agent_id):
                notes, states = await asyncio.to_thread(dialogue.exchange, beat.project_id, beat.agent_id, beat.notes, beat.note_states)
                welcome.notes.extend(notes)
                welcome.note_states.extend(states)
        except SQLAlchemyError as error:
            log.warning("notes wait: %s", type(error).__name__)

    async def _judge(self, beat: telemetry_pb2.Heartbeat) -> None:
        """Two live boots of one key; keys of before whose last batch is acknowledged."""
        if self.clones.heard(beat.agent_id, beat.boot_id) and await asyncio.to_thread(self._agents.suspect, beat.agent_id, f"boots {beat.boot_id.hex()[:8]} and another both live"):
            log.error("two live boots of one key: %s", beat.agent_id)
            await self._client.publish(f"event.{beat.project_id}", json.dumps({"type": "agent", "project_id": beat.project_id, "agent_id": beat.agent_id, "clone": True}).encode())
        known = self._directory.agent(beat.agent_id)
        if known is not None and not beat.spool_batches and any(
                f.stream == "batch" and f.epoch == beat.epoch and f.last_sequence is not None and f.last_sequence <= beat.last_sequence for f in known.former_keys):
            await asyncio.to_thread(self._agents.drained, beat.agent_id, beat.epoch, beat.last_sequence)

    async def live(self, agent: AgentInfo, frame: telemetry_pb2.LiveFrame) -> None:
        """Pass a live frame on to whoever is looking; best effort."""
        if frame.project_id == agent.project_id and frame.agent_id == agent.agent_id:
            self.counters["live"] += 1
            await self._client.publish(f"live.{agent.project_id}", frame.SerializeToString())

    async def gone(self, project_id: int, agent_id: str) -> None:
        """An agent's stream ended."""
        await self._client.publish(f"presence.{project_id}.{agent_id}", b"")

    async def _on_heartbeat(self, message: Msg) -> None:
        known = self._from_subject(message.subject)
        try:
            beat = telemetry_pb2.Heartbeat.FromString(message.data)
        except DecodeError:
            return
        if known is not None and beat.project_id == known.project_id and beat.agent_id == known.agent_id:
            if self._presence is not None:
                self._presence.heard(beat.agent_id, beat.boot_id, len(message.data))
            welcome = await self.heartbeat(beat)
            if message.reply:
                await message.respond(welcome.SerializeToString())

    async def _on_live(self, message: Msg) -> None:
        known = self._from_subject(message.subject)
        if known is not None:
            try:
                await self.live(known, telemetry_pb2.LiveFrame.FromString(message.data))
            except DecodeError:
                return

    def _from_subject(self, subject: str) -> AgentInfo | None:
        _, project, agent_id, _ = subject.split(".")
        return self.agent(int(project), agent_id) if project.isdecimal() else None

    async def stats(self) -> dict[str, Any]:
        """Counters."""
        return dict(self.counters)
