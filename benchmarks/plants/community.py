"""The frame every heated community fills: one step of physics, publication into the image, commands, faults, state.

Must not know: register maps, sockets, wall clocks (time is an argument).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from benchmarks.plants import weather
from benchmarks.plants.device import Channel, Device, Facts, Image, PlantError
from benchmarks.plants.physics.ledger import Ledger

REMOTE_HOLD_S = 4 * 3600.0
"""A remote write outranks the local controller this long; then the plant looks after itself again (the agent refreshes its holds)."""
FAULTS = ("stuck", "meter_reset", "comms_loss", "low_water", "blackout", "delay_zero", "local_manual")


class Component(Protocol):
    """Something with a state that can be saved: the names in STATE are numbers, flags or arrays."""

    STATE: ClassVar[tuple[str, ...]]


class Community(ABC):
    """A heated community. Subclasses build devices and physics in `__init__`, then call `_ready()`."""

    key: ClassVar[str]
    channels: ClassVar[tuple[Channel, ...]]
    facts: Facts

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.now_s = 0.0
        self.weather = weather.Conditions(0.0, 50.0, 2.0, 0.0)
        self.faults: dict[str, set[str]] = {name: set() for name in FAULTS}
        self.remote: dict[tuple[str, str], tuple[float, float]] = {}
        self.components: dict[str, Any] = {}
        self.ledgers: list[Ledger] = []
        self.writes = 0
        self.image = Image(())

    # --- what subclasses give -----------------------------------------------------------------------------------------

    @abstractmethod
    def _step(self, dt: float) -> None:
        """Advance physics and local control by `dt` seconds to `self.now_s`."""

    @abstractmethod
    def _publish(self) -> None:
        """Put all values into the image."""

    @abstractmethod
    def truth(self) -> dict[str, Any]:
        """What physics really is (rooms without sensors included), for tests and fault campaigns."""

    def _written(self, code: str, point: str, value: float) -> None:  # noqa: B027 - optional, not abstract
        """A remote write arrived and was taken (set-points that no controller moves are stored here)."""

    def _meter_reset(self, code: str) -> None:
        raise PlantError(reason=f"{code!r} is not a meter")

    def _delay_zero(self, *, on: bool) -> None:  # noqa: B027 - optional, not abstract
        """Make every actuator immediate, or give the real delays back."""

    # --- what everybody uses ------------------------------------------------------------------------------------------

    def _ready(self, devices: list[Device]) -> None:
        self.image = Image(devices)

    @property
    def alive(self) -> bool:
        """Electricity is there."""
        return not self.faults["blackout"]

    @property
    def local_hour(self) -> float:
        """Hour of day in the project's time zone (UTC+8)."""
        return ((self.now_s + weather.UTC_OFFSET_S) / 3600) % 24

    def advance(self, utc_s: float, dt: float) -> None:
        """One step of `dt` seconds ending at `utc_s`; the image is not touched (see `publish`)."""
        self.now_s = utc_s
        self.weather = weather.at(utc_s)
        self._step(dt)

    def publish(self) -> None:
        """Bring the image up to date."""
        self._publish()
        for code, device in zip(self.image.by_code, self.image.devices, strict=True):
            if "local_manual" in device.points:
                self.image.put(code, {"local_manual": float(code in self.faults["local_manual"])})
        self.image.settle()

    def write(self, code: str, point: str, value: float) -> None:
        """A canonical value written over the field bus. In local manual it is taken and has no effect, as on site."""
        self.writes += 1
        if code in self.faults["local_manual"]:
            return
        self.remote[code, point] = (value, self.now_s + REMOTE_HOLD_S)
        self._written(code, point, value)
        if (at := self.image.index.get((self.image.device(code), point))) is not None:
            self.image.values[at] = value

    def wished(self, code: str, point: str, local: float) -> float:
        """The remote value while it holds, else what the local controller wants."""
        held = self.remote.get((code, point))
        if held is None or code in self.faults["local_manual"]:
            return local
        if self.now_s >= held[1]:
            del self.remote[code, point]
            return local
        return held[0]

    def silent(self, code: str, channel: str) -> bool:
        """True when the device does not answer on its bus."""
        lost = self.faults["comms_loss"]
        return bool(lost) and (code in lost or channel in lost or "*" in lost)

    # --- faults ---------------------------------------------------------------------------------------------------------

    def inject(self, kind: str, target: str = "*", *, on: bool = True, point: str = "") -> None:
        """Begin or end a fault.

        Args:
            kind: one of FAULTS.
            target: device code; for comms_loss also a channel name or "*"; for blackout and delay_zero ignored.
            on: begin or end.
            point: for `stuck`.

        Raises:
            PlantError: unknown kind, device or point.
        """
        if kind not in FAULTS:
            raise PlantError(reason=f"no fault {kind!r}; known: {', '.join(FAULTS)}")
        if kind == "stuck":
            at = self.image.at(target, point)
            if on:
                self.image.frozen[at] = float(self.image.values[at])
            else:
                self.image.frozen.pop(at, None)
            target = f"{target}/{point}"
        elif kind == "meter_reset":
            self.image.device(target)
            if on:
                self._meter_reset(target)
            return
        elif kind == "comms_loss":
            if target != "*" and target not in {c.name for c in self.channels}:
                self.image.device(target)
        elif kind in {"low_water", "local_manual"}:
            points = self.image.devices[self.image.device(target)].points
            if not {"low_water": {"low_water_alarm", "tank_level"}, "local_manual": {"local_manual"}}[kind] & set(points):
                raise PlantError(reason=f"device {target!r} cannot have {kind}")
        elif kind == "delay_zero":
            self._delay_zero(on=on)
            target = "*"
        else:
            target = "*"
        if on:
            self.faults[kind].add(target)
        else:
            self.faults[kind].discard(target)

    # --- balance and state ----------------------------------------------------------------------------------------------

    def imbalance(self, stored_before: float) -> float:
        """Worst relative error of "in = out + change in stored" over the whole community since `stored_before`, kJ."""
        total = Ledger()
        for ledger in self.ledgers:
            total.entered += ledger.entered
            total.left += ledger.left
            total.turnover += ledger.turnover
        return total.imbalance(self.stored() - stored_before)

    def stored(self) -> float:
        """Heat in all components, kJ."""
        return sum(float(c.stored()) for c in self.components.values() if hasattr(c, "stored"))

    def save(self) -> dict[str, Any]:
        """Everything that must survive a restart, JSON-ready."""
        state: dict[str, Any] = {"key": self.key, "seed": self.seed, "now_s": self.now_s,
                                 "remote": [[c, p, v, u] for (c, p), (v, u) in self.remote.items()], "components": {}}
        for name, component in self.components.items():
            state["components"][name] = {f: _plain(getattr(component, f)) for f in component.STATE}
            if hasattr(component, "registers"):
                state["components"][name]["registers"] = {f: _plain(getattr(component.registers, f)) for f in component.registers.STATE}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo `save`.

        Raises:
            PlantError: the state is of another community, seed or shape.
        """
        if state.get("key") != self.key or state.get("seed") != self.seed or set(state["components"]) != set(self.components):
            raise PlantError(reason="the saved state belongs to another community, seed or version")
        self.now_s = float(state["now_s"])
        self.remote = {(c, p): (v, u) for c, p, v, u in state["remote"]}
        for name, fields in state["components"].items():
            component = self.components[name]
            for target, source in ((component, {k: v for k, v in fields.items() if k != "registers"}), (getattr(component, "registers", None), fields.get("registers", {}))):
                for field, value in source.items():
                    old = getattr(target, field)
                    setattr(target, field, np.array(value, dtype=float) if isinstance(old, np.ndarray) else type(old)(value))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return int(value) if isinstance(value, int) else float(value)


def tariff_slot(local_hour: float) -> int:
    """Register of the meter's own time-of-use table: 1 sharp 18-21, 2 peak 10-13, 17-18, 21-22, 4 valley 23-7, 3 flat (winter, Beijing pattern)."""
    if 18 <= local_hour < 21:
        return 1
    if 10 <= local_hour < 13 or 17 <= local_hour < 22:
        return 2
    return 4 if local_hour >= 23 or local_hour < 7 else 3


def three_phase(power_kw: float, alive: bool, power_factor: float = 0.97, nominal: float = 231.0) -> dict[str, float]:
    """Electrical values of a balanced-but-for-a-little three-phase load (shares 0.345, 0.333, 0.322), canonical units."""
    volt = (nominal - 0.008 * min(power_kw, 800.0)) if alive else 0.0
    shares = {"a": 0.345, "b": 0.333, "c": 0.322}
    out = {"active_power": power_kw, "apparent_power": power_kw / power_factor, "reactive_power": power_kw * math.tan(math.acos(power_factor)),
           "power_factor": power_factor if power_kw > 0 else 1.0, "frequency": 50.0 if alive else 0.0}
    for phase, share in shares.items():
        out[f"voltage_{phase}"] = volt
        out[f"current_{phase}"] = power_kw * share * 1000 / (volt * power_factor) if volt else 0.0
        out[f"active_power_{phase}"] = power_kw * share
    return out
