"""A dispatch centre: sees what can flex, orders the draw of its resources below a limit for a while, and prints what is metered until it is over.

Needs a client with the demand_response.* operations a dispatcher has, and a certificate signed for a key of your own (docs, "grid dispatch"):
    python dispatcher.py 127.0.0.1:8424 --certificate chain.pem --key key.pem --roots edge-ca.pem --limit 100 --minutes 15
"""

import argparse
import asyncio
import time
from pathlib import Path

import grpc

from protos.kang.v1 import dispatch_pb2 as pb
from protos.kang.v1 import dispatch_pb2_grpc


async def order(stub: dispatch_pb2_grpc.DispatchStub, limit_kw: float, minutes: float, ahead_s: float) -> str:
    """Order everybody in scope below a limit; returns the event's number. Sending it twice is one event."""
    start = int((time.time() + ahead_s) * 1000)
    event = pb.DispatchEvent(event_id=f"order-{start // 1000}", version=1, kind=pb.DISPATCH_KIND_ORDER, target=pb.DISPATCH_TARGET_LIMIT, kw=[limit_kw], start_ms=start,
                             end_ms=start + int(minutes * 60_000), ramp_s=30, reason="feeder above its rating")
    for _ in range(2):
        state = await stub.SubmitEvent(event, timeout=10)
    print(f"{state.event_id} v{state.version}: {state.state}, repeated: {state.repeated}", flush=True)
    return str(event.event_id)


async def follow(stub: dispatch_pb2_grpc.DispatchStub, number: str) -> None:
    """Minute by minute until it is over."""
    async for report in stub.WatchReport(pb.DispatchReportRequest(event_id=number)):
        for m in report.minutes:
            print(f"{time.strftime('%H:%M', time.localtime(m.at_ms / 1000))} {report.state}: {m.metered_kw:.1f} kW, limit {m.target_kw:.1f} kW, without {m.baseline_kw:.1f} kW ({m.measured} of {m.projects} metered)", flush=True)
        for s in report.statements:
            print(f"{s.resource} {s.participant}: {s.delivered_kwh:.2f} of {s.committed_kwh:.2f} kWh, {s.total_micro / 1e6:.2f} yuan", flush=True)
        if not report.minutes:
            print(report.state, flush=True)


async def main() -> None:
    """Dial, register, look, order, follow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    for name in ("certificate", "key", "roots"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--ahead", type=float, default=15.0, help="seconds until it begins")
    given = parser.parse_args()
    credentials = grpc.ssl_channel_credentials(given.roots.read_bytes(), given.key.read_bytes(), given.certificate.read_bytes())
    async with grpc.aio.secure_channel(given.address, credentials) as channel:
        stub = dispatch_pb2_grpc.DispatchStub(channel)
        me = await stub.Register(pb.DispatchHello(name="example", version="1"), timeout=10)
        found = await stub.ListResources(pb.DispatchResourcesRequest(), timeout=10)
        print(f"{me.dispatcher}: {len(found.resources)} resources", flush=True)
        for r in found.resources:
            print(f"{r.id}: draws {r.base_kw:.1f} kW, can give {r.order_kw:.1f} kW by order, {', '.join(f'{c.down_kw:.0f} kW for {c.duration_s // 60} min' for c in r.capability)}", flush=True)
        await follow(stub, await order(stub, given.limit, given.minutes, given.ahead))


if __name__ == "__main__":
    asyncio.run(main())
