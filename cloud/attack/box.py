"""A box of our own for the attack: admitted in a local installation, the real agent in a process of its own behind the real gateway.

It stands where somebody who owns the broker would stand. Must not know: what is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nats.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.attack.leavings import Leavings
from cloud.bus.connection import connect
from cloud.core.clock import now_ms
from cloud.core.settings import Settings
from cloud.functions.devices.agents_service import AgentService
from cloud.installation import admit
from cloud.ledger import open_ledger
from cloud.security import keys
from protos import envelope, subjects, suites
from protos.kang.v1 import command_pb2 as pb
from protos.kang.v1 import telemetry_pb2
from protos.points import point
from protos.suites import SigningKey, Suite

DEVICE: Final = 999_999_999  # stands in our box's site file only
OBEYED: Final = (pb.STAGE_RECEIVED, pb.STAGE_EXECUTING, pb.STAGE_VERIFIED)
TEMPLATE: Final = {
    "template": "attack", "version": 1, "profile": "rig", "maker": "Kang", "model": "attack", "name": {"zh": "演练装置", "en": "Drill device"}, "protocol": "modbus",
    "link": {"timeout_s": 1.0, "retries": 0, "word_order": "big", "max_gap": 8, "max_registers": 100}, "poll_s": 60, "sequences": {"start": [], "stop": []}, "safe_state": {}, "interlocks": [], "alarms": [],
    "points": [{"point": "leaving_temp_setpoint", "address": {"table": "holding", "register": 0, "type": "u16"}, "scale": 0.01, "unit": "degC", "resolution": 0.01, "deadband": 0, "max_silent_s": 60,
                "low": 0, "high": 120, "writable": True, "write": {"low": 0, "high": 120, "verify_within_s": 600, "verify": {"point": "leaving_temp_setpoint", "tolerance": 0.1}}}]}


@dataclass
class Box:
    """Our agent, and what it was heard to answer: (command id, stage, code)."""

    settings: Settings
    project: int
    name: str
    folder: Path
    client: Client
    key: Ed25519PrivateKey
    sealer: envelope.Sealer
    opener: envelope.Opener
    epoch: bytes = field(default_factory=lambda: os.urandom(16))
    sequence: int = 0
    challenge: bytes = b""
    said: list[tuple[bytes, int, str]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def identity(self) -> str:
        """As in its certificate."""
        return subjects.agent_identity(self.project, self.name)

    async def on_result(self, message: Msg) -> None:
        """What the box tells the platform."""
        result = pb.Result.FromString(self.opener.open(message.data, envelope.Kind.RESULT).body)
        self.said.append((result.command_id, result.stage, result.code))
        self.heard.set()

    async def on_presence(self, message: Msg) -> None:
        """The word a command must echo."""
        if message.data:
            self.challenge = telemetry_pb2.Heartbeat.FromString(message.data).challenge
            self.heard.set()

    async def until(self, question: Callable[[], bool], seconds: float) -> bool:
        """Wait for something to be heard."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not question():
                    self.heard.clear()
                    await self.heard.wait()
        return question()

    def command(self, kind: pb.CommandKind = pb.COMMAND_KIND_HOLD, **fields: Any) -> pb.Command:
        """A command as the command service would write it."""
        now = now_ms()
        made = pb.Command(command_id=os.urandom(16), project_id=self.project, device_id=DEVICE, kind=kind, authority=6, version=now, deadline_ms=now + 60_000, expires_ms=now + 600_000,
                          holder="kang attack", fencing=1, created_ms=now)
        if kind == pb.COMMAND_KIND_HOLD:
            made.point_id, made.value = point("leaving_temp_setpoint").id, 30.0
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def seal(self, command: pb.Command, *, sequence: int = 0, receiver: str = "", challenge: bytes | None = None, key: SigningKey | None = None, kind: envelope.Kind = envelope.Kind.COMMAND) -> bytes:
        """Its envelope, in the suite of the key (the box is of suite std)."""
        if not sequence:
            self.sequence += 1
        header = envelope.Header(kind, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(receiver or self.identity), self.epoch, sequence or self.sequence, now_ms(),
                                 command.deadline_ms, bytes(32), self.challenge if challenge is None else challenge, 6, suites.suite_of(key or self.key))
        sealer = self.sealer if header.suite is Suite.STD else envelope.Sealer(suites.raw_public(suites.box_key(header.suite)), suite=header.suite)  # the box has no key of that suite
        return sealer.seal(envelope.sign(header, command.SerializeToString(), key or self.key))

    async def send(self, wire: bytes) -> bool:
        """Put it where the gateway takes commands from; True when the gateway has handed it on."""
        for _ in range(20):
            try:
                await self.client.request(subjects.down(self.project, self.name, "command"), wire, timeout=1)
            except (TimeoutError, nats.errors.Error):
                await asyncio.sleep(0.1)
            else:
                return True
        return False

    async def settled(self) -> bool:
        """Send a harmless genuine command and wait for its answer: everything sent before it has been judged."""
        marker = self.command(pb.COMMAND_KIND_UNLOCK, created_ms=0)  # 0: it makes no other command the older one
        await self.send(self.seal(marker))
        return await self.until(lambda: any(i == marker.command_id for i, _, _ in self.said), 10)

    def answer(self, command_id: bytes, since: int = 0) -> tuple[bool, str]:
        """(refused, what was said) of one command."""
        heard = [(stage, code) for i, stage, code in self.said[since:] if i == command_id]
        obeyed = any(stage in OBEYED for stage, _ in heard)
        return not obeyed, ", ".join(f"{pb.Stage.Name(stage)[6:].lower()} {code}".strip() for stage, code in heard) or "dropped"

    # -- the process --------------------------------------------------------------------------------------------------

    async def start(self) -> bool:
        """Start the agent; True when it is heard."""
        self.challenge = b""
        if self.process is None and not self.said:
            await self.client.subscribe(subjects.result(self.project, self.name), cb=self.on_result)
            await self.client.subscribe(f"presence.{self.project}.{self.name}", cb=self.on_presence)
        self._run()
        return await self.until(lambda: bool(self.challenge), 30)

    def _run(self) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "--site", str(self.folder / "site.yaml"), "--log-level", "WARNING"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextlib.asynccontextmanager
async def own_box(settings: Settings, project: int, folder: Path, made: Leavings) -> AsyncIterator[Box]:
    """Admitted, not started; revoked at the end."""
    name, credentials = f"attack-{secrets.token_hex(3)}", folder / "credentials"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-m", "edge_agent.cli", "keygen", str(credentials)], check=True, stdout=subprocess.DEVNULL)
    admission = admit(settings, (credentials / "agent.request.json").read_bytes(), agent_id=name, project_id=project, uplink="grpc")
    made.agents.add(name)
    for file, data in admission.files.items():
        (credentials / file).write_bytes(data)
    (folder / "device.yaml").write_text(json.dumps(TEMPLATE))
    (folder / "site.yaml").write_text(json.dumps({
        "project_id": project, "agent_id": name, "partitions": settings.partitions, "state_dir": "state", "credentials_dir": "credentials", "clock": "system", "heartbeat_s": 0.5, "cycle_s": 0.5,
        "uplink": {"kind": "grpc", "address": f"{settings.reached_at}:{settings.gateway_port}"}, "channels": [{"name": "bus", "protocol": "modbus", "transport": "tcp", "host": "127.0.0.1", "port": 9}],
        "devices": [{"id": DEVICE, "template": "device.yaml", "channel": "bus", "unit": 1}]}))
    (folder / "state").mkdir()
    asked = json.loads((credentials / "agent.request.json").read_text())
    client = await connect(settings.effective_nats_url, settings.credentials, "attack")
    box = Box(settings, project, name, folder, client, keys.signing_key(settings.credentials / "command.ed25519"), envelope.Sealer(bytes.fromhex(asked["box_public"])),
              envelope.Opener(subjects.PLATFORM_IDENTITY, keys.box_key(settings.credentials / "telemetry.x25519")))
    try:
        yield box
    finally:
        box.kill()
        await client.drain()
        ledger = open_ledger(settings.effective_ledger_url)
        AgentService(ledger).revoke(name, by="kang attack", reason="kang attack")
        ledger.close()
