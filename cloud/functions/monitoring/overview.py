"""The first screen in figures (运行总览): per-project summaries, the one sentence, what needs a hand. Pure.

Must not know: FastAPI, engines, the words of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cloud.core.ports import DeviceInfo, Latest, ProjectInfo
from cloud.functions.devices.views import project_view
from cloud.functions.monitoring.flow import Readings, energy_flow
from cloud.functions.monitoring.rooms import rooms

SEVERITY_ORDER = ("critical", "major", "minor", "warning", "info")
#: A device that does not answer for longer than this is missing, not merely late (ms).
SILENT_MS = 30_000
#: Share of measured rooms that must keep the promised temperature before cold ones are a major matter.
KEPT_SHARE = 0.95


def silent_devices(agent: Mapping[str, Any], now_ms: int) -> list[Mapping[str, Any]]:
    """Devices of an agent that is online which have not answered it for more than 30 s, or never have."""
    if not agent.get("online"):
        return []
    return [d for d in agent.get("devices", ()) if not d.get("online") and now_ms - int(d.get("last_ok_ms") or 0) > SILENT_MS]


def expected(agents: Sequence[Mapping[str, Any]], devices: Iterable[DeviceInfo]) -> list[Mapping[str, Any]]:
    """Agents whose silence is a fault: one that was admitted but has no device yet and was never heard has not begun; it stands on the agents page."""
    working = {d.agent_id for d in devices}
    return [a for a in agents if a.get("online") or a.get("last_heard_ms") or a["agent_id"] in working]


def summarise(project: ProjectInfo, devices: Sequence[DeviceInfo], latest: Sequence[Latest], agents: Sequence[Mapping[str, Any]],
              alarms: Sequence[Mapping[str, Any]], now_ms: int) -> dict[str, Any]:
    """One project in a row: power, heat, rooms, weather, alarms by severity, links, and the word that sums it up."""
    flow = energy_flow(devices, latest, now_ms)
    nodes = {n["id"]: n for n in flow["nodes"]}
    strip = rooms(project, devices, latest, now_ms)
    read = Readings(devices, latest, now_ms)
    outdoor = [v for d in devices if d.profile in ("weather", "heat_pump") and (v := read.get(d, "outdoor_temp")) is not None]
    counted = dict.fromkeys(SEVERITY_ORDER, 0)
    for alarm in alarms:
        counted[str(alarm["severity"])] = counted.get(str(alarm["severity"]), 0) + 1
    online = [a for a in agents if a.get("online")]
    heard = [d for a in agents for d in a.get("devices", ())]
    silent = sum(len(silent_devices(a, now_ms)) for a in agents)
    heat = nodes.get("heat", {}).get("kw")
    power = nodes.get("grid", {}).get("kw")
    return {
        **project_view(project), "power_kw": power, "power_measured": nodes.get("grid", {}).get("measured", 0),
        "power_of": nodes.get("grid", {}).get("of", 0), "heat_kw": heat, "heat_measured": nodes.get("heat", {}).get("measured", 0),
        "heat_of": nodes.get("heat", {}).get("of", 0), "devices_silent": silent,
        "w_per_m2": None if power is None else round(1000 * power / project.heated_area_m2, 2),
        "heat_w_per_m2": None if heat is None else round(1000 * heat / project.heated_area_m2, 2),
        # Heat where it is metered: a store makes electric power at one moment say nothing of what a house needs.
        "w_per_m2_k": _normalised(power if heat is None else heat, project.heated_area_m2, outdoor[0] if outdoor else None),
        "outdoor_c": outdoor[0] if outdoor else None, "rooms": {k: strip[k] for k in ("low", "total", "measured", "kept", "coldest")},
        "soc": nodes.get("storage", {}).get("soc"), "alarms": counted, "agents_total": len(agents), "agents_online": len(online),
        "devices_total": len(devices), "devices_online": sum(bool(d.get("online")) for a in online for d in a.get("devices", ())),
        "devices_heard": len(heard), "condition": _condition(agents, online, silent, counted), "flow": flow}


def _condition(agents: Sequence[Mapping[str, Any]], online: Sequence[Mapping[str, Any]], silent: int, counted: Mapping[str, int]) -> str:
    if counted.get("critical"):
        return "critical"
    if len(online) < len(agents) or not agents:
        return "offline"
    if silent:
        return "partial"
    return "alarm" if counted.get("major") or counted.get("minor") or counted.get("warning") else "normal"


def _normalised(power: float | None, area: float, outdoor: float | None) -> float | None:
    """Electric W per m2 and per kelvin below 18 degC: what makes projects comparable on a cold day."""
    if power is None or outdoor is None or outdoor >= 17.0:
        return None
    return round(1000 * power / area / (18.0 - outdoor), 3)


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The one sentence's figures over project summaries."""
    powers = [r["power_kw"] for r in rows if r["power_kw"] is not None]
    heats = [r["heat_kw"] for r in rows if r["heat_kw"] is not None]
    words = [r["condition"] for r in rows]
    return {
        "projects": len(rows), "normal": words.count("normal"), "critical": words.count("critical"), "offline": words.count("offline"),
        "alarm": words.count("alarm"), "partial": words.count("partial"), "devices_silent": sum(r["devices_silent"] for r in rows),
        "power_kw": round(sum(powers), 3) if powers else None, "power_projects": sum(r["power_kw"] is not None and r["power_measured"] >= r["power_of"] for r in rows),
        "heat_kw": round(sum(heats), 3) if heats else None, "heat_projects": sum(r["heat_kw"] is not None and r["heat_measured"] >= r["heat_of"] for r in rows),
        "rooms_coldest": min((r["rooms"]["coldest"] for r in rows if r["rooms"]["coldest"] is not None), default=None),
        "rooms_total": sum(r["rooms"]["total"] for r in rows), "rooms_measured": sum(r["rooms"]["measured"] for r in rows),
        "rooms_kept": sum(r["rooms"]["kept"] for r in rows), "rooms_low": min((r["rooms"]["low"] for r in rows), default=None),
        "devices_total": sum(r["devices_total"] for r in rows), "devices_online": sum(r["devices_online"] for r in rows),
        "agents_total": sum(r["agents_total"] for r in rows), "agents_online": sum(r["agents_online"] for r in rows),
        "alarms": {s: sum(r["alarms"].get(s, 0) for r in rows) for s in SEVERITY_ORDER}, "flow": merge_flows([r["flow"] for r in rows])}


def merge_flows(flows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the pictures of several projects; a figure is the sum of what is measured, with "n of m"."""
    nodes: dict[str, dict[str, Any]] = {}
    links: dict[tuple[str, str, str], float] = {}
    moments = []
    for flow in flows:
        if flow["at_ms"] is not None:
            moments.append(flow["at_ms"])
        for node in flow["nodes"]:
            into = nodes.setdefault(node["id"], {**node, "kw": None, "heat_kw": None, "measured": 0, "of": 0, "device_ids": [], "soc": None})
            for key in ("kw", "heat_kw"):
                if node[key] is not None:
                    part = max(0.0, node[key]) if node["id"] == "grid" else node[key]  # what goes out to the grid has a box of its own
                    into[key] = round((into[key] or 0.0) + part, 3)
            into["measured"] += node["measured"]
            into["of"] += node["of"]
        for link in flow["links"]:
            key3 = (link["source"], link["target"], link["kind"])
            links[key3] = links.get(key3, 0.0) + link["kw"]
    return {"nodes": list(nodes.values()), "links": [{"source": s, "target": t, "kind": k, "kw": round(v, 3)} for (s, t, k), v in links.items()],
            "at_ms": min(moments) if moments else None}


def hands(alarms: Iterable[Mapping[str, Any]], agents: Iterable[Mapping[str, Any]], quarantine: Iterable[Mapping[str, Any]],
          commands: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]] = (), *, now_ms: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """What needs a hand, grouped by cause and worst first: alarms of one rule in one project, silent agents and devices, cold rooms, held
    batches, unknown commands; `rows` are the projects' summaries.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for alarm in alarms:
        group = groups.setdefault(("alarm", alarm["project_id"], alarm["rule"], alarm["severity"]), {
            "kind": "alarm", "severity": alarm["severity"], "project_id": alarm["project_id"], "rule": alarm["rule"], "zh": alarm["zh"],
            "en": alarm["en"], "count": 0, "since_ms": alarm["raised_ms"], "device_ids": [], "value": alarm.get("value"),
            "limit": alarm.get("limit"), "point_id": alarm.get("point_id")})
        group["count"] += 1
        group["since_ms"] = min(group["since_ms"], alarm["raised_ms"])
        if alarm["device_id"] not in group["device_ids"]:
            group["device_ids"].append(alarm["device_id"])
    found = list(groups.values())
    for agent in agents:
        missing = silent_devices(agent, now_ms)
        if not agent.get("online"):
            found.append({"kind": "agent", "severity": "major", "project_id": agent["project_id"], "agent_id": agent["agent_id"], "count": 1,
                          "since_ms": agent.get("last_heard_ms")})
        elif missing:
            moments = [int(d["last_ok_ms"]) for d in missing if d.get("last_ok_ms")]
            found.append({"kind": "devices", "severity": "major", "project_id": agent["project_id"], "agent_id": agent["agent_id"],
                          "count": len(missing), "of": len(agent["devices"]), "since_ms": min(moments) if moments else None,
                          "device_ids": [int(d["device_id"]) for d in missing][:200]})
    found += [_cold(row) for row in rows if row["rooms"]["kept"] < row["rooms"]["measured"]]
    held: dict[tuple[int, str], dict[str, Any]] = {}
    for batch in quarantine:
        if batch["state"] == "held":
            row = held.setdefault((batch["project_id"], batch["reason"]), {
                "kind": "quarantine", "severity": "warning", "project_id": batch["project_id"], "reason": batch["reason"], "count": 0,
                "since_ms": batch["received_ms"]})
            row["count"] += 1
            row["since_ms"] = min(row["since_ms"], batch["received_ms"])
    found += held.values()
    found += [{"kind": "command", "severity": "major", "project_id": c["project_id"], "device_id": c["device_id"], "command_id": c["id"],
               "count": 1, "since_ms": c["created_ms"]} for c in commands if c["state"] == "unknown"]
    found.sort(key=lambda r: (SEVERITY_ORDER.index(r["severity"]), r["since_ms"] or 0))
    return found[:limit]


def _cold(row: Mapping[str, Any]) -> dict[str, Any]:
    """Rooms of a project below the promised temperature."""
    strip = row["rooms"]
    return {"kind": "rooms", "severity": "major" if strip["kept"] < KEPT_SHARE * strip["measured"] else "warning", "project_id": row["id"],
            "count": strip["measured"] - strip["kept"], "of": strip["measured"], "since_ms": None, "value": strip["coldest"], "limit": strip["low"]}
