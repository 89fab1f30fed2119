"""REST of monitoring (在线监测): overview, newest values, history, energy flow, rooms, alarms, quarantine, the live stream.

Must not know: engines, transports.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from cloud.core.ports import Series
from cloud.functions.devices import views
from cloud.functions.monitoring import picture
from cloud.functions.monitoring.errors import HistoryQueryError, TooManyStreamsError
from cloud.functions.monitoring.flow import energy_flow
from cloud.functions.monitoring.rooms import rooms
from cloud.functions.monitoring.stream import MAX_DEVICES, MAX_STREAMS, MAX_STREAMS_PER_SESSION, LiveStreams, StreamFullError
from cloud.functions.params import Whole
from cloud.functions.services import Services, services
from cloud.functions.tables_out import OR_CSV, csv_response, local_time
from cloud.security.guard import NotFoundError, operation, router
from cloud.security.operations import Principal
from protos.points import BY_ID

api = router()
Given = Annotated[Services, Depends(services)]
RESOLUTIONS = (0, 60, 900, 3600, 86400)
_MAX_SERIES = 40
_MAX_SPAN_MS = 3660 * 86_400_000
_MAX_BUCKETS = 40_000


@api.get("/overview")
async def overview(who: Annotated[Principal, operation("monitoring.overview.read")], given: Given) -> dict[str, Any]:
    """The first screen in figures (运行总览)."""
    return await picture.overview(given, who)


@api.get("/overview/power")
async def overview_power(who: Annotated[Principal, operation("monitoring.overview.read")], given: Given, start_ms: Whole, end_ms: Whole,
                         resolution_s: Whole = 900) -> dict[str, Any]:
    """Grid power of all projects in scope over time; `resolution_s` 60, 900, 3600 or 86400."""
    _resolution(resolution_s, RESOLUTIONS[1:])
    _span(start_ms, end_ms, resolution_s)
    return await picture.power_timeline(given, who, start_ms, end_ms, resolution_s)


@api.get("/projects/{project_id}/latest")
async def latest(project_id: Whole, who: Annotated[Principal, operation("monitoring.latest.read")], given: Given,
                 device_id: Annotated[list[Whole] | None, Query()] = None) -> dict[str, Any]:
    """Newest values in columns: [device_id, point_id, at_ms, value, quality]."""
    given.project(who, project_id)
    mine = {d.id for d in given.devices(who, project_id)}
    wanted = None if device_id is None else [d for d in device_id if d in mine]
    found = await given.historian.latest(project_id, wanted)
    return {"at_ms": given.now(), "columns": ["device_id", "point_id", "at_ms", "value", "quality"], "rows": [[v.device_id, v.point_id, v.at_ms, v.value, v.quality] for v in found if v.device_id in mine]}


@api.get("/projects/{project_id}/history", response_model=None, responses=OR_CSV)
async def history(project_id: Whole, who: Annotated[Principal, operation("monitoring.history.read")], given: Given,
                  series: Annotated[str, Query(max_length=800)], start_ms: Whole, end_ms: Whole, resolution_s: Whole | None = None,
                  max_points: Annotated[int, Query(ge=10, le=20_000)] = 2000, format: Literal["json", "csv"] = "json",  # noqa: A002
                  language: Literal["zh", "en"] = "zh") -> dict[str, Any] | Response:
    """History of `series` ("device:point,device:point"); resolution is picked from the span unless given (s, 0 = raw)."""
    project = given.project(who, project_id)
    wanted = _series(given, who, project_id, series)
    if resolution_s is not None:
        _resolution(resolution_s, RESOLUTIONS)
    _span(start_ms, end_ms, resolution_s)
    found = await given.historian.history(project_id, wanted, start_ms, end_ms, resolution_s=resolution_s, max_points=max_points)
    if format == "json":
        return {"start_ms": start_ms, "end_ms": end_ms, "series": [_columns(s) for s in found]}
    head = ("时间,设备,测点,单位,平均,最小,最大,个数,质量" if language == "zh" else "time,device,point,unit,mean,min,max,count,quality").split(",")
    return csv_response("history.csv", head, (
        (local_time(s.at_ms[k], project.timezone), device.code if (device := given.directory.device(s.device_id)) else s.device_id,
         getattr(BY_ID[s.point_id], language), BY_ID[s.point_id].unit, _tidy(s.mean[k]), _tidy(s.low[k]), _tidy(s.high[k]), s.count[k], s.quality[k])
        for s in found for k in range(len(s.at_ms))))


@api.get("/projects/{project_id}/flow")
async def flow(project_id: Whole, who: Annotated[Principal, operation("monitoring.flow.read")], given: Given) -> dict[str, Any]:
    """The energy flow (能量流), to scale."""
    given.project(who, project_id)
    return energy_flow(given.devices(who, project_id), await given.historian.latest(project_id), given.now())


@api.get("/projects/{project_id}/rooms")
async def project_rooms(project_id: Whole, who: Annotated[Principal, operation("monitoring.rooms.read")], given: Given) -> dict[str, Any]:
    """Rooms against the promised temperature (室温)."""
    project = given.project(who, project_id)
    return rooms(project, given.devices(who, project_id), await given.historian.latest(project_id), given.now())


@api.get("/alarms")
async def alarms(who: Annotated[Principal, operation("monitoring.alarms.read")], given: Given, project_id: Whole | None = None,
                 active: bool | None = None, before_ms: Whole | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """Alarms (报警), newest first."""
    if project_id is not None:
        given.project(who, project_id)
    found = await given.historian.alarms(project_id=project_id, active=active, limit=limit, before_ms=before_ms)
    return [_named(given, a) for a in found if who.sees_device(a["project_id"], a["device_id"])]


@api.get("/quarantine")
async def quarantine(who: Annotated[Principal, operation("monitoring.quarantine.read")], given: Given, project_id: Whole | None = None,
                     before_ms: Whole | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """Batches set aside (隔离区), newest first."""
    found = await given.historian.quarantine(project_id=project_id, limit=limit, before_ms=before_ms)
    return [row for row in found if who.sees_project(row["project_id"])]


class Release(BaseModel):
    """How a held batch goes back on the road."""

    model_config = ConfigDict(strict=True)

    offset_ms: int = Field(0, description="added to every timestamp, milliseconds", ge=-(1 << 42), le=1 << 42)


@api.post("/quarantine/{quarantine_id}/release")
async def release(quarantine_id: str, body: Release, request: Request, who: Annotated[Principal, operation("monitoring.quarantine.release")],
                  given: Given) -> dict[str, int]:
    """Put a held batch back on the road, shifted in time."""
    await _held(given, who, quarantine_id)
    request.state.target = f"quarantine/{quarantine_id} {body.offset_ms:+d} ms"
    return {"rows": await given.historian.release(quarantine_id, offset_ms=body.offset_ms, actor=who.name)}


@api.post("/quarantine/{quarantine_id}/discard", status_code=204)
async def discard(quarantine_id: str, who: Annotated[Principal, operation("monitoring.quarantine.discard")], given: Given) -> None:
    """Discard a held batch; its row stays."""
    await _held(given, who, quarantine_id)
    await given.historian.discard(quarantine_id, actor=who.name)


Watcher = Annotated[Principal, operation("monitoring.live.read")]


async def _watching(request: Request, who: Watcher, given: Given, projects: Annotated[str, Query(max_length=4000)] = "",
                    devices: Annotated[str, Query(max_length=4000)] = "") -> tuple[list[int], list[int]]:
    """What a new stream watches; refused here, while an answer can still be a refusal."""
    streams: LiveStreams = request.app.state.streams
    if len(streams) >= MAX_STREAMS:
        raise TooManyStreamsError(limit=MAX_STREAMS)
    if streams.of(who.session) >= MAX_STREAMS_PER_SESSION:
        raise TooManyStreamsError(limit=MAX_STREAMS_PER_SESSION)
    return _scope(given, who, _ids(projects), _ids(devices))


@api.get("/live", response_class=EventSourceResponse)
async def live(request: Request, who: Watcher, given: Given, watching: Annotated[tuple[list[int], list[int]], Depends(_watching)]
               ) -> AsyncIterator[ServerSentEvent]:
    """The tab's one stream: hello, values, command, alarm, agent, and a beat every 5 s. Ends when the session does."""
    streams: LiveStreams = request.app.state.streams
    stream = streams.open(who.session, lambda event: _sees(who, event))
    stream.subscribe(*watching)
    touching = asyncio.create_task(_touch(given, who, stream) if who.kind != "client" else _valid(given, request, stream))
    try:
        yield ServerSentEvent(event="hello", raw_data=json.dumps({"stream_id": stream.id, "now_ms": given.now()}), retry=2000)
        async for event in stream.events():
            yield ServerSentEvent(event=str(event["type"]), data=event)
        yield ServerSentEvent(event="bye", raw_data='{"reason": "session"}')
    except StreamFullError:
        yield ServerSentEvent(event="bye", raw_data='{"reason": "slow"}')
    finally:
        touching.cancel()
        await streams.close(stream)


class Subscription(BaseModel):
    """What a tab wants to watch."""

    model_config = ConfigDict(strict=True)

    project_ids: list[Whole] = Field(default_factory=list, max_length=5000)
    device_ids: list[Whole] = Field(default_factory=list, max_length=MAX_DEVICES)


@api.post("/live/{stream_id}", status_code=204)
async def subscribe(stream_id: str, body: Subscription, request: Request, who: Annotated[Principal, operation("monitoring.live.subscribe")],
                    given: Given) -> None:
    """Change what a stream watches."""
    streams: LiveStreams = request.app.state.streams
    stream = streams.find(stream_id, who.session)
    if stream is None:
        raise NotFoundError(what="stream", name=stream_id)
    stream.subscribe(*_scope(given, who, body.project_ids, body.device_ids))


async def _touch(given: Services, who: Principal, stream: Any) -> None:
    """An open page is a present person: the session slides on while the stream lives, and the stream ends with the session."""
    while await given.sessions.touch(who):  # noqa: ASYNC110 - nobody signals the passing of time
        await asyncio.sleep(60)
    stream.end()


async def _valid(given: Services, request: Request, stream: Any) -> None:
    """An external system's stream ends with its token, and within seconds when the client is changed or disabled."""
    token = request.headers.get("authorization", "").partition(" ")[2]
    while given.clients is not None and await given.clients.authenticate(token) is not None:  # noqa: ASYNC110 - nobody signals the passing of time
        await asyncio.sleep(2)
    stream.end()


async def _held(given: Services, who: Principal, quarantine_id: str) -> None:
    for row in await given.historian.quarantine(limit=1000):
        if str(row["id"]) == quarantine_id and who.sees_project(row["project_id"]):
            return
    raise NotFoundError(what="quarantine", name=quarantine_id)


def _scope(given: Services, who: Principal, project_ids: list[int], device_ids: list[int]) -> tuple[list[int], list[int]]:
    seen = {p.id for p in given.projects(who)}
    devices = [d for i in device_ids if (d := given.directory.device(i)) and who.sees_device(d.project_id, i)]
    return [i for i in project_ids if i in seen], [d.id for d in devices]


def _sees(who: Principal, event: dict[str, Any]) -> bool:
    if not who.sees_project(int(event.get("project_id", 0))):
        return False
    if who.device_ids is None:
        return True
    if event["type"] == "values":
        event["rows"] = [row for row in event["rows"] if row[0] in who.device_ids]
        return bool(event["rows"])
    return event.get("device_id") in who.device_ids


def _ids(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",") if part]
        if not all(0 <= i < 1 << 63 for i in found):
            raise ValueError
        return found
    except ValueError:
        raise HistoryQueryError(reason_zh=f"“{text}”不是编号列表", reason_en=f"'{text}' is not a list of ids") from None


def _series(given: Services, who: Principal, project_id: int, text: str) -> list[tuple[int, int]]:
    wanted: list[tuple[int, int]] = []
    for part in text.split(","):
        device_text, _, point_text = part.partition(":")
        if not (device_text.isdecimal() and point_text.isdecimal()):
            raise HistoryQueryError(reason_zh=f"“{part}”应写作 设备:测点", reason_en=f"'{part}' should read device:point")
        device = given.device(who, int(device_text))
        if device.project_id != project_id or int(point_text) not in device.points:
            raise NotFoundError(what="series", name=part)
        wanted.append((device.id, int(point_text)))
    if len(wanted) > _MAX_SERIES:
        raise HistoryQueryError(reason_zh=f"一次最多 {_MAX_SERIES} 条曲线", reason_en=f"at most {_MAX_SERIES} series at once")
    return wanted


def _resolution(resolution_s: int, allowed: Sequence[int]) -> None:
    if resolution_s not in allowed:
        words = ", ".join(str(r) for r in allowed)
        raise HistoryQueryError(reason_zh=f"分辨率应为 {words} 秒之一", reason_en=f"the resolution must be one of {words} seconds")


def _span(start_ms: int, end_ms: int, resolution_s: int | None) -> None:
    if not 0 <= start_ms < end_ms or end_ms - start_ms > _MAX_SPAN_MS:
        raise HistoryQueryError(reason_zh="起止时间应先后有序且不超过十年", reason_en="start must precede end, by at most ten years")
    if resolution_s and (end_ms - start_ms) / 1000 / resolution_s > _MAX_BUCKETS:
        raise HistoryQueryError(reason_zh=f"每个测点一次最多 {_MAX_BUCKETS} 个时段，请放宽分辨率", reason_en=f"at most {_MAX_BUCKETS} intervals a point at once; choose a coarser resolution")
    if resolution_s == 0 and end_ms - start_ms > 7 * 86_400_000:
        raise HistoryQueryError(reason_zh="原始数据一次最多 7 天", reason_en="raw data: at most 7 days at once")


def _tidy(value: float | None) -> float | None:
    """Nine significant digits: more than any meter has, without the noise of a double."""
    return None if value is None else float(f"{value:.9g}")


def _columns(series: Series) -> dict[str, Any]:
    return {"device_id": series.device_id, "point_id": series.point_id, "resolution_s": series.resolution_s, "at_ms": series.at_ms,
            "mean": series.mean, "low": series.low, "high": series.high, "count": series.count, "quality": series.quality}


def _named(given: Services, alarm: dict[str, Any]) -> dict[str, Any]:
    device = given.directory.device(alarm["device_id"])
    project = given.directory.project(alarm["project_id"])
    return {**alarm, "device": {"code": device.code, "name_zh": device.name_zh, "name_en": device.name_en, "profile": device.profile} if device else None,
            "project": {"code": project.code, "name_zh": project.name_zh, "name_en": project.name_en} if project else None,
            "point": views.point_view(alarm["point_id"])}
