"""The guard at every route: session, CSRF token, role, and a row in the operation log for what changes something.

`Requires` is the FastAPI dependency, `GuardedRoute` the route class that settles the log row before the answer leaves.
Must not know: functions, the ledger (both come through the Protocols below).
"""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from cloud.security.operations import Operation, OperationTable, OperationTableError, Principal
from protos.errors import KangError

COOKIE = "kang_session"
SECURE_COOKIE = "__Host-kang_session"
CSRF_HEADER = "x-kang-csrf"


_THINGS = {"project": "项目", "device": "设备", "command": "命令", "quarantine": "隔离批次", "stream": "实时连接", "series": "曲线"}


class AccessError(KangError):
    """Access is refused."""

    code = "E-ACCESS"


class NotSignedInError(AccessError):
    """No session, or it has ended."""

    code = "E-SESSION"
    zh = "尚未登录，或登录已过期。请用一次性登录链接重新登录。"
    en = "You are not signed in, or the session has ended. Sign in again with a one-time link."


class CsrfError(AccessError):
    """The call does not carry the session's token."""

    code = "E-CSRF"
    zh = "请求缺少本会话的校验令牌。请刷新页面后重试。"
    en = "The request does not carry this session's token. Reload the page and try again."


class ForbiddenError(AccessError):
    """The role does not allow it."""

    code = "E-FORBIDDEN"
    zh = "您的角色不能“{what_zh}”。如需要，请联系管理员授权。"
    en = "Your role may not: {what_en}. Ask the administrator if you need it."


class NotFoundError(KangError):
    """No such thing in the asker's scope (what is out of scope does not exist)."""

    code = "E-NOT-FOUND"
    zh = "没有找到{what_zh}“{name}”，或不在您的权限范围内。请返回列表重新选择。"
    en = "There is no {what} '{name}' in your scope. Go back to the list and choose again."

    def __init__(self, *, what: str, name: object) -> None:
        super().__init__(what=what, name=name, what_zh=_THINGS.get(what, what))


class AuditUnavailableError(KangError):
    """The operation log cannot be written, so nothing that needs a row may happen."""

    code = "E-AUDIT"
    zh = "操作日志无法写入，除安全操作外的变更已暂停。请检查台账磁盘。"
    en = "The operation log cannot be written; changes other than safety acts are suspended. Check the ledger's disk."


class Sessions(Protocol):
    """Who a token belongs to."""

    async def authenticate(self, token: str) -> Principal | None:
        """The principal of a live session; None when unknown, idle too long or ended."""
        ...


class Journal(Protocol):
    """The operation log as the guard needs it."""

    async def begin(self, operation: Operation, *, operator: str, target: str, request_id: str, address: str, result: str = "begun",
                    code: str = "") -> int:
        """Write a row; returns its id."""
        ...

    async def settle(self, row: int, *, result: str, code: str = "", operator: str | None = None, target: str | None = None) -> None:
        """Say how it ended."""
        ...


class Gate:
    """What the guard works with; stands at `app.state.gate`."""

    def __init__(self, table: OperationTable, sessions: Sessions, journal: Journal, *, secure: bool) -> None:
        self.table = table
        self.sessions = sessions
        self.journal = journal
        self.cookie = SECURE_COOKIE if secure else COOKIE
        self.secure = secure
        self.refused = 0
        self.unsigned = 0
        self._strangers: dict[str, tuple[int, int]] = {}

    def stranger(self, address: str) -> int | None:
        """Count a changing call without a session.

        Returns:
            None when the address has its row for this minute already; else how many calls its last row did not tell.
        """
        self.unsigned += 1
        minute = int(time.monotonic() // 60)
        before, count = self._strangers.get(address, (-1, 0))
        if before == minute:
            self._strangers[address] = (minute, count + 1)
            return None
        if len(self._strangers) >= 10_000:
            self._strangers.clear()
        self._strangers[address] = (minute, 0)
        return count


class Requires:
    """A dependency: the caller must be allowed to do `name`; gives the `Principal`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, request: Request) -> Principal | None:
        """Check session, token and role; write the first half of the log row."""
        gate: Gate = request.app.state.gate
        row = gate.table[self.name]
        principal: Principal | None = None
        try:
            principal = await self._who(request, gate, row)
        except AccessError as error:
            gate.refused += 1
            untold = gate.stranger(address_of(request)) if row.changes and isinstance(error, NotSignedInError) else 0
            if row.changes and untold is not None:
                await self._record(request, gate, row, principal, result="refused", code=error.code,
                                   target=f"{target_of(request)} (+{untold})" if untold else None)
            raise
        if row.changes:
            request.state.audit = await self._record(request, gate, row, principal)
        return principal

    async def _who(self, request: Request, gate: Gate, row: Operation) -> Principal | None:
        if row.open:
            return None
        token = request.cookies.get(gate.cookie)
        principal = await gate.sessions.authenticate(token) if token else None
        if principal is None:
            raise NotSignedInError
        request.state.operator = principal.name
        if row.changes and not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), principal.csrf.encode()):
            raise CsrfError
        if not row.roles & principal.roles:
            raise ForbiddenError(what_zh=row.zh, what_en=row.en)
        return principal

    async def _record(self, request: Request, gate: Gate, row: Operation, principal: Principal | None, *, result: str = "begun",
                      code: str = "", target: str | None = None) -> int | None:
        operator = principal.name if principal else getattr(request.state, "operator", "")
        try:
            return await gate.journal.begin(row, operator=operator, target=target or target_of(request), request_id=request_id(request),
                                            address=address_of(request), result=result, code=code)
        except Exception as error:
            if row.safety:
                return None
            raise AuditUnavailableError from error


class GuardedRoute(APIRoute):
    """A route that settles its log row (done, or refused with the code) before its answer leaves."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            try:
                response = await handler(request)
            except Exception as error:
                code = error.code if isinstance(error, KangError) else "E-INPUT" if hasattr(error, "errors") else "E-KANG"
                await _settle(request, gate, "failed" if code == "E-KANG" else "refused", code)
                raise
            await _settle(request, gate, "accepted" if response.status_code == 202 else "done", "")
            return response

        return guarded


async def _settle(request: Request, gate: Gate, result: str, code: str) -> None:
    row: int | None = getattr(request.state, "audit", None)
    if row is not None:
        await gate.journal.settle(row, result=result, code=code, operator=getattr(request.state, "operator", None),
                                  target=getattr(request.state, "target", None))


def operation(name: str) -> Any:
    """`Depends` of the operation `name`; annotate the parameter with `Principal`."""
    return Depends(Requires(name))


def router(prefix: str = "") -> APIRouter:
    """A router whose routes are guarded."""
    return APIRouter(prefix=prefix, route_class=GuardedRoute)


def check_routes(routers: Iterable[APIRouter], table: OperationTable) -> dict[str, str]:
    """Every route must ask for exactly one operation with a row, and a state-changing method for a row that changes.

    Returns:
        Operation name by "METHOD path".

    Raises:
        OperationTableError: names the route.
    """
    found: dict[str, str] = {}
    for one in routers:
        for route in one.routes:
            path = getattr(route, "path", "?")
            if not isinstance(route, GuardedRoute):
                raise OperationTableError(reason=f"route {path} is not guarded")
            names = [d.call.name for d in route.dependant.dependencies if isinstance(d.call, Requires)]
            if len(names) != 1:
                raise OperationTableError(reason=f"route {path} asks for {len(names)} operations")
            row = table[names[0]]
            for method in cast("set[str]", route.methods):
                if method in ("POST", "PUT", "PATCH", "DELETE") and not row.changes and not row.name.endswith((".preview", ".subscribe")):
                    raise OperationTableError(reason=f"{method} {path} changes something, '{row.name}' says it does not")
                found[f"{method} {path}"] = row.name
    return found


def request_id(request: Request) -> str:
    """The id of this request (given by the portal's middleware, made here otherwise)."""
    if not hasattr(request.state, "request_id"):
        request.state.request_id = uuid.uuid4().hex
    return str(request.state.request_id)


def address_of(request: Request) -> str:
    """Where the request came from."""
    return request.client.host if request.client else ""


def target_of(request: Request) -> str:
    """The operating point (操作点): the path without its prefix."""
    return request.url.path.removeprefix("/api/v1/")[:200]
