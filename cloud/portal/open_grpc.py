"""The gRPC listener of external systems (外部接口): mutual TLS with certificates of the third parties' zone, every call through the same door as REST.

Must not know: engines, what operations do; a call that REST refuses is refused here with the same code.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import ASGIApp

from cloud.core.settings import Settings
from cloud.functions.interfaces.clients import CERTIFICATE
from cloud.portal.inner import Answered, Inner, events
from protos.kang.v1 import open_pb2 as pb
from protos.kang.v1 import open_pb2_grpc

log = logging.getLogger("kang.portal")
DAY_MS: Final = 86_400_000
#: Span of one question of the bulk feed, by resolution, ms: each answer stays small, and others get their turn between two.
SPAN_MS: Final[Mapping[int, int]] = {0: DAY_MS, 60: 7 * DAY_MS, 900: 60 * DAY_MS, 3600: 240 * DAY_MS, 86_400: 3600 * DAY_MS}
_SERIES: Final = 20
_PATIENCE: Final = 5
CODES: Final = {400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND,
                 409: grpc.StatusCode.FAILED_PRECONDITION, 413: grpc.StatusCode.INVALID_ARGUMENT, 422: grpc.StatusCode.INVALID_ARGUMENT,
                 429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE}
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Open(open_pb2_grpc.OpenServicer):
    """Each call asks the app; see protos/kang/v1/open.proto."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ListProjects(self, request: pb.OpenProjectsRequest, context: Context) -> pb.OpenProjects:  # noqa: N802, ARG002 - the contract's names
        """Projects in scope."""
        found = await self._whole(context, "GET", "projects")
        return pb.OpenProjects(projects=[pb.OpenProject(id=p["id"], code=p["code"], name_zh=p.get("name_zh", ""), name_en=p.get("name_en", "")) for p in found])

    async def GetLatest(self, request: pb.OpenLatestRequest, context: Context) -> pb.OpenValues:  # noqa: N802
        """Newest values."""
        found = await self._whole(context, "GET", f"projects/{request.project_id}/latest", [("device_id", d) for d in request.device_id])
        return _values(found["rows"])

    async def GetHistory(self, request: pb.OpenHistoryRequest, context: Context) -> AsyncIterator[pb.OpenSeries]:  # noqa: N802
        """History in pieces."""
        span = SPAN_MS.get(request.resolution_s, DAY_MS)
        pairs = [f"{s.device_id}:{s.point_id}" for s in request.series]
        for k in range(0, max(len(pairs), 1), _SERIES):
            start = request.start_ms
            while True:
                end = min(start + span, request.end_ms)
                query = [("series", ",".join(pairs[k:k + _SERIES])), ("start_ms", start), ("end_ms", end), ("resolution_s", request.resolution_s)]
                for s in (await self._whole(context, "GET", f"projects/{request.project_id}/history", query, patient=True))["series"]:
                    if s["at_ms"]:
                        yield pb.OpenSeries(device_id=s["device_id"], point_id=s["point_id"], resolution_s=s["resolution_s"], at_ms=s["at_ms"], mean=map(_number, s["mean"]),
                                            low=map(_number, s["low"]), high=map(_number, s["high"]), count=s["count"], quality=s["quality"])
                start = end
                if start >= request.end_ms:
                    break

    async def Watch(self, request: pb.OpenWatchRequest, context: Context) -> AsyncIterator[pb.OpenEvent]:  # noqa: N802
        """Events as they come."""
        told = CERTIFICATE.set(certificate_of(context))
        try:
            async with _inner(self._app, context).ask("GET", "live", [("projects", ",".join(map(str, request.project_id))), ("devices", ",".join(map(str, request.device_id)))]) as answer:
                if answer.status >= 400:
                    await _refuse(context, answer, await answer.document())
                async for kind, data in events(answer.pieces):
                    if kind == "values":
                        yield pb.OpenEvent(type=kind, values=_values(json.loads(data)["rows"]))
                    else:
                        yield pb.OpenEvent(type=kind, document=data.encode())
        finally:
            CERTIFICATE.reset(told)

    async def Submit(self, request: pb.OpenSubmitRequest, context: Context) -> pb.OpenCommand:  # noqa: N802
        """A command."""
        body: dict[str, Any] = {"device_id": request.device_id, "kind": request.kind, "point_id": request.point_id, "reason": request.reason}
        body |= {name: getattr(request, name) for name in ("value", "low", "high", "hold_s", "deadline_s") if request.HasField(name)}
        return _command(await self._whole(context, "POST", "commands", body=body))

    async def GetCommand(self, request: pb.OpenCommandRequest, context: Context) -> pb.OpenCommand:  # noqa: N802
        """A command's state."""
        if not request.id.isalnum() or len(request.id) > 40:
            await context.abort(grpc.StatusCode.NOT_FOUND, "E-NOT-FOUND")
        return _command(await self._whole(context, "GET", f"commands/{request.id}"))

    async def _whole(self, context: Context, method: str, path: str, query: list[tuple[str, Any]] | None = None, body: Any = None, *, patient: bool = False) -> Any:
        """The answer as JSON; a refusal ends the call. `patient` waits out what asks for patience, a few times."""
        told = CERTIFICATE.set(certificate_of(context))
        try:
            for attempt in range(_PATIENCE + 1):
                async with _inner(self._app, context).ask(method, path, query or [], body) as answer:
                    document = await answer.document()
                    if answer.status < 400:
                        return document
                    if not patient or answer.status not in (429, 503) or attempt == _PATIENCE:
                        await _refuse(context, answer, document)
                    wait = float(answer.headers.get("retry-after", "1"))
                await asyncio.sleep(min(wait, 30.0))
        finally:
            CERTIFICATE.reset(told)


def _inner(app: ASGIApp, context: Context) -> Inner:
    given = {key: value for key, value in context.invocation_metadata() or () if key in ("authorization", "idempotency-key") and isinstance(value, str)}
    return Inner(app, given, context.peer().removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]"))


def certificate_of(context: Context) -> str:
    """SHA-256 of what the caller presented, "" once it has ended: a connection may outlive its certificate, its calls may not."""
    pem = (context.auth_context().get("x509_pem_cert") or [b""])[0]
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return ""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() if dt.datetime.now(dt.UTC) < certificate.not_valid_after_utc else ""


async def _refuse(context: Context, answer: Answered, document: Any) -> NoReturn:
    found = document if isinstance(document, dict) else {}
    trailing: list[tuple[str, str | bytes]] = [("kang-problem-bin", json.dumps(found, ensure_ascii=False).encode())]
    if "retry-after" in answer.headers:
        trailing.append(("retry-after", answer.headers["retry-after"]))
    await context.abort(CODES.get(answer.status, grpc.StatusCode.INTERNAL), f"{found.get('code', 'E-KANG')}: {found.get('en', '')}"[:500], tuple(trailing))
    raise AssertionError  # abort never returns


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _values(rows: list[list[Any]]) -> pb.OpenValues:
    rows = [row for row in rows if None not in row[:3]]  # a client that may not see which device, point or time gets no row at all
    columns: tuple[tuple[Any, ...], ...] = tuple(zip(*rows, strict=True)) if rows else ((), (), (), (), ())
    devices, points, times, values, qualities = columns
    return pb.OpenValues(device_id=devices, point_id=points, at_ms=times, value=[_number(v) for v in values], quality=[int(q or 0) for q in qualities])


def _command(view: dict[str, Any]) -> pb.OpenCommand:
    return pb.OpenCommand(id=str(view["id"]), state=str(view["state"]), document=json.dumps(view, ensure_ascii=False).encode())


async def listen(app: Any, settings: Settings, others: Sequence[Callable[[grpc.aio.Server], None]] = ()) -> grpc.aio.Server | None:
    """Listen, with `others`' services beside ours; None where it is switched off, or the installation has no certificate for it yet (made at the next `kang up`)."""
    mine = settings.credentials
    if not settings.interfaces_grpc_port or not (mine / "interfaces.pem").exists():
        return None
    credentials = grpc.ssl_server_credentials([((mine / "interfaces.key").read_bytes(), (mine / "interfaces.pem").read_bytes())], (mine / "third-clients.pem").read_bytes(),
                                              require_client_auth=True)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 1 << 20), ("grpc.so_reuseport", 0), ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000),
                                      ("grpc.max_connection_age_ms", 3_600_000), ("grpc.max_connection_age_grace_ms", 10_000), ("grpc.max_concurrent_streams", 100)])
    open_pb2_grpc.add_OpenServicer_to_server(Open(app), server)  # type: ignore[no-untyped-call]  # generated
    for also in others:
        also(server)
    server.add_secure_port(f"{settings.interfaces_host}:{settings.interfaces_grpc_port}", credentials)
    await server.start()
    log.info("interfaces listen for gRPC on %s:%d", settings.interfaces_host, settings.interfaces_grpc_port)
    return server
