"""REST of batches (批量控制): preview, send, release after a second person's approval, follow, cancel, put back, list, export.

Must not know: transports, the journal.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.core.ports import CommandRequest, DeviceInfo
from cloud.functions.devices.state import by_device, holder_view
from cloud.functions.devices.templates import device_writings
from cloud.functions.params import Line, Moment, Whole
from cloud.functions.remote_control import service
from cloud.functions.remote_control.batches import MOST, BatchService, batch_id, counted, rated_kw, release_digest, second_person
from cloud.functions.remote_control.errors import BatchSizeError, CommandRefusedError
from cloud.functions.remote_control.runner import BatchRunner
from cloud.functions.remote_control.wishes import Act, Key
from cloud.functions.services import Services, services
from cloud.functions.tables_out import CsvResponse, csv_response, local_time
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from protos.arbitration import Authority
from protos.errors import KangError
from protos.points import BY_ID

api = router()
Given = Annotated[Services, Depends(services)]
Identity = Annotated[str, Path(max_length=32, pattern=r"^[a-z0-9-]+$")]
Sees = Annotated[Principal, operation("remote_control.batch.read")]
State = Literal["", "pending", "running", "done", "failed", "cancelled"]
Kind = Literal["", "hold", "release", "pulse", "stop", "start", "lock", "unlock", "restore"]
#: Devices that a second person is told by name with the request (which is kept to 4000 characters); the batch names them all.
TOLD = 10


class BatchWish(Act):
    """One act on several devices; canonical units, seconds, UTC milliseconds.

    `gap_s`: between one device and the next; `start_ms`: not before (0 = now); `on_failure`: go on, stop what is not sent, or stop and put back.
    """

    model_config = ConfigDict(extra="forbid")

    device_ids: list[Whole] = Field(min_length=1, max_length=MOST)
    deadline_s: float = Field(60.0, ge=5, le=3600)
    gap_s: float = Field(0.0, ge=0, le=600)
    start_ms: Moment = 0
    on_failure: Literal["go_on", "stop", "restore"] = "go_on"


class Reason(BaseModel):
    """Why."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Line = Field(min_length=2, max_length=200)


def _runner(request: Request) -> BatchRunner:
    found: BatchRunner = request.app.state.batches
    return found


def _service(request: Request) -> BatchService:
    return _runner(request).batches


@api.post("/command-batches/preview")
async def preview(body: BatchWish, who: Annotated[Principal, operation("remote_control.batch.preview")], given: Given) -> dict[str, Any]:
    """Device by device: what would be refused and why, who holds it until when, limits, interlocks; the effect on rooms and bill; does it need a second person?"""
    devices = [given.device(who, d) for d in dict.fromkeys(body.device_ids)]
    heard = await _heard(given, devices)
    rows, good = [], []
    for device in devices:
        document, state = given.directory.template(device.template) or {}, heard.get(device.id)
        row: dict[str, Any] = {"device": _named(device), "project_id": device.project_id, "rated_kw": device.rated_kw, "problem": None, "locked_out": bool(state and state.get("locked_out"))}
        write = device_writings(device, document).get(body.point_id)
        row["limits"] = None if write is None else {"low": write.low, "high": write.high}
        row["holders"] = [holder_view(h, document) for h in (state or {}).get("holders", ()) if not body.point_id or int(h["point_id"]) == body.point_id or int(h["authority"]) == Authority.INTERLOCK]
        try:
            request = service.check(body.of(device, who, ""), device, document, state)
            row |= service.preview(request, device, state, given.now())
            good.append(request)
        except KangError as error:
            row |= {"problem": {"code": error.code, "zh": error.message("zh"), "en": error.message("en")}, "online": bool(state and state.get("online") and state.get("agent_online")), "local_manual": bool(state and state.get("local_manual"))}
        rows.append(row)
    by_id = {d.id: d for d in devices}
    return {"rows": rows, "possible": len(good), "kw": rated_kw(good, by_id), "second": second_person(good, by_id, _documents(given, devices), given.limits), "effects": await _effects(given, good)}


@api.post("/command-batches", status_code=202)
async def submit(body: BatchWish, key: Key, request: Request, who: Annotated[Principal, operation("remote_control.batch.submit")], given: Given) -> dict[str, Any]:
    """Send a batch, or lay it before a second person; refused whole when one device would refuse by what is known. The same key gives the same batch."""
    if len(set(body.device_ids)) != len(body.device_ids):
        raise BatchSizeError(problem_zh="同一设备出现两次", problem_en="a device is named twice")
    if len(body.reason.strip()) < 2:
        raise BatchSizeError(problem_zh="请写明原因", problem_en="say why")
    devices = [given.device(who, d) for d in body.device_ids]
    request.state.target = f"{body.kind} {BY_ID[body.point_id].key if body.point_id in BY_ID else ''} x{len(devices)}"
    identity = batch_id(who.user_id, key)
    heard = await _heard(given, devices)
    requests = [_checked(body.of(d, who, ""), d, given.directory.template(d.template) or {}, heard.get(d.id)) for d in devices]
    by_id = {d.id: d for d in devices}
    second, kw = second_person(requests, by_id, _documents(given, devices), given.limits), rated_kw(requests, by_id)
    wish = body.model_dump(exclude={"device_ids", "reason"})
    made = await asyncio.to_thread(lambda: _service(request).create(identity, requests, wish, who, kw=kw, second=second, start_ms=body.start_ms))
    if made["state"] == "pending":  # only now: what was refused, or has ended, is laid before nobody
        row = request.app.state.gate.table["remote_control.batch.release"]
        told = {"kind": body.kind, "point": BY_ID[body.point_id].key if body.point_id in BY_ID else None, "value": body.value, "low": body.low, "high": body.high, "hold_s": body.hold_s, "gap_s": body.gap_s,
                "start_ms": body.start_ms, "on_failure": body.on_failure, "kw": made["kw"], "why": made["second"], "count": len(devices), "devices": [{"code": d.code, "zh": d.name_zh, "en": d.name_en} for d in devices[:TOLD]]}
        try:
            approval = await given.people.approvals.ask(row, who, digest=release_digest(identity), target=f"/batches/{identity}", reason=body.reason, payload=json.dumps(told, ensure_ascii=False),
                                                        projects={d.project_id for d in devices})
        except KangError:  # nobody can be asked, so it waits for nobody
            await asyncio.to_thread(_service(request).cancel, identity, who.name)
            raise
        made = await asyncio.to_thread(_service(request).lay_before, identity, approval["id"])
    if made["state"] == "running":
        _runner(request).start(identity)
    return _shown(given, who, made)


@api.get("/command-batches")
async def batches(request: Request, who: Sees, given: Given, state: State = "", kind: Kind = "", text: Annotated[Line, Query(max_length=60)] = "", project_id: Whole | None = None,
                  sort: Literal["created_ms", "-created_ms", "devices", "-devices", "state", "actor"] = "-created_ms", limit: Annotated[int, Query(ge=1, le=500)] = 50,
                  offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> dict[str, Any]:
    """Batches in scope: {total, rows}."""
    total, rows = await asyncio.to_thread(lambda: _service(request).rows(projects=_projects(given, who, project_id), state=state, kind=kind, text=text, sort=sort, limit=limit, offset=offset))
    if who.bounded:
        of: dict[str, list[dict[str, Any]]] = {}
        for item in await asyncio.to_thread(_service(request).items_of, [r["id"] for r in rows]):
            of.setdefault(item["batch_id"], []).append(item)
        rows = [_within(given, who, r, of.get(r["id"], [])) for r in rows]
    return {"total": total, "offset": offset, "rows": rows}


@api.get("/command-batches/export", response_class=CsvResponse)
async def export(request: Request, who: Annotated[Principal, operation("remote_control.batch.export")], given: Given, state: State = "", kind: Kind = "", text: Annotated[Line, Query(max_length=60)] = "",
                 project_id: Whole | None = None) -> Response:
    """The batches asked for as CSV, one line a device."""
    _, rows = await asyncio.to_thread(lambda: _service(request).rows(projects=_projects(given, who, project_id), state=state, kind=kind, text=text, limit=2000))
    of = {r["id"]: r for r in rows}
    items = [i for i in await asyncio.to_thread(_service(request).items_of, list(of)) if who.sees_device(i["project_id"], i["device_id"])]
    head = ("批次 batch", "时间 time", "操作人 actor", "原因 reason", "设备 device", "操作 act", "测点 point", "值 value", "状态 state", "代码 code", "回读 readback", "结束 ended")

    def line(i: dict[str, Any]) -> tuple[object, ...]:
        b, device, wish = of[i["batch_id"]], given.directory.device(i["device_id"]), i["wish"]
        return (b["id"], local_time(b["created_ms"], given.timezone), b["actor"], b["reason"], device.code if device else i["device_id"], wish["kind"], BY_ID[wish["point_id"]].key if wish["point_id"] in BY_ID else "",
                wish["value"], i["state"], i["code"], i["readback"], local_time(i["ended_ms"], given.timezone))

    return csv_response("batches.csv", head, (line(i) for i in sorted(items, key=lambda i: (-of[i["batch_id"]]["created_ms"], i["batch_id"], i["n"]))))


@api.get("/command-batches/{batch}")
async def one(batch: Identity, request: Request, who: Sees, given: Given) -> dict[str, Any]:
    """A batch, device by device."""
    return _shown(given, who, await _mine(request, who, batch, whole=False))


@api.post("/command-batches/{batch}/release", status_code=202)
async def release(batch: Identity, request: Request, who: Annotated[Principal, operation("remote_control.batch.release", asks=False)], given: Given) -> dict[str, Any]:
    """Carry out what a second person has approved (header `X-Kang-Approval`): by its asker, once, within the approval's deadline."""
    await _mine(request, who, batch)
    request.state.target = f"command_batch/{batch}"
    await asyncio.to_thread(_service(request).release, batch)
    _runner(request).start(batch)
    return _shown(given, who, await _mine(request, who, batch))


@api.post("/command-batches/{batch}/cancel")
async def cancel(batch: Identity, request: Request, who: Annotated[Principal, operation("remote_control.batch.cancel")], given: Given) -> dict[str, Any]:
    """Send no more of it and call back what still waits for its site; what was sent is followed to its end."""
    await _mine(request, who, batch)
    request.state.target = f"command_batch/{batch}"
    await _runner(request).cancel(batch, who.name)
    return _shown(given, who, await _mine(request, who, batch))


@api.post("/command-batches/{batch}/restore", status_code=202)
async def restore(batch: Identity, body: Reason, request: Request, who: Annotated[Principal, operation("remote_control.batch.restore")], given: Given) -> dict[str, Any]:
    """Put back what it changed, as a batch of its own: absolute set-points that nobody has changed since."""
    found = await _mine(request, who, batch)
    request.state.target = f"command_batch/{batch}"
    made = await _runner(request).restore(found, who, reason=body.reason)
    return {**_shown(given, who, made), "left": made["left"]}


def _checked(request: CommandRequest, device: DeviceInfo, document: Mapping[str, Any], heard: Mapping[str, Any] | None) -> CommandRequest:
    """As for one device; a refusal names which of the many it is."""
    try:
        return service.check(request, device, document, heard)
    except CommandRefusedError as error:
        code = device.code.replace("{", "{{").replace("}", "}}")
        error.zh, error.en = f"{code}：{error.zh}", f"{code}: {error.en}"
        raise


def _documents(given: Services, devices: Sequence[DeviceInfo]) -> dict[int, Any]:
    return {d.id: given.directory.template(d.template) or {} for d in devices}


async def _heard(given: Services, devices: Sequence[DeviceInfo]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for project_id in sorted({d.project_id for d in devices}):
        found |= by_device(await given.live.agents(project_id))
    return found


async def _effects(given: Services, requests: Sequence[CommandRequest]) -> list[dict[str, Any]]:
    found = []
    for project_id in sorted({r.project_id for r in requests}) if given.effects is not None else ():
        try:
            effect = await given.effects.effect(project_id, [r for r in requests if r.project_id == project_id]) if given.effects is not None else None
        except KangError:  # no history, no prediction: the preview says so by leaving it out
            effect = None
        if effect is not None:
            found.append({"project_id": project_id, **effect})
    return found


def _projects(given: Services, who: Principal, project_id: int | None) -> list[int] | None:
    if project_id is not None:
        return [given.project(who, project_id).id]
    return [p.id for p in given.projects(who)] if who.bounded else None


async def _mine(request: Request, who: Principal, batch: str, *, whole: bool = True) -> dict[str, Any]:
    """A batch that the asker may see: every device of it to act on it (`whole`), one of them to look at it."""
    try:
        found = await asyncio.to_thread(_service(request).batch, batch)
    except KeyError:
        raise NotFoundError(what="batch", name=batch) from None
    seen = [who.sees_device(i["project_id"], i["device_id"]) for i in found["items"]]
    if not (all(seen) if whole else any(seen)):
        raise NotFoundError(what="batch", name=batch)
    return found


def _within(given: Services, who: Principal, batch: dict[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch as somebody may know it: figures are those of the devices in scope, also where they are told as a reason."""
    seen = [i for i in items if who.sees_device(i["project_id"], i["device_id"])]
    if len(seen) == len(items):
        return batch
    kw = round(sum(d.rated_kw for i in seen if (d := given.directory.device(i["device_id"])) is not None), 3)
    second = [{"zh": "批次超出您的数据范围，原因不予列出", "en": "the batch reaches beyond your scope; the reason is not shown"}] if batch["second"] else []
    return {**batch, "devices": len(seen), "kw": kw, "second": second, "counts": counted((i["state"], 1) for i in seen)}


def _shown(given: Services, who: Principal, batch: dict[str, Any]) -> dict[str, Any]:
    items = [i for i in batch["items"] if who.sees_device(i["project_id"], i["device_id"])]
    batch = _within(given, who, batch, batch["items"])
    return {**batch, "mine": batch["actor_id"] == who.user_id, "items": [{**i, "device": None if (d := given.directory.device(i["device_id"])) is None else _named(d)} for i in items]}


def _named(device: DeviceInfo) -> dict[str, Any]:
    return {"id": device.id, "code": device.code, "name_zh": device.name_zh, "name_en": device.name_en}


