"""The energy flow of a project (能量流): grid and PV -> consumers -> storage -> heat, from what is measured now. Pure.

Nothing is invented: a node that no instrument measures has `kw` None. Boiler heat is flow x temperature rise of the boiler's own
instruments. Must not know: FastAPI, engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.core.ports import DeviceInfo, Latest
from cloud.functions.devices.state import is_fresh
from protos.points import BY_KEY

#: kWh per m3 and K: 983 kg/m3 x 4.185 kJ/(kg K) / 3600 s, water at 60 degC (IAPWS-95, rounded).
WATER_KWH_PER_M3K = 1.143
CONSUMERS = ("electric_boiler", "heat_pump", "room_heater", "circulation_pump")
SOURCES = ("electric_boiler", "heat_pump", "room_heater")


@dataclass(slots=True)
class Node:
    """One box of the picture.

    Attributes:
        kw: electric power (supply and consumers) or heat (heat side), kW; None when nothing measures it.
        measured: devices whose fresh value is in `kw`.
        of: devices that should be.
    """

    id: str
    side: str  # supply, consumer, storage, heat
    kw: float | None = None
    heat_kw: float | None = None
    measured: int = 0
    of: int = 0
    device_ids: list[int] = field(default_factory=list)
    at_ms: int | None = None
    soc: float | None = None


class Readings:
    """Newest values by device and canonical key, fresh ones only."""

    def __init__(self, devices: Iterable[DeviceInfo], latest: Iterable[Latest], now_ms: int) -> None:
        by_id = {d.id: d for d in devices}
        self._rows = {(row.device_id, row.point_id): row for row in latest if row.device_id in by_id and is_fresh(by_id[row.device_id], row, now_ms)}

    def get(self, device: DeviceInfo, key: str) -> float | None:
        """A fresh value, or None."""
        row = self._rows.get((device.id, BY_KEY[key].id))
        return None if row is None else row.value

    def at(self, device: DeviceInfo, key: str) -> int | None:
        """When it was measured."""
        row = self._rows.get((device.id, BY_KEY[key].id))
        return None if row is None else row.at_ms


def supply_devices(devices: Sequence[DeviceInfo]) -> list[DeviceInfo]:
    """What measures the grid connection: the uppermost electricity meters, else the uppermost transformers.

    A meter below another device that is registered measures a part, so it is left out.
    """
    for profile in ("electricity_meter", "transformer"):
        found = [d for d in devices if d.profile == profile]
        ids = {d.id for d in found}
        heads = [d for d in found if d.attributes.get("role") == "grid"] or [d for d in found if d.parent_id is None] or [
            d for d in found if d.parent_id not in ids and d.attributes.get("role") != "submeter"]
        if heads:
            return heads
    return []


def energy_flow(devices: Sequence[DeviceInfo], latest: Iterable[Latest], now_ms: int) -> dict[str, Any]:
    """The picture as nodes and links, kW.

    Returns:
        {nodes: [...], links: [{source, target, kw, kind}], at_ms}; links only where both ends are measured or implied by one of them.
    """
    read = Readings(devices, latest, now_ms)
    groups: dict[str, list[DeviceInfo]] = {}
    for device in devices:
        groups.setdefault(device.profile, []).append(device)
    nodes: dict[str, Node] = {}
    heads = supply_devices(devices)
    if heads:
        nodes["grid"] = _sum("grid", "supply", heads, read, "active_power")
    if "pv" in groups:
        nodes["pv"] = _sum("pv", "supply", groups["pv"], read, "active_power")
    for profile in CONSUMERS:
        if profile in groups:
            nodes[profile] = _sum(profile, "consumer", groups[profile], read, "active_power")
            if profile in SOURCES:
                nodes[profile].heat_kw = _heat(groups[profile], read)
    _rest(nodes)
    if "heat_storage" in groups:
        nodes["storage"] = _storage(groups["heat_storage"], read)
    meters = _heat_heads(groups.get("heat_meter", []))
    if meters:
        nodes["heat"] = _sum("heat", "heat", meters, read, "heat_power")
    elif any(p in groups for p in SOURCES):
        nodes["heat"] = Node("heat", "heat")
    moments = [n.at_ms for n in nodes.values() if n.at_ms is not None]
    return {"nodes": [_view(n) for n in nodes.values()], "links": _links(nodes), "at_ms": min(moments) if moments else None}


def _sum(name: str, side: str, devices: Sequence[DeviceInfo], read: Readings, key: str) -> Node:
    node = Node(name, side, of=len(devices), device_ids=[d.id for d in devices][:200])
    total = 0.0
    for device in devices:
        value = read.get(device, key)
        if value is not None:
            total += value
            node.measured += 1
            at = read.at(device, key)
            node.at_ms = at if node.at_ms is None or at is None else min(node.at_ms, at)
    node.kw = round(total, 3) if node.measured else None
    return node


def _heat(devices: Sequence[DeviceInfo], read: Readings) -> float | None:
    """Heat out of a group of sources, kW; None when not every running one measures it."""
    total, known = 0.0, False
    for device in devices:
        power = read.get(device, "active_power")
        heat = read.get(device, "heating_capacity")
        if heat is None:
            heat = read.get(device, "heat_power")
        flow, out, back = read.get(device, "flow"), read.get(device, "leaving_temp"), read.get(device, "entering_temp")
        if heat is None and device.profile == "room_heater":
            heat = power  # a resistance in the heated room: all of it is heat
        if heat is None and flow is not None and out is not None and back is not None:
            heat = max(0.0, flow * (out - back) * WATER_KWH_PER_M3K)
        if heat is None:
            if power is None or power > 0.5:
                return None
            heat = 0.0
        total += heat
        known = True
    return round(total, 3) if known else None


def _storage(devices: Sequence[DeviceInfo], read: Readings) -> Node:
    charge, discharge = _sum("storage", "storage", devices, read, "charge_power"), _sum("storage", "storage", devices, read, "discharge_power")
    node = charge if charge.measured else discharge
    if charge.kw is not None or discharge.kw is not None:
        node.kw = round((charge.kw or 0.0) - (discharge.kw or 0.0), 3)
    levels = [v for d in devices if (v := read.get(d, "soc")) is not None]
    node.soc = round(sum(levels) / len(levels), 2) if levels else None
    return node


def _heat_heads(meters: Sequence[DeviceInfo]) -> list[DeviceInfo]:
    ids = {d.id for d in meters}
    marked = [d for d in meters if d.attributes.get("role") == "main"]
    return marked or [d for d in meters if d.parent_id not in ids]


def _rest(nodes: dict[str, Node]) -> None:
    """What the grid gives and no consumer accounts for; only when every consumer is measured."""
    supply = [n for n in nodes.values() if n.side == "supply"]
    consumers = [n for n in nodes.values() if n.side == "consumer"]
    if not supply or any(n.kw is None or n.measured < n.of for n in (*supply, *consumers)):
        return
    rest = sum(n.kw or 0.0 for n in supply) - sum(n.kw or 0.0 for n in consumers)
    if rest > max(0.5, 0.005 * sum(n.kw or 0.0 for n in supply)):
        nodes["other"] = Node("other", "consumer", kw=round(rest, 3))


def _links(nodes: Mapping[str, Node]) -> list[dict[str, Any]]:
    """Electric links by the consumers' power, PV first; heat links by the sources' measured heat, charging from the largest source on."""
    links: list[dict[str, Any]] = []
    pv = max(0.0, nodes["pv"].kw or 0.0) if "pv" in nodes else 0.0
    for node in nodes.values():
        if node.side == "consumer" and node.kw and node.kw > 0:
            from_pv = min(pv, node.kw)
            pv -= from_pv
            if from_pv > 0:
                links.append({"source": "pv", "target": node.id, "kw": round(from_pv, 3), "kind": "electricity"})
            if "grid" in nodes and node.kw - from_pv > 0:
                links.append({"source": "grid", "target": node.id, "kw": round(node.kw - from_pv, 3), "kind": "electricity"})
    storage = nodes["storage"].kw or 0.0 if "storage" in nodes else 0.0
    charge = max(0.0, storage)
    for node in sorted((n for n in nodes.values() if n.heat_kw), key=lambda n: -(n.heat_kw or 0.0)):
        heat = node.heat_kw or 0.0
        into = min(charge, heat)
        charge -= into
        if into > 0:
            links.append({"source": node.id, "target": "storage", "kw": round(into, 3), "kind": "storage"})
        if heat - into > 0 and "heat" in nodes:
            links.append({"source": node.id, "target": "heat", "kw": round(heat - into, 3), "kind": "heat"})
    if storage < 0 and "heat" in nodes:
        links.append({"source": "storage", "target": "heat", "kw": round(-storage, 3), "kind": "storage"})
    return links


def _view(node: Node) -> dict[str, Any]:
    return {"id": node.id, "side": node.side, "kw": node.kw, "heat_kw": node.heat_kw, "measured": node.measured, "of": node.of,
            "device_ids": node.device_ids, "at_ms": node.at_ms, "soc": node.soc}
