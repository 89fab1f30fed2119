"""A plant as the planner sees it in life: its register, what its devices show (noise and missing sensors included), and writes.

Must not know: planners.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plants import site as register
from benchmarks.plants.communities import build
from benchmarks.plants.run import SEEDS
from cloud.core.ports import DeviceInfo, PointSetting
from cloud.functions.economic_operation.site import Site, site
from edge_agent.templates import builtin
from protos.points import BY_ID, point

Array = NDArray[np.float64]


class Plant:
    """One community with ids for its devices."""

    def __init__(self, key: str, *, blind: bool = False, seed: int = 0) -> None:
        """Args: blind: without any room sensor, as some plants are. seed: of the sensors that are left."""
        self.community: Any = build(key, SEEDS[key])
        rows = register.devices(key)
        self.ids = {row["code"]: k + 1 for k, row in enumerate(rows)}
        self.codes = {k: code for code, k in self.ids.items()}
        rng = np.random.default_rng(seed)
        devices: list[DeviceInfo] = []
        for row in rows:
            points = {}
            for key_, spec in builtin(row["template"]).points.items():
                if key_ in row["absent_points"] or (blind and key_ == "room_temp"):
                    continue
                points[spec.point.id] = PointSetting(spec.point.id, spec.low, spec.high, spec.resolution, spec.max_silent_s, spec.write is not None)
            devices.append(DeviceInfo(self.ids[row["code"]], 1, "a", row["code"], "", "", row["template"], row["profile"], self.ids.get(row["parent"]), row["location"], row["rated_kw"] or 0.0,
                                      row["attributes"], points))
        self.devices = devices
        facts = register.facts(key)
        self.site: Site = site(1, facts["heated_area_m2"], devices)
        self.tariff = facts["tariff"]
        # Five rooms in a hundred measured, as DOMAIN 7 has it: what the planner may look at; local thermostats keep their own sensors.
        seen = [k for k, r in enumerate(self.site.rooms) if r.sensor]
        few = max(2, round(0.05 * len(self.site.rooms)))
        self.looked_at = frozenset(rng.choice(seen, min(few, len(seen)), replace=False).tolist()) if seen and not blind else frozenset[int]()

    def read(self, device_id: int, key: str) -> float:
        """What a device shows; NaN when it has no such point."""
        image = self.community.image
        at = image.index.get((image.device(self.codes[device_id]), key))
        return float(image.values[at]) if at is not None else float("nan")

    def rooms(self) -> Array:
        """Room temperatures the planner may see."""
        return np.array([self.read(r.device_id, "room_temp") if k in self.looked_at else np.nan for k, r in enumerate(self.site.rooms)])

    def own(self) -> Array:
        """What residents chose."""
        return np.array([self.read(r.device_id, "room_temp_setpoint") for r in self.site.rooms])

    def layers(self) -> list[float]:
        """Tank layers, hottest first."""
        tank = self.site.tank
        return [self.read(tank.device_id, f"layer_temp_{k + 1}") for k in range(tank.layers)] if tank else []

    def write(self, device_id: int, point_id: int, value: float) -> None:
        """A command."""
        self.community.write(self.codes[device_id], BY_ID[point_id].key, value)

    def hold(self, code: str, key: str, value: float) -> None:
        """A command by code."""
        self.write(self.ids[code], point(key).id, value)

    @property
    def power_kw(self) -> float:
        """The site's true draw."""
        return float(self.community.truth()["power_kw"])

    def true_rooms(self) -> Array:
        """All rooms as physics has them."""
        return np.array(list(self.community.truth()["room_temp"].values()))
