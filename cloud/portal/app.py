"""Assembles the portal: the functions' routers under /api/v1, their operation tables, the guard, the pages.

Must not know: Ray, NATS, ClickHouse; whatever runs is given in `Services`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import compile_path

from cloud.core.admission import Gate as Admission
from cloud.functions.demand_response import api as demand_response
from cloud.functions.demand_response import dispatch_api
from cloud.functions.demand_response.operations import OPERATIONS as DEMAND_RESPONSE
from cloud.functions.devices import agents_api as devices_agents
from cloud.functions.devices import api as devices
from cloud.functions.devices.operations import OPERATIONS as DEVICES
from cloud.functions.economic_operation import api as economic
from cloud.functions.economic_operation.operations import OPERATIONS as ECONOMIC
from cloud.functions.interfaces import api as interfaces
from cloud.functions.interfaces.openadr import api as openadr
from cloud.functions.interfaces.operations import OPERATIONS as INTERFACES
from cloud.functions.monitoring import api as monitoring
from cloud.functions.monitoring.operations import OPERATIONS as MONITORING
from cloud.functions.monitoring.stream import LiveStreams
from cloud.functions.remote_control import api as remote_control
from cloud.functions.remote_control import batches_api as remote_control_batches
from cloud.functions.remote_control import parameters_api as remote_control_parameters
from cloud.functions.remote_control.batches import BatchService
from cloud.functions.remote_control.operations import OPERATIONS as REMOTE_CONTROL
from cloud.functions.remote_control.runner import BatchRunner
from cloud.functions.services import Services
from cloud.functions.system import api as system
from cloud.functions.system import audit_api as system_audit
from cloud.functions.system import dialogue_api as system_dialogue
from cloud.functions.system import me_api as system_me
from cloud.functions.system import oidc_api as system_oidc
from cloud.functions.system import people_api as system_people
from cloud.functions.system.audit_operations import OPERATIONS as AUDIT
from cloud.functions.system.oidc_api import OPERATIONS as OIDC
from cloud.functions.system.operations import OPERATIONS as SYSTEM
from cloud.portal import problems
from cloud.portal.answers import Answer
from cloud.portal.description import describe
from cloud.portal.doorman import Doorman, Route
from cloud.portal.metrics import Metrics
from cloud.portal.middleware import Envelope
from cloud.portal.shared import SharedHistorian, SharedLive
from cloud.portal.static import Pages
from cloud.security.guard import Gate, Requires, check_routes
from cloud.security.operations import OperationTable

ROUTERS: tuple[APIRouter, ...] = (system.api, system_me.api, system_people.api, system_oidc.api, system_audit.api, system_dialogue.api, devices_agents.api, devices.api, monitoring.api, remote_control.api, remote_control_batches.api, remote_control_parameters.api, economic.api, demand_response.api, dispatch_api.api, interfaces.api, openadr.api)

#: In a demonstration a one-time code proves who one is for as long as its link was good: there is nobody to ask for another.
DEMO_PROOF_S = 3600


def operation_table() -> OperationTable:
    """The rows of every function."""
    return OperationTable((*SYSTEM, *OIDC, *AUDIT, *DEVICES, *MONITORING, *REMOTE_CONTROL, *ECONOMIC, *DEMAND_RESPONSE, *INTERFACES))


def create_app(services: Services) -> FastAPI:
    """The portal as an ASGI app.

    Raises:
        OperationTableError: a route without a row, or a row that contradicts it.
    """
    table = operation_table()
    names = check_routes(ROUTERS, table)
    services = dataclasses.replace(services, historian=SharedHistorian(services.historian), live=SharedLive(services.live))
    app = FastAPI(title="Kang", version=services.version, docs_url=None, redoc_url=None, openapi_url=None, default_response_class=Answer)
    metrics = Metrics()
    app.state.services = services
    app.state.gate = Gate(table, services.sessions, services.journal, secure=services.secure, approvals=services.people.approvals, clients=services.clients,
                          least_factor_s=DEMO_PROOF_S if services.demo else 0)
    app.state.streams = LiveStreams(services.live)
    app.state.batches = BatchRunner(BatchService(services.sessions.ledger, services.now), services.commands, services.live, services.directory, services.now)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, prefix="/api/v1")
    app.state.description = describe(ROUTERS, services.version, table, names, cookie=app.state.gate.cookie, resident_cookie=app.state.gate.resident_cookie)
    app.state.admission = services.admission or Admission(16, reserved=2)
    _plumbing(app, metrics, Pages(services.static))
    app.add_middleware(Doorman, routes=_routes(names, table), guard=app.state.gate, gate=app.state.admission, clients=services.clients, answers=services.answers,
                       note=services.note)
    app.add_middleware(GZipMiddleware, minimum_size=1400, compresslevel=4)
    app.add_middleware(Envelope, metrics=metrics, secure=services.secure)
    return app


def _routes(names: Mapping[str, str], table: OperationTable) -> list[Route]:
    """Every route with its row, as the door looks them up; fixed paths before those with parameters."""
    found = []
    for name, row in names.items():
        method, _, path = name.partition(" ")
        found.append(Route(frozenset({method, "HEAD"} if method == "GET" else {method}), compile_path("/api/v1" + path)[0], table[row]))
    return found


def _plumbing(app: FastAPI, metrics: Metrics, pages: Pages) -> None:
    @app.get("/healthz")
    async def health() -> Response:
        """Alive, and the ledger answers."""
        version = app.state.services.directory.version()
        return Answer({"status": "ok", "directory": version, "streams": len(app.state.streams)})

    @app.get("/metrics")
    async def exposition(request: Request) -> Response:
        """Counters, for this machine or for whoever may read them."""
        if not _loopback(request):
            await Requires("system.metrics.read")(request)
        gauges = {"streams": len(app.state.streams), "stream_values_dropped": app.state.streams.dropped, "refused": app.state.gate.refused,
                  "unsigned": app.state.gate.unsigned, "admission_taken": app.state.admission.queue.taken, "admission_waiting": len(app.state.admission.queue),
                  "admission_shed": app.state.admission.queue.shed, "audit_refused": getattr(app.state.services.journal, "refused", 0)}
        return Response(metrics.text(gauges), media_type="text/plain; version=0.0.4")

    @app.get("/openapi.json")
    async def description() -> Response:
        """The interface description; its routes ask for what the operation table says."""
        return Answer(app.state.description)

    @app.get("/api/{path:path}")
    async def nothing(request: Request) -> Response:
        """No such address."""
        raise problems.NoRouteError(path=request.url.path)

    @app.get("/{path:path}")
    async def page(request: Request) -> Response:
        """The pages."""
        return pages.serve(request)


def _loopback(request: Request) -> bool:
    """True for a direct call from this machine; one through a proxy says so in a header and is asked to sign in."""
    try:
        direct = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return direct and "x-forwarded-for" not in request.headers and "forwarded" not in request.headers
