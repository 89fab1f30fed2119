"""A plan judged by a checker that shares no code with the optimiser, and what a wrong specification is answered with (校验)."""

import dataclasses

import numpy as np

from optimizers.checker import check
from optimizers.errors import SpecificationError
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices

homes = Building("homes", capacity_kwh_k=60, loss_kw_k=4.0, room_c=20.0, emitter_kw=400)
boiler = ElectricBoiler("boiler", rated_kw=150, minimum_load=0.3, up_h=1, down_h=1, start_yuan=5)
outdoor = np.full(96, -5.0)
outdoor[30:34] = np.nan  # a hole in the forecast: filled from its neighbours, and told
community = Community("homes", 0.25, Prices(np.full(96, 0.5)), outdoor, [homes], [boiler])

plan = Dispatcher().plan(community)
print(f"repaired: {plan.repaired}")
print(f"limits broken: {check(plan, community)}")

# A plan that gives its rooms a tenth of a kelvin too much, and one whose cost was made prettier.
warmer = dataclasses.replace(plan, room_c={"homes": plan.room_c["homes"] + 0.1})
cheaper = dataclasses.replace(plan, cost={**plan.cost, "energy": plan.cost["energy"] - 10}, objective=plan.objective - 10)
for altered in (warmer, cheaper):
    print([f"{b.what} by {b.amount:.3g} {b.unit}" for b in check(altered, community)])

try:
    Dispatcher().plan(dataclasses.replace(community, transformer_kw=-5))
except SpecificationError as error:
    print(error.code, error.zh, error.en, sep="\n")
