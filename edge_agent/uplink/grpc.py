"""The gRPC uplink: one mutually authenticated stream dialled out by the agent, redialled with jittered backoff.

Must not know: what sealed bytes contain, NATS.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_agent.backoff import Backoff
from edge_agent.errors import MissingExtra
from edge_agent.uplink.link import Link
from protos.kang.v1 import link_pb2

log = logging.getLogger("kang.edge.grpc")
WELCOME_S = 10.0


async def run(link: Link, *, address: str, credentials_dir: Path, gateway_name: str) -> None:
    """Keep a stream until cancelled.

    Raises:
        MissingExtra: grpcio is not installed.
    """
    try:
        import grpc

        from protos.kang.v1 import link_pb2_grpc
    except ImportError:
        raise MissingExtra(package="grpcio", extra="edge-grpc") from None
    backoff = Backoff(cap_s=60.0)
    options: list[tuple[str, Any]] = [
        ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000), ("grpc.max_receive_message_length", 2 << 20), ("grpc.enable_retries", 0)]
    if gateway_name:
        options.append(("grpc.ssl_target_name_override", gateway_name))
    while True:
        # Read anew for every connection: a renewed certificate is used without a restart.
        try:
            credentials = grpc.ssl_channel_credentials(*_files(credentials_dir))
        except (OSError, ValueError) as error:
            log.error("the certificate files cannot be used", extra={"fields": {"why": str(error)}})
            await asyncio.sleep(backoff.failed(time.monotonic(), random.random()))
            continue
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            stub: Any = link_pb2_grpc.EdgeLinkStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
            call = stub.Connect()
            try:
                await _converse(link, call, backoff)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
                log.warning("uplink lost", extra={"fields": {"address": address, "why": _why(error)}})
            finally:
                link.lost()
                call.cancel()
        await asyncio.sleep(backoff.failed(time.monotonic(), random.random()))


def _files(directory: Path) -> tuple[bytes, bytes, bytes]:
    """(zone CA, key, certificate chain) as PEM; checked here, because gRPC's core aborts the process on a broken file.

    Raises:
        OSError: a file is missing.
        ValueError: a file is not what it should be.
    """
    ca, key, chain = ((directory / name).read_bytes() for name in ("zone-ca.pem", "agent.key", "agent.pem"))
    x509.load_pem_x509_certificates(ca)
    mine = x509.load_pem_x509_certificates(chain)[0].public_key()
    if serialization.load_pem_private_key(key, None).public_key() != mine:
        raise ValueError("agent.key does not belong to agent.pem")
    return ca, key, chain


async def _converse(link: Link, call: Any, backoff: Backoff) -> None:
    await call.write(link_pb2.Up(heartbeat=link.agent.heartbeat()))
    async with asyncio.timeout(WELCOME_S):
        first = await call.read()
    if not isinstance(first, link_pb2.Down) or first.WhichOneof("body") != "welcome":
        raise asyncio.InvalidStateError("no welcome")
    link.on_welcome(first.welcome)
    link.connected()
    backoff.succeeded()
    log.info("uplink stands")
    reader = asyncio.create_task(_read(link, call))
    writer = asyncio.create_task(_write(link, call))
    try:
        done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (reader, writer):
            task.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)


async def _read(link: Link, call: Any) -> None:
    while isinstance(down := await call.read(), link_pb2.Down):
        body = down.WhichOneof("body")
        if body == "ack":
            link.on_ack(down.ack)
        elif body == "command":
            link.agent.on_command(down.command)
        elif body == "lease":
            link.agent.on_lease(down.lease)
        elif body == "welcome":
            link.on_welcome(down.welcome)
        elif body == "refusal":
            link.on_refusal(down.refusal)


async def _write(link: Link, call: Any) -> None:
    last_beat = time.monotonic()
    while True:
        now = time.monotonic()
        if link.beat_due(now, last_beat):
            await call.write(link_pb2.Up(heartbeat=link.agent.heartbeat()))
            last_beat = now
        messages = link.due()
        for message in messages:
            await call.write(link_pb2.Up(batch=message.wire) if message.batch else link_pb2.Up(result=message.wire))
        while not link.live.empty():
            await call.write(link_pb2.Up(live=link.live.get_nowait()))
        if not messages:
            await link.pause(max(0.01, min(0.5, last_beat + link.heartbeat_s - time.monotonic())))


def _why(error: BaseException) -> str:
    code = getattr(error, "code", None)
    details = getattr(error, "details", None)
    return f"{code()}: {details()}" if callable(code) and callable(details) else str(error) or type(error).__name__
