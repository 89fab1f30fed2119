"""What a device is doing and why (运行状态与原因): its last heard state, its holders, its key values. Pure functions.

Must not know: FastAPI, transports; the words of the page are the page's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cloud.core.ports import DeviceInfo, Latest
from protos.arbitration import Authority
from protos.points import BY_KEY, Quality

#: The points a list or tile shows first, by profile.
KEY_POINTS: Mapping[str, tuple[str, ...]] = {
    "electric_boiler": ("active_power", "leaving_temp", "leaving_temp_setpoint"),
    "heat_pump": ("active_power", "leaving_temp", "cop"),
    "heat_storage": ("soc", "supply_temp", "stored_energy"),
    "circulation_pump": ("active_power", "speed", "flow"),
    "onoff_valve_controller": ("room_temp", "room_temp_setpoint", "cycle_on_ratio"),
    "room_heater": ("room_temp", "room_temp_setpoint", "active_power"),
    "room_sensor": ("room_temp", "humidity"),
    "network": ("supply_temp", "return_temp", "supply_pressure"),
    "transformer": ("active_power", "load_ratio"),
    "electricity_meter": ("active_power", "energy_import", "power_factor"),
    "heat_meter": ("heat_power", "supply_temp", "return_temp"),
    "weather": ("outdoor_temp", "wind_speed"),
    "pv": ("active_power", "energy_export"),
}
ROOM_PROFILES = frozenset({"onoff_valve_controller", "room_heater", "room_sensor"})
#: What `condition` says.
CONDITIONS = ("never_heard", "offline", "locked", "critical", "alarm", "local", "held", "normal")
_SICK = (Quality.BAD, Quality.STALE)


def key_points(device: DeviceInfo) -> list[int]:
    """Point ids a list shows first, at most three."""
    wanted = [BY_KEY[key].id for key in KEY_POINTS.get(device.profile, ())]
    return [p for p in wanted if p in device.points][:3] or sorted(device.points)[:3]


def is_fresh(device: DeviceInfo, latest: Latest, now_ms: int) -> bool:
    """True while a value keeps its sampling promise (twice the longest silence, at least 30 s) and is not bad."""
    setting = device.points.get(latest.point_id)
    promise_s = max(30.0, 2 * setting.max_silent_s if setting else 600.0)
    return latest.quality not in _SICK and now_ms - latest.at_ms <= promise_s * 1000


def by_device(agents: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Device states as last heard, by device id, with the agent's own state beside."""
    return {int(state["device_id"]): {**state, "agent_online": bool(agent.get("online")), "agent_heard_ms": agent.get("last_heard_ms")}
            for agent in agents for state in agent.get("devices", ())}


def condition(state: Mapping[str, Any] | None, severities: Mapping[str, int]) -> str:
    """One word: never_heard, offline, locked, critical, alarm, local, held, normal; the one that needs a hand first."""
    if state is None:
        return "never_heard"
    if not state.get("agent_online") or not state.get("online"):
        return "offline"
    if severities.get("critical"):
        return "critical"
    if state.get("locked_out"):
        return "locked"
    if severities.get("major") or severities.get("minor") or severities.get("warning"):
        return "alarm"
    if state.get("local_manual"):
        return "local"
    return "held" if state.get("holders") else "normal"


def why(state: Mapping[str, Any] | None, standing: Latest | None = None, *, passive: bool = False, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Why a device does what it does: the strongest of lockout, local control, holders; never a guess.

    Args:
        state: as last heard from the agent.
        standing: newest value of the device's first set-point: what it goes on with when nobody holds it.
        passive: nothing on it can be written (meters, sensors): being there is all it does.
        document: the device template, for what it says of its interlocks.

    Returns:
        {kind: lockout|local|hold|offline|error|never_heard|free|measuring, ...facts}.
    """
    if state is None:
        return {"kind": "never_heard"}
    if not state.get("agent_online"):
        return {"kind": "offline", "since_ms": state.get("agent_heard_ms")}
    if state.get("locked_out"):
        return {"kind": "lockout", "holder": state.get("lockout_holder", ""), "reason": state.get("lockout_reason", "")}
    if not state.get("online"):
        return {"kind": "error", "code": state.get("error_code", ""), "since_ms": state.get("last_ok_ms")}
    if state.get("local_manual"):
        return {"kind": "local"}
    holders = sorted(state.get("holders", ()), key=lambda h: int(h["authority"]))
    if holders:
        return {"kind": "hold", **holder_view(holders[0], document)}
    if passive:
        return {"kind": "measuring"}
    return {"kind": "free", **({"point_id": standing.point_id, "value": standing.value} if standing is not None else {})}


def holder_view(holder: Mapping[str, Any], document: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who holds a point; where an interlock or a rule of the box does, whose reasons are ids and bare facts, with `words` {zh, en}."""
    held = {k: holder.get(k) for k in ("point_id", "authority", "value", "until_ms", "holder", "reason")}
    if held["authority"] == Authority.INTERLOCK:
        return {**held, "words": interlock_words(document, str(held["reason"]))}
    words = rule_words(str(held["reason"] or ""))
    return {**held, "reason_words": words} if words else held


#: What the rules of a box report as their reason (edge_agent/algorithms), as people say it in Chinese; "{0}" is the figure.
_RULES: Final = (
    (re.compile(r"grid cap (\d+) kW"), "关口限功率 {0} kW"), (re.compile(r"grid cap (\d+) kW, meter silent"), "关口限功率 {0} kW，关口表无读数"), (re.compile(r"grid cap is over"), "关口限功率已结束"),
    (re.compile(r"outdoor unknown"), "室外温度未知"), (re.compile(r"outdoor (-?[\d.]+) degC"), "室外 {0} °C"), (re.compile(r"nearly empty"), "蓄热将尽"), (re.compile(r"valley"), "谷时段"),
    (re.compile(r"full"), "已蓄满"), (re.compile(r"not valley"), "非谷时段"), (re.compile(r"([+-][\d.]+) K to go"), "尚差 {0} K"), (re.compile(r"fault"), "故障"))


def rule_words(reason: str) -> dict[str, str] | None:
    """A rule's reason in both languages; None for what people wrote."""
    for pattern, zh in _RULES:
        if found := pattern.fullmatch(reason):
            return {"zh": zh.replace("{0}", found[1]) if found.groups() else zh, "en": reason.replace("degC", "°C")}
    return None


def interlock_words(document: Mapping[str, Any] | None, lock_id: str) -> dict[str, str]:
    """What a template says of one of its interlocks, {zh, en}; its id where the template does not know it."""
    found: Mapping[str, Any] = next((row for row in (document or {}).get("interlocks") or () if row.get("id") == lock_id), {})
    return {"zh": str(found.get("zh") or lock_id), "en": str(found.get("en") or lock_id)}


def severities_by_device(alarms: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, int]]:
    """Active alarms counted by device and severity."""
    counted: dict[int, dict[str, int]] = {}
    for alarm in alarms:
        if alarm.get("cleared_ms") is None:
            row = counted.setdefault(int(alarm["device_id"]), {})
            row[str(alarm["severity"])] = row.get(str(alarm["severity"]), 0) + 1
    return counted
