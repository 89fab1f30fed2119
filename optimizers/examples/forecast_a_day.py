"""Tomorrow's load from temperature and history, with an interval, for several projects at once (负荷预测)."""

import numpy as np

from optimizers.forecast import Weather, fit, interval, predict
from optimizers.forecast_card import cards

days = 91
hour = np.arange(days * 24)
draw = np.random.default_rng(0)
outdoor = -3 + 5 * np.sin(hour / 24 * 2 * np.pi) + np.repeat(draw.normal(0, 2, days), 24)
workday = hour // 24 % 7 < 5
load = np.array([[120.0], [60.0]]) * (1 + 0.04 * (16 - outdoor)) * (1 + 0.1 * workday) + draw.normal(0, 3, (2, days * 24))
load[1, 500:520] = np.nan  # a meter that was silent for some hours
weather = Weather(outdoor, workday)

# The last day is what is asked for: its weather is a forecast, its load is not looked at.
learnt, until = slice(0, (days - 1) * 24), Weather(outdoor[:-24], workday[:-24])
model = fit(load[:, learnt], until)
said = predict(model, load, weather)
low, high = interval(model, said, share=0.8)
for project in range(2):
    inside = (load[project, -24:] >= low[project]) & (load[project, -24:] <= high[project])
    error = np.sqrt(np.mean((said[project] - load[project, -24:]) ** 2)) / load[project, -24:].mean()
    print(f"project {project}: {said[project].mean():.0f} kW in the mean, wrong by {error:.1%}, {inside.sum()} of 24 hours within the 80 % interval")
for card in cards(load[:, learnt], until, boosting=False):
    print(card.zh, card.en, sep="\n")
