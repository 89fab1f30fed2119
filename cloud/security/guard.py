"""The guard at every route: session, CSRF token, role, and a row in the operation log for what changes something.

`Requires` is the FastAPI dependency, `GuardedRoute` the route class that settles the log row before the answer leaves.
Must not know: functions, the ledger (both come through the Protocols below).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import inspect
import re
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from typing import Annotated, Any, Protocol, cast, get_args, get_origin
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from cloud.security.operations import Operation, OperationTable, OperationTableError, Principal
from protos.errors import KangError

COOKIE = "kang_session"
RESIDENT_COOKIE = "kang_home"
SECURE = "__Host-"
CSRF_HEADER = "x-kang-csrf"
APPROVAL_HEADER = "x-kang-approval"
REASON_HEADER = "x-kang-reason"
_WHOLE = re.compile(r"[+-]?\d+")


_THINGS = {"project": "项目", "device": "设备", "command": "命令", "quarantine": "隔离批次", "agent": "代理", "invitation": "注册邀请", "stream": "实时连接", "series": "曲线",
           "person": "人员", "session": "会话", "approval": "审批", "organisation": "单位", "contract": "服务合同", "passkey": "通行密钥", "grant": "应急授权", "dialogue": "人机对话", "batch": "控制批次", "parameter": "调控参数"}


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


class ScopeError(AccessError):
    """The operation reaches the whole platform, the asker's scope does not."""

    code = "E-SCOPE"
    zh = "“{what_zh}”涉及全平台，超出您的数据范围。请联系平台管理员。"
    en = "'{what_en}' reaches the whole platform, your scope does not. Ask the platform's administrator."


class FactorAgeError(AccessError):
    """The last strong authentication is too old for this."""

    code = "E-FACTOR-AGE"
    zh = "此操作要求 {factor_s} 秒内验证过身份。请再次验证（通行密钥、动态口令或一次性登录码），然后重试。"
    en = "This needs a proof of identity not older than {factor_s} s. Verify again (passkey, authenticator code or one-time code) and repeat."


class RestrictedError(AccessError):
    """The password has expired; only one's own account can be touched."""

    code = "E-PASSWORD-EXPIRED"
    zh = "口令已超过更换期限。请先在“我的安全”中更换口令。"
    en = "The password is due for a change. Change it under 'My security' first."


class TwoPersonError(AccessError):
    """A second person is needed and cannot be asked here."""

    code = "E-TWO-PERSON"
    zh = "此操作需要第二人批准，但审批服务不可用。请联系管理员。"
    en = "This needs a second person's approval, and approvals are not available here. Ask the administrator."


class NotFoundError(KangError):
    """No such thing in the asker's scope (what is out of scope does not exist)."""

    code = "E-NOT-FOUND"
    zh = "没有找到{what_zh}“{name}”，或不在您的权限范围内。请返回列表重新选择。"
    en = "There is no {what} '{name}' in your scope. Go back to the list and choose again."

    def __init__(self, *, what: str, name: object) -> None:
        super().__init__(what=what, name=name, what_zh=_THINGS.get(what, what))


class UnknownParameterError(KangError):
    """A query parameter the operation does not have: ignored, it would give an answer to another question."""

    code = "E-PARAMETER"
    zh = "这里没有查询参数“{field}”。可用的参数：{known_zh}。请更正后重试。"
    en = "There is no query parameter '{field}' here. Known are: {known}. Correct it and try again."

    def __init__(self, *, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known))
        super().__init__(field=name[:60], known=names or "none", known_zh=names or "无")


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


class Approvals(Protocol):
    """Second persons, as the guard needs them."""

    async def ask(self, operation: Operation, principal: Principal, *, digest: str, target: str, reason: str, payload: str, projects: Iterable[int] | None = None) -> dict[str, Any]:
        """Store a pending approval; gives its view."""
        ...

    async def consume(self, approval_id: str, operation: Operation, principal: Principal, *, digest: str, key: str = "") -> str:
        """Use an approval once (again with the same key: the same act), for exactly what was approved, and name who approved it; refused otherwise."""
        ...


class ApprovalNeededError(AccessError):
    """The approval that was asked for must be quoted."""

    code = "E-APPROVAL-NEEDED"
    zh = "须先由第二人批准该事项，再携带其批准执行。请在“审批”页查看其状态。"
    en = "A second person must approve this first; then carry it out with that approval. See its state on the Approvals page."


class _PendingError(Exception):
    """Not an error: the answer is 202 with the approval."""

    def __init__(self, view: dict[str, Any]) -> None:
        super().__init__(view["id"])
        self.view = view


class Journal(Protocol):
    """The operation log as the guard needs it."""

    async def begin(self, operation: Operation, *, operator: str, target: str, request_id: str, address: str, result: str = "begun",
                    code: str = "", channel: str = "portal") -> int:
        """Write a row; returns its id."""
        ...

    async def settle(self, row: int, *, result: str, code: str = "", operator: str | None = None, target: str | None = None) -> None:
        """Say how it ended."""
        ...


class Gate:
    """What the guard works with; stands at `app.state.gate`."""

    def __init__(self, table: OperationTable, sessions: Sessions, journal: Journal, *, secure: bool, approvals: Approvals | None = None,
                 clients: Sessions | None = None, least_factor_s: int = 0) -> None:
        self.table = table
        self.sessions = sessions
        self.journal = journal
        self.approvals = approvals
        self.clients = clients  # whom a bearer token belongs to; None = no external clients here
        self.least_factor_s = least_factor_s  # a demonstration lets a proof of identity last so long; 0 = as the table says
        self.cookie = SECURE + COOKIE if secure else COOKIE
        self.resident_cookie = SECURE + RESIDENT_COOKIE if secure else RESIDENT_COOKIE
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

    def __init__(self, name: str, *, asks: bool = True) -> None:
        self.name = name
        self._asks = asks

    async def __call__(self, request: Request) -> Principal | None:
        """Check session, token and role; write the first half of the log row."""
        gate: Gate = request.app.state.gate
        row = gate.table[self.name]
        principal: Principal | None = None
        try:
            principal = await self._who(request, gate, row)
        except AccessError as error:
            gate.refused += 1
            untold = gate.stranger(address_of(request)) if row.recorded and isinstance(error, NotSignedInError) else 0
            if row.recorded and untold is not None:
                await self._record(request, gate, row, principal, result="refused", code=error.code,
                                   target=f"{target_of(request)} (+{untold})" if untold else None)
            raise
        if row.recorded:
            request.state.audit = await self._record(request, gate, row, principal)
        if not row.open:  # what is open is called by others' standards and links, which add parameters of their own
            _refuse_unknown(request)
        if row.two_person and principal is not None:
            if not self._asks and not request.headers.get(APPROVAL_HEADER):
                raise ApprovalNeededError
            request.state.second = (row, principal)  # asked once the parameters are known to be valid: nobody approves what cannot be done
        return principal

    async def _who(self, request: Request, gate: Gate, row: Operation) -> Principal | None:
        if row.changes and request.headers.get("sec-fetch-site", "same-origin") == "cross-site":
            raise CsrfError
        if row.open:
            return None
        principal, bearer = await _caller(request, gate)
        if principal is None:
            raise NotSignedInError
        request.state.operator = principal.name
        if row.changes and not bearer and not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), principal.csrf.encode()):
            raise CsrfError
        if not row.grants(principal.roles):
            raise ForbiddenError(what_zh=row.zh, what_en=row.en)
        if row.scope == "platform" and principal.bounded:
            raise ScopeError(what_zh=row.zh, what_en=row.en)
        if principal.restricted and row.scope != "self" and not row.safety:
            raise RestrictedError
        if row.factor_s is not None and not principal.resident and not principal.factor_fresh(max(row.factor_s, gate.least_factor_s)):
            raise FactorAgeError(factor_s=row.factor_s)
        return principal

    async def _record(self, request: Request, gate: Gate, row: Operation, principal: Principal | None, *, result: str = "begun",
                      code: str = "", target: str | None = None) -> int | None:
        operator = principal.name if principal else getattr(request.state, "operator", "")
        try:
            return await gate.journal.begin(row, operator=operator, target=target or target_of(request), request_id=request_id(request),
                                            address=address_of(request), result=result, code=code,
                                            channel="api" if request.headers.get("authorization", "")[:7].lower() == "bearer " else "portal")
        except Exception as error:
            if row.safety:
                return None
            raise AuditUnavailableError from error


async def _caller(request: Request, gate: Gate) -> tuple[Principal | None, bool]:
    """Who asks, and whether by a bearer token: those carry no ambient authority, so they need no CSRF token.

    Staff and residents have a cookie of their own; a session presented in the other realm's cookie is nobody's.
    """
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and gate.clients is not None:
        return await gate.clients.authenticate(bearer), True
    for cookie, resident in ((gate.cookie, False), (gate.resident_cookie, True)):
        token = request.cookies.get(cookie)
        principal = await gate.sessions.authenticate(token) if token else None
        if principal is not None and principal.resident == resident:
            return principal, False
    return None, False


def approval_digest(method: str, path: str, query: str, body: bytes) -> str:
    """What an approval is bound to: exactly this call."""
    return hashlib.sha256(b"\0".join((method.encode(), path.encode(), query.encode(), body))).hexdigest()


async def _second_person(request: Request, gate: Gate, row: Operation, principal: Principal) -> None:
    """Use the approval the call names, or ask for one."""
    if gate.approvals is None:
        raise TwoPersonError
    body = await request.body()
    digest = approval_digest(request.method, str(request.url.path), request.url.query, body)
    given = request.headers.get(APPROVAL_HEADER, "")
    if given:
        request.state.second_person = await gate.approvals.consume(given, row, principal, digest=digest, key=request.headers.get("idempotency-key", ""))
        request.state.approved = f" (approved by {request.state.second_person}, approval {given[:40]})"
        return
    reason = unquote(request.headers.get(REASON_HEADER, ""))[:200]
    raise _PendingError(await gate.approvals.ask(row, principal, digest=digest, target=target_of(request), reason=reason, payload=body.decode(errors="replace")[:4000],
                                                  projects=getattr(request.state, "approval_projects", None)))


#: The request the code runs for, the shapes of its parameters and the names of its query: what stands around an endpoint needs them, its own signature may not have them.
_REQUEST: ContextVar[tuple[Request, dict[str, tuple[bool, bool]], frozenset[str]]] = ContextVar("kang_request")


class GuardedRoute(APIRoute):
    """A route that takes parameters as they are declared, asks the second person, and settles its log row (done, or refused) before its answer leaves."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        as_it_is = hasattr(endpoint, "kang_guarded") or inspect.isasyncgenfunction(endpoint)  # wrapped before, or a stream that cannot answer anything else
        super().__init__(path, endpoint if as_it_is else self._inside(endpoint), **options)
        self._shapes = _shapes(self.dependant)
        self._known = frozenset(self._shapes) - {field.alias for field in self.dependant.path_params}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            _REQUEST.set((request, self._shapes, self._known))
            try:
                response = await handler(request)
            except _PendingError as pending:
                await _settle(request, gate, "pending", "")
                return JSONResponse({"approval": pending.view}, status_code=202)
            except Exception as error:
                code = error.code if isinstance(error, KangError) else "E-INPUT" if hasattr(error, "errors") else "E-KANG"
                await _settle(request, gate, "failed" if code == "E-KANG" else "refused", code)
                raise
            await _settle(request, gate, "accepted" if response.status_code == 202 else "done", "")
            return response

        return guarded

    @staticmethod
    def _inside(call: Callable[..., Any]) -> Callable[..., Any]:
        """The endpoint behind what can only be asked when access and types are settled."""
        @functools.wraps(call)
        async def inside(**values: Any) -> Any:
            request, shapes, _ = _REQUEST.get()
            if problems := [p for name, shape in shapes.items() for p in _misgiven(request, name, *shape)]:
                raise RequestValidationError(problems)
            second = getattr(request.state, "second", None)
            if second is not None:
                await _second_person(request, request.app.state.gate, *second)
            return await (call(**values) if inspect.iscoroutinefunction(call) else run_in_threadpool(call, **values))

        inside.kang_guarded = True  # type: ignore[attr-defined]
        return inside


def _shapes(dependant: Dependant) -> dict[str, tuple[bool, bool]]:
    """(a list?, whole numbers?) by name of a path or query parameter, the fields of parameter models included."""
    found: dict[str, tuple[bool, bool]] = {}
    for part in _parts(dependant):
        for field in (*part.path_params, *part.query_params):
            model = field.field_info.annotation
            fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {field.alias: field.field_info}
            for name, info in fields.items():
                leaves = set(_leaves(info.annotation))
                found[info.alias or name] = (bool(leaves & {list, set, frozenset, tuple}), int in leaves and not leaves & {float, str})
    return found


def _parts(dependant: Dependant) -> Iterator[Dependant]:
    """A dependant and all it depends on."""
    yield dependant
    for part in dependant.dependencies:
        yield from _parts(part)


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types an annotation is made of, containers included."""
    if (origin := get_origin(annotation)) is not None and origin is not Annotated:
        yield origin
    args = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    if not args:
        yield annotation
    for part in args:
        yield from _leaves(part)


def _misgiven(request: Request, name: str, many: bool, whole: bool) -> Iterator[dict[str, Any]]:
    """A parameter that stands twice where one is taken, or a whole number written as something else ("0.0", "1_000")."""
    given = [str(request.path_params[name])] if name in request.path_params else request.query_params.getlist(name)
    if len(given) > 1 and not many:
        yield {"loc": ("query", name), "msg": "given more than once", "type": "repeated"}
    if whole and any(text and not _WHOLE.fullmatch(text) for text in given):
        yield {"loc": ("query", name), "msg": "must be a whole number", "type": "int_parsing"}


def _refuse_unknown(request: Request) -> None:
    """Every query parameter must be one the route takes; who misspells a filter must not get an answer without it."""
    held = _REQUEST.get(None)
    if held is None or held[0].scope is not request.scope:  # asked outside a guarded route
        return
    for name in request.query_params:
        if name not in held[2]:
            raise UnknownParameterError(name=name, known=held[2])


async def _settle(request: Request, gate: Gate, result: str, code: str) -> None:
    row: int | None = getattr(request.state, "audit", None)
    if row is not None:
        await gate.journal.settle(row, result=result, code=code, operator=getattr(request.state, "operator", None),
                                  target=f"{getattr(request.state, 'target', None) or target_of(request)}{approved}"[:200] if (approved := getattr(request.state, "approved", "")) else getattr(request.state, "target", None))


def operation(name: str, *, asks: bool = True) -> Any:
    """`Depends` of the operation `name`; annotate the parameter with `Principal`.

    Args:
        name: its row.
        asks: False where the approval was asked for before, with all its particulars: a call without it is refused instead of asking anew.
    """
    return Depends(Requires(name, asks=asks))


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
            if row.two_person and inspect.isasyncgenfunction(route.endpoint):
                raise OperationTableError(reason=f"route {path} is a stream, which no second person can be asked for")
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
