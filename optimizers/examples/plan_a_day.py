"""From a CSV of load, weather and tariff to a plan, its plot and what the tank is worth. Weather: Shunyi, Beijing, 20 January 2016 (UCI, CC BY 4.0)."""

import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np

from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Building, Community, ElectricBoiler, Prices, Storage

rows = list(csv.DictReader((Path(__file__).parent / "winter_day.csv").read_text().splitlines()))
outdoor, other, price = (np.array([float(r[name]) for r in rows]) for name in ("outdoor_c", "other_load_kw", "yuan_per_kwh"))
homes = Building("homes", capacity_kwh_k=60, loss_kw_k=7.0, room_c=20.0, low_c=19.5, emitter_kw=400)
boiler = ElectricBoiler("boiler", rated_kw=600, minimum_load=0.25, up_h=1, down_h=1, start_yuan=5)
tank = Storage("tank", capacity_kwh=2500, energy_kwh=400, charge_kw=600, discharge_kw=400)
community = Community("example", 0.25, Prices(price, demand=1.5), outdoor, [homes], [boiler], [tank], base_kw=other, transformer_kw=800)

plan = Dispatcher().plan(community)
plain = Dispatcher().plan(dataclasses.replace(community, stores=[]))
paid, paid_plain = (sum(p.cost.get(part, 0.0) for part in ("energy", "export", "demand")) for p in (plan, plain))
# The objective also prices wear, comfort and what is missing at the end: its difference is not yet money on a bill.
print(f"objective: {plan.objective:,.2f} yuan with the tank, {plain.objective:,.2f} without: {plain.objective - plan.objective:,.2f} less; within {plan.gap:.2%} of the best possible")
print(f"of it energy and demand: {paid:,.2f} against {paid_plain:,.2f} yuan, {paid_plain - paid:,.2f} less; the tank ends with {plan.energy_kwh['tank'][-1]:.0f} kWh, it began with 400")
print(f"rooms {plan.room_c['homes'].min():.1f} to {plan.room_c['homes'].max():.1f} degC, highest draw {plan.grid_kw.max():.0f} kW")

if len(sys.argv) > 1:  # a file name: draw it
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit("The plot needs matplotlib: pip install matplotlib / 画图需要 matplotlib：pip install matplotlib")
    figure, axes = plt.subplots(3, sharex=True, figsize=(9, 6))
    for axis, values, label in zip(axes, (plan.grid_kw, plan.energy_kwh["tank"], plan.room_c["homes"]), ("grid, kW", "tank, kWh", "rooms, degC"), strict=True):
        axis.step(np.arange(96) / 4, values, where="post")
        axis.set_ylabel(label)
    figure.savefig(sys.argv[1])
