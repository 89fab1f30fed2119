"""What there is to decide about: a heated community, its money and its horizon, as frozen data. Arrays in, nothing else.

Units everywhere: power kW, energy kWh, temperature degC, money yuan, time hours; arrays have one value a step, for the interval [t, t+1).
Must not know: solvers, files, clocks, the cloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optimizers.compare import ByValue

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ElectricBoiler(ByValue):
    """An electric boiler (电锅炉).

    Attributes:
        rated_kw: electric power at full load.
        efficiency: heat per electricity.
        minimum_load: smallest share of full load while on.
        stages: equal stages it switches in; 0 = continuous above the minimum load. Within a step it may switch between stages, so the lowest is its minimum load.
        up_h, down_h: shortest time on and off; whole steps that last at least so long.
        start_yuan: wear of one start.
        on, since_h: state when the horizon begins, and for how long already.
        available: share of full load there is, per step or one number (a device under lockout has 0: then it is off, even within its shortest time on).
    """

    name: str
    rated_kw: float
    efficiency: float = 0.98
    minimum_load: float = 0.0
    stages: int = 0
    up_h: float = 0.25
    down_h: float = 0.25
    start_yuan: float = 0.0
    on: bool = False
    since_h: float = 24.0
    available: float | Array = 1.0


@dataclass(frozen=True, slots=True)
class Performance:
    """How a heat pump performs: linear in source and supply temperature, as in hplib's fits (CC BY 4.0, FZJ-IEK3-VSA).

    `cop = cop[0] + cop[1] * source + cop[2] * supply`; `capacity` gives the share of rated heat the same way. Values are clipped to `cop_range` and `capacity_range`.

    Attributes:
        defrost: largest loss of capacity and COP by frost on the outdoor coil, reached between -3 and +3 degC source (0 for ground source).
    """

    cop: tuple[float, float, float] = (5.3, 0.08, -0.055)
    capacity: tuple[float, float, float] = (1.0, 0.018, -0.003)
    cop_range: tuple[float, float] = (1.2, 7.0)
    capacity_range: tuple[float, float] = (0.3, 1.3)
    defrost: float = 0.08

    def at(self, source_c: Array, supply_c: Array) -> tuple[Array, Array]:
        """(COP, share of rated heat) at source and supply temperatures, degC."""
        frost = 1 - self.defrost * np.clip(1 - np.abs(source_c) / 6.0, 0, 1)
        cop = np.clip(self.cop[0] + self.cop[1] * source_c + self.cop[2] * supply_c, *self.cop_range) * frost
        return cop, np.clip(self.capacity[0] + self.capacity[1] * source_c + self.capacity[2] * supply_c, *self.capacity_range) * frost


@dataclass(frozen=True, slots=True, eq=False)
class HeatPump(ByValue):
    """An air- or ground-source heat pump (热泵).

    Attributes:
        rated_heat_kw: heat at the rating point.
        performance: COP and capacity by temperature.
        source_c: source temperature per step; None = outdoor air.
        standby_kw: power drawn while on, whatever the load (affine part load).
        Other fields: as of `ElectricBoiler`.
    """

    name: str
    rated_heat_kw: float
    performance: Performance = Performance()
    source_c: Array | None = None
    standby_kw: float = 0.0
    minimum_load: float = 0.3
    up_h: float = 1.0
    down_h: float = 0.75
    start_yuan: float = 0.0
    on: bool = False
    since_h: float = 24.0
    available: float | Array = 1.0


@dataclass(frozen=True, slots=True)
class Storage:
    """A heat store (蓄热): water, solid or phase-change; what differs are its numbers.

    Attributes:
        capacity_kwh: usable energy between empty and full.
        energy_kwh: what it holds now.
        charge_kw, discharge_kw: greatest rates.
        charge_efficiency, discharge_efficiency: shares that arrive.
        loss_per_h: share of the content lost in an hour.
        reserve_kwh: content kept for emergencies; below it is priced, never impossible.
        target_kwh: content wanted at the end; None = what it holds now. Falling short costs `Prices.terminal`.
    """

    name: str
    capacity_kwh: float
    energy_kwh: float
    charge_kw: float
    discharge_kw: float
    charge_efficiency: float = 0.99
    discharge_efficiency: float = 0.99
    loss_per_h: float = 0.005
    reserve_kwh: float = 0.0
    target_kwh: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Building(ByValue):
    """A building (or district of like ones) as 1R1C or 2R2C.

    Attributes:
        capacity_kwh_k: heat capacity of air and furniture (2R2C) or of everything (1R1C).
        loss_kw_k: loss to outdoors; with a mass node the part that leaves by air and windows.
        mass_kwh_k: heat capacity of walls and floors; 0 = 1R1C.
        coupling_kw_k: between air and mass.
        mass_loss_kw_k: from mass to outdoors.
        solar_m2: effective area: gain in kW per kW/m2 of sun.
        gains_kw: people and appliances, per step or one number.
        emitter_kw: the most heat radiators can bring in.
        room_c, mass_c: temperatures now; `mass_c` None = in balance with the room.
        floor_c: what is owed to people (legal floor), per step or one number.
        low_c, high_c: comfort band, per step or one number.
        target_c: room temperature wanted at the end; None = no less than now, within the band.
    """

    name: str
    capacity_kwh_k: float
    loss_kw_k: float
    room_c: float
    mass_kwh_k: float = 0.0
    coupling_kw_k: float = 0.0
    mass_loss_kw_k: float = 0.0
    mass_c: float | None = None
    solar_m2: float = 0.0
    gains_kw: float | Array = 0.0
    emitter_kw: float = np.inf
    floor_c: float | Array = 18.0
    low_c: float | Array = 19.0
    high_c: float | Array = 23.0
    target_c: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RoomHeaters(ByValue):
    """Room devices that heat a building directly (cable, film, panel, storage radiator), as one: their duty is staggered below.

    Attributes:
        count, each_kw: how many, and the rating of one.
        building: name of the building they heat.
        least: share that must stay on: rooms at their floor (per step or one number).
        available: share that may be used.
    """

    name: str
    count: int
    each_kw: float
    building: str
    least: float | Array = 0.0
    available: float | Array = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Prices(ByValue):
    """What things cost.

    Attributes:
        energy: yuan/kWh bought, per step (from `optimizers.tariff`).
        export: yuan/kWh sold, per step or one number.
        demand: yuan/kW for peak above `peak_so_far_kw` in this horizon.
        peak_so_far_kw: highest interval mean of the billing month so far.
        contract: yuan/kWh above the contracted capacity.
        floor, comfort: yuan per K*h below the floor, and outside the comfort band.
        shed: yuan/kWh of other load that a transformer cannot carry.
        limit: yuan/kWh above a demand-response limit.
        reserve: yuan per kWh*h below a store's reserve.
        terminal: yuan/kWh of heat missing from stores and buildings at the end.
    """

    energy: Array
    export: float | Array = 0.0
    demand: float = 0.0
    peak_so_far_kw: float = 0.0
    contract: float = 5.0
    floor: float = 200.0
    comfort: float = 5.0
    shed: float = 100.0
    limit: float = 20.0
    reserve: float = 1.0
    terminal: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Community(ByValue):
    """Everything one plan is about.

    Attributes:
        step_h: length of a step.
        outdoor_c, sun_kw_m2: weather per step; `sun_kw_m2` None = none.
        supply_c: supply temperature per step or one number (for COP).
        base_kw, pv_kw: other load and generation per step or one number.
        contract_kw: contracted capacity (priced beyond).
        transformer_kw: rating (never exceeded).
        export_kw: the most that may be fed in.
        limit_kw: demand-response limit on the grid connection per step, inf where none (priced beyond).
    """

    name: str
    step_h: float
    prices: Prices
    outdoor_c: Array
    buildings: Sequence[Building] = ()
    sources: Sequence[ElectricBoiler | HeatPump] = ()
    stores: Sequence[Storage] = ()
    rooms: Sequence[RoomHeaters] = ()
    sun_kw_m2: Array | None = None
    supply_c: float | Array = 45.0
    base_kw: float | Array = 0.0
    pv_kw: float | Array = 0.0
    contract_kw: float = np.inf
    transformer_kw: float = np.inf
    export_kw: float = 0.0
    limit_kw: Array | None = None
    repaired: tuple[str, ...] = field(default=(), compare=False)

    @property
    def steps(self) -> int:
        """Number of steps of the horizon."""
        return len(self.prices.energy)


def series(value: float | Array | None, steps: int, otherwise: float = 0.0) -> Array:
    """One value a step from a number or an array."""
    return np.full(steps, otherwise) if value is None else np.broadcast_to(np.asarray(value, np.float64), (steps,))
