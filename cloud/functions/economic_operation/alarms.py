"""What planning and demand response raise alarms for (报警): a plan that could not be made, weather that is out of date, a promise to the grid that is not kept, a planner that is silent.

Pure: gives the fields of a platform alarm (`rule`, `who`, `zh`, `en`, ...), or that it is over (`wrong` False). Must not know: the bus, the historian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cloud.core.ports import ProjectInfo
from cloud.functions.economic_operation.service import Setting

PLAN, COLD, WEATHER, SHORT, SILENT = "plan_failed", "plan_cold", "weather_stale", "response_short", "planner_silent"
#: A plan that lets rooms fall below their floor by so much is an alarm, K.
COLD_K: Final = 0.5
#: A response is short when it stays above its target by this share of the target and this many kW, for so many minutes in a row.
SHARE: Final = 0.05
LEAST_KW: Final = 5.0
MINUTES: Final = 3
#: No plan for so long, with projects to be planned, is silence, ms: a plan is made every quarter of an hour.
SILENT_MS: Final = 25 * 60_000


def of_plan(project: ProjectInfo, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a project could be planned; what goes on instead is said: the last plan, or the site's own rules.

    Args:
        project: the project.
        outcome: {outcome: planned, shifted or failed, code, zh, en}.
    """
    if outcome["outcome"] == "planned":
        return {"rule": PLAN, "who": project.code, "wrong": False}
    shifted = outcome["outcome"] == "shifted"
    zh, en = str(outcome.get("zh") or outcome.get("code") or "?").rstrip("。.；"), str(outcome.get("en") or outcome.get("code") or "?").rstrip(".")
    return {"rule": PLAN, "who": project.code, "project_id": project.id, "severity": "minor" if shifted else "major",
            "zh": f"{project.name_zh}：无法生成运行计划（{zh}）；" + ("上一份计划在站内继续执行" if shifted else "站内按自身规则供热") + "。请在经济运行页查看原因",
            "en": f"{project.name_en}: no plan could be made ({en}); " + ("the last one goes on at the site" if shifted else "the site heats by its own rules") + ". See the plan page for the reason"}


def of_cold(project: ProjectInfo, cold_k: float) -> dict[str, Any]:
    """Whether a plan keeps the floor owed to people; `cold_k`: how far below it lets rooms fall, K."""
    if cold_k <= COLD_K:
        return {"rule": COLD, "who": project.code, "wrong": False}
    return {"rule": COLD, "who": project.code, "project_id": project.id, "severity": "major", "value": round(cold_k, 1), "limit": COLD_K,
            "zh": f"{project.name_zh}：按现有热源，未来 48 小时室温将低于最低室温 {cold_k:.1f} K；请检查被挂牌、就地或停用的热源",
            "en": f"{project.name_en}: with the sources there are, rooms will fall {cold_k:.1f} K below their floor within 48 h. Check sources that are locked out, under local control or off"}


def of_weather(project: ProjectInfo, stale_h: float | None) -> dict[str, Any]:
    """Whether the provider's weather is too old to plan by; `stale_h`: its age in hours (infinite = none ever came), None = it is good or none was set."""
    if stale_h is None:
        return {"rule": WEATHER, "who": project.code, "wrong": False}
    zh, en = ("从未收到预报", "no forecast ever came") if stale_h == float("inf") else (f"预报已 {stale_h:.0f} 小时未更新", f"the forecast is {stale_h:.0f} h old")
    return {"rule": WEATHER, "who": project.code, "project_id": project.id, "severity": "minor", "value": min(stale_h, 1e6), "zh": f"{project.name_zh}：{zh}，计划改按站内室外传感器外推；请检查天气来源",
            "en": f"{project.name_en}: {en}; planned by the site's own outdoor sensor carried forward. Check the weather provider"}


def of_response(event: Mapping[str, Any], late: dict[int, int]) -> dict[str, Any] | None:
    """Whether an event is kept, from its newest minute.

    Args:
        event: with `id`, `event_id`, `state`, and `minute` {metered_kw, target_kw} where one was told.
        late: minutes in a row that an event was above its target, by id; kept up to date here.

    Returns:
        The alarm, that it is over, or None: nothing new.
    """
    who = str(event["event_id"])
    if event["state"] != "active":
        return {"rule": SHORT, "who": who, "wrong": False} if late.pop(event["id"], None) is not None else None
    minute = event.get("minute")
    if minute is None:
        return None
    above = float(minute["metered_kw"]) - float(minute["target_kw"])
    late[event["id"]] = late.get(event["id"], 0) + 1 if above > max(LEAST_KW, SHARE * abs(float(minute["target_kw"]))) else 0
    if late[event["id"]] < MINUTES:
        return {"rule": SHORT, "who": who, "wrong": False} if late[event["id"]] == 0 else None
    return {"rule": SHORT, "who": who, "severity": "major", "value": round(above, 1), "limit": LEAST_KW,
            "zh": f"需求响应 {who} 未达目标：高出 {above:.0f} kW 已 {late[event['id']]} 分钟；请在事件页查看未达项目", "en": f"Demand response {who} misses its target: {above:.0f} kW above for {late[event['id']]} min. See the event's page for who is behind"}


def of_planner(settings: Sequence[Setting], newest_ms: int | None, born_ms: int, now: int) -> dict[str, Any]:
    """Whether the planner is silent.

    Args:
        settings: how projects are run; only those that are planned count.
        newest_ms: when the newest plan (or failure) of them all was kept; None = never.
        born_ms: since when somebody looks: nobody is blamed for what was before.
        now: UTC milliseconds.
    """
    planned = [s for s in settings if s.mode != "off"]
    if not planned:
        return {"rule": SILENT, "wrong": False}
    since = max(newest_ms or 0, min(s.changed_ms for s in planned), born_ms)
    if now - since <= SILENT_MS:
        return {"rule": SILENT, "wrong": False}
    return {"rule": SILENT, "severity": "critical", "value": (now - since) / 60_000, "limit": SILENT_MS / 60_000,
            "zh": f"规划进程已 {(now - since) // 60_000} 分钟没有生成任何计划：站内按最后的计划，其后按自身规则供热；请检查 planner 进程",
            "en": f"The planner has made no plan for {(now - since) // 60_000} min: sites follow their last plan, then their own rules. Check the planner process"}
