"""What the agent expects of a field protocol: open, read, write, close; one lock per channel, errors counted per device.

Must not know: protocols, the spool, commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.errors import DeviceError, FrameError
from edge_agent.templates import PointSpec
from protos.points import Quality


@dataclass(frozen=True, slots=True)
class Value:
    """A value as read: canonical unit, and whether the device vouches for it."""

    value: float
    quality: Quality = Quality.GOOD


@dataclass(slots=True)
class Counters:
    """What happened with one device since start.

    Attributes:
        requests: requests sent.
        failures: failed requests by stable code, e.g. "E-DEVICE.timeout", "E-FRAME.checksum".
        error: code of the last failure, "" after a success.
    """

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    error: str = ""

    def failed(self, error: DeviceError | FrameError) -> None:
        """Count a failure."""
        self.error = f"{error.code}.{error.reason}"
        self.failures[self.error] += 1


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A way to devices (通道). `transport`: tcp or serial; `framing`: modbus only, socket or rtu."""

    name: str
    protocol: str
    transport: str = "tcp"
    host: str = ""
    port: int = 0
    device: str = ""
    baud: int = 9600
    parity: str = "N"
    framing: str = ""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """How a device is reached on its channel: `unit` (modbus) or `address` (meters), transformer ratios, link settings of the template."""

    id: int
    unit: int = 1
    address: str = ""
    ct_ratio: float = 1.0
    pt_ratio: float = 1.0
    link: Mapping[str, object] = field(default_factory=dict)

    def number(self, key: str, default: float) -> float:
        """A number of the link settings."""
        value = self.link.get(key, default)
        return float(value) if isinstance(value, int | float) else default

    def ratio(self, spec: PointSpec) -> float:
        """The transformer ratio that applies to a point."""
        return {"none": 1.0, "ct": self.ct_ratio, "pt": self.pt_ratio, "ctpt": self.ct_ratio * self.pt_ratio}[spec.ratio]


class Driver(Protocol):
    """One device behind one channel. Every method may raise `DeviceError`; a driver reconnects by itself at the next call."""

    counters: Counters

    async def open(self) -> None:
        """Dial the channel if it is not open."""
        ...

    async def read(self, points: Sequence[PointSpec]) -> dict[str, Value]:
        """Read points; a point the device refuses comes back BAD, a silent device raises."""
        ...

    async def write(self, spec: PointSpec, value: float) -> None:
        """Write one canonical value; returns when the device has acknowledged it.

        Raises:
            DeviceError: `refused` when surely not done; `timeout` or `closed` when it may have been done.
        """
        ...

    async def close(self) -> None:
        """Close the channel."""
        ...
