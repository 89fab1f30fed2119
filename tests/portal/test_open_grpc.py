"""The gRPC listener of external systems over a real socket: the same scopes, rates, certificates and codes as REST; bulk and live feeds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.stack import free_ports
from cloud.core.settings import load
from cloud.portal import open_grpc
from protos.kang.v1 import open_pb2 as pb
from protos.kang.v1 import open_pb2_grpc
from tests.portal.test_mutual import Outside, outside  # noqa: F401 - fixture
from tests.support.site import furnish

SCOPE = ["devices.project.read", "monitoring.latest.read", "monitoring.history.read", "monitoring.live.read", "remote_control.command.submit", "remote_control.command.preview"]
pytestmark = pytest.mark.point("31")


class Called:
    """A listener and callers of it."""

    def __init__(self, outside: Outside, port: int) -> None:  # noqa: F811
        self.outside, self.site, self._port = outside, outside.site, port
        self.channels: list[grpc.aio.Channel] = []

    def stub(self, chain: Path | None, key: Path | None) -> Any:
        """A caller with a certificate, or without."""
        roots = (self.outside.folder / "credentials" / "edge-ca.pem").read_bytes()
        pair = (key.read_bytes(), chain.read_bytes()) if key is not None and chain is not None else (None, None)
        channel = grpc.aio.secure_channel(f"localhost:{self._port}", grpc.ssl_channel_credentials(roots, *pair))
        self.channels.append(channel)
        return open_pb2_grpc.OpenStub(channel)

    def registered(self, name: str, operations: list[str] = SCOPE, **more: Any) -> tuple[Any, list[tuple[str, str]]]:
        """(caller, metadata) of a client bound to a certificate of its own."""
        chain, key, digest = self.outside.pair("third", name)
        view, secret = self.site.clients.register(name, operations, project_ids=[self.site.projects["cuihu"]], certificate=digest, **more)
        token = self.site.clients.token(view["id"], secret, certificate=digest)["access_token"]
        return self.stub(chain, key), [("authorization", f"Bearer {token}")]


@pytest.fixture
async def called(outside: Outside) -> AsyncIterator[Called]:  # noqa: F811
    furnish(outside.site)
    port = free_ports(1)[0]
    server = await open_grpc.listen(outside.site.app, load(outside.folder, interfaces_grpc_port=port))
    assert server is not None
    made = Called(outside, port)
    yield made
    for channel in made.channels:
        await channel.close()
    await server.stop(0)


async def refused(call: Any) -> tuple[str, str]:
    """(status, stable code) of a call that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value.code().name, (refusal.value.details() or "").partition(":")[0]


async def test_projects_latest_and_history_come_as_over_rest(called: Called) -> None:
    stub, told = called.registered("trader")
    found = await stub.ListProjects(pb.OpenProjectsRequest(), metadata=told)
    assert [p.code for p in found.projects] == ["cuihu"]
    project = found.projects[0].id
    latest = await stub.GetLatest(pb.OpenLatestRequest(project_id=project), metadata=told)
    assert len(latest.device_id) == len(latest.value) == len(latest.quality) > 10
    some = await stub.GetLatest(pb.OpenLatestRequest(project_id=project, device_id=[latest.device_id[0]]), metadata=told)
    assert set(some.device_id) == {latest.device_id[0]}
    now = max(latest.at_ms)
    wanted = pb.OpenHistoryRequest(project_id=project, series=[pb.OpenPoint(device_id=latest.device_id[0], point_id=latest.point_id[0])], start_ms=now - 3 * 86_400_000, end_ms=now, resolution_s=900)
    pieces = [piece async for piece in stub.GetHistory(wanted, metadata=told)]
    times = [at for piece in pieces for at in piece.at_ms]
    assert times == sorted(set(times))
    assert len(times) > 100
    assert all(len(p.at_ms) == len(p.mean) == len(p.low) == len(p.high) == len(p.count) == len(p.quality) for p in pieces)
    use = next(c for c in called.site.clients.listing() if c["name"] == "trader")
    assert use["calls"] >= 4
    assert use["address"] in ("127.0.0.1", "::1")


async def test_what_rest_refuses_is_refused_with_the_same_code(called: Called) -> None:
    stub, told = called.registered("reader", ["devices.project.read"])
    assert await refused(stub.GetLatest(pb.OpenLatestRequest(project_id=1), metadata=told)) == ("PERMISSION_DENIED", "E-CLIENT-SCOPE")
    other, others = called.registered("other")
    assert await refused(other.GetLatest(pb.OpenLatestRequest(project_id=called.site.projects["yanqi"]), metadata=others)) == ("NOT_FOUND", "E-NOT-FOUND")
    assert await refused(other.ListProjects(pb.OpenProjectsRequest())) == ("UNAUTHENTICATED", "E-SESSION")
    assert await refused(other.ListProjects(pb.OpenProjectsRequest(), metadata=told)) == ("UNAUTHENTICATED", "E-SESSION")  # another's token over one's own certificate
    assert (await refused(other.GetCommand(pb.OpenCommandRequest(id="../people"), metadata=others)))[0] == "NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.GetLatest(pb.OpenLatestRequest(project_id=1), metadata=told)
    problem = json.loads(dict(refusal.value.trailing_metadata() or ())["kang-problem-bin"])
    assert problem["code"] == "E-CLIENT-SCOPE"
    assert problem["zh"]


async def test_no_certificate_or_one_of_another_zone_gets_no_connection(called: Called) -> None:
    _, told = called.registered("trader")
    for zone in (None, "edge"):
        pair = called.outside.pair(zone, "stranger")[:2] if zone else (None, None)
        status, _ = await refused(called.stub(*pair).ListProjects(pb.OpenProjectsRequest(), metadata=told, timeout=10))
        assert status == "UNAVAILABLE"


async def test_too_many_calls_are_told_when_to_come_again(called: Called) -> None:
    stub, told = called.registered("eager", rate=0.5, burst=2)
    for _ in range(2):
        await stub.ListProjects(pb.OpenProjectsRequest(), metadata=told)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.ListProjects(pb.OpenProjectsRequest(), metadata=told)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(refusal.value.trailing_metadata() or ())["retry-after"]) >= 1


async def test_a_live_feed_brings_values_stands_in_the_live_list_and_ends_with_its_client(called: Called) -> None:
    stub, told = called.registered("watcher")
    project = called.site.projects["cuihu"]
    device = (await stub.GetLatest(pb.OpenLatestRequest(project_id=project), metadata=told)).device_id[0]
    seen: dict[str, pb.OpenEvent] = {}
    async with asyncio.timeout(20):
        feed = stub.Watch(pb.OpenWatchRequest(project_id=[project], device_id=[device]), metadata=told)
        async for event in feed:
            seen.setdefault(event.type, event)
            if "values" in seen and "bye" not in seen:
                mine = next(c for c in called.site.clients.listing() if c["name"] == "watcher")
                if not mine["disabled"]:
                    assert mine["open"] == 1
                    called.site.clients.change(mine["id"], {"disabled": True}, actor="test")
    assert next(iter(seen)) == "hello"
    assert len(seen["values"].values.value) > 0
    assert "bye" in seen
    assert next(c for c in called.site.clients.listing() if c["name"] == "watcher")["open"] == 0


async def test_a_client_with_hidden_fields_gets_no_live_feed(called: Called) -> None:
    stub, told = called.registered("half-blind", hidden_fields=["actor"])
    feed = stub.Watch(pb.OpenWatchRequest(project_id=[called.site.projects["cuihu"]]), metadata=told)
    assert await refused(feed.read()) == ("PERMISSION_DENIED", "E-CLIENT-SCOPE")


async def test_a_command_is_sent_once_for_a_key(called: Called) -> None:
    stub, told = called.registered("dispatcher", priority=1)
    device = next(d.id for d in called.site.directory.devices(called.site.projects["cuihu"]) if d.profile == "electric_boiler")
    keyed = [*told, ("idempotency-key", "open-grpc-1")]
    wish = pb.OpenSubmitRequest(device_id=device, kind="lock", reason="work on the pump")
    first, second = await stub.Submit(wish, metadata=keyed), await stub.Submit(wish, metadata=keyed)
    assert first.id == second.id
    assert (await stub.GetCommand(pb.OpenCommandRequest(id=first.id), metadata=told)).id == first.id
    assert (await refused(stub.Submit(wish, metadata=told)))[0] == "INVALID_ARGUMENT"  # no key
