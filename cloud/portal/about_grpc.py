"""What the listener of external systems tells of itself: health and reflection, to clients whose certificate it knows, at their rate.

Must not know: what the services do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from fastapi import FastAPI
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from cloud.core.health import Admit, Context, add_health, known
from cloud.functions.interfaces.clients import CERTIFICATE
from cloud.portal.open_grpc import CODES, certificate_of
from cloud.portal.problems import status_of
from protos.errors import KangError
from protos.kang.v1 import dispatch_pb2, open_pb2

SERVICES = (open_pb2.DESCRIPTOR.services_by_name["Open"].full_name, dispatch_pb2.DESCRIPTOR.services_by_name["Dispatch"].full_name)
_STRANGER = (grpc.StatusCode.UNAUTHENTICATED, "E-CLIENT: the certificate of this connection belongs to no client in use")


def admission(app: FastAPI) -> Admit:
    """Clients in use are told, each question costs a call of their rate."""
    async def admit(context: Context, again: bool) -> tuple[grpc.StatusCode, str] | None:
        clients, certificate = app.state.services.clients, certificate_of(context)
        told = CERTIFICATE.set(certificate)
        try:
            token = await clients.bearer(certificate) if clients is not None and certificate else None
            client = await clients.client(token, certificate=certificate) if token else None
            if client is None:
                return _STRANGER
            if not again:
                clients.spend(client)
        except KangError as error:
            return CODES.get(status_of(error), grpc.StatusCode.INTERNAL), f"{error.code}: {error.message('en')}"[:500]
        finally:
            CERTIFICATE.reset(told)
        return None

    return admit


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # untyped library
    """The contracts of `SERVICES`, as tools ask for them (grpc.reflection.v1alpha); they are public, who asks is not anybody."""

    def __init__(self, names: list[str], admit: Admit) -> None:
        super().__init__(names)
        self._admit = admit

    async def ServerReflectionInfo(self, request_iterator: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:  # noqa: N802 - the contract's name
        """Each question is asked by somebody who is known then."""
        await known(self._admit, context)

        async def asked() -> AsyncIterator[Any]:
            first = True
            async for request in request_iterator:
                if not first:
                    await known(self._admit, context)
                first = False
                yield request

        async for answer in super().ServerReflectionInfo(asked(), context):
            yield answer


def serve(app: FastAPI) -> Callable[[grpc.aio.Server], None]:
    """Puts both on a listener."""
    def serving() -> bool:
        app.state.services.directory.version()  # the ledger answers
        return True

    def add(server: grpc.aio.Server) -> None:
        admit = admission(app)
        add_health(server, SERVICES, serving, admit)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection([*SERVICES, "grpc.health.v1.Health"], admit), server)

    return add
