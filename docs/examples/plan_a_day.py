"""From a CSV of load, weather and tariff to a plan, its plot and its saving. Weather: Shunyi, Beijing, 20 January 2016 (UCI, CC BY 4.0)."""

import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np

from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices, Storage

rows = list(csv.DictReader((Path(__file__).parent / "winter_day.csv").open()))
outdoor, other, price = (np.array([float(r[name]) for r in rows]) for name in ("outdoor_c", "other_load_kw", "yuan_per_kwh"))
homes = Building("homes", capacity_kwh_k=60, loss_kw_k=7.0, room_c=20.0, low_c=19.5, emitter_kw=400)
boiler = ElectricBoiler("boiler", rated_kw=600, minimum_load=0.25, up_h=1, down_h=1, start_yuan=5)
tank = Storage("tank", capacity_kwh=2500, energy_kwh=400, charge_kw=600, discharge_kw=400)
community = Community("example", 0.25, Prices(price, demand=1.5), outdoor, [homes], [boiler], [tank], base_kw=other, transformer_kw=800)

plan = Dispatcher().plan(community)
plain = Dispatcher().plan(dataclasses.replace(community, stores=[]))
print(f"with the tank {plan.objective:,.2f} yuan, without {plain.objective:,.2f}: saves {plain.objective - plan.objective:,.2f} yuan; within {plan.gap:.2%} of the best possible")
print(f"rooms {plan.room_c['homes'].min():.1f} to {plan.room_c['homes'].max():.1f} degC, highest draw {plan.grid_kw.max():.0f} kW")

if len(sys.argv) > 1:  # a file name: draw it (needs matplotlib, in kang[bench])
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, sharex=True, figsize=(9, 6))
    for axis, values, label in zip(axes, (plan.grid_kw, plan.energy_kwh["tank"], plan.room_c["homes"]), ("grid, kW", "tank, kWh", "rooms, degC"), strict=True):
        axis.step(np.arange(96) / 4, values, where="post")
        axis.set_ylabel(label)
    figure.savefig(sys.argv[1])
