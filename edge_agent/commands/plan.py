"""The plan the agent holds (计划): a versioned desired-state document, kept in the journal and followed with or without the cloud.

The newest version wins; a document with one wrong track is refused whole, so nothing is half-started. Must not know: transports, drivers, wall clocks.
"""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from edge_agent.errors import PlanError
from protos.arbitration import PLANNING, Authority, Hold
from protos.kang.v1 import plan_pb2
from protos.points import BY_ID

if TYPE_CHECKING:
    from edge_agent.commands.desk import Device

MAX_STEPS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Track:
    """One actuator over the horizon; each sequence has one number per interval, or none; NaN = no wish."""

    authority: Authority
    value: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    reason: str
    holder: str

    def hold(self, k: int, version: int, until_ms: int) -> Hold | None:
        """The wish of interval `k`, None when there is none."""
        value, low, high = (_at(s, k) for s in (self.value, self.low, self.high))
        if value is None and low is None and high is None:
            return None
        return Hold(self.authority, value, low, high, version, until_ms, self.holder, self.reason)


@dataclass(frozen=True, slots=True)
class Plan:
    """A document that was checked: every track fits an actuator of this site.

    Attributes:
        version: rising per agent.
        plan_id: the cloud's name of it.
        start_ms: UTC milliseconds of interval 0.
        step_ms: length of an interval.
        steps: number of intervals.
        tracks: by device, by point key.
        grid_cap: kW per interval the site may draw at its grid meter, NaN = no cap; empty = none at all.
        grid_cap_by: in whose authority.
        digest: SHA-256 of the document, 32 B: its acknowledgement.
    """

    version: int
    plan_id: str
    start_ms: int
    step_ms: int
    steps: int
    tracks: Mapping[int, Mapping[str, Sequence[Track]]]
    grid_cap: Sequence[float]
    grid_cap_by: Authority
    digest: bytes

    def grid_cap_kw(self, now_ms: int) -> float | None:
        """The cap that stands now, None when there is none."""
        k = (now_ms - self.start_ms) // self.step_ms
        return _at(self.grid_cap, int(k)) if 0 <= k < self.steps else None

    def holds(self, device: int, now_ms: int) -> dict[str, list[Hold]]:
        """What the plan wishes of a device now, by point key; nothing before its start and after its end."""
        k = (now_ms - self.start_ms) // self.step_ms
        tracks = self.tracks.get(device)
        if tracks is None or not 0 <= k < self.steps:
            return {}
        until = self.start_ms + (k + 1) * self.step_ms
        out: dict[str, list[Hold]] = {}
        for key, several in tracks.items():
            holds = [h for t in several if (h := t.hold(int(k), self.version, until)) is not None]
            if holds:
                out[key] = holds
        return out


def read(document: bytes, devices: Mapping[int, Device], project_id: int, agent_id: str) -> Plan:
    """Check a document against the site.

    Raises:
        PlanError: protobuf, addressee, steps, device, point, authority, length, value or range; the field is named.
    """
    try:
        message = plan_pb2.Plan.FromString(document)
    except DecodeError:
        raise PlanError(reason="protobuf", field="plan", detail="not a plan") from None
    if message.project_id != project_id or message.agent_id != agent_id:
        raise PlanError(reason="addressee", field="agent_id", detail=f"{message.project_id}/{message.agent_id}")
    if not 1 <= message.step_s <= 86_400 or message.version < 1:
        raise PlanError(reason="steps", field="step_s", detail=f"step {message.step_s} s, version {message.version}")
    tracks: dict[int, dict[str, list[Track]]] = {}
    steps = 0
    for n, raw in enumerate(message.tracks):
        key, track = _track(raw, devices, f"tracks.{n}")
        length = max(len(track.value), len(track.low), len(track.high))
        if any(len(s) not in (0, length) for s in (track.value, track.low, track.high)) or not 1 <= length <= MAX_STEPS or (steps and length != steps):
            raise PlanError(reason="length", field=f"tracks.{n}", detail=f"{length} intervals, the others {steps}")
        steps = length
        tracks.setdefault(raw.device_id, {}).setdefault(key, []).append(track)
    cap = doubles(message.grid_cap_kw, "grid_cap_kw")
    if cap:
        if (steps and len(cap) != steps) or len(cap) > MAX_STEPS:
            raise PlanError(reason="length", field="grid_cap_kw", detail=f"{len(cap)} intervals, the tracks {steps}")
        if any(not (math.isnan(x) or 0 <= x < math.inf) for x in cap):
            raise PlanError(reason="range", field="grid_cap_kw", detail="a cap is a number from 0 kW up")
        if message.grid_cap_authority not in PLANNING:
            raise PlanError(reason="authority", field="grid_cap_authority", detail=str(message.grid_cap_authority))
        steps = len(cap)
    return Plan(message.version, message.plan_id, message.start_ms, message.step_s * 1000, steps, tracks, cap, Authority(message.grid_cap_authority) if cap else Authority.PLAN, hashlib.sha256(document).digest())


def _track(raw: plan_pb2.Track, devices: Mapping[int, Device], where: str) -> tuple[str, Track]:
    device = devices.get(raw.device_id)
    if device is None:
        raise PlanError(reason="device", field=f"{where}.device_id", detail=f"{raw.device_id} is not at this site")
    known = BY_ID.get(raw.point_id)
    spec = device.points.get(known.key) if known else None
    if spec is None or spec.write is None or spec.write.pulse:
        raise PlanError(reason="point", field=f"{where}.point_id", detail=f"{raw.point_id} takes no standing value")
    if raw.authority not in PLANNING:
        raise PlanError(reason="authority", field=f"{where}.authority", detail=str(raw.authority))
    numbers: list[array[float]] = []
    for name in ("value", "low", "high"):
        series = doubles(getattr(raw, name), f"{where}.{name}")
        for k, x in enumerate(series):
            if not (math.isnan(x) or spec.write.low <= x <= spec.write.high):
                raise PlanError(reason="range", field=f"{where}.{name}.{k}", detail=f"{x:g}; {spec.key} allows {spec.write.low:g}..{spec.write.high:g}")
        numbers.append(series)
    value, low, high = numbers
    return spec.key, Track(Authority(raw.authority), value, low, high, raw.reason[:200], raw.holder[:100])


def doubles(packed: bytes, where: str = "") -> array[float]:
    """f64 little-endian -> numbers.

    Raises:
        PlanError: length.
    """
    if len(packed) % 8:
        raise PlanError(reason="length", field=where, detail=f"{len(packed)} bytes")
    out = array("d", packed)
    if sys.byteorder == "big":
        out.byteswap()
    return out


def _at(series: Sequence[float], k: int) -> float | None:
    return None if not series or math.isnan(series[k]) else series[k]
