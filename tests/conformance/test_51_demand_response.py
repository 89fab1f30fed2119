"""响应策略管理、需求分析 (7.3.7) and participation (7.3.10 c, d, e) over the real stack: a dispatcher orders by gRPC, the plant's box keeps the limit on the grid meter, it is followed by the minute,
changed under way, evaluated and settled to the fen; offers are told, joined, declined.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cloud.security.operations import Role
from protos.arbitration import Authority
from protos.kang.v1 import dispatch_pb2 as pb
from protos.kang.v1 import dispatch_pb2_grpc
from protos.points import point
from tests.conformance.test_31_interface_connections import External, register
from tests.conformance.test_33_start_stop import online, send
from tests.support.real import Real, eventually

pytestmark = [pytest.mark.slow, pytest.mark.minutes]
SCOPE = ["demand_response.resource.read", *(f"demand_response.dispatch.{act}" for act in ("read", "submit", "cancel", "clear", "setpoint"))]
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "dispatcher.py"


@asynccontextmanager
async def grid(real: Real, outside: External) -> AsyncIterator[Any]:
    credentials = grpc.ssl_channel_credentials(outside.roots, outside.key, outside.chain)
    async with grpc.aio.secure_channel(f"127.0.0.1:{real.settings.interfaces_grpc_port}", credentials) as channel:
        yield dispatch_pb2_grpc.DispatchStub(channel)


async def strategy(client: httpx.AsyncClient, project: int, **values: Any) -> dict[str, Any]:
    version = (await client.get(f"/projects/{project}/demand-response")).json()["strategy"]["version"]
    answer = await client.put(f"/projects/{project}/demand-response", json={"version": version, **values})
    answer.raise_for_status()
    return dict(answer.json())


@pytest.mark.point("51", route="gRPC kang.v1.Dispatch", page="/demand-response")
@pytest.mark.point("52", route="GET /api/v1/demand-response/resources", page="/demand-response")
@pytest.mark.point("59", route="GET /api/v1/demand-response/statements/{statement}/verify", page="/demand-response/statements")
async def test_an_order_and_a_market_event_are_met_by_the_plant_followed_and_settled_to_the_fen(real: Real, tmp_path: Path) -> None:
    project, ids = real.plant["project_id"], real.plant["ids"]
    boilers = [ids["QH-B1"], ids["QH-B2"]]
    async with real.client(Role.SECURITY_ADMIN) as security, real.client(Role.OPERATOR) as client:
        await online(client, "plant-a1")
        outside = await register(real, security, operations=SCOPE, priority=0)
        for name, data in (("chain.pem", outside.chain), ("key.pem", outside.key), ("roots.pem", outside.roots)):
            (tmp_path / name).write_bytes(data)
        held = [(d, p, v) for d in boilers for p, v in (("leaving_temp_setpoint", 88.0), ("enable_command", 1.0), ("stage_command", 4.0))]
        async with grid(real, outside) as dispatcher:
            try:
                for device, key, value in held:  # somebody runs the boilers: an order outranks them, what is left of the day does not
                    await send(client, device, "hold", point_id=point(key).id, value=value, hold_s=1800.0)
                await strategy(client, project, participates=True, joins=True, depth=1.0, rest_s=0, rebound_s=0, events_per_day=48)

                async def able() -> float:
                    """What the dispatcher sees; a strategy saved again is published at once."""
                    await strategy(client, project, participates=True)
                    await asyncio.sleep(4)
                    found = (await dispatcher.ListResources(pb.DispatchResourcesRequest(), timeout=10)).resources
                    return found[0].capability[0].down_kw if found and found[0].market and found[0].capability[0].down_kw > 45 else 0.0

                await eventually(able, 200, "a resource worth asking", 5)
                # -- a mandatory order, by the example dispatcher
                run = await asyncio.create_subprocess_exec(
                    sys.executable, str(EXAMPLE), f"127.0.0.1:{real.settings.interfaces_grpc_port}", "--certificate", str(tmp_path / "chain.pem"), "--key", str(tmp_path / "key.pem"), "--roots", str(tmp_path / "roots.pem"),
                    "--limit", "70", "--minutes", "1.5", "--ahead", "10", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={"PYTHONPATH": str(EXAMPLE.parents[2])})

                async def order(state: str) -> dict[str, Any] | None:
                    rows = (await client.get("/demand-response/events", params={"kind": "order", "state": state})).json()["rows"]
                    return next((r for r in rows if r["dispatcher"] == f"client:{outside.id}"), None)

                event = await eventually(lambda: order("active"), 60, "the order under way")
                assert event["start_ms"] <= time.time() * 1000 < event["end_ms"]

                async def bound() -> bool:
                    rows = [(await client.get(f"/devices/{d}")).json() for d in boilers]
                    return all(any(h["authority"] == int(Authority.GRID_ORDER) for h in r["holders"]) for r in rows)

                await eventually(bound, 30, "both boilers held by the order, above the operator")
                # -- the need changes under way: a higher version is allocated anew
                changed = await dispatcher.SubmitEvent(pb.DispatchEvent(event_id=event["event_id"], version=2, kind=pb.DISPATCH_KIND_ORDER, target=pb.DISPATCH_TARGET_LIMIT, kw=[100.0], start_ms=event["start_ms"],
                                                                        end_ms=event["end_ms"], ramp_s=30), timeout=10)
                assert changed.version == 2

                async def again() -> bool:
                    page = (await client.get(f"/demand-response/events/{event['id']}")).json()
                    return page["event"]["state"] == "active" and page["commitments"][0]["segments"][0][2] == pytest.approx(100.0, abs=0.1)

                await eventually(again, 20, "the order as amended, under way")

                async def kept() -> bool:
                    rows = (await client.get(f"/projects/{project}/latest", params={"device_id": ids["QH-TR"]})).json()["rows"]
                    return any(r[1] == point("active_power").id and r[2] > event["start_ms"] and r[3] <= 101.0 for r in rows)

                await eventually(kept, 60, "the limit kept on the grid meter, though an operator wants 240 kW", 1.0)
                async with asyncio.timeout(240):
                    told = (await run.communicate())[0].decode()
                assert run.returncode == 0, told
                assert "repeated: True" in told
                assert "settled" in told
                page = (await client.get(f"/demand-response/events/{event['id']}")).json()
                minutes = page["minutes"]
                assert minutes
                assert all(m["measured"] == m["projects"] == 1 for m in minutes)
                assert {s["total_micro"] for s in page["statements"]} == {0}, "an order is not paid"
                # -- a market event: bid, cleared, met, paid
                start = (int(time.time()) + 25) * 1000
                await dispatcher.SubmitEvent(pb.DispatchEvent(event_id=f"m-{start}", version=1, kind=pb.DISPATCH_KIND_MARKET, start_ms=start, end_ms=start + 65_000, kw=[60.0], ramp_s=30, bid_until_ms=start - 5_000,
                                                              micro_kwh=1_234_567, micro_kw=55_555), timeout=10)

                async def bid() -> Any:
                    found = await dispatcher.GetEvent(pb.DispatchEventRequest(event_id=f"m-{start}"), timeout=10)
                    return found if found.state == "bid" else None

                offered = await eventually(bid, 20, "a bid")
                await dispatcher.ClearEvent(pb.DispatchClear(event_id=f"m-{start}", kw=offered.bid_kw, micro_kwh=offered.bid_micro_kwh), timeout=10)
                states = [s.state async for s in dispatcher.WatchEvent(pb.DispatchEventRequest(event_id=f"m-{start}"), timeout=240)]
                assert states[-1] == "settled", states
                report = await dispatcher.GetReport(pb.DispatchReportRequest(event_id=f"m-{start}"), timeout=10)
                assert len(report.minutes) >= 1
                assert {s.participant for s in report.statements} == {"owner", "operator"}
                assert all(s.total_micro == s.energy_micro + s.capacity_micro + s.penalty_micro for s in report.statements)
                assert all(s.total_micro % 10_000 == 0 for s in report.statements), "to the fen"
                rows = (await client.get("/demand-response/statements", params={"project_id": project})).json()["rows"]
                mine = [r for r in rows if r["event_id"] == f"m-{start}"]
                assert sum(r["total_micro"] for r in mine) == mine[0]["basis"]["total_micro"] == sum(s.total_micro for s in report.statements)
                assert set(mine[0]["basis"]["baselines"]) >= {"beijing_high_5_of_10", "jiangsu_5_workdays", "realtime_15_min", "temperature"}
                verified = (await client.get(f"/demand-response/statements/{mine[0]['id']}/verify")).json()
                assert verified["same"], verified["differences"]
            finally:
                async with real.client(Role.OPERATOR) as fresh:  # the proof of identity from the beginning is too old by now
                    await strategy(fresh, project, participates=False)
                    for device, key, _ in held:
                        await send(fresh, device, "release", point_id=point(key).id)


@pytest.mark.point("58", route="POST /api/v1/projects/{project_id}/demand-response/offers/{event}", page="/projects/:id/response")
@pytest.mark.point("51", route="PUT /api/v1/projects/{project_id}/demand-response", page="/projects/:id/response")
async def test_customers_are_told_of_offers_join_decline_and_choose_how_much_they_lend(real: Real) -> None:
    project = real.plant["project_id"]
    async with real.client(Role.SECURITY_ADMIN) as security, real.client(Role.OPERATOR) as client:
        outside = await register(real, security, operations=SCOPE, priority=0)
        async with grid(real, outside) as dispatcher:
            await strategy(client, project, participates=True, joins=False, preset="comfort")
            chosen = (await client.get(f"/projects/{project}/demand-response")).json()["strategy"]
            assert (chosen["preset"], chosen["depth"], chosen["floor_c"]) == ("comfort", 0.4, 19.0)

            async def published() -> bool:
                return any(r.market for r in (await dispatcher.ListResources(pb.DispatchResourcesRequest(), timeout=10)).resources)

            await eventually(published, 60, "the resource, open to the market")
            start = (int(time.time()) + 7200) * 1000
            name = f"offer-{start}"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await dispatcher.SubmitEvent(pb.DispatchEvent(event_id=name, version=1, kind=pb.DISPATCH_KIND_MARKET, start_ms=start, end_ms=start - 1, kw=[0.0], bid_until_ms=start), timeout=10)
            assert json.loads(dict(refused.value.trailing_metadata() or ())["kang-problem-bin"])["field"] == "end_ms"
            await dispatcher.SubmitEvent(pb.DispatchEvent(event_id=name, version=1, kind=pb.DISPATCH_KIND_MARKET, start_ms=start, end_ms=start + 900_000, kw=[0.0], bid_until_ms=start, micro_kwh=1_000_000), timeout=10)

            async def offer() -> dict[str, Any] | None:
                rows = (await client.get(f"/projects/{project}/demand-response/offers")).json()
                return next((r for r in rows if r["event_id"] == name and r["state"] == "invited"), None)

            told = await eventually(offer, 20, "the offer on the project's page")
            assert (told["open"], told["choice"]) == (True, "")
            for choice in ("decline", "join"):
                answer = await client.post(f"/projects/{project}/demand-response/offers/{told['id']}", json={"choice": choice, "depth": 0.5})
                assert answer.status_code == 200, answer.text
                page = (await client.get(f"/demand-response/events/{told['id']}")).json()
                assert page["steps"][-1]["happening"] in (choice, "cancel")
            await strategy(client, project, participates=False)
            gone = await dispatcher.GetEvent(pb.DispatchEventRequest(event_id=name), timeout=10)
            if gone.state != "cancelled":  # nothing was asked for: the desk may have let it go already
                assert (await dispatcher.CancelEvent(pb.DispatchCancel(event_id=name, reason="test"), timeout=10)).state == "cancelled"
