"""The command service process: requests over NATS, sealed commands to agents, results from JetStream, all through the desk.

Strongest authority is sent first; an emergency stop never waits behind set-points. Must not know: Ray, HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import nats
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.bus.connection import connect
from cloud.bus.streams import PartitionLog, StreamLostError
from cloud.control.audit_guard import AuditGuard
from cloud.control.desk import Desk
from cloud.control.journal import Journal
from cloud.control.plans import Plans, Standing
from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.ports import AgentInfo
from cloud.core.settings import Settings, load
from cloud.functions.devices.directory import LedgerDirectory
from cloud.ledger import open_ledger
from cloud.security import keys
from protos import envelope, subjects
from protos.errors import KangError
from protos.kang.v1 import command_pb2, link_pb2, telemetry_pb2
from protos.sm2 import Sm2MissingError
from protos.suites import Suite, signed, verifying_key

log = logging.getLogger("kang.control")
SENDERS = 16
#: Who asks for the signed time says by the subject in which suite.
TIME: Final[Mapping[str, Suite]] = {"time": Suite.STD, "time_sm": Suite.SM}


class Service:
    """Carries out what the desk decides."""

    def __init__(self, settings: Settings, client: Client) -> None:
        credentials = settings.credentials
        self._settings = settings
        self._client = client
        ledger = open_ledger(settings.effective_ledger_url)
        self._directory = LedgerDirectory(ledger)
        self.guard = AuditGuard(ledger)
        self._keys = keys.signing_keys(credentials, "command")
        self.desk = Desk(Journal(settings.home / "control.sqlite"), self._directory, self._keys, self.guard.permit)
        self.plans = Plans(self.desk.journal, self._directory, self._keys)
        self._opener = envelope.Opener(subjects.PLATFORM_IDENTITY, *keys.box_keys(credentials, "telemetry").values())
        self._challenges: dict[str, bytes] = {}
        self._heard: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._sending: set[str] = set()

    async def start(self) -> None:
        """Subscribe and run the loops."""
        await self._client.subscribe("svc.control.*", cb=self._on_request)
        await self._client.subscribe("presence.>", cb=self._on_presence)
        self._tasks = [asyncio.create_task(self._send_loop(), name="send"), asyncio.create_task(self._tick_loop(), name="tick"), asyncio.create_task(self._results_loop(), name="results"),
                       asyncio.create_task(self.guard.watch(self._say), name="audit guard")]
        log.info("command service ready, fencing %d", self.desk.journal.fencing)

    async def run(self) -> None:
        """Run until a loop fails (the supervisor starts us again)."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    # -- requests ---------------------------------------------------------------------------------------------------

    async def _on_request(self, message: Msg) -> None:
        what = message.subject.rsplit(".", 1)[-1]
        if what in TIME:
            key, wall = self._keys.get(TIME[what]), now_ms()
            if key is not None:  # without one the agent goes on without a signed time, as when we are away
                await message.respond(json.dumps({"wall_ms": wall, "signature": signed(key, message.data + wall.to_bytes(8, "little", signed=True)).hex()}).encode())
            return
        try:
            answer = self._answer(what, json.loads(message.data or b"{}"))
        except KangError as error:
            answer = {"error": {"code": error.code, "zh": error.message("zh"), "en": error.message("en")}}
        except (ValueError, TypeError, KeyError, OverflowError, sqlite3.Error) as error:
            answer = {"error": {"code": "E-CMD", "zh": f"请求格式不正确：{error}", "en": f"The request is malformed: {error}"}}
        await message.respond(json.dumps(answer).encode())
        for command_id in answer.pop("_moved", []):
            await self._announce(command_id)

    def _answer(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        if what == "submit":
            view, superseded = self.desk.submit(body, now_ms())
            self._wake.set()
            return {"command": view, "_moved": [view["id"], *superseded]}
        if what == "get":
            row = self.desk.journal.row(str(body["id"]))
            return {"command": self.desk.journal.view(row) if row is not None else None}
        if what == "list":
            rows = self.desk.journal.select(project_id=body.get("project_id"), device_id=body.get("device_id"), limit=int(body.get("limit") or 50), before_ms=body.get("before_ms"))
            return {"commands": [self.desk.journal.view(r) for r in rows]}
        if what == "resolve":
            view = self.desk.resolve(str(body["id"]), verified=bool(body["verified"]), actor=str(body["actor"]), reason=str(body.get("reason", "")), now_ms=now_ms())
            return {"command": view, "_moved": [view["id"]]}
        if what == "cancel":
            cancelled = self.desk.cancel(str(body["id"]), actor=str(body["actor"]), now_ms=now_ms())
            return {"cancelled": cancelled, "_moved": [str(body["id"])] if cancelled else []}
        if what == "plan":
            self.guard.permit()
            views = self.plans.submit(body, now_ms())
            self._wake.set()
            return {"plans": views}
        if what == "plans":
            return {"plans": self.plans.views(int(body["project_id"]))}
        if what == "stats":
            return {"counts": self.desk.journal.counts(), "fencing": self.desk.journal.fencing, "audit_broken_at": self.desk.journal.verify_audit(),
                    "suspended": self.guard.failing, "audit_refused": self.guard.refused}
        raise ValueError(f"unknown call {what}")

    async def _say(self, alarm: dict[str, Any]) -> None:
        """Tell the portal, which keeps the alarm list; it is said again while it stands."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._client.publish("alarm.own", json.dumps(alarm).encode())

    async def _announce(self, command_id: str) -> None:
        view = self.desk.view(command_id)
        await self._client.publish(f"event.{view['project_id']}", json.dumps({"type": "command", **view}).encode())

    # -- agents -----------------------------------------------------------------------------------------------------

    async def _on_presence(self, message: Msg) -> None:
        if not message.data:
            agent_id = message.subject.rsplit(".", 1)[-1]
            self._heard.pop(agent_id, None)
            return
        try:
            beat = telemetry_pb2.Heartbeat.FromString(message.data)
        except DecodeError:
            return
        moved = self.plans.heard(beat, now_ms())
        if moved is not None:
            await self._client.publish(f"event.{beat.project_id}", json.dumps({"type": "plan", **moved}).encode())
        fresh = beat.agent_id not in self._heard
        self._challenges[beat.agent_id] = beat.challenge
        self._heard[beat.agent_id] = now_ms()
        if fresh:
            self._wake.set()

    def _online(self, _project_id: int, agent_id: str) -> bool:
        return now_ms() - self._heard.get(agent_id, 0) < 4000 * self._settings.heartbeat_s

    async def _send_loop(self) -> None:
        slots = asyncio.Semaphore(SENDERS)
        while True:
            for row in self.desk.due(now_ms(), self._online):
                if row["id"] in self._sending:
                    continue
                await slots.acquire()
                self._sending.add(row["id"])
                asyncio.create_task(self._send(row, slots))  # noqa: RUF006  kept in _sending, ends by itself
            for standing in self.plans.due(now_ms(), self._online):
                await self._send_plan(standing)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), 0.25)
            except TimeoutError:
                continue

    async def _send(self, row: Any, slots: asyncio.Semaphore) -> None:
        try:
            if not self.desk.waits(row["id"]):
                return
            agent = self._directory.agent(row["agent_id"])
            challenge = self._challenges.get(row["agent_id"])
            outcome = "offline"
            if agent is not None and not agent.revoked and challenge is not None and self._online(row["project_id"], row["agent_id"]):
                try:
                    sealed = self.desk.seal(row, agent, challenge, now_ms())
                    await self._client.request(subjects.down(row["project_id"], row["agent_id"], "command"), sealed, timeout=2)
                    outcome = "sent"
                except nats.errors.NoRespondersError:
                    outcome = "offline"
                except (TimeoutError, nats.errors.Error, OSError):
                    outcome = "maybe"
                except Sm2MissingError as error:
                    log.error("a command waits: %s", error)
            if self.desk.attempted(row["id"], outcome, now_ms()):
                await self._announce(row["id"])
        finally:
            self._sending.discard(row["id"])
            slots.release()

    async def _send_plan(self, standing: Standing) -> None:
        """Hand a plan to the agent's connection; whether it is held, its heartbeat tells. Commands never wait for it: nobody waits for an answer here."""
        agent, challenge = self._directory.agent(standing.agent_id), self._challenges.get(standing.agent_id)
        if agent is not None and not agent.revoked and challenge is not None:
            try:
                sealed = self.plans.seal(standing, agent, challenge, now_ms())
            except Sm2MissingError as error:
                log.error("a plan waits: %s", error)
                return
            await self._client.publish(subjects.down(standing.project_id, standing.agent_id, "command"), sealed)

    async def _tick_loop(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for command_id in self.desk.tick(now_ms()):
                await self._announce(command_id)

    # -- results ----------------------------------------------------------------------------------------------------

    async def _results_loop(self) -> None:
        """Read the results stream from its beginning: what was taken is known by its number, what was not is news."""
        while True:
            stream = PartitionLog(self._client, subjects.RESULT_STREAM, "ctl.>", max_bytes=256 << 20)
            try:
                await stream.open()
                await stream.seek(1)
                while True:
                    messages = await stream.fetch(500, 5.0)
                    acks: dict[tuple[int, str, bytes], list[int]] = {}
                    for message in messages:
                        await self._take(message, acks)
                    for (project_id, agent_id, epoch), indices in acks.items():
                        ack = link_pb2.Ack(epoch=epoch)
                        for index in sorted(set(indices)):
                            ack.ranges.add(first=index, last=index)
                        await self._client.publish(subjects.down(project_id, agent_id, "ack"), ack.SerializeToString())
                    if messages:
                        await stream.purge(messages[-1].sequence)
            except (TimeoutError, StreamLostError, nats.errors.Error, nats.js.errors.Error, OSError) as error:
                log.warning("results stream: %s; opening it again", error)
                await asyncio.sleep(0.5)

    def _verify(self, opened: envelope.Opened, agent: AgentInfo) -> None:
        """Check the signature; while an agent changes its key it may be the one before, and our picture of it may be a moment old.

        Raises:
            EnvelopeError: sender or signature.
        """
        identity, header = subjects.agent_identity(agent.project_id, agent.agent_id), opened.header
        for attempt in (0, 1):
            keys_now = (self._directory.agent(agent.agent_id) or agent).verifying_keys("result", header.epoch, header.sequence)
            for k, public in enumerate(keys_now):
                try:
                    opened.verify(verifying_key(public), identity)
                except envelope.EnvelopeError:
                    if attempt and k == len(keys_now) - 1:
                        raise
                else:
                    return
            self._directory.refresh()

    async def _take(self, message: Any, acks: dict[tuple[int, str, bytes], list[int]]) -> None:
        _, project, agent_id = message.subject.split(".", 2)
        agent = self._directory.agent(agent_id)
        if agent is None or agent.revoked or str(agent.project_id) != project:
            log.warning("a result of an agent that is not admitted: %s", message.subject)
            return
        try:
            if envelope.Header.unpack(message.data).suite is not agent.suite:
                self._directory.refresh()  # admitted again in the other suite a moment ago, perhaps
                agent = self._directory.agent(agent_id) or agent
            opened = self._opener.open(message.data, envelope.Kind.RESULT, agent.suite)
            self._verify(opened, agent)
            result = command_pb2.Result.FromString(opened.body)
        except (envelope.EnvelopeError, DecodeError) as error:
            log.warning("a result of %s is refused: %s", agent_id, error)
            with self.desk.journal.transaction():
                self.desk.journal.audit(now_ms(), "result.refused", "warning", f"agent/{agent_id}", agent_id, str(error), f"stream sequence {message.sequence}", "edge")
            return
        if result.agent_id != agent_id or result.index != opened.header.sequence:
            log.warning("a result of %s contradicts its envelope", agent_id)
            return
        moved = self.desk.take(result, opened.header.epoch, now_ms())
        acks.setdefault((agent.project_id, agent_id, opened.header.epoch), []).append(result.index)
        if moved is not None:
            await self._announce(moved)


async def serve(home: Path) -> None:
    """Run until SIGTERM."""
    settings = load(home)
    client = await connect(settings.effective_nats_url, settings.credentials, "control")
    service = Service(settings, client)
    await service.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.create_task(service.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    service.desk.journal.close()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.control.service --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-control")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("control")
    asyncio.run(serve(args.home))


if __name__ == "__main__":
    main()
