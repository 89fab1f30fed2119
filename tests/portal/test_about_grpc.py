"""Health and reflection of the gRPC listeners over real sockets: told to whom the listener knows, as often as their rate allows, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from benchmarks.stack import free_ports
from cloud.core import health
from cloud.core.clock import now_ms
from cloud.core.health import add_health
from cloud.core.settings import load
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.service import DeviceService
from cloud.gateways.edge import agents_only
from cloud.gateways.trust import CloneWatch, TrustWatch
from cloud.portal import about_grpc, dispatch_grpc, open_grpc
from cloud.security.certificates import key_pem, make_request
from protos import subjects
from tests.portal.test_mutual import Outside, outside  # noqa: F401 - fixture

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
pytestmark = pytest.mark.point("31")


class Listener:
    """A listener and channels to it."""

    def __init__(self, outside: Outside, port: int) -> None:  # noqa: F811
        self.outside, self._port = outside, port
        self.channels: list[grpc.aio.Channel] = []

    def channel(self, chain: Path | None = None, key: Path | None = None) -> Any:
        roots = (self.outside.folder / "credentials" / "edge-ca.pem").read_bytes()
        pair = (key.read_bytes(), chain.read_bytes()) if key is not None and chain is not None else (None, None)
        self.channels.append(grpc.aio.secure_channel(f"localhost:{self._port}", grpc.ssl_channel_credentials(roots, *pair)))
        return self.channels[-1]

    def client(self, name: str, **more: Any) -> tuple[Any, str]:
        """(channel, id) of a registered client with a certificate."""
        chain, key, digest = self.outside.pair("third", name)
        view, _ = self.outside.site.clients.register(name, ["devices.project.read"], certificate=digest, **more)
        return self.channel(chain, key), str(view["id"])

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()


@pytest.fixture
async def listener(outside: Outside) -> AsyncIterator[Listener]:  # noqa: F811
    port = free_ports(1)[0]
    server = await open_grpc.listen(outside.site.app, load(outside.folder, interfaces_grpc_port=port), [dispatch_grpc.serve(outside.site.app), about_grpc.serve(outside.site.app)])
    assert server is not None
    made = Listener(outside, port)
    yield made
    await made.close()
    await server.stop(0)


def check(channel: Any, service: str = "") -> Any:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return str(refusal.value.code().name)


async def listed(channel: Any, *questions: Any) -> list[Any]:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(questions), timeout=10)
    return [answer async for answer in call]


async def test_a_client_learns_whether_the_services_work(listener: Listener) -> None:
    channel, _ = listener.client("balancer")
    for service in ("", "kang.v1.Open", "kang.v1.Dispatch"):
        assert (await check(channel, service)).status == SERVING
    assert await refused(check(channel, "kang.v1.EdgeLink")) == "NOT_FOUND"
    everything = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
    assert {k: v.status for k, v in everything.statuses.items()} == dict.fromkeys(("", "kang.v1.Open", "kang.v1.Dispatch"), SERVING)


async def test_without_its_ledger_the_portal_does_not_serve(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_S", 0.05)
    channel, _ = listener.client("balancer")
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="kang.v1.Open"), timeout=20)
    assert (await watch.read()).status == SERVING
    file = Path(str(listener.outside.site.ledger.engine.url.database))
    listener.outside.site.ledger.engine.dispose()
    aside = file.rename(file.with_suffix(".aside"))
    file.mkdir()  # no engine opens a folder
    assert (await watch.read()).status == NOT_SERVING
    file.rmdir()
    aside.rename(file)
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_tools_read_the_contracts_from_the_listener(listener: Listener) -> None:
    channel, _ = listener.client("developer")
    ask = reflection_pb2.ServerReflectionRequest
    services, found = await listed(channel, ask(list_services=""), ask(file_containing_symbol="kang.v1.Dispatch"))
    assert {s.name for s in services.list_services_response.service} == {"kang.v1.Open", "kang.v1.Dispatch", "grpc.health.v1.Health"}
    file = FileDescriptorProto.FromString(found.file_descriptor_response.file_descriptor_proto[0])
    assert "SubmitEvent" in [m.name for s in file.service for m in s.method]


async def test_whom_the_listener_does_not_know_is_told_nothing(listener: Listener) -> None:
    chain, key, _ = listener.outside.pair("third", "stranger")  # a certificate of the zone, bound to no client
    everything = reflection_pb2.ServerReflectionRequest(list_services="")
    known, identity = listener.client("leaver")
    assert (await check(known)).status == SERVING
    listener.outside.site.clients.change(identity, {"disabled": True}, actor="test")
    for channel in (listener.channel(chain, key), known):
        async with asyncio.timeout(10):
            while True:  # within the moment that who is known is remembered
                if await refusal(check(channel)) == "UNAUTHENTICATED":
                    break
                await asyncio.sleep(0.1)
        assert await refused(listed(channel, everything)) == "UNAUTHENTICATED"
        assert await refused(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()).read()) == "UNAUTHENTICATED"
    for channel in (listener.channel(), listener.channel(*listener.outside.pair("edge", "box")[:2])):
        assert await refused(check(channel)) == "UNAVAILABLE", "no connection at all"


async def refusal(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return ""


async def test_asking_costs_calls_of_the_clients_rate(listener: Listener) -> None:
    channel, _ = listener.client("eager", rate=0.1, burst=2)
    assert [await refusal(check(channel)) for _ in range(3)] == ["", "", "RESOURCE_EXHAUSTED"]


async def test_the_gateway_tells_its_health_to_admitted_agents_only(outside: Outside) -> None:  # noqa: F811
    service, project, zone = AgentService(outside.site.ledger), outside.site.projects["cuihu"], outside.pki.zones["edge"]

    def signed(agent: str) -> tuple[tuple[Path, Path], str]:
        """Chain and key, serial."""
        mine, wanted = make_request(agent)
        chain, serial, _ = zone.client(wanted, subjects.agent_identity(project, agent))
        return outside.keep(agent, chain, key_pem(mine)), serial

    (known_files, serial), (other_files, _) = signed("box-1"), signed("box-2")
    DeviceService(outside.site.ledger).register_agent("box-1", project, signing_public=b"s" * 32, box_public=b"b" * 32, uplink="grpc", certificate_serial=serial)
    watch = TrustWatch(service, None, CloneWatch(), wall_ms=now_ms)
    await watch.look()
    link_up = True
    port = free_ports(1)[0]
    key, request = make_request("gateway")
    roots = (outside.folder / "credentials" / "edge-clients.pem").read_bytes()
    server = grpc.aio.server()
    add_health(server, ["kang.v1.EdgeLink"], lambda: link_up, agents_only(watch, now_ms))
    server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials([(key_pem(key), zone.server(request, "gateway", ["localhost"]))], roots, require_client_auth=True))
    await server.start()
    here = Listener(outside, port)
    known = here.channel(*known_files)
    assert (await check(known, "kang.v1.EdgeLink")).status == SERVING
    assert await refused(check(here.channel(*other_files))) == "PERMISSION_DENIED"
    link_up = False
    assert (await check(known)).status == NOT_SERVING
    service.revoke("box-1", by="test", reason="lost")
    await watch.look()
    assert await refused(check(known)) == "PERMISSION_DENIED"
    await here.close()
    await server.stop(0)
