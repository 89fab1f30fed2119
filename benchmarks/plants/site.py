"""A community as others need it: what to register on the platform, the agent's site file, the project's facts.

Must not know: physics, the platform's tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from benchmarks.plants.communities import build
from benchmarks.plants.community import Community
from benchmarks.plants.run import CONTROL_OFFSET, SEEDS
from benchmarks.plants.template import load


@cache
def _community(key: str) -> Community:
    return build(key, SEEDS[key])


def facts(key: str) -> dict[str, Any]:
    """Project facts: code, names, region, WGS-84 coordinates, heated area (m2), kind, tariff kind."""
    f = _community(key).facts
    return {"code": f.code, "name_zh": f.name_zh, "name_en": f.name_en, "region": f.region, "latitude": f.latitude, "longitude": f.longitude, "timezone": "Asia/Shanghai",
            "heated_area_m2": f.heated_area_m2, "kind": f.kind, "tariff": f.tariff, "attributes": {"simulated": True}}


def devices(key: str) -> list[dict[str, Any]]:
    """Devices to register, parents before children: code, name_zh, name_en, template, profile, rated_kw, location, parent, attributes."""
    rows: list[dict[str, Any]] = [{"code": d.code, "name_zh": d.name_zh, "name_en": d.name_en, "template": d.template, "profile": load(d.template).profile, "rated_kw": d.rated_kw,
             "location": d.location, "parent": d.parent, "absent_points": sorted(d.absent),
             "attributes": {**d.attributes, **({"ct_ratio": d.ct_ratio, "pt_ratio": 1.0} if d.ct_ratio != 1.0 else {})}} for d in _community(key).image.devices]
    done: set[str | None] = {None}
    ordered: list[dict[str, Any]] = []
    while rows:
        ready = [r for r in rows if r["parent"] in done]
        ordered += ready
        done |= {r["code"] for r in ready}
        rows = [r for r in rows if r["code"] not in done]
    return ordered


def site(key: str, *, device_ids: Mapping[str, int], project_id: int, agent_id: str, partitions: int, state_dir: str, credentials_dir: str, uplink: Mapping[str, Any],
         port_base: int, host: str = "127.0.0.1", cycle_s: float = 5.0, linger_s: float = 5.0, batch_readings: int = 500, heartbeat_s: float = 5.0) -> dict[str, Any]:
    """The agent's site file as a mapping (write it as YAML). `device_ids` gives the platform's id of every device code.

    Raises:
        KeyError: a device has no id.
    """
    community = _community(key)
    channels = [{"name": c.name, "protocol": c.protocol, "transport": "tcp", "host": host, "port": port_base + c.offset} for c in community.channels]
    rows = []
    for d in community.image.devices:
        row: dict[str, Any] = {"id": device_ids[d.code], "template": d.template, "channel": d.channel, "unit" if isinstance(d.address, int) else "address": d.address}
        if d.absent:
            row["absent"] = sorted(d.absent)
        if d.ct_ratio != 1.0:
            row |= {"ct_ratio": d.ct_ratio, "pt_ratio": 1.0}
        rows.append(row)
    rules = _grid_limit(community, device_ids)
    return {"project_id": project_id, "agent_id": agent_id, "partitions": partitions, "state_dir": state_dir, "credentials_dir": credentials_dir, "uplink": dict(uplink),
            "cycle_s": cycle_s, "linger_s": linger_s, "batch_readings": batch_readings, "heartbeat_s": heartbeat_s, "channels": channels, "devices": rows, **({"rules": rules} if rules else {})}


def _grid_limit(community: Community, device_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The box keeps the site below the caps of its plan by itself, where there are sources to lower and a meter to look at."""
    devices = {d.code: (d, load(d.template)) for d in community.image.devices}
    meter = next((code for code, (_, t) in devices.items() if t.profile == "transformer"), None)
    members = [{"target": {"device": device_ids[code], "point": "power_limit_setpoint"}, "power": {"device": device_ids[code], "point": "active_power"}, "rated_kw": d.rated_kw, "stages": int(d.attributes.get("stages", 0))}
               for code, (d, t) in devices.items() if t.profile in ("electric_boiler", "heat_pump")]
    return [{"kind": "grid_limit", "id": "grid-limit", "meter": {"device": device_ids[meter], "point": "active_power"}, "members": members}] if meter and members else []


def control_url(port_base: int) -> str:
    """The plant's control socket (faults, truth, history)."""
    return f"http://127.0.0.1:{port_base + CONTROL_OFFSET}"
