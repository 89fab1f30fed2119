"""What a plant is made of, as its neighbours see it: devices, channels, project facts, and the image of all point values.

The image holds canonical values (primary side of transformers); NaN means "no sensor here". Must not know: physics, register maps, sockets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.errors import KangError

Array = npt.NDArray[np.float64]


class PlantError(KangError):
    """A request to a plant's control socket cannot be served; `reason` says which name or value is wrong."""

    code = "E-PLANT"
    zh = "仿真热站拒绝请求：{reason}。请检查设备编码、测点名称和故障类型。"
    en = "The plant refused: {reason}. Check device code, point key and kind of fault."


@dataclass(frozen=True, slots=True)
class Channel:
    """One field bus, served on one TCP port: `protocol` modbus, dlt645 or cjt188; `offset` is added to the community's first port."""

    name: str
    protocol: str
    offset: int


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a community (设备), with what is registered on the platform about it."""

    code: str
    name_zh: str
    name_en: str
    template: str
    channel: str
    address: int | str
    points: tuple[str, ...]
    location: str = ""
    parent: str | None = None
    rated_kw: float = 0.0
    ct_ratio: float = 1.0
    absent: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """A community as a project: names, region, WGS-84 degrees, heated m2, kind, tariff kind (purchase side)."""

    code: str
    name_zh: str
    name_en: str
    region: str
    latitude: float
    longitude: float
    heated_area_m2: float
    kind: str
    tariff: str


class Image:
    """Every point of every device in one vector; a frozen point keeps its value whatever physics says (sensor stuck)."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self.devices = tuple(devices)
        self.by_code = {d.code: k for k, d in enumerate(self.devices)}
        self.index: dict[tuple[int, str], int] = {}
        for k, device in enumerate(self.devices):
            for point in device.points:
                self.index[k, point] = len(self.index)
        self.values: Array = np.full(len(self.index), math.nan)
        self.frozen: dict[int, float] = {}
        self._absent = np.array(sorted(self.index[k, p] for k, d in enumerate(self.devices) for p in d.absent if (k, p) in self.index), dtype=np.intp)

    def device(self, code: str) -> int:
        """Position of a device.

        Raises:
            PlantError: unknown code.
        """
        if code not in self.by_code:
            raise PlantError(reason=f"no device {code!r}")
        return self.by_code[code]

    def at(self, code: str, point: str) -> int:
        """Position of a value.

        Raises:
            PlantError: unknown device or point.
        """
        k = self.device(code)
        if (k, point) not in self.index:
            raise PlantError(reason=f"device {code!r} has no point {point!r}")
        return self.index[k, point]

    def get(self, code: str, point: str) -> float:
        """One value."""
        return float(self.values[self.at(code, point)])

    def put(self, code: str, values: Mapping[str, float]) -> None:
        """Set values of one device; points its template does not have are left out."""
        k = self.by_code[code]
        for point, value in values.items():
            at = self.index.get((k, point))
            if at is not None:
                self.values[at] = value

    def column(self, codes: Iterable[str], point: str) -> npt.NDArray[np.intp]:
        """Positions of one point of many devices, -1 where the template lacks it (see `put_column`)."""
        return np.array([self.index.get((self.by_code[c], point), -1) for c in codes], dtype=np.intp)

    def put_column(self, positions: npt.NDArray[np.intp], values: Array) -> None:
        """Set one point of many devices."""
        if len(positions) and positions[0] >= 0:
            self.values[positions] = values

    def settle(self) -> None:
        """Close a publication: absent sensors are NaN, frozen points keep their value."""
        self.values[self._absent] = math.nan
        for at, value in self.frozen.items():
            self.values[at] = value
