"""分区 (8.3 b): monitoring systems, platform and third parties in zones of their own; what crosses, crosses at a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import ssl
from pathlib import Path

import grpc
import httpx
import nats
import psutil
import pytest

from cloud.security.operations import Role
from protos.kang.v1 import link_pb2, link_pb2_grpc, open_pb2, open_pb2_grpc, telemetry_pb2
from tests.conformance.test_31_interface_connections import External, register
from tests.support.real import Real

pytestmark = [pytest.mark.slow, pytest.mark.point("P6", route="listeners: gateway, enrolment, interfaces, portal", page="-")]


def box(real: Real) -> dict[str, Path]:
    """The genuine credentials of a box of the NATS uplink."""
    folder = real.rigs[1].site_file.parent / "credentials"
    return {name: folder / name for name in ("agent.pem", "agent.key", "zone-ca.pem", "nats.jwt", "nats.seed")}


async def gateway_says(real: Real, key: bytes, chain: bytes, project: int, agent: str) -> str:
    """What the edge gateway says to a first heartbeat: "welcome", or the status of its refusal."""
    credentials = grpc.ssl_channel_credentials((real.settings.credentials / "edge-ca.pem").read_bytes(), key, chain)
    async with grpc.aio.secure_channel(f"127.0.0.1:{real.settings.gateway_port}", credentials, options=[("grpc.ssl_target_name_override", "kang-gateway")]) as channel:
        call = link_pb2_grpc.EdgeLinkStub(channel).Connect(timeout=8)
        try:
            await call.write(link_pb2.Up(heartbeat=telemetry_pb2.Heartbeat(project_id=project, agent_id=agent, epoch=bytes(16), boot_id=os.urandom(16), challenge=os.urandom(12))))
            first = await call.read()
            return str(first.WhichOneof("body")) if isinstance(first, link_pb2.Down) else (await call.code()).name
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return str((await call.code()).name)
        finally:
            call.cancel()


async def interfaces_say(real: Real, key: bytes, chain: bytes) -> str:
    """What the third parties' listener says to a call."""
    async with grpc.aio.secure_channel(f"127.0.0.1:{real.settings.interfaces_grpc_port}", grpc.ssl_channel_credentials((real.settings.credentials / "edge-ca.pem").read_bytes(), key, chain)) as channel:
        try:
            await open_pb2_grpc.OpenStub(channel).ListProjects(open_pb2.OpenProjectsRequest(), timeout=8)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "answered"


async def test_a_certificate_of_one_zone_opens_no_listener_of_another(real: Real) -> None:
    files = box(real)
    key, chain = files["agent.key"].read_bytes(), files["agent.pem"].read_bytes()
    async with real.client(Role.SECURITY_ADMIN) as security:
        outside: External = await register(real, security)
    agent = real.rigs[1]
    assert await interfaces_say(real, outside.key, outside.chain) == "UNAUTHENTICATED"  # in, but without a token
    assert await interfaces_say(real, key, chain) == "UNAVAILABLE"  # a box: no connection at all
    assert await gateway_says(real, outside.key, outside.chain, agent.project_id, agent.agent_id) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    # Neither a box nor a third party speaks to the bus as the platform does.
    for pair in ((files["agent.pem"], files["agent.key"]), None):
        context = ssl.create_default_context(cafile=str(files["zone-ca.pem"]))
        context.check_hostname = False
        if pair is not None:
            context.load_cert_chain(*pair)
        with pytest.raises((nats.errors.Error, OSError, ssl.SSLError)):
            await nats.connect(real.settings.effective_nats_url, tls=context, allow_reconnect=False, connect_timeout=4, max_reconnect_attempts=0)


async def test_a_box_on_the_bus_reaches_its_own_subjects_and_nothing_of_the_platforms(real: Real) -> None:
    files, errors = box(real), list[str]()
    agent = real.rigs[1]

    async def note(error: Exception) -> None:
        errors.append(str(error))

    context = ssl.create_default_context(cafile=str(files["zone-ca.pem"]))
    context.check_hostname = False
    context.load_cert_chain(files["agent.pem"], files["agent.key"])
    client = await nats.connect(real.settings.effective_nats_url, tls=context, inbox_prefix=f"_INBOX.{agent.agent_id}", error_cb=note, nkeys_seed=str(files["nats.seed"]),
                                user_jwt_cb=lambda: bytearray(files["nats.jwt"].read_bytes()))
    forbidden = ("svc.control.submit", "alarm.own", "audit.checkpoint", f"presence.{agent.project_id}.{agent.agent_id}", f"event.{agent.project_id}", f"down.{real.plant['project_id']}.plant-a1.command",
                 "$JS.API.STREAM.LIST")
    for subject in forbidden:
        await client.publish(subject, b"x")
    for subject in (">", "svc.>", "tel.>", "presence.>", "event.>"):
        await client.subscribe(subject)
    await client.flush()
    async with asyncio.timeout(10):
        while len(errors) < len(forbidden) + 5:  # noqa: ASYNC110 - the server's answers come by themselves
            await asyncio.sleep(0.05)
    await client.close()


async def test_only_the_gateways_can_be_reached_from_elsewhere_and_the_store_only_with_its_secret(real: Real) -> None:
    settings = real.settings
    doors = {settings.portal_port, settings.gateway_port, settings.enrolment_port, settings.interfaces_port, settings.interfaces_grpc_port, settings.nats_port}
    listening = dict(_listening())
    assert doors <= set(listening), "every door is open"
    for port, address in listening.items():
        given = ipaddress.ip_address(address)
        assert (getattr(given, "ipv4_mapped", None) or given).is_loopback or port in doors, f"{address}:{port} is reachable from other machines and is no gateway"
    async with httpx.AsyncClient(timeout=10) as nobody:
        assert (await nobody.post(f"http://127.0.0.1:{settings.store_port}/", content=b"SELECT 1")).status_code in (401, 403)


def _listening() -> list[tuple[int, str]]:
    """(port, address) of every TCP socket the platform's processes listen on."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [(c.laddr.port, c.laddr.ip) for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return found
