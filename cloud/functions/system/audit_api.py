"""REST of the audit (审计, 7.2.5 b, 8.3 g): search, verify, export, network records. Must not know: engines, the chain's mathematics."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response

from cloud.functions.params import Whole
from cloud.functions.services import Services, services
from cloud.functions.system.audit_desk import AuditDesk, pages
from cloud.functions.tables_out import CsvResponse, csv_response, local_time
from cloud.security.guard import Gate, NotFoundError, operation, router
from cloud.security.operations import Principal

api = router()
Given = Annotated[Services, Depends(services)]
Result = Literal["", "begun", "done", "accepted", "pending", "refused", "failed"]
Channel = Literal["", "portal", "api", "cli", "job", "link"]
Level = Literal["", "info", "notice", "warning", "alarm"]
FlowKind = Literal["", "connect", "disconnect", "call", "auth", "refused"]


class Filters:
    """What is looked for."""

    def __init__(self, since_ms: Whole | None = None, until_ms: Whole | None = None, operator: Annotated[str, Query(max_length=60)] = "",
                 name: Annotated[str, Query(max_length=80)] = "", about: Annotated[str, Query(max_length=120, description="object or operating point")] = "",
                 result: Result = "", channel: Channel = "", remote: bool = False, level: Level = "") -> None:
        self.values: dict[str, Any] = {"since_ms": since_ms, "until_ms": until_ms, "operator": operator, "operation": name, "object_": about, "result": result,
                                       "channel": channel, "remote": remote, "level": level}


def _desk(given: Services) -> AuditDesk:
    if given.audit is None:
        raise NotFoundError(what="audit", name="-")
    return given.audit


@api.get("/audit")
async def search(_who: Annotated[Principal, operation("system.audit.read")], given: Given, request: Request, filters: Annotated[Filters, Depends()],
                 before: Whole | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """Audit rows, newest first; `linked` is the row's place in the chain."""
    rows = await asyncio.to_thread(given.journal.rows, before=before, limit=limit, **filters.values)
    return _worded(request, rows)


@api.get("/audit/health")
async def health(_who: Annotated[Principal, operation("system.audit.read")], given: Given) -> dict[str, Any]:
    """How far the chain is behind, and its newest signed checkpoint."""
    return await asyncio.to_thread(_desk(given).health)


@api.get("/audit/verify")
async def verify(_who: Annotated[Principal, operation("system.audit.verify")], given: Given) -> dict[str, Any]:
    """Check the chain; the first record that is not what it was is named."""
    return await asyncio.to_thread(_desk(given).verify)


@api.get("/audit/export.csv", response_class=CsvResponse)
async def export(_who: Annotated[Principal, operation("system.audit.export")], given: Given, request: Request, filters: Annotated[Filters, Depends()]) -> Response:
    """The rows that match, as a table."""
    rows = _worded(request, await asyncio.to_thread(lambda: list(pages(given.journal.rows, filters.values))))
    head = ("编号 no.", "时间 time", "类型 type", "operation", "级别 level", "操作点 operating point", "进程 process id", "操作员 operator", "结果 result", "code", "对象 object",
            "之前 before", "之后 after", "request id", "地址 address", "通道 channel", "chain")
    return csv_response("audit.csv", head, (
        (r["id"], local_time(r["at_ms"], given.timezone), f"{r['zh']} {r['en']}", r["operation"], r["level"], r["target"], r["process_id"], r["operator"], r["result"], r["code"],
         r["object"], r["before"], r["after"], r["request_id"], r["address"], r["channel"], r["linked"]) for r in rows))


@api.get("/network")
async def network(_who: Annotated[Principal, operation("system.network.read")], given: Given, day: Annotated[str, Query(pattern=r"^\d{4}-\d{2}-\d{2}$", max_length=10)],
                  site: Annotated[str, Query(max_length=80, description="agent id, client id or address; empty = all")] = "", kind: FlowKind = "",
                  limit: Annotated[int, Query(ge=1, le=1000)] = 500) -> list[dict[str, Any]]:
    """Connections, calls and sign-ins of a day (网络与会话记录), newest first."""
    if given.flows is None:
        return []
    return await given.flows.search(day, given.timezone, site=site, kind=kind, limit=limit)


def _worded(request: Request, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    gate: Gate = request.app.state.gate
    words = {row.name: row for row in gate.table}
    return [{**row, "zh": words[row["operation"]].zh if row["operation"] in words else row["operation"],
             "en": words[row["operation"]].en if row["operation"] in words else row["operation"]} for row in rows]
