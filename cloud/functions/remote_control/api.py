"""REST of remote control (远程控制): preview, submit (idempotent), follow, resolve, emergency stop, restore heat.

Must not know: transports, the journal.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.core.ports import CommandRequest, DeviceInfo
from cloud.functions.devices.state import by_device
from cloud.functions.params import Line, Whole
from cloud.functions.remote_control import service
from cloud.functions.remote_control.batches import dangerous
from cloud.functions.remote_control.endings import told
from cloud.functions.remote_control.errors import FourEyesError, LockedByYouError, TagGoneError
from cloud.functions.remote_control.wishes import Act, Key
from cloud.functions.services import Services, services
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from protos.arbitration import Authority
from protos.points import BY_ID

api = router()
Given = Annotated[Services, Depends(services)]


class Wish(Act):
    """An act on one device."""

    device_id: Whole


@api.post("/commands/preview")
async def preview(body: Wish, who: Annotated[Principal, operation("remote_control.command.preview")], given: Given) -> dict[str, Any]:
    """What would come of a command, by what was last heard; refuses what would be refused."""
    request, device, heard = await _checked(given, who, body, "")
    return {**service.preview(request, device, heard, given.now()), "kind": request.kind}


@api.post("/commands", status_code=202)
async def submit(body: Wish, key: Key, request: Request, who: Annotated[Principal, operation("remote_control.command.submit")],
                 given: Given) -> dict[str, Any]:
    """Send a command; the same key gives the same command."""
    device, point = given.device(who, body.device_id), BY_ID.get(body.point_id)
    request.state.target = f"{device.code} {body.kind}" + (f" {point.key}" if point else "") + ("" if body.value is None else f" = {body.value:g}")
    wish, _, _ = await _checked(given, who, body, key)
    two = dangerous(wish, given.directory.template(device.template) or {})
    if two is not None:
        raise FourEyesError(reason_zh=two["zh"], reason_en=two["en"])
    return _named(given, await given.commands.submit(wish))


@api.get("/commands")
async def commands(who: Annotated[Principal, operation("remote_control.command.read")], given: Given, project_id: Whole | None = None,
                   device_id: Whole | None = None, before_ms: Whole | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
                   ) -> list[dict[str, Any]]:
    """Commands, newest first."""
    found = await given.commands.list(project_id=project_id, device_id=device_id, limit=limit, before_ms=before_ms)
    return [_named(given, row) for row in found if who.sees_device(row["project_id"], row["device_id"])]


@api.get("/commands/{command_id}")
async def command(command_id: str, who: Annotated[Principal, operation("remote_control.command.preview")], given: Given) -> dict[str, Any]:
    """One command with its steps."""
    return _named(given, await _mine(given, who, command_id))


class Resolution(BaseModel):
    """What a person found out about an unknown command."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    verified: bool
    reason: Line = Field(min_length=2, max_length=200)


@api.post("/commands/{command_id}/resolve")
async def resolve(command_id: str, body: Resolution, who: Annotated[Principal, operation("remote_control.command.resolve")],
                  given: Given) -> dict[str, Any]:
    """A person says what became of an unknown command."""
    await _mine(given, who, command_id)
    return _named(given, await given.commands.resolve(command_id, verified=body.verified, actor=who.name, reason=body.reason))


class Tag(BaseModel):
    """A lockout that its holder cannot take off: two named persons do."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    device_id: Whole
    holder: Line = Field(min_length=1, max_length=120)
    locked_ms: int = Field(ge=0, le=(1 << 53))
    reason: Line = Field(min_length=2, max_length=200)


async def _tagged(body: Tag, request: Request, given: Given) -> DeviceInfo:
    """The device whose tag is meant: this very tag, somebody else's, hangs there now; nobody is asked about another."""
    _, who = request.state.second
    device = given.device(who, body.device_id)
    request.state.target = f"{device.code} unlock {body.holder}"
    heard = by_device(await given.live.agents(device.project_id)).get(device.id) or {}
    there = bool(heard.get("locked_out")) and heard.get("lockout_holder") == body.holder and int(heard.get("lockout_ms") or 0) == body.locked_ms
    if not there and not await _sent_before(given, request, device):
        raise TagGoneError(holder=body.holder)
    if body.holder == who.name:
        raise LockedByYouError(reason=heard.get("lockout_reason", ""))
    request.state.approval_projects = (device.project_id,)
    return device


async def _sent_before(given: Services, request: Request, device: DeviceInfo) -> bool:
    """The same call again, because its answer was lost: the tag may be gone by it."""
    if not request.headers.get("x-kang-approval"):
        return False
    return any(c["kind"] == "unlock" and c["state"] == "verified" for c in await given.commands.list(project_id=device.project_id, device_id=device.id, limit=5))


@api.post("/commands/remove-tag", status_code=202)
async def remove_tag(body: Tag, key: Key, request: Request, who: Annotated[Principal, operation("remote_control.tag.remove")], device: Annotated[DeviceInfo, Depends(_tagged)], given: Given) -> dict[str, Any]:
    """Take off another person's lockout (摘除他人挂牌): the asker and who approved it answer for it by name; the agent checks that there are two.

    The first call gives 202 with `approval`, which another person decides; then the same call with its id in `X-Kang-Approval` sends it.
    """
    return _named(given, await given.commands.submit(CommandRequest(
        device.project_id, device.id, "unlock", value=float(body.locked_ms) if body.locked_ms else None, authority=int(Authority.LOCKOUT), actor=who.name, second=request.state.second_person, reason=body.reason, idempotency_key=key)))


class Emergency(BaseModel):
    """A safety act on a device."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    device_id: Whole
    reason: Line = Field("", max_length=200)


@api.post("/commands/emergency-stop", status_code=202)
async def emergency_stop(body: Emergency, key: Key, request: Request, who: Annotated[Principal, operation("remote_control.emergency.stop")],
                         given: Given) -> dict[str, Any]:
    """Stop now (紧急停机): never refused, the agent follows the template's safe state."""
    return _named(given, await given.commands.submit(_safety(request, given, who, body, key, "emergency_stop")))


@api.post("/commands/restore-heat", status_code=202)
async def restore_heat(body: Emergency, key: Key, request: Request, who: Annotated[Principal, operation("remote_control.emergency.restore")],
                       given: Given) -> dict[str, Any]:
    """Drop stops and restrictions (恢复供热): never refused. The start it makes is held as operator for four hours, then plan and schedule go on."""
    return _named(given, await given.commands.submit(_safety(request, given, who, body, key, "restore_heat")))


def _safety(request: Request, given: Services, who: Principal, body: Emergency, key: str, kind: str) -> CommandRequest:
    device = given.device(who, body.device_id)
    request.state.target = f"{device.code} {kind}"
    hold_s = service.RESTORE_HOLD_S if kind == "restore_heat" else service.MAX_HOLD_S
    return CommandRequest(device.project_id, device.id, kind, authority=int(Authority.EMERGENCY_STOP), actor=who.name, reason=body.reason,
                          idempotency_key=key, hold_s=hold_s)


async def _checked(given: Services, who: Principal, body: Wish, key: str) -> tuple[CommandRequest, DeviceInfo, dict[str, Any] | None]:
    device = given.device(who, body.device_id)
    heard = by_device(await given.live.agents(device.project_id)).get(device.id)
    if heard is not None and heard.get("locked_out"):
        heard = service.after_unlock(heard, await given.commands.list(project_id=device.project_id, device_id=device.id, limit=5))
    wish = body.of(device, who, key)
    return service.check(wish, device, given.directory.template(device.template) or {}, heard), device, heard


async def _mine(given: Services, who: Principal, command_id: str) -> dict[str, Any]:
    found = await given.commands.get(command_id)
    if found is None or not who.sees_device(found["project_id"], found["device_id"]):
        raise NotFoundError(what="command", name=command_id)
    return found


def _named(given: Services, row: dict[str, Any]) -> dict[str, Any]:
    device = given.directory.device(row["device_id"])
    row = told(row, given.directory.template(device.template) if device else None)
    return {**row, "device": {"code": device.code, "name_zh": device.name_zh, "name_en": device.name_en} if device else None}
