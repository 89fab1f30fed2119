"""One reduction split over many projects, with a bound that certifies the split (组合分解)."""

import numpy as np

from optimizers.methods.portfolio import LocalPool, split, whole_split
from optimizers.specification import Building, Community, ElectricBoiler, Prices, Storage

draw, steps = np.random.default_rng(0), 48
price = np.where(np.arange(steps) < 20, 0.3, 0.9)
projects = []
for k in range(12):
    loss = draw.uniform(2, 6)
    homes = Building("homes", loss * 15, loss, 20.5, emitter_kw=loss * 60)
    boiler = ElectricBoiler("boiler", loss * 40, minimum_load=0.25, up_h=0.5, down_h=0.5, start_yuan=3)
    projects.append(Community(f"project {k}", 0.25, Prices(price), np.full(steps, -6.0), [homes], [boiler], [Storage("tank", loss * 60, loss * 20, loss * 40, loss * 40)]))

event = np.arange(14, 18)  # an hour in which they would charge
pool = LocalPool(projects, event)  # over worker processes: ProcessPool
free = np.sum([column.profile for column in pool.price(np.zeros(4))], axis=0)
target = np.full(4, 0.5 * free.mean())
relaxed = split(pool, target, step_h=0.25)
whole = whole_split(pool, relaxed, target, step_h=0.25)
print(f"all projects draw {free.mean():.0f} kW of their own accord, {target.mean():.0f} kW are allowed")
print(f"relaxed: {relaxed.cost:.2f} yuan, gap {relaxed.gap:.1e}, {relaxed.rounds} rounds, a kW at the first step is worth {relaxed.prices[0]:.3f} yuan")
print(f"one executable plan each: {whole.total_kw.max():.0f} kW at most, {whole.cost:.2f} yuan, certified within {whole.gap:.2%}, short of the target by {whole.shortfall_kw.max():.1f} kW")
