"""The edge gateway: one gRPC stream per agent, mutual TLS, identity from the certificate, sealed bytes handed to the bus.

An agent dials out; nothing dials in. A stream whose certificate names another agent, a revoked agent or an unknown one is refused.
Must not know: what sealed bytes contain.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from cloud.bus.connection import connect
from cloud.core.clock import now_ms
from cloud.core.health import Admit, add_health
from cloud.core.log import configure
from cloud.core.settings import load
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.system.dialogue import DialogueService
from cloud.gateways.flows import MISSED, ZONE, NatsPresence, Note, StreamCount, host_of, ignore
from cloud.gateways.relay import Relay
from cloud.gateways.trust import CloneWatch, OpenStream, TrustWatch
from cloud.historian.client import ClickHouse
from cloud.historian.flow import Flow, FlowLog
from cloud.ledger import open_ledger
from cloud.security.authority import AuthorityClient
from protos import subjects
from protos.envelope import EnvelopeError, Header
from protos.kang.v1 import link_pb2, link_pb2_grpc
from protos.suites import self_test

log = logging.getLogger("kang.gateway")
WINDOW = 64
DOWN_QUEUE = 256


class EdgeLink(link_pb2_grpc.EdgeLinkServicer):
    """The service."""

    def __init__(self, relay: Relay, client: Any, watch: TrustWatch, note: Note = ignore) -> None:
        self._relay = relay
        self._client = client
        self._watch = watch
        self._note = note
        self._live = watch.streams

    async def Connect(self, request_iterator: AsyncIterator[link_pb2.Up], context: grpc.aio.ServicerContext) -> AsyncIterator[link_pb2.Down]:  # noqa: N802
        """One agent's stream. The first message must be a heartbeat of the agent the certificate names."""
        identity, serial, not_after_ms = peer(context)
        try:
            first = await anext(aiter(request_iterator), None)
        except Exception as error:  # noqa: BLE001  whatever cannot be read as a message is the sender's fault
            self._refused(context, identity, "E-LINK-MESSAGE")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"E-LINK-MESSAGE: not a message of this service ({type(error).__name__})")
            return
        beat = first.heartbeat if first is not None and first.WhichOneof("body") == "heartbeat" else None
        if beat is None or identity != subjects.agent_identity(beat.project_id, beat.agent_id):
            self._refused(context, identity, "E-LINK-IDENTITY")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "E-LINK-IDENTITY: the first message must be a heartbeat of the certificate's own agent")
            return
        agent = self._relay.agent(beat.project_id, beat.agent_id)
        if agent is None or not self._watch.may_connect(agent.agent_id, serial):
            self._refused(context, identity, "E-LINK-AGENT")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "E-LINK-AGENT: this agent is not admitted, or its certificate was replaced")
            return
        out: asyncio.Queue[link_pb2.Down | None] = asyncio.Queue(DOWN_QUEUE)
        stream = OpenStream(agent.agent_id, agent.project_id, serial, not_after_ms, beat.boot_id)
        before = self._live.get(agent.agent_id)
        if before is not None:
            before.end("a newer stream of this agent")
        self._live[agent.agent_id] = stream
        count = StreamCount(self._note, agent.agent_id, host_of(context.peer()), beat.ByteSize(), 0, 1)

        async def down(message: Msg) -> None:
            await self._down(message, out, stream)

        subscription = await self._client.subscribe(subjects.down(agent.project_id, agent.agent_id, "*"), cb=down)
        reader = asyncio.create_task(self._read(request_iterator, agent, out, count))
        replacing = asyncio.create_task(stream.ended.wait())
        count.began()
        log.info("agent connected", extra={"fields": {"agent": agent.agent_id, "project": agent.project_id}})
        try:
            out.put_nowait(link_pb2.Down(welcome=await self._relay.heartbeat(beat)))
            while not stream.ended.is_set():
                waiting = asyncio.create_task(out.get())
                done, _ = await asyncio.wait({waiting, replacing}, return_when=asyncio.FIRST_COMPLETED)
                if waiting not in done:
                    waiting.cancel()
                    break
                message = waiting.result()
                if message is None:
                    break
                count.bytes_out += message.ByteSize()
                yield message
            if stream.why.startswith("E-"):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, stream.why)
        finally:
            reader.cancel()
            replacing.cancel()
            await subscription.unsubscribe()
            if self._live.get(agent.agent_id) is stream:
                del self._live[agent.agent_id]
                await self._relay.gone(agent.project_id, agent.agent_id)
            count.ended(stream.why)
            log.info("agent gone", extra={"fields": {"agent": agent.agent_id, "why": stream.why}})

    def _refused(self, context: grpc.aio.ServicerContext, identity: str, code: str) -> None:
        self._note(Flow("refused", ZONE, identity.rpartition("/")[2], host_of(context.peer()), "EdgeLink/Connect", code, detail=identity))

    async def _down(self, message: Msg, out: asyncio.Queue[link_pb2.Down | None], stream: OpenStream) -> None:
        """From the bus to the agent. A command is answered ("sent") only once it stands in the stream's queue; a suspected clone gets none."""
        what = message.subject.rsplit(".", 1)[-1]
        try:
            if what == "command":
                if not self._relay.clones.trusted(stream.agent_id, stream.boot_id):
                    return
                out.put_nowait(link_pb2.Down(command=message.data))
                if message.reply:
                    await message.respond(b"")
            elif what == "ack":
                out.put_nowait(link_pb2.Down(ack=link_pb2.Ack.FromString(message.data)))
            elif what == "lease":
                out.put_nowait(link_pb2.Down(lease=link_pb2.Lease.FromString(message.data)))
        except asyncio.QueueFull:
            log.warning("a slow agent's queue is full; %s dropped (acknowledgements and commands are repeated)", what)
        except DecodeError:
            log.warning("malformed %s on the bus", what)

    async def _read(self, messages: AsyncIterator[link_pb2.Up], agent: Any, out: asyncio.Queue[link_pb2.Down | None], count: StreamCount) -> None:
        window = asyncio.Semaphore(WINDOW)
        tasks: set[asyncio.Task[None]] = set()

        async def hand_over(sealed: bytes, *, is_batch: bool) -> None:
            try:
                try:
                    header = Header.unpack(sealed)
                except EnvelopeError as error:
                    # Quarantine decides what a malformed batch is; here only its number is unknown.
                    header = None
                    log.warning("agent %s: %s", agent.agent_id, error)
                epoch, sequence = (header.epoch, header.sequence) if header else (sealed[:16], hash(sealed))
                code = await (self._relay.batch if is_batch else self._relay.result)(agent, sealed, epoch, sequence)
                if code:
                    await out.put(link_pb2.Down(refusal=link_pb2.Refusal(code=code, sequence=sequence if header else 0)))
            finally:
                window.release()

        try:
            async for up in messages:
                kind = up.WhichOneof("body")
                count.bytes_in, count.messages = count.bytes_in + up.ByteSize(), count.messages + 1
                if kind in ("batch", "result"):
                    await window.acquire()
                    task = asyncio.create_task(hand_over(up.batch if kind == "batch" else up.result, is_batch=kind == "batch"))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                elif kind == "heartbeat" and up.heartbeat.agent_id == agent.agent_id and up.heartbeat.project_id == agent.project_id:
                    if self._relay.agent(agent.project_id, agent.agent_id) is None:
                        break  # revoked meanwhile
                    await out.put(link_pb2.Down(welcome=await self._relay.heartbeat(up.heartbeat)))
                elif kind == "live":
                    await self._relay.live(agent, up.live)
        except grpc.aio.AioRpcError as error:
            log.info("agent %s: stream ended: %s", agent.agent_id, error.code())
        finally:
            for task in tasks:
                task.cancel()
            try:
                out.put_nowait(None)
            except asyncio.QueueFull:
                out.get_nowait()
                out.put_nowait(None)


def peer(context: grpc.aio.ServicerContext) -> tuple[str, str, int]:
    """(URI identity, serial hex, end in UTC milliseconds) of the client certificate; ("", "", 0) when there is none."""
    auth = context.auth_context()
    pem = auth.get("x509_pem_cert", [b""])[0]
    if not pem:
        return "", "", 0
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        return "", "", 0
    return (names[0] if names else ""), f"{certificate.serial_number:x}", int(certificate.not_valid_after_utc.timestamp() * 1000)


def agents_only(watch: TrustWatch, wall_ms: Callable[[], int]) -> Admit:
    """Who may ask for the gateway's health: an agent that might open its stream now."""
    async def admit(context: grpc.aio.ServicerContext, again: bool) -> tuple[grpc.StatusCode, str] | None:  # noqa: ARG001
        identity, serial, not_after_ms = peer(context)
        if identity and wall_ms() < not_after_ms and watch.may_connect(identity.rpartition("/")[2], serial):
            return None
        return grpc.StatusCode.PERMISSION_DENIED, "E-LINK-AGENT: this agent is not admitted, or its certificate was replaced or has ended"

    return admit


async def serve(home: Path) -> None:
    """Run until SIGTERM."""
    settings = load(home)
    client = await connect(settings.effective_nats_url, settings.credentials, "gateway")
    ledger = open_ledger(settings.effective_ledger_url)
    directory, agents, clones = LedgerDirectory(ledger), AgentService(ledger), CloneWatch()
    flows = FlowLog(ClickHouse(settings, threads=1, name="gateway"), days=settings.network_days)
    presence = NatsPresence(flows.note, MISSED * settings.heartbeat_s)
    recording = asyncio.create_task(flows.run(presence.sweep), name="flows")
    relay = Relay(client, directory, partitions=settings.partitions, heartbeat_s=settings.heartbeat_s, agents=agents, clones=clones, presence=presence, dialogue=DialogueService(ledger))
    await relay.start()
    watch = TrustWatch(agents, None if settings.nats_url else AuthorityClient(settings.home), clones, wall_ms=now_ms)
    await watch.look()
    watching = asyncio.create_task(watch.run(), name="trust")
    mine = settings.credentials
    credentials = grpc.ssl_server_credentials([((mine / "gateway.key").read_bytes(), (mine / "gateway.pem").read_bytes())], (mine / "edge-clients.pem").read_bytes(), require_client_auth=True)
    server = grpc.aio.server(options=[
        ("grpc.max_receive_message_length", 2 << 20), ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000), ("grpc.keepalive_permit_without_calls", 1), ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", 10_000),  # gRPC would keep a caller that hung up in its handshake for two minutes
        ("grpc.max_connection_age_ms", 3_600_000), ("grpc.max_connection_age_grace_ms", 10_000)])
    link_pb2_grpc.add_EdgeLinkServicer_to_server(EdgeLink(relay, client, watch, flows.note), server)  # type: ignore[no-untyped-call]  # generated
    add_health(server, [link_pb2.DESCRIPTOR.services_by_name["EdgeLink"].full_name], lambda: bool(client.is_connected), agents_only(watch, now_ms))
    server.add_secure_port(f"{settings.gateway_host}:{settings.gateway_port}", credentials)
    await server.start()
    log.info("gateway listens on %s:%d", settings.gateway_host, settings.gateway_port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        watching.result()
    watching.cancel()
    await server.stop(2)
    recording.cancel()
    await flows.last()
    await client.close()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.gateways.edge --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-gateway")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("gateway")
    self_test()
    asyncio.run(serve(args.home))


if __name__ == "__main__":
    main()
