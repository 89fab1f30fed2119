"""REST of interfaces (数据接口): tokens for external systems, their configuration, the live list, a test call.

Must not know: engines, the admission gate.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.interfaces.clients import CERTIFICATE, ClientService, grantable
from cloud.functions.interfaces.errors import ClientRefusedError, GrantError
from cloud.functions.params import Line, Moment, Whole
from cloud.functions.services import Services, services
from cloud.security.guard import Gate, NotFoundError, operation, router
from cloud.security.operations import Principal

api = router()
Given = Annotated[Services, Depends(services)]
ClientId = Annotated[str, Path(min_length=4, max_length=40, pattern=r"^kc-[0-9a-f]{12}$")]
Name = Annotated[str, Field(max_length=80, pattern=r"^[a-z_.]+$")]


def _clients(given: Services) -> ClientService:
    if given.clients is None:
        raise NotFoundError(what="client", name="-")
    return given.clients


@api.post("/oauth/token", openapi_extra={"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": {
    "type": "object", "required": ["grant_type"], "properties": {"grant_type": {"type": "string", "enum": ["client_credentials"]}, "client_id": {"type": "string"},
                                                                 "client_secret": {"type": "string"}}}}}}})
async def token(request: Request, response: Response, given: Given, _open: Annotated[None, operation("interfaces.token.issue")]) -> dict[str, Any]:
    """A token for client id and secret (OAuth 2.0 client credentials); by HTTP Basic or in the form."""
    return await issue(request, response, given)


async def issue(request: Request, response: Response, given: Services) -> dict[str, Any]:
    """The token such a request asks for.

    Raises:
        GrantError: it is none of client credentials, form-encoded.
        ClientRefusedError: whatever is wrong with them.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise GrantError
    try:
        form = dict(parse_qsl((await request.body()).decode(), strict_parsing=True, max_num_fields=20))
    except ValueError:
        raise GrantError from None
    if form.get("grant_type") != "client_credentials":
        raise GrantError
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, basic = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = (unquote_plus(part) for part in base64.b64decode(basic, validate=True).decode().partition(":"))
        except (binascii.Error, UnicodeDecodeError):
            raise ClientRefusedError from None
    address = request.client.host if request.client else ""
    given.attempts.check(f"client {address}")
    request.state.operator = f"client:{client_id}"[:60]
    try:
        made = await asyncio.to_thread(_clients(given).token, client_id, secret, certificate=CERTIFICATE.get())
    except ClientRefusedError:
        given.attempts.failed(f"client {address}")
        raise
    response.headers["Cache-Control"] = "no-store"
    return made


@api.get("/interfaces/self")
async def myself(who: Annotated[Principal, operation("interfaces.self.read")], given: Given) -> dict[str, Any]:
    """What the asking client may do, how often, in which class."""
    if who.kind != "client" or given.clients is None:
        raise NotFoundError(what="client", name=who.name)
    found = [row for row in await asyncio.to_thread(given.clients.listing) if f"client:{row['id']}" == who.name]
    if not found:
        raise NotFoundError(what="client", name=who.name)
    return found[0]


@api.get("/interfaces/clients")
async def listing(_who: Annotated[Principal, operation("interfaces.client.read")], given: Given) -> list[dict[str, Any]]:
    """External clients with what they do now: open calls, rate, errors, refusals for rate."""
    return await asyncio.to_thread(given.clients.listing) if given.clients is not None else []


@api.get("/interfaces/operations")
async def operations(_who: Annotated[Principal, operation("interfaces.client.read")], request: Request) -> list[dict[str, Any]]:
    """Operations an external client may be given."""
    gate: Gate = request.app.state.gate
    return [{"name": row.name, "zh": row.zh, "en": row.en, "changes": row.changes, "label": row.label} for row in gate.table if grantable(row)]


class NewClient(BaseModel):
    """An external client as it is registered."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    name: Line = Field(min_length=1, max_length=120)
    operations: list[Name] = Field(min_length=1, max_length=100)
    project_ids: list[Whole] | None = Field(None, max_length=10_000)
    hidden_fields: list[Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z_]\w*$")]] = Field(default_factory=list, max_length=100)
    rate: float = Field(10.0, gt=0, le=10_000, description="requests a second")
    burst: int = Field(20, ge=1, le=100_000)
    priority: Literal[0, 1, 2, 3, 5, 9] = 5
    certificate: str = Field("", pattern=r"^([0-9a-fA-F]{64})?$", description="SHA-256 of the client's certificate, hex")
    expires_ms: Moment | None = None


class ChangedClient(BaseModel):
    """What changes of a client; what is not named stays."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    operations: list[Name] | None = Field(None, min_length=1, max_length=100)
    project_ids: list[Whole] | None = Field(None, max_length=10_000)
    hidden_fields: list[Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z_]\w*$")]] | None = Field(None, max_length=100)
    rate: float | None = Field(None, gt=0, le=10_000)
    burst: int | None = Field(None, ge=1, le=100_000)
    priority: Literal[0, 1, 2, 3, 5, 9] | None = None
    certificate: str | None = Field(None, pattern=r"^([0-9a-fA-F]{64})?$")
    disabled: bool | None = None
    expires_ms: Moment | None = None


@api.post("/interfaces/clients", status_code=201)
async def create(body: NewClient, request: Request, who: Annotated[Principal, operation("interfaces.client.create")], given: Given) -> dict[str, Any]:
    """Register a client; the secret in the answer is shown this once."""
    request.state.target = f"client {body.name}"
    view, secret = await asyncio.to_thread(lambda: _clients(given).register(**body.model_dump(), actor=who.name))
    return {**view, "secret": secret}


@api.patch("/interfaces/clients/{client_id}")
async def change(client_id: ClientId, body: ChangedClient, who: Annotated[Principal, operation("interfaces.client.change")], given: Given) -> dict[str, Any]:
    """Change scope, fields, rate, class; disable or enable. Present tokens end."""
    changes = {name: getattr(body, name) for name in body.model_fields_set if getattr(body, name) is not None or name in ("project_ids", "expires_ms")}
    return await asyncio.to_thread(lambda: _clients(given).change(client_id, changes, actor=who.name))


@api.post("/interfaces/clients/{client_id}/secret")
async def secret(client_id: ClientId, who: Annotated[Principal, operation("interfaces.client.secret")], given: Given) -> dict[str, str]:
    """Replace the secret; it is shown this once."""
    return {"id": client_id, "secret": await asyncio.to_thread(lambda: _clients(given).new_secret(client_id, actor=who.name))}


class CertificateRequest(BaseModel):
    """A PKCS#10 request for a P-256 key that stays with the client."""

    model_config = ConfigDict(strict=True, extra="forbid")

    request: str = Field(min_length=100, max_length=8000, description="PKCS#10, PEM; its subject is ignored")
    days: int = Field(90, ge=1, le=366)


@api.post("/interfaces/clients/{client_id}/certificate")
async def certificate(client_id: ClientId, body: CertificateRequest, who: Annotated[Principal, operation("interfaces.client.certificate")], given: Given) -> dict[str, Any]:
    """Sign a certificate for the client's own key and bind it to the client; the one before and present tokens end."""
    authority = given.certify
    if authority is None:
        raise NotFoundError(what="certificate authority", name="-")
    return await asyncio.to_thread(lambda: _clients(given).certify(client_id, body.request.encode(), body.days, authority, actor=who.name))


@api.post("/interfaces/clients/{client_id}/test")
async def test(client_id: ClientId, request: Request, _who: Annotated[Principal, operation("interfaces.client.test")], given: Given) -> dict[str, Any]:
    """A test call: what this client would be answered now, operation by operation, without doing anything."""
    row = next((c for c in await asyncio.to_thread(_clients(given).listing) if c["id"] == client_id), None)
    if row is None:
        raise NotFoundError(what="client", name=client_id)
    gate: Gate = request.app.state.gate
    expired = row["expires_ms"] is not None and row["expires_ms"] <= given.now()
    visible = [p.code for p in given.directory.projects() if row["project_ids"] is None or p.id in row["project_ids"]]
    return {"token": not row["disabled"] and not expired, "certificate": bool(row["certificate"]), "projects": visible,
            "operations": [{"name": r.name, "zh": r.zh, "en": r.en, "allowed": r.name in row["operations"] and not row["disabled"] and not expired} for r in gate.table if grantable(r)]}
