"""Lists devices: filter, sort, page, over what is registered and what was last heard. Must not know: FastAPI."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloud.core.ports import DeviceInfo, Latest
from cloud.functions.devices import state, views
from cloud.security.operations import Principal

if TYPE_CHECKING:
    from cloud.functions.services import Services

_WORST_FIRST = ("critical", "offline", "never_heard", "locked", "alarm", "local", "held", "normal")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted; empty = no restriction. `condition` may name several, comma-separated."""

    project_id: int | None = None
    text: str = ""
    profile: str = ""
    condition: str = ""
    parent_id: int | None = None
    sort: str = "project"
    descending: bool = False
    language: str = "zh"


async def list_devices(given: Services, who: Principal, wanted: Filter, *, offset: int, limit: int) -> dict[str, Any]:
    """One page.

    Returns:
        {total, offset, rows, profiles: {profile: n}, conditions: {condition: n}}; the counts ignore their own filter, so chips can show them.
    """
    projects = [given.project(who, wanted.project_id)] if wanted.project_id is not None else given.projects(who)
    agents, alarms = await asyncio.gather(given.live.agents(wanted.project_id), given.historian.alarms(
        project_id=wanted.project_id, active=True, limit=5000))
    heard, severities = state.by_device(agents), state.severities_by_device(alarms)
    found = [d for p in projects for d in given.devices(who, p.id) if _matches(d, wanted)]
    words = {d.id: state.condition(heard.get(d.id), severities.get(d.id, {})) for d in found}
    profiles = set(filter(None, wanted.profile.split(",")))
    conditions = set(filter(None, wanted.condition.split(",")))
    counts_profile, counts_condition = _count(found, words, conditions), _count_conditions(found, words, profiles)
    rows = [d for d in found if (not profiles or d.profile in profiles) and (not conditions or words[d.id] in conditions)]
    rows.sort(key=lambda d: _order(d, wanted, words[d.id]), reverse=wanted.descending)
    page = rows[offset:offset + limit]
    latest = await _latest(given, page)
    return {"total": len(rows), "offset": offset, "profiles": counts_profile, "conditions": counts_condition, "rows": [
        views.device_row(d, heard.get(d.id), severities.get(d.id, {}), latest.get(d.id, []), given.directory.template(d.template)) for d in page]}


async def _latest(given: Services, page: list[DeviceInfo]) -> dict[int, list[Latest]]:
    wanted: dict[int, list[int]] = {}
    for device in page:
        wanted.setdefault(device.project_id, []).append(device.id)
    answers = await asyncio.gather(*(given.historian.latest(p, ids) for p, ids in wanted.items()))
    found: dict[int, list[Latest]] = {}
    for answer in answers:
        for row in answer:
            found.setdefault(row.device_id, []).append(row)
    return found


def _matches(device: DeviceInfo, wanted: Filter) -> bool:
    if wanted.parent_id is not None and device.parent_id != wanted.parent_id:
        return False
    text = wanted.text.casefold().strip()
    return not text or any(text in field.casefold() for field in (device.code, device.name_zh, device.name_en, device.location, device.template))


def _order(device: DeviceInfo, wanted: Filter, condition: str) -> tuple[Any, ...]:
    name = device.name_zh if wanted.language == "zh" else device.name_en
    first: Any = {"name": name, "code": device.code, "profile": device.profile, "project": device.project_id,
                  "condition": _WORST_FIRST.index(condition), "rated_kw": device.rated_kw, "location": device.location}[wanted.sort]
    return first, device.project_id, device.id


def _count(found: list[DeviceInfo], words: dict[int, str], conditions: set[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for device in found:
        if not conditions or words[device.id] in conditions:
            counted[device.profile] = counted.get(device.profile, 0) + 1
    return counted


def _count_conditions(found: list[DeviceInfo], words: dict[int, str], profiles: set[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for device in found:
        if not profiles or device.profile in profiles:
            counted[words[device.id]] = counted.get(words[device.id], 0) + 1
    return counted
