"""Errors as RFC 9457 problem details: stable code, Chinese and English text with a way out, request id. A traceback never leaves.

Must not know: what the functions do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from cloud.portal.answers import Answer
from cloud.security.guard import request_id
from protos.errors import KangError

_LOG = logging.getLogger(__name__)
#: Statuses of codes and of the families they begin with; the longest match wins, 422 otherwise.
STATUS: Mapping[str, int] = {
    "E-SESSION": 401, "E-SIGN-IN": 401, "E-SIGN-IN-RATE": 429, "E-CSRF": 403, "E-FORBIDDEN": 403, "E-SCOPE": 403, "E-FACTOR-AGE": 401, "E-FACTOR": 401, "E-PASSKEY": 401, "E-PASSWORD-EXPIRED": 403, "E-TWO-PERSON": 503, "E-SELF": 403, "E-APPROVAL": 409, "E-APPROVAL-NEEDED": 409,
    "E-PERSON": 409, "E-EMERGENCY": 409, "E-PASSWORD-POLICY": 422,  "E-ACCESS": 403, "E-NOT-FOUND": 404, "E-AUDIT": 503, "E-KANG": 500,
    "E-STREAMS": 503, "E-COMMAND": 409, "E-COMMAND-RANGE": 422, "E-COMMAND-INCOMPLETE": 422, "E-COMMAND-POINT": 422, "E-COMMAND-WHOLE": 422, "E-BATCH": 409, "E-BATCH-SIZE": 422, "E-CMD-DOWN": 503, "E-TOO-LARGE": 413,
    "E-CLIENT": 401, "E-CLIENT-SCOPE": 403, "E-CLIENT-INVALID": 422, "E-RATE": 429, "E-ECO-STALE": 409, "E-DR-STALE": 409, "E-DR-STATE": 409, "E-DR-STRATEGY-STALE": 409, "E-DR-MANDATORY": 409, "E-DR-UNKNOWN": 404, "E-BUSY": 429, "E-GRANT": 400, "E-OPENADR": 400, "E-OPENADR-UNKNOWN": 404, "E-OPENADR-STALE": 409, "E-OPENADR-NAME": 409, "E-OPENADR-USED": 409, "E-OPENADR-NOT-OFFERED": 501, "E-IDEMPOTENCY": 422, "E-IDEMPOTENCY-DONE": 409,
    "E-HISTORIAN": 503, "E-BUS": 503, "E-CONTROL": 503, "E-STORE": 503, "E-OIDC": 503, "E-CA": 503, "E-CA-REFUSED": 422}


#: Here the standard knows 400 for what is elsewhere 422, and its clients read which field is meant.
OPENADR = "/api/v1/openadr3/"


class InputError(KangError):
    """The request does not have the shape the API asks for."""

    code = "E-INPUT"
    zh = "请求参数不合规：{fields}。请更正后重试。"
    en = "The request is not valid: {fields}. Correct it and try again."


class NoRouteError(KangError):
    """There is no such address in the API."""

    code = "E-NOT-FOUND"
    zh = "没有这个地址：{path}。"
    en = "There is no such address: {path}."


class TooLargeError(KangError):
    """The body is larger than the API takes."""

    code = "E-TOO-LARGE"
    zh = "请求体超过 {limit} 字节。请减小后重试。"
    en = "The body is larger than {limit} bytes. Make it smaller and try again."


def status_of(error: KangError) -> int:
    """HTTP status of an error."""
    code = error.code
    while code:
        if code in STATUS:
            return STATUS[code]
        code = code.rpartition("-")[0]
    return 422


def problem(error: KangError, status: int, request: str) -> dict[str, Any]:
    """The body of a problem answer."""
    return {"type": f"urn:kang:error:{error.code}", "title": error.code, "status": status, "detail": error.message("en"), "code": error.code,
            "zh": error.message("zh"), "en": error.message("en"), "request_id": request, **({"field": str(error.values["field"])} if "field" in error.values else {})}


def _answer(request: Request, error: KangError, status: int | None = None) -> Response:
    wanted = status or status_of(error)
    if wanted == 422 and request.url.path.startswith(OPENADR):
        wanted = 400
    after = error.values.get("retry_after_s")
    return Answer(problem(error, wanted, request_id(request)), status_code=wanted, media_type="application/problem+json",
                  headers=None if after is None else {"Retry-After": str(after)})


def install(app: FastAPI) -> None:
    """Put the handlers on the app."""

    @app.exception_handler(KangError)
    async def kang(request: Request, error: KangError) -> Response:
        return _answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = "; ".join(list(dict.fromkeys(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()))[:5])
        first = {"field": ".".join(str(p) for p in error.errors()[0]["loc"][1:])} if request.url.path.startswith(OPENADR) else {}
        return _answer(request, InputError(fields=fields, **first), 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return _answer(request, NoRouteError(path=request.url.path))
        return _answer(request, InputError(fields=f"{request.method} {request.url.path}: {error.detail}"), error.status_code)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        _LOG.error("request failed", exc_info=error, extra={"fields": {"request_id": request_id(request), "path": request.url.path}})
        return _answer(request, KangError(), 500)
