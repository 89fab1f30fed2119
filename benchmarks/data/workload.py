"""Readings of a heated community, made up from a seed: eight kinds of points, at instrument resolution, on a 15 s grid.

On/off duty, random walks, a counter, a state. The same (seed, agent, part) gives the same numbers to every engine. Must not know: engines.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protos.batch import Reading
from protos.points import point

Array = npt.NDArray[Any]
GRID_MS: Final = 15_000
#: (point, steps per unit, start, size of a step of the walk in units); the kinds that are no walk say so in `sweeps`.
KINDS: Final = (("active_power", 10, 0.0, 0.0), ("supply_temp", 10, 48.0, 0.1), ("return_temp", 10, 39.0, 0.1), ("flow", 100, 12.0, 0.03),
                ("leaving_temp", 10, 50.0, 0.2), ("supply_pressure", 10, 320.0, 0.4), ("energy_import", 100, 10_000.0, 0.0), ("enable_command", 1, 0.0, 0.0))
POINTS: Final = tuple(point(key).id for key, *_ in KINDS)


@dataclass(frozen=True, slots=True)
class Sweeps:
    """T sweeps over D devices with 8 points each.

    Attributes:
        devices: device ids, shape (D,).
        at_ms: UTC milliseconds, shape (T,).
        value: canonical units, quantised, shape (T, D, 8).
    """

    devices: tuple[int, ...]
    at_ms: Array
    value: Array

    @property
    def rows(self) -> int:
        """Readings."""
        return int(self.value.size)


def month_start_ms() -> int:
    """Midnight UTC of the 2nd of last month: long past, and a season of sweeps away from the month's end."""
    today = dt.datetime.now(dt.UTC)
    last = (today.replace(day=1) - dt.timedelta(days=1)).replace(day=2, hour=0, minute=0, second=0, microsecond=0)
    return int(last.timestamp() * 1000)


def sweeps(devices: Sequence[int], count: int, *, start_ms: int, seed: int) -> Sweeps:
    """Make `count` sweeps of every device.

    Args:
        devices: device ids.
        count: sweeps, 15 s apart.
        start_ms: time of the first, UTC milliseconds; aligned to the grid here.
        seed: same seed, same numbers.
    """
    rng = np.random.default_rng(seed)
    shape = (count, len(devices))
    value = np.empty((*shape, len(KINDS)))
    for k, (key, steps, start, step) in enumerate(KINDS):
        if step:
            walk = start + rng.normal(0, start * 0.05, len(devices)) + np.cumsum(rng.normal(0, step, shape), axis=0)
            low, high = start * 0.6, start * 1.4
            span = high - low
            folded = np.abs((walk - low) % (2 * span) - span)  # reflected at both ends, like anything under control
            value[:, :, k] = np.rint((high - folded) * steps) / steps
        elif key == "enable_command":
            value[:, :, k] = 0
    # Duty: every device has its period and share; power follows with a little ripple while on.
    period = rng.integers(40, 160, len(devices))
    share = rng.uniform(0.3, 0.8, len(devices))
    phase = rng.integers(0, 160, len(devices))
    on = (np.arange(count)[:, None] + phase) % period < share * period
    power = np.where(on, np.rint((6.0 + rng.normal(0, 0.04, shape)) * 10) / 10, 0.0)
    value[:, :, 0] = power
    value[:, :, 7] = on
    counter = 10_000 + rng.uniform(0, 50_000, len(devices)) + np.cumsum(power, axis=0) * GRID_MS / 3_600_000
    value[:, :, 6] = np.floor(counter * 100) / 100
    at = (start_ms // GRID_MS + np.arange(count)) * GRID_MS
    return Sweeps(tuple(devices), at.astype("<i8"), value)


def readings(made: Sweeps) -> Iterator[Reading]:
    """One object per reading, in the order an agent reads them: sweep by sweep, device by device."""
    for at, sweep in zip(made.at_ms.tolist(), made.value.tolist(), strict=True):
        for device, row in zip(made.devices, sweep, strict=True):
            for point_id, value in zip(POINTS, row, strict=True):
                yield Reading(device, point_id, at, value)


def lines(made: Sweeps, *, unit: int) -> Iterator[str]:
    """InfluxDB line protocol, one line of eight fields per device and sweep: the kindest shape for the peers that speak it.

    Args:
        made: sweeps.
        unit: of the timestamp, per millisecond (1 = ms, 1_000_000 = ns).
    """
    names = [f"p{p}" for p in POINTS]
    for at, sweep in zip(made.at_ms.tolist(), made.value.tolist(), strict=True):
        for device, row in zip(made.devices, sweep, strict=True):
            yield f"heat,d={device} {','.join(f'{n}={v!r}' for n, v in zip(names, row, strict=True))} {at * unit}"
