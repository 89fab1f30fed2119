"""The door of the API: who asks is told apart by token, held to its scope and rate, let in by class, answered once per idempotency key.

Pure ASGI, inside the envelope. A reader who hangs up has the work ended. Must not know: what operations do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.core.admission import BATCH, CUSTOMER, PRIORITY, BusyError, Gate
from cloud.functions.interfaces.answers import IdempotentAnswers
from cloud.functions.interfaces.clients import CERTIFICATE, ClientService
from cloud.functions.interfaces.errors import ClientScopeError
from cloud.functions.interfaces.tables import ExternalClient
from cloud.portal.answers import Answer
from cloud.portal.flows import Note, Watched
from cloud.portal.problems import InputError, problem, status_of
from cloud.security.guard import Gate as Guard
from cloud.security.operations import Operation
from protos.errors import KangError

_KEY = re.compile(r"^[A-Za-z0-9._-]{8,80}$")
#: Routes that hold their connection open: a slot would be held for ever.
_STREAMS = frozenset({"monitoring.live.read"})
#: Functions that keep keys themselves, by the command's own rules.
_OWN_KEYS = ("remote_control.",)
#: Operations whose answers hold what is shown once, or belong to a browser: never kept.
_UNKEPT = ("system.", "interfaces.client.create", "interfaces.client.secret", "interfaces.token.")


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the app with its row."""

    methods: frozenset[str]
    pattern: re.Pattern[str]
    row: Operation


class Doorman:
    """The layer."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route], guard: Guard, gate: Gate, clients: ClientService | None, answers: IdempotentAnswers | None,
                 note: Note | None = None) -> None:
        self._note = note
        self._app, self._routes, self._guard, self.gate, self._clients, self._answers = app, routes, guard, gate, clients, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        row = self._row(scope)
        if row is None and (others := self._others(scope)):
            error = InputError(fields=f"{scope['method']} {scope['path']}: {', '.join(others)}")
            answer = Answer(problem(error, 405, scope.get("state", {}).get("request_id", "")), status_code=405, media_type="application/problem+json", headers={"Allow": ", ".join(others)})
            await answer(scope, receive, send)
            return
        watched = Watched(send)
        try:
            await self._guarded(scope, receive, watched, row)
        finally:
            if self._note is not None and row is not None and (kind := watched.kind(scope, row)):
                self._note(watched.flow(scope, row, kind))

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, row: Operation | None) -> None:
        try:
            await self._serve(scope, receive, send, row)
        except KangError as error:
            after = error.values.get("retry_after_s")
            body = problem(error, status_of(error), scope.get("state", {}).get("request_id", ""))
            answer = Answer(body, status_code=status_of(error), media_type="application/problem+json", headers=None if after is None else {"Retry-After": str(after)})
            await answer(scope, receive, send)

    def _row(self, scope: Scope) -> Operation | None:
        for route in self._routes:
            if scope["method"] in route.methods and route.pattern.match(scope["path"]):
                return route.row
        return None

    def _others(self, scope: Scope) -> list[str]:
        """Methods the address does have; a literal address has its own, not those of the pattern beside it ("/x/preview" and "/x/{id}")."""
        matching = [route for route in self._routes if route.pattern.match(scope["path"])]
        fewest = min((route.pattern.groups for route in matching), default=0)
        return sorted({method for route in matching if route.pattern.groups == fewest for method in route.methods})

    async def _serve(self, scope: Scope, receive: Receive, send: Send, row: Operation | None) -> None:
        request = Request(scope)
        client = await self._client(request)
        if client is not None:
            scope.setdefault("state", {})["client"] = client.id
        if client is not None and row is not None and not row.open and row.name != "interfaces.self.read" and row.name not in client.operations:
            self._guard.refused += 1
            raise ClientScopeError(what_zh=row.zh, what_en=row.en)
        if row is not None and row.name in _STREAMS and client is not None and self._clients is not None:
            await self._streaming(scope, receive, send, client, request)
            return
        if row is None or row.name in _STREAMS:
            await self._app(scope, receive, send)
            return
        priority = await self._class(request, row, client)
        use = None
        started, status = time.monotonic(), [0]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            if client is not None and self._clients is not None:
                self._clients.spend(client)
                use = self._clients.begin(client, request.client.host if request.client else "")
            token = PRIORITY.set(priority)
            try:
                async with self.gate.slot(priority):
                    await self._inside(scope, receive, counted, row, client, request)
            finally:
                PRIORITY.reset(token)
        except BusyError:
            status[0] = 429
            raise
        finally:
            if use is not None and self._clients is not None:
                self._clients.end(use, status[0] or 500, time.monotonic() - started)

    async def _streaming(self, scope: Scope, receive: Receive, send: Send, client: ExternalClient, request: Request) -> None:
        """An external system's stream: it costs a call when it opens, and stands in the live list while it is open; it holds no slot."""
        assert self._clients is not None
        if client.hidden_fields:  # events are not filtered, so whoever may not see everything gets none
            raise ClientScopeError(what_zh="实时推送（该接口有隐藏字段）", what_en="the live stream (this client has hidden fields)")
        self._clients.spend(client)
        use = self._clients.begin(client, request.client.host if request.client else "")
        started, status = time.monotonic(), [0]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._clients.end(use, status[0] or 500, time.monotonic() - started)

    async def _client(self, request: Request) -> ExternalClient | None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if self._clients is None or scheme.lower() != "bearer":
            return None
        return await self._clients.client(bearer, certificate=CERTIFICATE.get())

    async def _class(self, request: Request, row: Operation, client: ExternalClient | None) -> int:
        """The class a request is let in by: the operation's own for people who are signed in, the client's for external systems, the last for strangers."""
        if client is not None:
            return 0 if row.safety else client.priority
        if row.open:
            return row.priority
        for cookie in (self._guard.cookie, self._guard.resident_cookie):
            token = request.cookies.get(cookie)
            principal = await self._guard.sessions.authenticate(token) if token else None
            if principal is not None:
                return max(row.priority, CUSTOMER) if principal.resident and not row.safety else row.priority
        return BATCH

    async def _inside(self, scope: Scope, receive: Receive, send: Send, row: Operation, client: ExternalClient | None, request: Request) -> None:
        hidden = frozenset(client.hidden_fields) if client is not None else frozenset()
        key = request.headers.get("idempotency-key", "")
        if row.changes and _KEY.match(key) and self._answers is not None and not row.name.startswith(_OWN_KEYS):
            answers = self._answers
            body = await _body(receive)
            caller = client.id if client is not None else hashlib.sha256((request.cookies.get(self._guard.cookie, "") or request.cookies.get(self._guard.resident_cookie, "")).encode()).hexdigest()
            place, digest = self._answers.digests(caller, scope["method"], scope["path"], key, scope["query_string"] + b"\0" + body)
            kept = await asyncio.to_thread(self._answers.begin, place, digest)
            if kept is not None:
                again = Response(status_code=204) if kept[0] == 204 else Answer(_without(kept[1], hidden), status_code=kept[0], headers={"Idempotent-Replayed": "true"})
                await again(scope, receive, send)
                return
            status, document, messages = await self._collect(scope, _again(body), row)
            keep = status < 500 and status not in (401, 403, 429) and not row.name.startswith(_UNKEPT)
            if status >= 400 and not keep:
                await asyncio.to_thread(self._answers.forget, place)
            else:
                await asyncio.to_thread(lambda: answers.settle(place, status, document, kept=keep))
            await _forward(messages, hidden, send)
            return
        if hidden:
            _, _, messages = await self._collect(scope, receive, row)
            await _forward(messages, hidden, send)
            return
        if scope["method"] in ("GET", "HEAD"):
            await self._until_hung_up(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _collect(self, scope: Scope, receive: Receive, row: Operation) -> tuple[int, Any, list[Message]]:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        status = next((m["status"] for m in messages if m["type"] == "http.response.start"), 500)
        body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
        document: Any = None
        if body and not row.name.startswith(_UNKEPT):
            with contextlib.suppress(orjson.JSONDecodeError):
                document = orjson.loads(body)
        return status, document, messages

    async def _until_hung_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; end it when the caller closes the connection before the answer has begun."""
        first = await receive()
        if first["type"] == "http.disconnect":
            return
        begun, inbox = False, asyncio.Queue[Message]()
        inbox.put_nowait(first)

        async def outgoing(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        work: asyncio.Task[None] = asyncio.ensure_future(self._app(scope, inbox.get, outgoing))
        ear: asyncio.Task[Message] = asyncio.ensure_future(receive())
        try:
            while not work.done():
                await asyncio.wait({work, ear}, return_when=asyncio.FIRST_COMPLETED)
                if ear.done() and not work.done():
                    message = ear.result()
                    inbox.put_nowait(message)
                    if message["type"] == "http.disconnect":
                        if not begun:
                            work.cancel()
                        break
                    ear = asyncio.ensure_future(receive())
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            ear.cancel()
            work.cancel()


#: What a value is called where it is summed up.
_MEANS = {"value": frozenset({"mean", "low", "high", "readback"})}


def _without(document: Any, hidden: frozenset[str]) -> Any:
    """Take hidden fields out, wherever they stand; rows in columns lose their cells."""
    hidden = hidden.union(*(_MEANS.get(name, frozenset()) for name in hidden))
    return _stripped(document, hidden)


def _stripped(document: Any, hidden: frozenset[str]) -> Any:
    if isinstance(document, dict):
        columns = document.get("columns")
        if isinstance(columns, list) and isinstance(document.get("rows"), list) and all(isinstance(row, list) for row in document["rows"]):
            dark = {k for k, name in enumerate(columns) if name in hidden}
            document = {**document, "rows": [[None if k in dark else cell for k, cell in enumerate(row)] for row in document["rows"]]}
        return {name: _stripped(value, hidden) for name, value in document.items() if name not in hidden}
    if isinstance(document, list):
        return [_stripped(value, hidden) for value in document]
    return document


async def _forward(messages: list[Message], hidden: frozenset[str], send: Send) -> None:
    start = next(m for m in messages if m["type"] == "http.response.start")
    body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    headers = [(n, v) for n, v in start["headers"] if n.lower() != b"content-length"]
    if hidden:
        if not any(n.lower() == b"content-type" and b"json" in v for n, v in headers):
            # What is no JSON cannot be masked: it is not given.
            body, start = b'{"code":"E-CLIENT-FIELDS"}', {**start, "status": 403}
            headers = [(n, v) for n, v in headers if n.lower() not in (b"content-type", b"content-disposition")] + [(b"content-type", b"application/json")]
        elif body:
            body = orjson.dumps(_without(orjson.loads(body), hidden))
    await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes) -> Receive:
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            await asyncio.Event().wait()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
