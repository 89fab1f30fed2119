"""接口连接 (7.3.1 a): external systems by REST, gRPC, bulk and live feed with credentials of their own; the live list shows connections, rates, errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cloud.security.certificates import key_pem, make_request
from cloud.security.operations import Role
from protos.kang.v1 import open_pb2 as pb
from protos.kang.v1 import open_pb2_grpc
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
SCOPE = ["devices.project.read", "monitoring.latest.read", "monitoring.history.read", "monitoring.live.read"]


@dataclass
class External:
    """An external system: its registration, its key and certificate."""

    id: str
    secret: str
    key: bytes
    chain: bytes
    roots: bytes

    def tls(self, folder: Path) -> ssl.SSLContext:
        """What it dials REST with."""
        (folder / "chain.pem").write_bytes(self.chain)
        (folder / "key.pem").write_bytes(self.key)
        context = ssl.create_default_context(cadata=self.roots.decode())
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        return context


async def register(real: Real, security: httpx.AsyncClient, **more: Any) -> External:
    """The security administrator registers it and signs a certificate for the key it made itself."""
    body = {"name": f"conf-{uuid.uuid4().hex[:8]}", "operations": SCOPE, "project_ids": [real.plant["project_id"]], "rate": 500.0, "burst": 500, **more}
    made = await security.post("/interfaces/clients", json=body)
    assert made.status_code == 201, made.text
    key, request = make_request("anything")
    signed = await security.post(f"/interfaces/clients/{made.json()['id']}/certificate", json={"request": request.decode(), "days": 1})
    assert signed.status_code == 200, signed.text
    return External(made.json()["id"], made.json()["secret"], key_pem(key), signed.json()["certificate"].encode(), (real.settings.credentials / "edge-ca.pem").read_bytes())


@pytest.mark.point("31", route="POST /api/v1/interfaces/clients", page="/interfaces")
@pytest.mark.point("P4", route="gRPC kang.v1.Open", page="/interfaces")
async def test_an_external_system_connects_by_rest_grpc_bulk_and_live_feed_and_is_seen_doing_so(real: Real, tmp_path: Path) -> None:
    project = real.plant["project_id"]
    async with real.client(Role.SECURITY_ADMIN) as security:
        outside = await register(real, security)

        async def mine() -> dict[str, Any]:
            return next(c for c in (await security.get("/interfaces/clients")).json() if c["id"] == outside.id)

        base = f"https://127.0.0.1:{real.settings.interfaces_port}/api/v1/"
        async with httpx.AsyncClient(base_url=base, verify=outside.tls(tmp_path), timeout=30) as rest:
            wrong = await rest.post("oauth/token", data={"grant_type": "client_credentials", "client_id": outside.id, "client_secret": "guess"})
            assert wrong.status_code == 401
            token = (await rest.post("oauth/token", data={"grant_type": "client_credentials", "client_id": outside.id, "client_secret": outside.secret})).json()["access_token"]
            rest.headers["authorization"] = f"Bearer {token}"
            assert [p["id"] for p in (await rest.get("projects")).json()] == [project]

            async def values() -> list[Any]:
                return (await rest.get(f"projects/{project}/latest")).json()["rows"]

            rows = await eventually(values, 90, "values of the plant")
            assert (await rest.get(f"projects/{real.source.project_id}/latest")).status_code == 404
        credentials = grpc.ssl_channel_credentials(outside.roots, outside.key, outside.chain)
        async with grpc.aio.secure_channel(f"127.0.0.1:{real.settings.interfaces_grpc_port}", credentials) as channel:
            stub, told = open_pb2_grpc.OpenStub(channel), [("authorization", f"Bearer {token}")]
            assert [p.id for p in (await stub.ListProjects(pb.OpenProjectsRequest(), metadata=told)).projects] == [project]
            device, point = rows[0][0], rows[0][1]
            now = int(time.time() * 1000)
            bulk = pb.OpenHistoryRequest(project_id=project, series=[pb.OpenPoint(device_id=device, point_id=point)], start_ms=now - 2 * 86_400_000, end_ms=now)

            async def history() -> int:
                return sum([len(piece.at_ms) async for piece in stub.GetHistory(bulk, metadata=told)])

            assert await eventually(history, 60, "raw history in bulk") > 0
            feed = stub.Watch(pb.OpenWatchRequest(project_id=[project], device_id=sorted({r[0] for r in rows})[:50]), metadata=told)
            async with asyncio.timeout(60):
                async for event in feed:
                    if event.type == "values" and event.values.value:
                        break
            standing = await mine()
            assert standing["open"] >= 1
            assert standing["rate_now"] > 0
            assert standing["errors"] >= 1
            assert standing["address"] == "127.0.0.1"
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stub.GetLatest(pb.OpenLatestRequest(project_id=real.source.project_id), metadata=told)
            assert json.loads(dict(refusal.value.trailing_metadata() or ())["kang-problem-bin"])["code"] == "E-NOT-FOUND"
            # The administrator ends it: the feed closes within seconds, the token is nobody's.
            assert (await security.patch(f"/interfaces/clients/{outside.id}", json={"disabled": True})).status_code == 200
            with contextlib.suppress(grpc.aio.AioRpcError):
                async with asyncio.timeout(20):
                    async for event in feed:
                        if event.type == "bye":
                            break
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stub.ListProjects(pb.OpenProjectsRequest(), metadata=told)
            assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED

        async def closed() -> bool:
            return (await mine())["open"] == 0

        await eventually(closed, 15, "no connection is listed")
