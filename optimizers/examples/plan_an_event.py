"""A demand-response event: heat before it, hold the promise, come back within a rebound limit (需求响应事件)."""

import numpy as np

from optimizers.demand_response.event import Terms, event_plan
from optimizers.demand_response.flexibility import envelope
from optimizers.methods.dispatch import Dispatcher
from optimizers.shortfall import shortfalls
from optimizers.specification import Building, Community, ElectricBoiler, Prices, Storage

homes = Building("homes", capacity_kwh_k=60, loss_kw_k=4.0, room_c=20.0, low_c=19.5, high_c=22.0, emitter_kw=400)
# Breaking a promise costs 20 yuan/kWh; cold homes shall cost more than that.
community = Community("homes", 0.25, Prices(np.full(48, 0.5), comfort=200, floor=4000), np.full(48, -5.0), [homes], [ElectricBoiler("boiler", 200)], [Storage("tank", 200, 0, 100, 100)])

# What could be given from step 20 on, and for how long.
for offer in envelope(community, 20, durations_h=(0.5, 2.0)):
    print(f"{offer.duration_h} h: {offer.down_kw:.0f} kW less for {offer.down_yuan:.2f} yuan, or {offer.up_kw:.0f} kW more")

# Promised: 60 kW below the plan without an event in steps 20 to 27, at most 130 kW in the two hours after.
baseline = Dispatcher().plan(community).grid_kw[20:28]
found = event_plan(community, Terms(first=20, last=28, committed_kw=60, baseline_kw=baseline, rebound_h=2, rebound_kw=130))
print(f"delivered at least {found.delivered_kw.min():.0f} kW, missing {found.missing_kw.max():.0f} kW, pre-heating from step {found.preheat_from}, rebound {found.rebound_kw:.0f} kW, extra cost {found.cost_yuan:.2f} yuan")

# More than there is: what cannot be held is told before it happens, in both languages.
found = event_plan(community, Terms(8, 32, 100, np.full(24, 100.0)))
print(f"missing up to {found.missing_kw.max():.0f} kW")
for short in shortfalls(found.plan, found.community):
    print(short.zh, short.en, sep="\n")
