"""A published tariff as prices for the optimiser and as a bill, to the fen (电价与账单)."""

import datetime as dt
import json
from decimal import Decimal
from importlib.resources import files

import numpy as np

from optimizers.tariff.model import TariffError, parse
from optimizers.tariff.rating import price_array, rate

document = json.loads(files("optimizers.tariff").joinpath("published/beijing_coal_to_electricity.json").read_text("utf-8"))
tariff = parse(document)
midnight = int(dt.datetime(2026, 1, 10, tzinfo=tariff.zone).timestamp() * 1000)

# Prices of a day by the hour; 9,950 of the 10,000 subsidised kWh of the season have been used.
used = {"subsidy": Decimal(9950)}
prices = price_array(tariff, midnight, 24, 1.0, used=used)
print(f"yuan/kWh at night {prices[0]:.2f}, at noon {prices[12]:.4f}")

# The bill of a day of 10 kWh an hour: the subsidy ends within it.
edges = midnight + 3_600_000 * np.arange(25)
bill = rate(tariff, edges[:-1], edges[1:], np.full(24, 10.0), used=used)
for charge in bill.charges:
    print(f"{charge.month} {charge.zh} / {charge.en}: {charge.amount} yuan")
print(f"total {bill.total} yuan for {bill.kwh.normalize():f} kWh; counter now {bill.used['subsidy'].normalize():f} kWh")

# A gap in the schedule is refused with its place.
try:
    parse({**document, "schedule": [{"periods": [["00:00", "08:00", "valley"], ["09:00", "24:00", "flat"]]}]})
except TariffError as error:
    print(error.en)
