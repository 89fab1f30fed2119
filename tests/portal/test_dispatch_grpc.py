"""Grid dispatch over a real socket: the certificate is the dispatcher, refusals name their field and leave nothing, repetitions are harmless, set-points are each answered."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from benchmarks.stack import free_ports
from cloud.core.clock import now_ms
from cloud.core.settings import load
from cloud.functions.demand_response.resources import metered
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.demand_response.states import Happening
from cloud.portal import dispatch_grpc, open_grpc
from protos.kang.v1 import dispatch_pb2 as pb
from protos.kang.v1 import dispatch_pb2_grpc
from tests.portal.test_mutual import Outside, outside  # noqa: F401 - fixture
from tests.portal.test_open_grpc import Called
from tests.support.site import furnish

SCOPE = ["demand_response.resource.read", *(f"demand_response.dispatch.{act}" for act in ("read", "submit", "cancel", "clear", "setpoint"))]
pytestmark = pytest.mark.point("51")


class Grid(Called):
    """Dispatchers with a certificate of their own."""

    def stub(self, chain: Any, key: Any) -> Any:
        super().stub(chain, key)
        return dispatch_pb2_grpc.DispatchStub(self.channels[-1])

    def dispatcher(self, name: str = "grid", operations: list[str] = SCOPE, projects: tuple[str, ...] = ("cuihu",)) -> Any:
        chain, key, digest = self.outside.pair("third", name)
        self.site.clients.register(name, operations, project_ids=[self.site.projects[p] for p in projects], certificate=digest, priority=0, rate=100.0, burst=100)
        return self.stub(chain, key)

    @property
    def desk(self) -> ResponseService:
        return ResponseService(self.site.ledger, now_ms)


@pytest.fixture
async def grid(outside: Outside) -> AsyncIterator[Grid]:  # noqa: F811
    furnish(outside.site)
    port = free_ports(1)[0]
    server = await open_grpc.listen(outside.site.app, load(outside.folder, interfaces_grpc_port=port), [dispatch_grpc.serve(outside.site.app)])
    assert server is not None
    made = Grid(outside, port)
    for code in ("cuihu", "yanqi"):
        made.desk.keep_resource(outside.site.projects[code], metered(200.0, 0.0, now_ms()))
    yield made
    for channel in made.channels:
        await channel.close()
    await server.stop(0)


def event(**change: Any) -> pb.DispatchEvent:
    start = now_ms() + 120_000
    return pb.DispatchEvent(**{"event_id": "E-1", "version": 1, "kind": pb.DISPATCH_KIND_ORDER, "resource": ["cuihu"], "start_ms": start, "end_ms": start + 1_800_000, "kw": [50.0], **change})


async def refused(call: Any) -> tuple[str, str, str]:
    """(status, code, field) of a call that must not succeed; the field from both kinds of details."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    trailing = dict(refusal.value.trailing_metadata() or ())
    problem = json.loads(trailing["kang-problem-bin"])
    status = pb.DispatchStatus.FromString(trailing["grpc-status-details-bin"])
    assert status.code == refusal.value.code().value[0]
    fields = [v.field for d in status.details for v in pb.DispatchBadRequest.FromString(d.value).field_violations]
    assert fields == ([problem["field"]] if "field" in problem else [])
    return refusal.value.code().name, problem["code"], problem.get("field", "")


async def test_the_certificate_is_the_dispatcher(grid: Grid) -> None:
    stub = grid.dispatcher()
    me = await stub.Register(pb.DispatchHello(name="ems", version="1"))
    assert (me.protocol, sorted(me.operations)) == (1, sorted(SCOPE))
    assert abs(me.at_ms - now_ms()) < 60_000
    chain, key, _ = grid.outside.pair("third", "stranger")
    assert (await refused(grid.stub(chain, key).ListResources(pb.DispatchResourcesRequest())))[0] == "UNAUTHENTICATED"
    reader = grid.dispatcher("reader", ["demand_response.resource.read"])
    assert (await refused(reader.SubmitEvent(event())))[0] == "PERMISSION_DENIED"
    assert grid.desk.events()[1] == 0


async def test_resources_in_scope_are_seen_and_told_again_when_they_change(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = grid.dispatcher()
    found = (await stub.ListResources(pb.DispatchResourcesRequest())).resources
    assert [(r.id, r.base_kw, r.order_kw, r.market) for r in found] == [("cuihu", 200.0, 200.0, False)]
    assert [c.duration_s for c in found[0].capability] == [900, 1800, 3600, 7200, 14400]
    monkeypatch.setattr(dispatch_grpc, "RESOURCES_S", 0.05)
    watch = stub.WatchResources(pb.DispatchResourcesRequest())
    assert (await watch.read()).resources[0].base_kw == 200.0
    grid.desk.keep_resource(grid.site.projects["cuihu"], metered(150.0, 0.0, now_ms()))
    assert (await watch.read()).resources[0].base_kw == 150.0
    watch.cancel()


async def test_a_resource_asked_for_by_id_must_be_in_scope(grid: Grid) -> None:
    stub = grid.dispatcher()
    assert [r.id for r in (await stub.ListResources(pb.DispatchResourcesRequest(resource=["cuihu"]))).resources] == ["cuihu"]
    assert (await refused(stub.ListResources(pb.DispatchResourcesRequest(resource=["cuihu", "nowhere"]))))[0] == "NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stub.WatchResources(pb.DispatchResourcesRequest(resource=["nowhere"])).read()
    assert "'nowhere'" in str(ended.value.details())


async def test_an_event_is_taken_once_and_followed_until_it_is_over(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = grid.dispatcher()
    asked = event()
    first = await stub.SubmitEvent(asked)
    assert (first.state, first.version, first.repeated) == ("published", 1, False)
    again = await stub.SubmitEvent(asked)
    assert again.repeated
    assert grid.desk.events()[1] == 1
    assert await refused(stub.SubmitEvent(event(kw=[60.0]))) == ("FAILED_PRECONDITION", "E-DR-STALE", "")
    assert (await stub.SubmitEvent(event(version=2, kw=[60.0]))).asked_kw == 60.0
    monkeypatch.setattr(dispatch_grpc, "EVENT_S", 0.05)
    watch = stub.WatchEvent(pb.DispatchEventRequest(event_id="E-1"))
    assert (await watch.read()).state == "published"
    assert (await stub.CancelEvent(pb.DispatchCancel(event_id="E-1", reason="over"))).state == "cancelled"
    assert (await watch.read()).state == "cancelled"
    assert await watch.read() is grpc.aio.EOF
    other = grid.dispatcher("other")
    assert (await refused(other.GetEvent(pb.DispatchEventRequest(event_id="E-1"))))[:2] == ("NOT_FOUND", "E-DR-UNKNOWN")
    assert (await other.ListEvents(pb.DispatchEventsRequest())).total == 0
    report = await stub.GetReport(pb.DispatchReportRequest(event_id="E-1"))
    assert (report.state, len(report.minutes), len(report.statements)) == ("cancelled", 0, 0)


async def test_a_bad_event_names_its_field_and_leaves_nothing(grid: Grid) -> None:
    stub = grid.dispatcher()
    past = now_ms() - 3_600_000
    for change, field in (({"start_ms": past, "end_ms": past + 900_000}, "start_ms"), ({"end_ms": 1}, "end_ms"), ({"resource": ["yanqi"]}, "resources.0"), ({"resource": ["nowhere"]}, "resources.0"), ({"kw": [500.0]}, "kw"),
                          ({"kw": [math.nan]}, "kw"), ({"kw": [1.0, math.inf]}, "kw.1"), ({"kw": []}, "kw"), ({"version": 0}, "version"), ({"kind": pb.DISPATCH_KIND_UNSPECIFIED}, "kind"), ({"event_id": "a/../b"}, "event_id"),
                          ({"rebound_share": math.nan}, "rebound_share"), ({"baseline": "mine"}, "baseline"), ({"bid_until_ms": 5, "kind": pb.DISPATCH_KIND_MARKET}, "resources.0")):
        assert await refused(stub.SubmitEvent(event(**change))) == ("INVALID_ARGUMENT", "E-DR-EVENT", field), change
    assert grid.desk.events()[1] == 0


async def test_every_setpoint_is_answered_and_a_wrong_one_ends_nothing(grid: Grid) -> None:
    stub = grid.dispatcher()
    taken = await stub.SubmitEvent(event())
    number = json.loads(taken.document)["id"]

    call = stub.Setpoints()
    answers = []
    for n, kw in enumerate((40.0, 40.0, math.nan, 900.0, 45.0), 1):
        await call.write(pb.DispatchSetpoint(event_id="E-1", kw=kw, sequence=n))
        a = await call.read()
        answers.append((a.sequence, a.taken, a.code, a.field))
        if n == 1:  # not under way yet
            grid.desk.happen(number, Happening.CONFIRM)
            grid.desk.happen(number, Happening.START)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert answers == [(1, False, "E-DR-STATE", ""), (2, True, "", ""), (3, False, "E-DR-EVENT", "kw"), (4, False, "E-DR-EVENT", "kw"), (5, True, "", "")]
    assert grid.desk.event(number)["outcome"]["setpoint"]["kw"] == 45.0  # type: ignore[index]


async def test_a_bid_is_seen_and_cleared(grid: Grid) -> None:
    grid.desk.change_strategy(grid.site.projects["cuihu"], {"participates": True, "depth": 1.0}, "Li")
    stub = grid.dispatcher()
    start = now_ms() + 120_000
    taken = await stub.SubmitEvent(event(kind=pb.DISPATCH_KIND_MARKET, bid_until_ms=start - 60_000, start_ms=start, end_ms=start + 900_000, micro_kwh=1_000_000))
    number = json.loads(taken.document)["id"]
    assert (await refused(stub.ClearEvent(pb.DispatchClear(event_id="E-1", kw=10.0, micro_kwh=1))))[1] == "E-DR-STATE"
    grid.desk.happen(number, Happening.INVITE)
    grid.desk.bid(number, 40.0, 900_000, "Li")
    bid = await stub.GetEvent(pb.DispatchEventRequest(event_id="E-1"))
    assert (bid.state, bid.bid_kw, bid.bid_micro_kwh) == ("bid", 40.0, 900_000)
    assert (await refused(stub.ClearEvent(pb.DispatchClear(event_id="E-1", kw=math.nan, micro_kwh=1))))[0] == "INVALID_ARGUMENT"
    assert (await stub.ClearEvent(pb.DispatchClear(event_id="E-1", kw=30.0, micro_kwh=900_000))).state == "cleared"
