"""gRPC health checking (grpc.health.v1) for our listeners: whether a service can do its work now, told to peers the listener knows.

Must not know: what the services do, who is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

log = logging.getLogger("kang.health")
#: Seconds between two looks of a watch; each look also asks again whether the peer is still known.
LOOK_S: Final = 1.0
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
#: Why a peer is told nothing, (status, text); None = it is known. The flag: it was let in before, and only its standing is asked for.
Admit: TypeAlias = Callable[[Context, bool], Awaitable[tuple[grpc.StatusCode, str] | None]]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped library
    """One answer for all services of a listener: they share what they work with."""

    def __init__(self, services: Sequence[str], serving: Callable[[], bool], admit: Admit) -> None:
        """Watch over `services` (full names).

        Args:
            services: their names; "" stands for the listener.
            serving: can they do their work now? Called in a thread; an exception means no.
            admit: who may ask.
        """
        self._services, self._serving, self._admit = frozenset(("", *services)), serving, admit

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802 - the contract's names
        """One look."""
        await known(self._admit, context)
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service '{request.service[:80]}' on this listener")
        return health_pb2.HealthCheckResponse(status=await self._status())

    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802, ARG002
        """All at once."""
        await known(self._admit, context)
        status = health_pb2.HealthCheckResponse(status=await self._status())
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(sorted(self._services), status))

    async def Watch(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Again whenever it changes; an unknown service is told as such, as the protocol wants."""
        before = None
        while True:
            await known(self._admit, context, again=before is not None)
            status = await self._status() if request.service in self._services else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != before:
                before = status
                yield health_pb2.HealthCheckResponse(status=status)
            await asyncio.sleep(LOOK_S)

    async def _status(self) -> int:
        try:
            serving = await asyncio.to_thread(self._serving)
        except Exception as error:  # noqa: BLE001  whatever keeps the answer away keeps the service from its work
            log.warning("not serving: %s", error)
            serving = False
        return int(health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING)


async def known(admit: Admit, context: Context, *, again: bool = False) -> None:
    """End the call of a peer that is not known."""
    refusal = await admit(context, again)
    if refusal is not None:
        await context.abort(*refusal)


def add_health(server: grpc.aio.Server, services: Sequence[str], serving: Callable[[], bool], admit: Admit) -> None:
    """Put the service on a listener."""
    health_pb2_grpc.add_HealthServicer_to_server(Health(services, serving, admit), server)
