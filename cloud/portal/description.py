"""The description of the API (OpenAPI 3.1), made from the routes and the operation table: who may, in which class, which refusals there are.

Must not know: what operations do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi import APIRouter

from cloud.security.operations import OperationTable, Role

PREFIX: Final = "/api/v1"
_REFUSALS = {"400": "The request cannot be read", "401": "Not signed in, or the token is not good any more", "403": "Role, scope or token does not allow it", "404": "There is no such thing in the asker's scope",
             "405": "The address has no such method", "409": "It contradicts what stands", "413": "The body is too large", "422": "Values are out of range", "429": "Too many requests; Retry-After says when",
             "503": "A part the answer needs is away; nothing was changed"}
_PROBLEM = {"type": "object", "required": ["type", "title", "status", "detail", "code", "zh", "en", "request_id"], "properties": {
    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}, "code": {"type": "string"},
    "zh": {"type": "string"}, "en": {"type": "string"}, "request_id": {"type": "string"}}}


def describe(routers: Iterable[APIRouter], version: str, table: OperationTable, names: dict[str, str], *, cookie: str, resident_cookie: str) -> dict[str, Any]:
    """The document.

    Args:
        routers: the functions' routers, without the prefix.
        version: of the platform.
        table: all rows.
        names: operation name by "METHOD path", from `check_routes`.
        cookie: what the cookie of a staff session is called here.
        resident_cookie: the same of a resident's.
    """
    from fastapi.openapi.utils import get_openapi

    document = get_openapi(title="Kang 炕", version=version, routes=[route for router in routers for route in router.routes], description="Operation service platform for electric heating (DL/T 2690.7-2023). Problems by RFC 9457.")
    document["paths"] = {PREFIX + path: methods for path, methods in document["paths"].items()}
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = _PROBLEM
    parts["securitySchemes"] = {
        "client": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/api/v1/oauth/token", "scopes": {row.name: row.en for row in table if not row.open}}}},
        "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "A person's session; changes carry X-Kang-CSRF too"},
        "home": {"type": "apiKey", "in": "cookie", "name": resident_cookie, "description": "A resident's session; changes carry X-Kang-CSRF too"}}
    for path, methods in document["paths"].items():
        for method, entry in methods.items():
            row = table[names[f"{method.upper()} {path.removeprefix(PREFIX)}"]]
            entry["summary"], entry["operationId"] = f"{row.zh} · {row.en}", f"{method}_{path.removeprefix(PREFIX + '/').replace('/', '_').replace('{', '').replace('}', '').replace('.', '_').replace('-', '_')}"
            entry["x-kang-operation"] = {"name": row.name, "roles": sorted(row.roles), "scope": row.scope, "label": row.label, "priority": row.priority, "two_person": row.two_person,
                                         "factor_s": row.factor_s, "recorded": row.recorded}
            entry["security"] = [] if row.open else [{"client": [row.name]}, {"session": []}, *([{"home": []}] if Role.RESIDENT in row.roles else [])]
            answers = entry["responses"]
            answers.pop("422", None)
            if row.two_person:
                answers["202"] = {"description": "A second person is asked"}
            for status, what in _REFUSALS.items():
                if status not in answers:
                    answers[status] = {"description": what, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    parts["schemas"].pop("HTTPValidationError", None)
    parts["schemas"].pop("ValidationError", None)
    return document
