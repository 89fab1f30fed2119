"""The demo's dispatch centre: two minutes after the platform runs it dials in by gRPC as any other would, orders a limit, then buys a market event and clears its bid.

`python -m benchmarks.plants.dispatcher --home DIR`. Its key is its own, its certificate is signed by the installation's authority. Must not know: how the platform decides.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from pathlib import Path
from typing import Any, Final

import grpc

from cloud.core.log import configure
from cloud.core.settings import Settings, load
from cloud.functions.interfaces.clients import ClientService
from cloud.ledger import open_ledger
from cloud.portal.app import operation_table
from cloud.security import keys
from cloud.security.authority import certifier
from cloud.security.certificates import key_pem, make_request
from protos.kang.v1 import dispatch_pb2 as pb
from protos.kang.v1 import dispatch_pb2_grpc

log = logging.getLogger("kang.dispatcher")
NAME: Final = "demo dispatch centre"
SCOPE: Final = ("demand_response.resource.read", *(f"demand_response.dispatch.{act}" for act in ("read", "submit", "cancel", "clear", "setpoint")))
AFTER_S, ORDER_S, MARKET_S = 120.0, 1_200, 1_800
#: Of what is drawn when the order comes.
LIMIT: Final = 0.7


def admitted(settings: Settings) -> tuple[bytes, bytes, bytes]:
    """(roots, key, chain): registered and certified anew at every start, as its owner would have it done once."""
    ledger = open_ledger(settings.effective_ledger_url)
    try:
        clients = ClientService(ledger, keys.signing_pem(settings.credentials / "api-token.ed25519"), operation_table)
        known = next((c["id"] for c in clients.listing() if c["name"] == NAME), None)
        number = known or clients.register(NAME, SCOPE, priority=0, rate=20.0, burst=40, actor="demo")[0]["id"]
        key, request = make_request(str(number))
        made = clients.certify(str(number), request, 7, certifier(settings), actor="demo")
        return made["roots"].encode(), key_pem(key), made["certificate"].encode()
    finally:
        ledger.close()


async def order(stub: Any, found: list[pb.DispatchResource]) -> None:
    """Hold everybody below a part of what they draw, for twenty minutes from the next minute on."""
    start = (int(time.time()) // 60 + 2) * 60_000
    limit = max(LIMIT * sum(r.base_kw for r in found), 1.2 * sum(r.least_kw for r in found), 1.0)
    state = await stub.SubmitEvent(pb.DispatchEvent(event_id=f"YXYD-{start // 1000}", version=1, kind=pb.DISPATCH_KIND_ORDER, target=pb.DISPATCH_TARGET_LIMIT, resource=[r.id for r in found], kw=[round(limit, 1)],
                                                    start_ms=start, end_ms=start + ORDER_S * 1000, ramp_s=120, reason="35 kV 馈线重载 feeder heavily loaded"), timeout=10)
    log.info("ordered %s: %.0f kW for %d projects", state.event_id, limit, len(found))


async def market(stub: Any) -> None:
    """Ask the market for half of what it can give for half an hour, right after the order; take the bid."""
    able = [r for r in (await stub.ListResources(pb.DispatchResourcesRequest(), timeout=10)).resources if r.market]
    kw = round(0.5 * sum(next((c.down_kw for c in r.capability if c.duration_s >= MARKET_S), 0.0) for r in able), 1)
    if kw < 1.0:
        log.info("nothing to buy at present: %.1f kW", kw)
        return
    start = (int(time.time()) // 60 + 30) * 60_000
    number = f"DR-{start // 1000}"
    await stub.SubmitEvent(pb.DispatchEvent(event_id=number, version=1, kind=pb.DISPATCH_KIND_MARKET, resource=[r.id for r in able], kw=[kw], start_ms=start, end_ms=start + MARKET_S * 1000, bid_until_ms=start - 600_000,
                                            micro_kwh=1_500_000, baseline="five_days_adjusted", reason="午后邀约 afternoon peak"), timeout=10)
    async for state in stub.WatchEvent(pb.DispatchEventRequest(event_id=number)):
        log.info("%s: %s", number, state.state)
        if state.state == "bid":
            await stub.ClearEvent(pb.DispatchClear(event_id=number, kw=state.bid_kw, micro_kwh=state.bid_micro_kwh), timeout=10)
        if state.state not in ("published", "invited", "bid"):
            return


async def run(settings: Settings, after_s: float = AFTER_S) -> None:
    """Dial, order, buy; then stay, as a dispatch centre does."""
    await asyncio.sleep(after_s)
    roots, key, chain = await asyncio.to_thread(admitted, settings)
    async with grpc.aio.secure_channel(f"127.0.0.1:{settings.interfaces_grpc_port}", grpc.ssl_channel_credentials(roots, key, chain)) as channel:
        stub = dispatch_pb2_grpc.DispatchStub(channel)  # type: ignore[no-untyped-call]  # generated
        found: list[pb.DispatchResource] = []
        while not sum(r.base_kw for r in found) > 1.0:
            found = list((await stub.ListResources(pb.DispatchResourcesRequest(), timeout=10, wait_for_ready=True)).resources)
            await asyncio.sleep(0 if found else 10)
        await order(stub, found)
        await market(stub)
        await asyncio.Event().wait()


def main() -> None:
    """Started beside the demo's plants."""
    parser = argparse.ArgumentParser(prog="kang-demo-dispatcher")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--after", type=float, default=AFTER_S, help="seconds")
    args = parser.parse_args()
    configure("dispatcher")
    asyncio.run(run(load(args.home), args.after))


if __name__ == "__main__":
    main()
