"""Grid dispatch over gRPC (电网调度接口): the client certificate is the dispatcher; every call goes through the same door as REST, in class 0.

Must not know: engines, what operations do; a call that REST refuses is refused here with the same code and the field named.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import quote

import grpc
from fastapi import FastAPI

from cloud.functions.interfaces.clients import CERTIFICATE
from cloud.portal.inner import Answered, Inner
from cloud.portal.open_grpc import CODES, certificate_of
from protos.kang.v1 import dispatch_pb2 as pb
from protos.kang.v1 import dispatch_pb2_grpc

PROTOCOL: Final = 1
#: Seconds between two looks of a stream; resources are told again at least every `AGAIN_S`.
RESOURCES_S, EVENT_S, REPORT_S, AGAIN_S = 5.0, 1.0, 5.0, 60.0
OVER: Final = frozenset({"settled", "cancelled", "superseded"})
BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
_KINDS: Final = {pb.DISPATCH_KIND_ORDER: "order", pb.DISPATCH_KIND_MARKET: "market"}
_TARGETS: Final = {pb.DISPATCH_TARGET_REDUCTION: "reduction", pb.DISPATCH_TARGET_LIMIT: "limit"}
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class _RefusedError(Exception):
    """REST refused: its status, headers and problem document."""

    def __init__(self, answer: Answered, document: Any) -> None:
        super().__init__(answer.status)
        self.status, self.headers, self.document = answer.status, answer.headers, document if isinstance(document, dict) else {}


class Dispatch(dispatch_pb2_grpc.DispatchServicer):
    """Each call asks the app; see protos/kang/v1/dispatch.proto."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def Register(self, request: pb.DispatchHello, context: Context) -> pb.DispatchRegistration:  # noqa: N802, ARG002 - the contract's names
        """Who the caller is."""
        found = await self._whole(context, "GET", "interfaces/self")
        services = self._app.state.services
        return pb.DispatchRegistration(dispatcher=f"client:{found['id']}", protocol=PROTOCOL, operations=found["operations"], at_ms=services.now(), rate=found["rate"])

    async def ListResources(self, request: pb.DispatchResourcesRequest, context: Context) -> pb.DispatchResources:  # noqa: N802
        """Resources in scope; one that is asked for by id must be there."""
        return await self._resources(request, context)

    async def _resources(self, request: pb.DispatchResourcesRequest, context: Context, *, all_there: bool = True) -> pb.DispatchResources:
        wanted, found = set(request.resource), await self._whole(context, "GET", "demand-response/resources")
        if all_there and (missing := sorted(wanted - {r["id"] for r in found})):
            await _abort(context, grpc.StatusCode.NOT_FOUND, {"code": "E-NOT-FOUND", "field": "resource", "en": f"There is no resource '{missing[0][:60]}' in your scope.", "zh": f"没有资源“{missing[0][:60]}”，或不在您的范围内。"}, {})
        return pb.DispatchResources(resources=[_resource(r) for r in found if not wanted or r["id"] in wanted])

    async def WatchResources(self, request: pb.DispatchResourcesRequest, context: Context) -> AsyncIterator[pb.DispatchResources]:  # noqa: N802
        """Resources whenever they change."""
        before: pb.DispatchResources | None = None
        quiet = AGAIN_S
        while True:
            found = await self._resources(request, context, all_there=before is None)
            if found != before or quiet >= AGAIN_S:
                before, quiet = found, 0.0
                yield found
            await asyncio.sleep(RESOURCES_S)
            quiet += RESOURCES_S

    async def SubmitEvent(self, request: pb.DispatchEvent, context: Context) -> pb.DispatchEventState:  # noqa: N802
        """An event, or a new version of one."""
        for n, kw in enumerate(request.kw):
            if not math.isfinite(kw):  # JSON has no such numbers
                field = f"kw.{n}" if len(request.kw) > 1 else "kw"
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, {"code": "E-DR-EVENT", "field": field, "en": f"Field {field}: must be a finite number.", "zh": f"字段 {field}：须为有限数。"}, {})
        body: dict[str, Any] = {name: getattr(request, name) for name in ("event_id", "version", "start_ms", "end_ms", "bid_until_ms", "micro_kwh", "micro_kw", "micro_penalty_kwh", "trial", "supersedes", "reason")}
        body |= {name: getattr(request, name) for name in ("ramp_s", "priority") if request.HasField(name)}
        body |= {"kind": _KINDS.get(request.kind, "unspecified"), "target": _TARGETS.get(request.target, "unknown"), "kw": list(request.kw)}
        body |= {"resources": list(request.resource)} if request.resource else {}
        body |= {"rebound_share": request.rebound_share} if math.isfinite(request.rebound_share) else {"rebound_share": -1.0}
        body |= {"baseline": request.baseline} if request.baseline else {}
        return _state(await self._whole(context, "POST", "dispatch/events", body=body))

    async def CancelEvent(self, request: pb.DispatchCancel, context: Context) -> pb.DispatchEventState:  # noqa: N802
        """Take an event back."""
        return _state(await self._whole(context, "POST", f"dispatch/events/{_number(request.event_id)}/cancel", body={"reason": request.reason}))

    async def ClearEvent(self, request: pb.DispatchClear, context: Context) -> pb.DispatchEventState:  # noqa: N802
        """Answer a bid."""
        body = {"kw": request.kw if math.isfinite(request.kw) else -1.0, "micro_kwh": request.micro_kwh}
        return _state(await self._whole(context, "POST", f"dispatch/events/{_number(request.event_id)}/clear", body=body))

    async def GetEvent(self, request: pb.DispatchEventRequest, context: Context) -> pb.DispatchEventState:  # noqa: N802
        """One event."""
        return _state(await self._whole(context, "GET", f"dispatch/events/{_number(request.event_id)}"))

    async def ListEvents(self, request: pb.DispatchEventsRequest, context: Context) -> pb.DispatchEvents:  # noqa: N802
        """The caller's events."""
        query = [("open_only", str(request.open_only).lower()), ("offset", request.offset), ("limit", request.limit or 100)]
        found = await self._whole(context, "GET", "dispatch/events", query)
        return pb.DispatchEvents(events=[_state(r) for r in found["rows"]], total=found["total"])

    async def WatchEvent(self, request: pb.DispatchEventRequest, context: Context) -> AsyncIterator[pb.DispatchEventState]:  # noqa: N802
        """State after state until it is over."""
        before = None
        while True:
            found = await self.GetEvent(request, context)
            if found != before:
                before = found
                yield found
            if found.state in OVER:
                return
            await asyncio.sleep(EVENT_S)

    async def Setpoints(self, request_iterator: AsyncIterator[pb.DispatchSetpoint], context: Context) -> AsyncIterator[pb.DispatchSetpointAnswer]:  # noqa: N802
        """Every set-point is answered; a refusal is an answer."""
        async for point in request_iterator:
            try:
                if not math.isfinite(point.kw):
                    yield pb.DispatchSetpointAnswer(sequence=point.sequence, code="E-DR-EVENT", field="kw", text="Field kw: must be a finite number.")
                    continue
                found = await self._ask(context, "POST", f"dispatch/events/{_number(point.event_id)}/setpoint", body={"kw": point.kw})
            except _RefusedError as refused:
                document = refused.document
                yield pb.DispatchSetpointAnswer(sequence=point.sequence, code=str(document.get("code", "E-KANG")), field=str(document.get("field", "")), text=str(document.get("en", ""))[:300])
                continue
            answer = pb.DispatchSetpointAnswer(sequence=point.sequence, taken=True, at_ms=found["at_ms"])
            if found["delivered_kw"] is not None:
                answer.delivered_kw = found["delivered_kw"]
            yield answer

    async def GetReport(self, request: pb.DispatchReportRequest, context: Context) -> pb.DispatchReport:  # noqa: N802
        """Minutes and settlement."""
        return _report(await self._whole(context, "GET", f"dispatch/events/{_number(request.event_id)}/report", [("after_ms", max(0, request.after_ms))]))

    async def WatchReport(self, request: pb.DispatchReportRequest, context: Context) -> AsyncIterator[pb.DispatchReport]:  # noqa: N802
        """Minutes as they come, settlement at the end."""
        after, state = request.after_ms, ""
        while True:
            found = await self.GetReport(pb.DispatchReportRequest(event_id=request.event_id, after_ms=after), context)
            if found.minutes or found.state != state:
                state = found.state
                after = max((m.at_ms for m in found.minutes), default=after)
                yield found
            if found.state in OVER:
                return
            await asyncio.sleep(REPORT_S)

    # -- inside ---------------------------------------------------------------------------------------------------------

    async def _ask(self, context: Context, method: str, path: str, query: list[tuple[str, Any]] | None = None, body: Any = None) -> Any:
        certificate = certificate_of(context)
        clients = self._app.state.services.clients
        token = await clients.bearer(certificate) if clients is not None and certificate else None
        headers = {"authorization": f"Bearer {token or 'none'}"} | {key: value for key, value in context.invocation_metadata() or () if key == "idempotency-key" and isinstance(value, str)}
        told = CERTIFICATE.set(certificate)
        try:
            inner = Inner(self._app, headers, context.peer().removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]"))
            async with inner.ask(method, path, query or [], body) as answer:
                document = await answer.document()
                if answer.status >= 400:
                    raise _RefusedError(answer, document)
                return document
        finally:
            CERTIFICATE.reset(told)

    async def _whole(self, context: Context, method: str, path: str, query: list[tuple[str, Any]] | None = None, body: Any = None) -> Any:
        """The answer; a refusal ends the call with its details."""
        try:
            return await self._ask(context, method, path, query, body)
        except _RefusedError as refused:
            await _abort(context, CODES.get(refused.status, grpc.StatusCode.INTERNAL), refused.document, refused.headers)


def serve(app: FastAPI) -> Callable[[grpc.aio.Server], None]:
    """Puts the service on a listener."""
    def add(server: grpc.aio.Server) -> None:
        dispatch_pb2_grpc.add_DispatchServicer_to_server(Dispatch(app), server)  # type: ignore[no-untyped-call]  # generated

    return add


async def _abort(context: Context, code: grpc.StatusCode, document: Mapping[str, Any], headers: Mapping[str, str]) -> NoReturn:
    text = f"{document.get('code', 'E-KANG')}: {document.get('en', '')}"[:500]
    status = pb.DispatchStatus(code=code.value[0], message=text)
    if document.get("field"):
        violation = pb.DispatchBadRequest(field_violations=[pb.DispatchFieldViolation(field=str(document["field"]), description=str(document.get("en", "")))])
        status.details.append(pb.DispatchAny(type_url=BAD_REQUEST, value=violation.SerializeToString()))
    trailing: list[tuple[str, str | bytes]] = [("kang-problem-bin", json.dumps(dict(document), ensure_ascii=False).encode()), ("grpc-status-details-bin", status.SerializeToString())]
    if "retry-after" in headers:
        trailing.append(("retry-after", headers["retry-after"]))
    await context.abort(code, text, tuple(trailing))
    raise AssertionError  # abort never returns


def _number(event_id: str) -> str:
    """An event's number as it stands in an address; what cannot be one is nobody's."""
    return quote(event_id, safe="") or "-"


def _state(e: Mapping[str, Any]) -> pb.DispatchEventState:
    outcome = e["outcome"]
    bid, evaluation = outcome.get("bid", {}), outcome.get("evaluation", {})
    return pb.DispatchEventState(
        event_id=e["event_id"], version=e["version"], state=e["state"], why=e["why"], changed_ms=e["changed_ms"], asked_kw=e["asked_kw"], committed_kw=e["committed_kw"], bid_kw=bid.get("kw", 0.0),
        bid_micro_kwh=bid.get("micro_kwh", 0), delivered_kwh=evaluation.get("delivered_kwh") or 0.0, ratio=evaluation.get("ratio") or 0.0, repeated=bool(e.get("repeated")), document=json.dumps(e, ensure_ascii=False).encode())


def _resource(r: Mapping[str, Any]) -> pb.DispatchResource:
    base = {"start_ms": 0, "step_s": 0, "kw": [], **r["base"]}
    return pb.DispatchResource(
        id=r["id"], name_zh=r["name_zh"], name_en=r["name_en"], market=r["participates"], at_ms=r["at_ms"], base_kw=r["base_kw"], least_kw=r["least_kw"], order_kw=r["forced_kw"], ramp_s=r["ramp_s"], notice_s=r["notice_s"],
        least_micro_kwh=r["price_micro_kwh"], how=r["how"], capability=[pb.DispatchCapability(**row) for row in r["rows"]], forecast=pb.DispatchCurve(start_ms=base["start_ms"], step_s=base["step_s"], kw=base["kw"]))


def _report(found: Mapping[str, Any]) -> pb.DispatchReport:
    minutes = [pb.DispatchMinute(**{k: m[k] for k in ("at_ms", "metered_kw", "baseline_kw", "target_kw", "measured", "projects")}) for m in found["minutes"]]
    statements = [pb.DispatchStatement(resource=s["resource"], participant=s["participant"], energy_micro=s["lines"].get("energy", 0), capacity_micro=s["lines"].get("capacity", 0), penalty_micro=s["lines"].get("penalty", 0),
                                       total_micro=s["total_micro"], baseline=s["baseline"], committed_kwh=s["committed_kwh"], delivered_kwh=s["delivered_kwh"], ratio=s["ratio"], gaps=s["gaps"]) for s in found["statements"]]
    return pb.DispatchReport(event_id=found["event"]["event_id"], state=found["event"]["state"], minutes=minutes, statements=statements)
