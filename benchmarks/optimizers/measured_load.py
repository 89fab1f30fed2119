"""B5 and B6 on the measured district heat of Flensburg 2014-2016 (hourly load, outdoor temperature, workday). Not redistributed: without it the rows say so.

The file flensburg_dh/flensburg_2014_2016_hourly.csv is looked for under KANG_BENCH_DATA, then ../shared/data. Must not know: other rows.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.optimizers.environments import PeerError, ask
from benchmarks.report import QUICK, Report
from optimizers.boosting import learn, predict_boosted, verdict
from optimizers.demand_response.baseline import METHODS, BaselineError, Event, History
from optimizers.forecast import Weather, calibrated, fit, interval, predict, update
from optimizers.specification import Array

FILE = Path("flensburg_dh/flensburg_2014_2016_hourly.csv")


def data() -> tuple[Array, Array, Array, list[str]] | None:
    """(load, outdoor, workday as (days, 24), dates), or None."""
    for home in (os.environ.get("KANG_BENCH_DATA"), "../shared/data"):
        if home and (Path(home) / FILE).exists():
            with (Path(home) / FILE).open() as lines:
                rows = list(csv.DictReader(lines))
            n = len(rows) // 24 * 24
            table = np.array([[float(r[k] or "nan") for k in ("load", "temp", "workday")] for r in rows[:n]])
            return *(table[:, k].reshape(-1, 24) for k in range(3)), [r["date"][:10] for r in rows[:n:24]]  # type: ignore[return-value]
    return None


def heating(date: str) -> bool:
    """October to April."""
    return int(date[5:7]) in {10, 11, 12, 1, 2, 3, 4}


def baselines(report: Report) -> None:
    """B5: placebo events 17-20 h on winter workdays; the truth is the load itself."""
    found = data()
    if found is None:
        report.missing("B5", f"{FILE} is not under KANG_BENCH_DATA; its licence does not let us bring it")
        return
    load, outdoor, workday, dates = found
    history = History(load, outdoor, workday[:, 12] > 0.5, np.zeros(len(load), bool))
    days = [d for d in range(150, len(dates)) if heating(dates[d]) and history.workday[d] and np.isfinite(load[d]).all()][::3 if QUICK else 1]
    goals: dict[str, tuple[float | None, float | None]] = {"temperature": (0.095, 0.01)}
    for name in ("temperature", "jiangsu_5_workdays", "beijing_high_5_of_10", "five_days_adjusted"):
        pairs = []
        for d in days:
            try:
                pairs.append((METHODS[name](history, Event(d, 17, 20, 15)), load[d, 17:20]))
            except BaselineError:
                continue
        said, true = (np.concatenate([p[k] for p in pairs]) for k in range(2))
        cap, bias = goals.get(name, (None, None))
        report.add(f"B5.{name}.cvrmse", float(np.sqrt(np.mean((said - true) ** 2)) / true.mean()), "relative", at_most=cap, note=f"{len(pairs)} placebo days, 17-20 h, adjustment closed at 15 h")
        report.add(f"B5.{name}.bias", abs(float((said - true).mean() / true.mean())), "relative", at_most=bias)


def opendsm(report: Report, load: Array, outdoor: Array, dates: list[str], first: int) -> None:
    """OpenDSM's hourly model on the same year: fitted once on the year before, without lags, told the temperature that was (it forecasts no day ahead, it judges)."""
    year = dates.index("2015-01-01")
    request = {"baseline": {"start": "2015-01-01", "load": load[year:first].ravel().tolist(), "outdoor_c": outdoor[year:first].ravel().tolist()},
               "reporting": {"start": "2016-01-01", "outdoor_c": outdoor[first:].ravel().tolist()}}
    try:
        answer = ask("opendsm", request, seconds=300)
    except PeerError as error:
        report.missing("B6.opendsm.cvrmse", str(error))
        return
    said = np.array(answer["predicted"], np.float64).reshape(-1, 24)
    season = np.array([heating(d) for d in dates[first:]])
    missed, truth = (said - load[first:])[season], load[first:][season]
    report.add("B6.opendsm.cvrmse", float(np.sqrt(np.nanmean(missed**2)) / np.nanmean(truth)), "relative", note=f"hourly model fitted once on 2015 in {answer['fit_s']:.1f} s, no lags, no daily update: another job than ours, the same hours")


def forecasts(report: Report) -> None:
    """B6: day ahead through the heating season of 2016, taking up every day that passed; then many refits."""
    found = data()
    if found is not None:
        load, outdoor, workday, dates = found
        first = dates.index("2016-01-01")
        flat = (load.reshape(1, -1), outdoor.ravel(), workday.ravel() > 0.5)

        def part(begin: int, end: int) -> tuple[Array, Weather]:
            return flat[0][:, begin * 24:end * 24], Weather(flat[1][begin * 24:end * 24], flat[2][begin * 24:end * 24])

        model, spread = fit(*part(0, first)), 1.0
        asked = verdict(flat[0][0, :first * 24], part(0, first)[1])
        trees, boosted = learn(model, *part(0, first)), list[Array]()
        errors, truths, inside, cold = list[Array](), list[Array](), list[float](), list[float]()
        for d in range(first, len(dates)):
            recent = part(d - 40, d + 1)
            said = predict(model, *recent)
            low, high = interval(model, said, spread=spread)
            hit = float(np.mean((load[d] >= low[0]) & (load[d] <= high[0])))
            spread = calibrated(spread, hit)
            if dates[d].endswith("-01"):
                trees = learn(model, *part(0, d))
            if heating(dates[d]):
                boosted.append(predict_boosted(model, trees, *recent) - load[d])
                errors.append(said[0] - load[d])
                truths.append(load[d])
                inside.append(hit)
                cold.append(float(outdoor[d].mean()))
            model = update(model, *recent)
        error, truth = np.concatenate(errors), np.concatenate(truths)
        report.add("B6.cvrmse", float(np.sqrt(np.nanmean(error ** 2)) / np.nanmean(truth)), "relative", at_most=0.08, note=f"{len(errors)} days of 2016, October to April, day ahead with the measured temperature")
        report.add("B6.boosted.cvrmse", float(np.sqrt(np.nanmean(np.concatenate(boosted) ** 2)) / np.nanmean(truth)), "relative",
                   note=f"trees on what the ridge leaves, learnt anew each month; cross-validation on the years before {'takes' if asked.wins else 'leaves'} them ({asked.boosted:.2f} against {asked.ridge:.2f})")
        report.add("B6.coverage", float(np.mean(inside)), "share", at_least=0.77, at_most=0.83, note="80 % interval")
        opendsm(report, load, outdoor, dates, first)
        decile = np.array(cold) <= np.quantile(cold, 0.1)
        report.add("B6.coverage.coldest", float(np.array(inside)[decile].mean()), "share", at_least=0.75, note="coldest tenth of the days")
    else:
        report.missing("B6", f"{FILE} is not under KANG_BENCH_DATA; its licence does not let us bring it")
    count, days, chunk = (500 if QUICK else 5000), 120, 250
    draw = np.random.default_rng(1)
    hours = np.arange(days * 24)
    weather = Weather(-3 + 6 * np.sin(hours / 24 * 2 * np.pi) + draw.normal(0, 3, days).repeat(24), hours // 24 % 7 < 5)
    loads = 80 - 3 * weather.outdoor_c + draw.normal(0, 4, (chunk, len(hours)))
    began = time.perf_counter()
    for _ in range(count // chunk):
        fit(loads, weather)
    report.add("B6.refits", time.perf_counter() - began, "s", at_most=10.0, note=f"{count} projects, {days} days of hours each, one weather series, {chunk} a call")
