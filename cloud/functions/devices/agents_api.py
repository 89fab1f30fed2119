"""REST of agents' identities (代理证书与注册): list with certificate and state, invitations, revocation, suspicion. Thin.

Must not know: engines, transports, certificates' bytes.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.functions.devices import views
from cloud.functions.devices.agents_identities import Identities
from cloud.functions.devices.agents_view import identity_state
from cloud.functions.params import Line, Whole
from cloud.functions.services import Services, services
from cloud.functions.tables_out import OR_CSV, csv_response, local_time
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from protos.errors import KangError

api = router()
Given = Annotated[Services, Depends(services)]
Sees = Annotated[Principal, operation("devices.agent.read")]
Invites = Annotated[Principal, operation("devices.agent.invite")]
Revokes = Annotated[Principal, operation("devices.agent.revoke")]


class IdentitiesMissingError(KangError):
    """This portal was started without the agents' identities."""

    code = "E-AGENT-IDENTITIES"
    zh = "本门户未接入证书服务，不能管理代理身份。请用 kang up 启动完整平台。"
    en = "This portal runs without the certificate authority and cannot manage agents' identities. Start the whole platform with kang up."


class NewInvitation(BaseModel):
    """Which agent may enrol."""

    model_config = ConfigDict(strict=True)

    agent_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")
    project_id: Whole
    uplink: Literal["grpc", "nats"] = "grpc"
    hardware_id: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,120}$")


class Reason(BaseModel):
    """Why."""

    model_config = ConfigDict(strict=True)

    reason: Line = Field(min_length=1, max_length=200)


def _identities(given: Services) -> Identities:
    if given.identities is None:
        raise IdentitiesMissingError
    return given.identities


def _agent(given: Services, who: Principal, agent_id: str) -> Identities:
    known = given.directory.agent(agent_id)
    if known is None or not who.sees_project(known.project_id):
        raise NotFoundError(what="agent", name=agent_id[:60])
    return _identities(given)


@api.get("/agents", response_model=None, responses=OR_CSV)
async def agents(who: Sees, given: Given, project_id: Whole | None = None, format: Literal["json", "csv"] = "json",  # noqa: A002
                 language: Literal["zh", "en"] = "zh") -> list[dict[str, Any]] | Response:
    """Agents, their links and identities (边缘代理): admitted, online, spool, clock, suite of algorithms, certificate, state."""
    heard = {a["agent_id"]: a for a in await given.live.agents(project_id)}
    standing = await asyncio.to_thread(given.identities.service.standing) if given.identities is not None else {}
    rows = []
    for info in given.directory.agents(project_id):
        if who.sees_project(info.project_id):
            facts = standing.get(info.agent_id, {})
            rows.append({**views.agent_row(info, heard.get(info.agent_id)), "state": identity_state(info.revoked, facts, given.now()), "suite": info.suite.text,
                         **{k: facts.get(k) for k in ("issued_ms", "not_after_ms", "revoked_ms", "revoked_by", "revoked_reason", "clone_ms", "clone_detail")}})
    if format == "json":
        return rows
    head = ("代理,项目,状态,上行,套件,证书到期,最近应答,时钟偏差 ms,版本,待确认读数" if language == "zh" else "agent,project,state,uplink,suite,certificate ends,last heard,clock offset ms,version,unacknowledged readings").split(",")
    named = {p.id: p for p in given.projects(who)}
    return csv_response("agents.csv", head, (
        (r["agent_id"], getattr(named[r["project_id"]], f"name_{language}"), r["state"], r["uplink"], r["suite"], local_time(r["not_after_ms"], given.timezone), local_time(r["last_heard_ms"], given.timezone),
         r["clock_offset_ms"], r["version"], r["spool_readings"]) for r in rows if r["project_id"] in named))


@api.get("/agents/invitations")
async def invitations(who: Invites, given: Given) -> list[dict[str, Any]]:
    """Invitations nobody has used yet; their tokens are not kept."""
    found = await asyncio.to_thread(_identities(given).service.open_invitations)
    return [dataclasses.asdict(i) for i in found if who.sees_project(i.project_id)]


@api.post("/agents/invitations", status_code=201)
async def invite(body: NewInvitation, who: Annotated[Principal, operation("devices.agent.invite_new")], given: Given) -> dict[str, Any]:
    """A one-time token for a new box (注册码), as text and QR code."""
    given.project(who, body.project_id)
    return await asyncio.to_thread(lambda: _identities(given).invite(body.agent_id, body.project_id, uplink=body.uplink, hardware_id=body.hardware_id, by=who.name))


@api.post("/agents/invitations/{invitation_id}/withdraw", status_code=204)
async def withdraw(invitation_id: Whole, who: Annotated[Principal, operation("devices.agent.withdraw")], given: Given) -> None:
    """End an unused invitation."""
    service = _identities(given).service
    open_ = {i.id: i for i in await asyncio.to_thread(service.open_invitations)}
    if invitation_id not in open_ or not who.sees_project(open_[invitation_id].project_id):
        raise NotFoundError(what="invitation", name=invitation_id)
    await asyncio.to_thread(service.withdraw, invitation_id)


@api.get("/agents/events")
async def events(who: Sees, given: Given) -> list[dict[str, Any]]:
    """What happened to agents' identities, newest first."""
    known = {a.agent_id for a in given.directory.agents() if who.sees_project(a.project_id)}
    found = await asyncio.to_thread(lambda: _identities(given).service.events(limit=500))
    return [e for e in found if e["agent_id"] in known]


@api.post("/agents/{agent_id}/revoke", status_code=204)
async def revoke(agent_id: Line, body: Reason, who: Revokes, given: Given) -> None:
    """Refuse an agent from now on (吊销): its live connections are cut within a second."""
    service = _agent(given, who, agent_id).service
    await asyncio.to_thread(lambda: service.revoke(agent_id, by=who.name, reason=body.reason))


@api.post("/agents/{agent_id}/clear", status_code=204)
async def clear(agent_id: Line, who: Annotated[Principal, operation("devices.agent.clear")], given: Given) -> None:
    """Only one box lives: end the suspicion of a clone."""
    service = _agent(given, who, agent_id).service
    await asyncio.to_thread(lambda: service.clear(agent_id, by=who.name))
