"""The `rules:` of a site file -> rules; every mistake names its field.

Must not know: how rules decide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_agent.algorithms.grid_limit import GridLimit, Shed
from edge_agent.algorithms.rotation import Member, Rotation
from edge_agent.algorithms.rule import Look, Reach, Rule
from edge_agent.algorithms.valley_charge import ValleyCharge
from edge_agent.algorithms.weather_curve import WeatherCurve
from edge_agent.commands.desk import Device
from edge_agent.errors import SiteError


def configure(rows: Sequence[Mapping[str, Any]], devices: Mapping[int, Device]) -> list[Rule]:
    """The rules of a site.

    Args:
        rows: `rules` of the site file, each {kind, id, ...}.
        devices: the site's devices.

    Raises:
        SiteError: names the field.
    """
    rules: list[Rule] = []
    for n, row in enumerate(rows):
        reader = _Reader(row, f"rules.{n}", devices)
        kind = row.get("kind")
        make = _KINDS.get(str(kind))
        if make is None:
            raise SiteError(field=f"rules.{n}.kind", problem=f"must be one of {', '.join(_KINDS)}")
        rule = make(reader)
        if any(r.id == rule.id for r in rules):
            raise SiteError(field=f"rules.{n}.id", problem=f"{rule.id} stands twice")
        rules.append(rule)
    return rules


class _Reader:
    """Reads one rule's fields."""

    def __init__(self, row: Mapping[str, Any], where: str, devices: Mapping[int, Device]) -> None:
        self.row, self.where, self.devices = row, where, devices

    @property
    def id(self) -> str:
        """The rule's name; its kind unless given."""
        return str(self.row.get("id") or self.row["kind"])[:60]

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.row.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not (low <= value <= high):
            raise SiteError(field=f"{self.where}.{name}", problem=f"must be a number within [{low:g}, {high:g}]" if name in self.row else "is missing")
        return float(value)

    def look(self, name: str) -> Look:
        device, key = self._place(name)
        return Look(device.id, key)

    def reach(self, name: str) -> Reach:
        device, key = self._place(name)
        spec = device.points[key]
        if spec.write is None or spec.write.pulse:
            raise SiteError(field=f"{self.where}.{name}", problem=f"{key} takes no standing value")
        return Reach(device.id, spec)

    def _place(self, name: str) -> tuple[Device, str]:
        place = self.row.get(name)
        device = self.devices.get(place.get("device", 0)) if isinstance(place, Mapping) else None
        if device is None or not isinstance(place, Mapping) or place.get("point") not in device.points:
            raise SiteError(field=f"{self.where}.{name}", problem="must be {device: an id of this site, point: a point it has}")
        return device, str(place["point"])

    def pairs(self, name: str, low: float, high: float) -> tuple[tuple[float, float], ...]:
        found = self.row.get(name)
        if not isinstance(found, list) or not found or not all(isinstance(p, list) and len(p) == 2 and all(isinstance(x, int | float) and low <= x <= high for x in p) for p in found):
            raise SiteError(field=f"{self.where}.{name}", problem=f"must be a list of pairs of numbers within [{low:g}, {high:g}]")
        return tuple((float(a), float(b)) for a, b in found)

    def members(self) -> list[_Reader]:
        rows = self.row.get("members")
        if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) for r in rows):
            raise SiteError(field=f"{self.where}.members", problem="must be a list of mappings")
        return [_Reader(r, f"{self.where}.members.{k}", self.devices) for k, r in enumerate(rows)]


def _weather_curve(r: _Reader) -> Rule:
    curve = r.pairs("curve", -60, 120)
    if any(a[0] >= b[0] for a, b in itertools.pairwise(curve)):
        raise SiteError(field=f"{r.where}.curve", problem="outdoor temperatures must rise from point to point")
    without = r.number("without", 0, 120) if "without" in r.row else None
    return WeatherCurve(r.id, r.look("outdoor"), r.reach("target"), curve, without, r.number("night_k", 0, 20, 0.0))


def _valley_charge(r: _Reader) -> Rule:
    return ValleyCharge(r.id, r.look("soc"), r.reach("target"), r.pairs("hours", 0, 24), r.number("full", 1, 100, 98.0), r.number("refill", 0, 100, 90.0), r.number("rescue", 0, 100, 10.0))


def _rotation(r: _Reader) -> Rule:
    members = tuple(Member(m.reach("target"), int(m.number("stages", 1, 100)), m.look("hours"), m.look("fault")) for m in r.members())
    return Rotation(r.id, r.look("temperature"), r.look("setpoint"), members, r.number("stages_per_k", 0.01, 100, 2.0), r.number("step_s", 0, 86_400, 180.0),
                    r.number("switch_h", 0, 10_000, 24.0))


def _grid_limit(r: _Reader) -> Rule:
    members = tuple(Shed(m.reach("target"), m.look("power"), m.number("rated_kw", 0.001, 1e6), int(m.number("stages", 0, 100, 0)), m.number("floor_kw", 0, 1e6, 0.0),
                         int(m.number("first", 0, 100, 0))) for m in r.members())
    return GridLimit(r.id, r.look("meter"), members, r.number("contract_kw", 0, 1e9) if "contract_kw" in r.row else math.inf)


_KINDS: dict[str, Callable[[_Reader], Rule]] = {"weather_curve": _weather_curve, "valley_charge": _valley_charge, "rotation": _rotation, "grid_limit": _grid_limit}
