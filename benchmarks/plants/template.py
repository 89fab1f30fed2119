"""The register image of a plant's devices, derived from the device templates the agent itself is given (edge_agent/devices/*.yaml).

A second reading of the same map: a template that says something else than it means fails here. Must not know: physics, sockets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from protos import points, units

WIDTH = {"bit": 1, "u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2}
ABSENT = {"u16": 0xFFFF, "s16": -0x8000, "u32": 0xFFFFFFFF, "s32": -0x80000000, "f32": math.nan}
_PACK = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f"}
_RANGE = {"u16": (0, 0xFFFF), "s16": (-0x8000, 0x7FFF), "u32": (0, 0xFFFFFFFF), "s32": (-0x80000000, 0x7FFFFFFF)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point lives on the wire: canonical = (raw * scale + offset) * factor + shift."""

    key: str
    address: Mapping[str, Any]
    write_address: Mapping[str, Any] | None
    scale: float
    offset: float
    factor: float
    shift: float
    resolution: float
    low: float
    high: float

    def to_raw(self, canonical: float) -> float:
        """Raw number, unrounded."""
        return ((canonical - self.shift) / self.factor - self.offset) / self.scale

    def to_canonical(self, raw: float) -> float:
        """Undo `to_raw`."""
        return (raw * self.scale + self.offset) * self.factor + self.shift


@dataclass(frozen=True, slots=True)
class Template:
    """One template, as far as a plant needs it."""

    name: str
    profile: str
    protocol: str
    link: Mapping[str, Any]
    places: Mapping[str, Place]


@cache
def load(name: str) -> Template:
    """Read a template by name."""
    raw = yaml.load(resources.files("edge_agent.devices").joinpath(f"{name}.yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    places = {}
    for row in raw["points"]:
        point = points.point(row["point"])
        factor, shift = units.conversion(row["unit"], point.unit) if row.get("unit") and point.unit else (1.0, 0.0)
        write = row.get("write") or {}
        writable = bool(row.get("writable"))
        places[point.key] = Place(point.key, row["address"], (write.get("address") or row["address"]) if writable else None, float(row.get("scale", 1.0)),
                                  float(row.get("offset", 0.0)), factor, shift, float(row.get("resolution", point.resolution)),
                                  float(row.get("low", point.low)), float(row.get("high", point.high)))
    return Template(raw["template"], raw["profile"], raw["protocol"], raw.get("link") or {}, places)


def registers(value: float, kind: str, word_order: str = "big") -> list[int]:
    """A raw number as 16-bit registers; out of range is clipped, NaN becomes the kind's "absent" pattern."""
    if kind == "f32":
        packed = struct.pack(">f", value)
    else:
        low, high = _RANGE[kind]
        packed = struct.pack(_PACK[kind], ABSENT[kind] if math.isnan(value) else min(max(round(value), low), high))
    words = [int.from_bytes(packed[k:k + 2], "big") for k in range(0, len(packed), 2)]
    return words[::-1] if word_order == "little" else words


def number(words: list[int], kind: str, word_order: str = "big") -> float:
    """Undo `registers`."""
    ordered = words[::-1] if word_order == "little" else words
    return float(struct.unpack(_PACK[kind], b"".join(w.to_bytes(2, "big") for w in ordered))[0])
