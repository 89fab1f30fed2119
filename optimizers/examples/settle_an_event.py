"""Baseline, delivery and money of an event that has passed, to the fen (基线与结算)."""

from decimal import Decimal

import numpy as np

from optimizers.demand_response.baseline import METHODS, Event, History
from optimizers.demand_response.settlement import Terms, delivery, settle

# Sixty days of hourly load; on the last one, a Thursday, 30 kW were left off from 17 to 20 h.
draw = np.random.default_rng(0)
outdoor = -4 + 4 * np.sin(np.arange(60 * 24) / 24 * 2 * np.pi).reshape(60, 24) + draw.normal(0, 1, (60, 1))
load = 100 - 4 * outdoor + draw.normal(0, 1, (60, 24))
load[59, 17:20] -= 30
history = History(load, outdoor, workday=np.arange(60) % 7 < 5, excluded=np.zeros(60, bool))
event = Event(day=59, first=17, last=20, closed=15)  # pre-heating began at 15 h: nothing after it is looked at

for method in ("jiangsu_5_workdays", "beijing_high_5_of_10", "five_days_adjusted"):
    print(f"{method}: {METHODS[method](history, event).round(1)} kW")

baseline, measured = METHODS["five_days_adjusted"](history, event), load[59, 17:20]
quality = delivery(baseline, measured, committed_kw=30, step_h=1.0)
statement = settle(baseline, measured, Decimal(30), 1.0, Terms(yuan_kwh=Decimal("3.00"), yuan_kw=Decimal("0.50"), penalty_yuan_kwh=Decimal("1.50")))
print(f"delivered {quality.delivered_kwh:.1f} kWh, {quality.ratio:.0%} of what was promised")
print(f"paid for {statement.paid_kwh:.1f} kWh: {', '.join(f'{name} {yuan}' for name, yuan in statement.items.items())}; total {statement.total} yuan")
