"""The energy flow of a project (能量流): grid and PV -> consumers -> storage -> heat, from what is measured now. Pure.

Nothing is invented: a node that no instrument measures has `kw` None. Boiler heat is flow x temperature rise of the boiler's own
instruments. Must not know: FastAPI, engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.core.ports import DeviceInfo, Latest
from cloud.functions.devices.state import is_fresh
from protos.points import BY_KEY

#: kWh per m3 and K: 983 kg/m3 x 4.185 kJ/(kg K) / 3600 s, water at 60 degC (IAPWS-95, rounded).
WATER_KWH_PER_M3K = 1.143
CONSUMERS = ("electric_boiler", "heat_pump", "room_heater", "circulation_pump")
#: kW; less than this is a matter of rounding.
_ROUNDING = 0.001
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
        {nodes: [...], links: [{source, target, kw, kind}], at_ms}. The figure of a box is the sum of its ribbons: what is measured on one
        side only runs to a box that says so (`other`, `unmeasured`, `export`, `losses`, `heat_unmetered`) or comes from one
        (`unmeasured_supply`, `heat_unmeasured`, or `district` where no source of heat is registered).
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
    if "heat_storage" in groups:
        nodes["storage"] = _storage(groups["heat_storage"], read)
    meters = _heat_heads(groups.get("heat_meter", []))
    if meters:
        nodes["heat"] = _sum("heat", "heat", meters, read, "heat_power")
    elif any(p in groups for p in SOURCES):
        nodes["heat"] = Node("heat", "heat")
    moments = [n.at_ms for n in nodes.values() if n.at_ms is not None]
    links = [*_electric_links(nodes), *_heat_links(nodes, local=any(p in groups for p in SOURCES))]
    return {"nodes": [_view(n) for n in nodes.values()], "links": links, "at_ms": min(moments) if moments else None}


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


def _electric_links(nodes: dict[str, Node]) -> list[dict[str, Any]]:
    """Electric ribbons: consumers from PV first, then from the grid; both sides are balanced by boxes that name what is missing."""
    consumers = [n for n in nodes.values() if n.side == "consumer"]
    supply = [n for n in nodes.values() if n.side == "supply"]
    complete = all(n.kw is not None and n.measured >= n.of for n in (*supply, *consumers))
    left: dict[str, float] = {key: max(0.0, nodes[key].kw or 0.0) for key in ("pv", "grid") if key in nodes}
    wanted = {n.id: n.kw for n in consumers if n.kw is not None and n.kw > 0}
    export = max(0.0, -(nodes["grid"].kw or 0.0)) if "grid" in nodes else 0.0
    if export > _ROUNDING:
        nodes["export"] = Node("export", "consumer", kw=round(export, 3))
        wanted["export"] = export
    missing = sum(wanted.values()) - sum(left.values())
    if missing > _ROUNDING:
        nodes["unmeasured_supply"] = Node("unmeasured_supply", "supply", kw=round(missing, 3))
        left["unmeasured_supply"] = missing
    elif -missing > _ROUNDING:
        name = "other" if complete else "unmeasured"
        nodes[name] = Node(name, "consumer", kw=round(-missing, 3))
        wanted[name] = -missing
    return _pour(left, wanted, lambda _source, _target: "electricity")


def _heat_links(nodes: dict[str, Node], *, local: bool) -> list[dict[str, Any]]:
    """Heat ribbons: sources charge the store, the largest first, and heat the house; both sides balanced like the electric ones."""
    sources = sorted((n for n in nodes.values() if n.heat_kw and n.heat_kw > 0), key=lambda n: -(n.heat_kw or 0.0))
    left = {n.id: n.heat_kw or 0.0 for n in sources}
    stored = nodes["storage"].kw or 0.0 if "storage" in nodes else 0.0
    heat = nodes["heat"].kw if "heat" in nodes else None
    charge, discharge, use = max(0.0, stored), max(0.0, -stored), max(0.0, heat or 0.0)
    missing = charge + use - sum(left.values()) - discharge
    if missing > _ROUNDING:
        name = "heat_unmeasured" if local else "district"
        nodes[name] = Node(name, "consumer", kw=round(missing, 3))
        left[name] = missing
    wanted = {"storage": charge} if charge > 0 else {}
    links = _pour(left, wanted, lambda _source, _target: "storage")
    if discharge > 0:
        left["storage"] = discharge
    over = sum(left.values()) - use
    if over > _ROUNDING:
        name = "losses" if heat is not None else "heat_unmetered"
        nodes[name] = Node(name, "heat", kw=round(over, 3))
        return [*links, *_pour(left, {"heat": use, name: over}, _heat_kind)]
    return [*links, *_pour(left, {"heat": use}, _heat_kind)]


def _heat_kind(source: str, _target: str) -> str:
    return "storage" if source == "storage" else "heat"


def _pour(left: dict[str, float], wanted: Mapping[str, float], kind: Callable[[str, str], str]) -> list[dict[str, Any]]:
    """Fill what is wanted from what is left, in order; `left` is what remains afterwards."""
    links: list[dict[str, Any]] = []
    for target, need in wanted.items():
        for source, have in left.items():
            part = min(have, need)
            if part > 0:
                left[source] = have - part
                need -= part  # noqa: PLW2901 - what is still wanted
                if part >= _ROUNDING / 2:
                    links.append({"source": source, "target": target, "kw": round(part, 3), "kind": kind(source, target)})
    return links


def _view(node: Node) -> dict[str, Any]:
    return {"id": node.id, "side": node.side, "kw": node.kw, "heat_kw": node.heat_kw, "measured": node.measured, "of": node.of,
            "device_ids": node.device_ids, "at_ms": node.at_ms, "soc": node.soc}
