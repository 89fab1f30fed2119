"""A plan: what every device does in every interval, what it costs, how far from the best it can be at most, and why.

Must not know: solvers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from optimizers.compare import ByValue
from optimizers.specification import Array

HOW = ("lp", "dp", "milp", "mean")
SOL_STATUS = ("optimal", "incumbent")


@dataclass(frozen=True, slots=True, eq=False)
class Plan(ByValue):
    """The plan of one community. Plans are equal when all they say is, however long it took (`seconds`).

    Attributes:
        on, heat_kw, power_kw: per source, one value a step.
        rooms_kw: per group of room heaters.
        charge_kw, discharge_kw, energy_kwh: per store; energy at the end of each step.
        building_kw: heat to each building from the loop; room_c, mass_c: at the end of each step (mass only for 2R2C).
        grid_kw, sold_kw, spilled_kw, shed_kw: at the connection.
        cost: yuan by kind: energy, export, demand, starts, and priced slacks by name.
        objective: yuan, their sum: no bill, for it holds wear, comfort and what is missing at the end.
        bound: yuan, nothing can cost less.
        gap: (objective - bound) / max(1, |objective|), never below 0: around an objective of nothing a share would say nothing, so there it is yuan.
        how: one of `HOW`: which step of the tier gave it (mean: against scenarios, the mean future's decision).
        sol_status: one of `SOL_STATUS`: optimal (within the gap asked), incumbent (time ran out).
        heat_price, power_price: marginal yuan/kWh per step of one kWh more (of heat in the loop, of power at the connection), statuses fixed. Where cost has a kink
            one more costs no less than that, and one less saves no more.
        slacks: what could not be held: name -> amount per step (K, kW or kWh).
        seconds: solver time.
        repaired: what was repaired in the specification.
    """

    on: dict[str, Array]
    heat_kw: dict[str, Array]
    power_kw: dict[str, Array]
    rooms_kw: dict[str, Array]
    charge_kw: dict[str, Array]
    discharge_kw: dict[str, Array]
    energy_kwh: dict[str, Array]
    building_kw: dict[str, Array]
    room_c: dict[str, Array]
    mass_c: dict[str, Array]
    grid_kw: Array
    sold_kw: Array
    spilled_kw: Array
    shed_kw: Array
    cost: dict[str, float]
    objective: float
    bound: float
    gap: float
    how: str
    sol_status: str
    heat_price: Array
    power_price: Array
    slacks: dict[str, Array]
    seconds: float = field(compare=False)
    repaired: tuple[str, ...] = field(default=())
