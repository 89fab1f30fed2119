"""Gathers what the overview needs through the ports, once for all pages that ask within two seconds.

Must not know: FastAPI, engines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cloud.core.ports import ProjectInfo, Series
from cloud.functions.monitoring.flow import supply_devices
from cloud.functions.monitoring.overview import expected, hands, summarise, totals
from cloud.security.operations import Principal
from protos.points import BY_KEY

if TYPE_CHECKING:
    from cloud.functions.services import Services

_AT_ONCE = 16
_POWER = BY_KEY["active_power"].id


async def overview(given: Services, who: Principal) -> dict[str, Any]:
    """Totals, project rows and what needs a hand, over the projects in scope."""
    projects = given.projects(who)
    limit = asyncio.Semaphore(_AT_ONCE)
    agents, alarms, quarantine, commands = await asyncio.gather(
        given.live.agents(), given.historian.alarms(active=True, limit=5000), given.historian.quarantine(limit=200), given.commands.list(limit=200))
    now = given.now()
    seen = {p.id for p in projects}

    async def one(project: ProjectInfo) -> dict[str, Any]:
        async with limit:
            latest = await given.historian.latest(project.id)
        admitted = [a for a in given.directory.agents(project.id) if not a.revoked]
        heard = {a["agent_id"]: a for a in agents if a["project_id"] == project.id}
        devices = given.directory.devices(project.id)
        known = expected([heard.get(a.agent_id, {"agent_id": a.agent_id, "project_id": project.id, "online": False}) for a in admitted], devices)
        return summarise(project, devices, latest, known, [a for a in alarms if a["project_id"] == project.id], now)

    rows = await asyncio.gather(*(one(p) for p in projects))
    heard_ids = {a["agent_id"]: a for a in agents}
    all_agents = [heard_ids.get(a.agent_id, {"agent_id": a.agent_id, "project_id": a.project_id, "online": False})
                  for a in given.directory.agents() if a.project_id in seen and not a.revoked]
    names = {d.id: d for p in projects for d in given.directory.devices(p.id)}
    working = expected(all_agents, names.values())
    needs = hands([a for a in alarms if a["project_id"] in seen], working, [q for q in quarantine if q["project_id"] in seen],
                  [c for c in commands if c["project_id"] in seen], rows, now_ms=now)
    for need in needs:
        first = names.get(need.get("device_id") or next(iter(need.get("device_ids", ())), 0))
        need["device"] = {"id": first.id, "name_zh": first.name_zh, "name_en": first.name_en} if first else None
    return {"at_ms": now, "totals": totals(rows), "projects": [{k: v for k, v in row.items() if k != "flow"} for row in rows], "needs": needs}


async def power_timeline(given: Services, who: Principal, start_ms: int, end_ms: int, resolution_s: int) -> dict[str, Any]:
    """Grid power of all projects in scope, summed per bucket; a bucket says how many of the projects it holds.

    Returns:
        {resolution_s, of, at_ms, kw, low, high, measured}; only buckets in which somebody measured.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(project: ProjectInfo) -> list[Series]:
        wanted = [(d.id, _POWER) for d in supply_devices(given.directory.devices(project.id)) if _POWER in d.points]
        if not wanted:
            return []
        async with limit:
            return await given.historian.history(project.id, wanted, start_ms, end_ms, resolution_s=resolution_s)

    projects = given.projects(who)
    sums: dict[int, list[float]] = {}
    of = 0
    for series in await asyncio.gather(*(one(p) for p in projects)):
        of += bool(series)
        seen: set[int] = set()
        for line in series:
            for k, at in enumerate(line.at_ms):
                row = sums.setdefault(at, [0.0, 0.0, 0.0, 0.0])
                row[0] += line.mean[k]
                row[1] += line.low[k]
                row[2] += line.high[k]
                row[3] += at not in seen
                seen.add(at)
    at_ms = sorted(sums)
    return {"resolution_s": resolution_s, "of": of, "at_ms": at_ms, "kw": [round(sums[t][0], 3) for t in at_ms],
            "low": [round(sums[t][1], 3) for t in at_ms], "high": [round(sums[t][2], 3) for t in at_ms], "measured": [int(sums[t][3]) for t in at_ms]}
