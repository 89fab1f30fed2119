"""The interface of a rule, and the points it looks at.

Must not know: how rules are configured, what a desk is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from edge_agent.clock import Now
from edge_agent.commands.desk import Image
from edge_agent.templates import PointSpec
from protos.arbitration import Authority, Hold

CHINA: Final = dt.timezone(dt.timedelta(hours=8))
FRESH_MS: Final = 60_000
#: A wish of a rule ends by itself should its rule stop running.
HOLD_MS: Final = 120_000

#: (device, point key) -> hold
Wishes = Mapping[tuple[int, str], Hold]


@dataclass(frozen=True, slots=True)
class Look:
    """A measured point: its device and key."""

    device: int
    key: str

    def value(self, now: Now, images: Mapping[int, Image], fresh_ms: int = FRESH_MS) -> float | None:
        """Its last good value, None when there is none or it is older than `fresh_ms`."""
        image = images.get(self.device)
        if image is None or now.mono_ms - image.mono_ms > fresh_ms:
            return None
        return image.values.get(self.key)


@dataclass(frozen=True, slots=True)
class Reach:
    """An actuator: its device and point, with the bounds the template gives it."""

    device: int
    spec: PointSpec

    @property
    def slot(self) -> tuple[int, str]:
        """Where its hold stands."""
        return self.device, self.spec.key

    def clamp(self, value: float) -> float:
        """Within what the device takes, at its resolution."""
        assert self.spec.write is not None
        step = self.spec.resolution or 1e-6
        return min(max(round(round(value / step) * step, 9), self.spec.write.low), self.spec.write.high)


@dataclass(frozen=True, slots=True)
class Given:
    """What a rule is given in a cycle.

    Attributes:
        now: the moment.
        images: what the devices looked like.
        local_hour: hour of the site's local day, None when the time is unknown.
        grid_cap_kw: the cap the plan in force sets on the site's grid connection, None when it sets none.
        grid_cap_by: in whose authority.
    """

    now: Now
    images: Mapping[int, Image]
    local_hour: float | None = None
    grid_cap_kw: float | None = None
    grid_cap_by: Authority = Authority.PLAN


class Rule(Protocol):
    """One rule at work."""

    id: str

    def decide(self, given: Given) -> Wishes:
        """What it wishes now; {} when it lacks what it needs (the local controller then decides)."""
        ...


@dataclass(slots=True)
class Rules:
    """All rules of a site; one that fails is put aside and counted, the others go on."""

    rules: list[Rule] = field(default_factory=list)
    wishes: dict[tuple[int, str], list[Hold]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, given: Given) -> None:
        """One cycle."""
        out: dict[tuple[int, str], list[Hold]] = {}
        for rule in self.rules:
            try:
                found = rule.decide(given)
            except Exception as error:  # noqa: BLE001  a rule that breaks must not stop frost protection
                self.failed[rule.id] = f"{type(error).__name__}: {error}"[:200]
                continue
            self.failed.pop(rule.id, None)
            for slot, hold in (*found.items(), *getattr(rule, "followed", {}).items()):
                out.setdefault(slot, []).append(hold)
        self.wishes = out

    def holds(self, device: int) -> dict[str, list[Hold]]:
        """What they wish of a device, by key."""
        return {key: list(holds) for (at, key), holds in self.wishes.items() if at == device}


def zone(name: str) -> dt.tzinfo:
    """A time zone; China's is known without a zone database, which a small box may lack.

    Raises:
        ZoneInfoNotFoundError: unknown.
    """
    return CHINA if name == "Asia/Shanghai" else ZoneInfo(name)


def local_hour(wall_ms: int, timezone: str) -> float:
    """Hour of the local day, 0 <= h < 24."""
    at = dt.datetime.fromtimestamp(wall_ms / 1000, zone(timezone))
    return at.hour + at.minute / 60 + at.second / 3600


def wish(rule: str, given: Given, authority: Authority, *, value: float | None = None, high: float | None = None, reason: str = "") -> Hold:
    """A hold of a rule that ends by itself."""
    return Hold(authority, value, None, high, 0, given.now.wall_ms + HOLD_MS, rule, reason)
