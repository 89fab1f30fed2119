"""The whole agent over a real gRPC stream with mutual TLS, and over a real NATS server: same sealed bytes, same behaviour."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import importlib.util
import json
import os
import shutil
import struct
import sys
import time
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from cloud.security.audit_chain import Checkpoint
from edge_agent import keygen
from edge_agent.agent import Agent
from edge_agent.config import load_credentials, load_site
from protos import batch, envelope, subjects
from protos.kang.v1 import command_pb2, link_pb2, link_pb2_grpc, telemetry_pb2
from protos.points import point

_spec = importlib.util.spec_from_file_location("edge_driver_peers", Path(__file__).parent / "drivers" / "test_drivers.py")
assert _spec is not None
assert _spec.loader is not None
peers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peers)

COMMANDER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
AUDITOR = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
TELEMETRY = X25519PrivateKey.from_private_bytes(b"\x04" * 32)
AGENT = subjects.agent_identity(7, "box1")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Platform:
    """What the platform does, in the smallest: verifies, keeps, acknowledges, signs the time, sends commands."""

    def __init__(self, request: dict) -> None:
        self.verify = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32).public_key()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        self.verify = Ed25519PublicKey.from_public_bytes(bytes.fromhex(request["signing_public"]))
        self.box = bytes.fromhex(request["box_public"])
        self.opener = envelope.Opener(subjects.PLATFORM_IDENTITY, TELEMETRY)
        self.readings: dict[tuple[int, int, int], float] = {}
        self.sequences: list[int] = []
        self.results: list[command_pb2.Result] = []
        self.beats: list[telemetry_pb2.Heartbeat] = []
        self.live: list[telemetry_pb2.LiveFrame] = []
        self.states: set[int] = set()
        self.acking = True
        self.checkpoint = b""
        self.sequence = 0

    def take(self, wire: bytes, kind: envelope.Kind) -> link_pb2.Ack | None:
        opened = self.opener.open(wire, kind)
        opened.verify(self.verify, AGENT)
        if kind is envelope.Kind.RESULT:
            self.results.append(command_pb2.Result.FromString(opened.body))
        else:
            parsed = batch.parse(opened.body)
            self.states.add(parsed.clock_state)
            self.sequences.append(parsed.sequence)
            self.readings |= {(r.device_id, r.point_id, r.at_ms): r.value for r in batch.readings(parsed)}
        header = opened.header
        return link_pb2.Ack(epoch=header.epoch, ranges=[link_pb2.Ack.Range(first=header.sequence, last=header.sequence)], checkpoint=self.checkpoint) if self.acking else None

    def welcome(self, beat: telemetry_pb2.Heartbeat) -> link_pb2.Welcome:
        self.beats.append(beat)
        wall = now_ms()
        return link_pb2.Welcome(wall_ms=wall, signature=COMMANDER.sign(beat.challenge + struct.pack("<q", wall)), heartbeat_s=1, window=16)

    def command(self, kind: int, key: str, value: float | None, version: int = 1) -> bytes:
        self.sequence += 1
        message = command_pb2.Command(command_id=os.urandom(16), project_id=7, device_id=1, point_id=point(key).id if key else 0, kind=kind, authority=5, value=value, version=version,
                                      deadline_ms=now_ms() + 10_000, expires_ms=now_ms() + 600_000, holder="op", fencing=1)
        header = envelope.Header(envelope.Kind.COMMAND, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(AGENT), b"c" * 16, self.sequence, now_ms(),
                                 message.deadline_ms, challenge=self.beats[-1].challenge, priority=5)
        return envelope.Sealer(self.box).seal(envelope.sign(header, message.SerializeToString(), COMMANDER))


class Gateway(link_pb2_grpc.EdgeLinkServicer):
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.out: asyncio.Queue[link_pb2.Down] = asyncio.Queue()

    async def Connect(self, request_iterator, context):  # noqa: N802 - the contract's name
        async def read():
            async for up in request_iterator:
                body = up.WhichOneof("body")
                if body == "heartbeat":
                    self.out.put_nowait(link_pb2.Down(welcome=self.platform.welcome(up.heartbeat)))
                elif body == "live":
                    self.platform.live.append(up.live)
                else:
                    ack = self.platform.take(up.batch if body == "batch" else up.result, envelope.Kind.BATCH if body == "batch" else envelope.Kind.RESULT)
                    if ack is not None:
                        self.out.put_nowait(link_pb2.Down(ack=ack))

        reader = asyncio.create_task(read())
        try:
            while True:
                yield await self.out.get()
        finally:
            reader.cancel()


def issue(key, name: str, issuer_key, issuer: x509.Name, *, ca: bool = False, uri: str = ""):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.UniformResourceIdentifier(uri)] if uri else [x509.DNSName(name)]
    now = dt.datetime.now(dt.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1)).add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(issuer_key, hashes.SHA256()))


def pem(thing) -> bytes:
    if hasattr(thing, "private_bytes"):
        return thing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return thing.public_bytes(serialization.Encoding.PEM)


class Box:
    """A box with its site file, keys and certificates in a directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.credentials = home / "credentials"
        self.request = json.loads(keygen.make(self.credentials).read_text())
        ca_key, self.gateway_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = issue(ca_key, "zone", ca_key, None, ca=True)
        self.ca, self.gateway = pem(ca), issue(self.gateway_key, "kang-gateway", ca_key, ca.subject)
        mine = serialization.load_pem_private_key((self.credentials / "agent.key").read_bytes(), None)
        (self.credentials / "agent.pem").write_bytes(pem(issue(mine, "box1", ca_key, ca.subject, uri=AGENT)))
        (self.credentials / "zone-ca.pem").write_bytes(self.ca)
        (self.credentials / "platform.json").write_text(json.dumps({"telemetry_box": TELEMETRY.public_key().public_bytes_raw().hex(),
                                                                    "command_signing": COMMANDER.public_key().public_bytes_raw().hex(), "gateway_name": "kang-gateway",
                                                                    "audit_signing": AUDITOR.public_key().public_bytes_raw().hex()}))

    def agent(self, uplink: dict, device_port: int, **more) -> Agent:
        site = {"project_id": 7, "agent_id": "box1", "partitions": 4, "state_dir": "state", "credentials_dir": "credentials", "uplink": uplink, "cycle_s": 0.1, "linger_s": 0.1,
                "heartbeat_s": 1, "channels": [{"name": "bus", "protocol": "modbus", "host": "127.0.0.1", "port": device_port}],
                "devices": [{"id": 1, "template": "electric_boiler_modbus", "channel": "bus", "unit": 3, "poll_s": 0.2}], **more}
        (self.home / "site.yaml").write_text(yaml.safe_dump(site))
        return Agent(load_site(self.home / "site.yaml"), load_credentials(self.credentials))


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


@pytest.fixture
def slave():
    slave = peers.Slave()
    slave.holding |= {4: 500, 5: 400, 8: 600, 40: 450}
    return slave


async def gateway(box: Box, platform: Platform, port: int = 0):
    service = Gateway(platform)
    server = grpc.aio.server()
    link_pb2_grpc.add_EdgeLinkServicer_to_server(service, server)
    port = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(pem(box.gateway_key), pem(box.gateway))], box.ca, require_client_auth=True))
    await server.start()
    return service, server, port


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited happens elsewhere
            await asyncio.sleep(0.02)


class running:  # noqa: N801 - reads like a word
    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def __aenter__(self) -> Agent:
        self.task = asyncio.create_task(self.agent.run())
        return self.agent

    async def __aexit__(self, *exc) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@pytest.mark.slow
async def test_readings_travel_once_committed_are_freed_and_a_command_is_verified(box, slave):
    platform = Platform(box.request)
    service, server, port = await gateway(box, platform)
    async with peers.listening(slave.serve) as device, running(box.agent({"kind": "grpc", "address": f"127.0.0.1:{port}"}, device)) as agent:
        await until(lambda: len(platform.readings) >= 20 and agent.spool.batches == 0)
        assert platform.states <= {telemetry_pb2.CLOCK_STATE_TRUSTED, telemetry_pb2.CLOCK_STATE_REDATED}
        assert {r[2] % 200 for r in platform.readings} <= {0} or telemetry_pb2.CLOCK_STATE_REDATED in platform.states
        assert 50.0 in {v for (d, p, _), v in platform.readings.items() if p == point("leaving_temp").id}
        started = time.perf_counter()
        service.out.put_nowait(link_pb2.Down(command=platform.command(command_pb2.COMMAND_KIND_HOLD, "leaving_temp_setpoint", 60.0)))
        await until(lambda: any(r.stage == command_pb2.STAGE_VERIFIED for r in platform.results))
        assert time.perf_counter() - started < 5
        assert slave.holding[40] == 600
        assert [r.stage for r in platform.results] == [command_pb2.STAGE_RECEIVED, command_pb2.STAGE_EXECUTING, command_pb2.STAGE_VERIFIED]
        await until(lambda: agent.journal.pending(0, 10) == [])
        await until(lambda: platform.beats[-1].devices[0].online and platform.beats[-1].clock_trusted)
        holder = platform.beats[-1].devices[0].holders
        await until(lambda: len(platform.beats[-1].devices[0].holders) == 1)
        holder = platform.beats[-1].devices[0].holders[0]
        assert (holder.point_id, holder.value, holder.holder) == (point("leaving_temp_setpoint").id, 60.0, "op")
        service.out.put_nowait(link_pb2.Down(lease=link_pb2.Lease(device_id=[1], until_ms=now_ms() + 60_000)))
        await until(lambda: len(platform.live) > 0)
        frame = platform.live[0]
        assert len(frame.device_id) // 4 == len(frame.point_id) // 2 == len(frame.at_ms) // 8 == len(frame.value) // 8 == len(frame.quality)
    await server.stop(0)


@pytest.mark.slow
async def test_a_broken_link_and_a_restart_lose_nothing_and_send_the_newest_first(box, slave):
    platform = Platform(box.request)
    platform.acking = False
    _, server, port = await gateway(box, platform)
    async with peers.listening(slave.serve) as device:
        async with running(box.agent({"kind": "grpc", "address": f"127.0.0.1:{port}"}, device)) as agent:
            await until(lambda: _changing(slave) and len(platform.sequences) >= 3)
            await server.stop(0)
            held = agent.spool.last_sequence
            await until(lambda: _changing(slave) and agent.spool.last_sequence > held + 5)
        epoch, kept = agent.spool.epoch, agent.spool.batches
        assert kept == agent.spool.last_sequence
        platform.acking, before = True, len(platform.sequences)
        _, server, _ = await gateway(box, platform, port)
        agent = box.agent({"kind": "grpc", "address": f"127.0.0.1:{port}"}, device)
        assert agent.spool.epoch == epoch
        newest = agent.spool.last_sequence
        async with running(agent):
            await until(lambda: set(range(1, newest + 1)) <= set(platform.sequences[before:]))
            await until(lambda: agent.spool.batches == 0)
        assert platform.sequences[before] >= newest
        await server.stop(0)


@pytest.mark.slow
@pytest.mark.point("P7")
async def test_a_rewritten_audit_log_stands_in_the_heartbeat_and_a_forged_checkpoint_too(box, slave):
    def checkpoint(size: int, head: str, key: Ed25519PrivateKey = AUDITOR) -> bytes:
        return json.dumps(Checkpoint(size, head, head, size, 0, "", "sha256").signed(key).document()).encode()

    platform = Platform(box.request)
    platform.checkpoint = checkpoint(100, "aa")
    _, server, port = await gateway(box, platform)
    async with peers.listening(slave.serve) as device, running(box.agent({"kind": "grpc", "address": f"127.0.0.1:{port}"}, device)) as agent:
        await until(lambda: _changing(slave) and agent.link.witness.newest() == 100)
        platform.checkpoint = checkpoint(90, "bb", COMMANDER)  # somebody who holds another key of the platform
        await until(lambda: _changing(slave) and platform.beats[-1].audit_forged > 0)
        assert platform.beats[-1].audit_contradictions == 0
        platform.checkpoint = checkpoint(100, "bb")
        await until(lambda: _changing(slave) and platform.beats[-1].audit_contradictions == 1)
    await server.stop(0)


def _changing(slave) -> bool:
    slave.holding[4] += 5
    return True


@pytest.mark.slow
async def test_a_certificate_of_another_zone_is_refused_by_both_sides(box, slave, tmp_path_factory):
    other = Box(tmp_path_factory.mktemp("other"))
    platform = Platform(box.request)
    _, server, port = await gateway(other, platform)
    async with peers.listening(slave.serve) as device, running(box.agent({"kind": "grpc", "address": f"127.0.0.1:{port}"}, device)) as agent:
        await until(lambda: agent.spool.batches > 0 or agent.spool.undated > 0)
        await asyncio.sleep(1)
        assert not agent.link.up
        assert platform.beats == []
    await server.stop(0)


@pytest.mark.slow
async def test_the_same_box_speaks_nats(box, slave, tmp_path):
    import nats
    binary = shutil.which("nats-server") or str(Path(sys.executable).parent / "nats-server")
    port = _free_port()
    process = await asyncio.create_subprocess_exec(binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path / "js"), stderr=asyncio.subprocess.DEVNULL)
    try:
        platform = Platform(box.request)
        client = await _connect(nats, f"nats://127.0.0.1:{port}")
        stream = client.jetstream()
        await stream.add_stream(name="TEL_003", subjects=["tel.003.>"])
        await stream.add_stream(name="CTL", subjects=["ctl.>"])
        (box.credentials / "nats.seed").unlink(missing_ok=True)  # this server has no users

        async def on_beat(message):
            await message.respond(platform.welcome(telemetry_pb2.Heartbeat.FromString(message.data)).SerializeToString())

        async def on_sealed(message):
            kind = envelope.Kind.BATCH if message.subject.startswith("tel") else envelope.Kind.RESULT
            ack = platform.take(message.data, kind)
            await client.publish(subjects.down(7, "box1", "ack"), ack.SerializeToString())

        await client.subscribe(subjects.up(7, "box1", "heartbeat"), cb=on_beat)
        await client.subscribe(subjects.telemetry(3, 7, "box1"), cb=on_sealed)
        await client.subscribe(subjects.result(7, "box1"), cb=on_sealed)
        async with peers.listening(slave.serve) as device, running(box.agent({"kind": "nats", "url": f"nats://127.0.0.1:{port}"}, device)) as agent:
            await until(lambda: len(platform.readings) >= 20 and agent.spool.batches == 0)
            answer = await client.request(subjects.down(7, "box1", "command"), platform.command(command_pb2.COMMAND_KIND_HOLD, "enable_command", 1.0), timeout=2)
            assert answer.data == b""
            slave.holding[30] = 1
            await until(lambda: any(r.stage == command_pb2.STAGE_VERIFIED for r in platform.results))
            assert slave.coils[0] is True
            await until(lambda: agent.journal.pending(0, 10) == [])
            info = await stream.stream_info("TEL_003")
            assert info.state.messages == len(set(platform.sequences))
        await client.close()
    finally:
        process.terminate()
        await process.wait()


def _free_port() -> int:
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def _connect(nats, url: str):
    async with asyncio.timeout(10):
        while True:
            try:
                return await nats.connect(url, allow_reconnect=False)
            except (OSError, nats.errors.Error):
                await asyncio.sleep(0.1)
