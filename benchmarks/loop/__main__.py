"""`python -m benchmarks.loop`: a measured billing month, plant by plant, controller by controller: yuan/m2 and how warm the coldest true room was.

QUICK=1 runs nine days. Must not know: how anybody decides.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from benchmarks.loop.controllers import HORIZON, Controller, Planning, Thermostat, Valley
from benchmarks.loop.forecast import Forecast
from benchmarks.loop.plant import Array, Plant
from benchmarks.plants import weather
from benchmarks.report import Report
from cloud.functions.economic_operation.planner import Comfort
from optimizers.tariff.model import parse
from optimizers.tariff.rating import price_array

WARM_UP_DAYS, FLOOR_C = 4, 18.0
#: plant -> (tariff, yuan per kW of the month's peak, blind)
CASES = {"boiler_storage": ("beijing_business_pattern", 48.0, False), "heat_pump": ("beijing_coal_to_electricity", 0.0, False),
         "decentralised": ("beijing_coal_to_electricity", 0.0, False), "heat_pump_blind": ("beijing_coal_to_electricity", 0.0, True)}
WHO = ("thermostat", "valley", "planner", "foresight")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a month came to."""

    plant: str
    who: str
    energy_yuan: float
    demand_yuan: float
    kwh: float
    peak_kw: float
    yuan_m2: float
    cold_kh: float
    coldest_c: float
    mean_c: float
    plan_ms: float
    how: str


def begin_s() -> float:
    """The first instant: 1 January of the measured window on a day of this winter (the window repeats every 31 days)."""
    day = (dt.datetime(2026, 12, 1, tzinfo=dt.UTC) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).days
    while weather.source_day(day).day != 1:
        day += 1
    return day * 86_400.0 - weather.UTC_OFFSET_S


def run(case: str, who: str, days: int) -> Outcome:
    """One plant under one controller for `days`, after a warm-up that is not counted."""
    tariff_name, demand, blind = CASES[case]
    tariff = parse(json.loads(resources.files("optimizers.tariff").joinpath(f"published/{tariff_name}.json").read_text(encoding="utf-8")))
    plant = Plant(case.removesuffix("_blind"), blind=blind)
    start = begin_s() - WARM_UP_DAYS * 86_400
    prices = price_array(tariff, int(start * 1000), (days + WARM_UP_DAYS) * 96 + HORIZON, 0.25)
    controller: Controller
    if who == "thermostat":
        controller = Thermostat()
    elif who == "valley":
        controller = Valley()
    else:
        controller = Planning(plant, Forecast(start, error=float(who == "planner")), prices, start, demand, start + (days + WARM_UP_DAYS) * 86_400, days * 24.0, comfort=Comfort())
    draw: list[float] = []
    coldest, cold, means, counted = 99.0, 0.0, [], 0
    plant.community.publish()
    for minute in range((days + WARM_UP_DAYS) * 1440):
        now = start + 60 * minute
        if minute % 3 == 0:
            plant.community.publish()
        controller.act(plant, now, minute)
        plant.community.advance(now + 60, 60)
        if minute == WARM_UP_DAYS * 1440 and isinstance(controller, Planning):
            controller.peak_kw = 0.0
        if minute >= WARM_UP_DAYS * 1440:
            draw.append(plant.community.mains_kw if hasattr(plant.community, "mains_kw") else plant.power_kw)
            if minute % 5 == 0:
                rooms = plant.true_rooms()
                least = float(rooms.min())
                coldest, cold, counted = min(coldest, least), cold + max(0.0, FLOOR_C - least) * 5 / 60, counted + 1
                means.append(float(rooms.mean()))
    quarter: Array = np.array(draw).reshape(-1, 15).mean(axis=1)
    energy = float(quarter @ prices[WARM_UP_DAYS * 96:WARM_UP_DAYS * 96 + len(quarter)]) / 4
    peak = float(quarter.max())
    planning = controller if isinstance(controller, Planning) else None
    return Outcome(case, who, energy, demand * peak, float(quarter.sum() / 4), peak, (energy + demand * peak) / plant.site.area_m2, cold, coldest, float(np.mean(means)),
                   1000 * planning.seconds / planning.plans if planning else 0.0, planning.learnt.how if planning else "")


def main() -> int:
    """Entry point."""
    quick = bool(os.environ.get("QUICK"))
    days = 9 if quick else 31
    cases = [c for c in os.environ.get("PLANTS", ",".join(CASES)).split(",") if c]
    report = Report("bench-loop")
    began = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        found = {(case, who): pool.submit(run, case, who, days) for case in cases for who in WHO}
        outcomes = {key: job.result() for key, job in found.items()}
    print(f"{'plant':16} {'who':11} {'yuan/m2':>8} {'energy':>8} {'demand':>7} {'kWh':>8} {'peak kW':>8} {'K*h < 18':>9} {'coldest':>8} {'mean':>6} {'ms/plan':>8}")
    for o in outcomes.values():
        print(f"{o.plant:16} {o.who:11} {o.yuan_m2:8.3f} {o.energy_yuan:8.0f} {o.demand_yuan:7.0f} {o.kwh:8.0f} {o.peak_kw:8.1f} {o.cold_kh:9.1f} {o.coldest_c:8.2f} {o.mean_c:6.2f} {o.plan_ms:8.1f} {o.how}")
    for case in cases:
        a, b, ours, c = (outcomes[case, who] for who in WHO)
        storage = case == "boiler_storage"
        report.add(f"loop.{case}.under_thermostat", 100 * (1 - ours.yuan_m2 / a.yuan_m2), "%", at_least=8.0 if storage else None, note=f"{a.yuan_m2:.3f} -> {ours.yuan_m2:.3f} yuan/m2 in {days} days")
        report.add(f"loop.{case}.cold", ours.cold_kh - a.cold_kh, "K*h", at_most=0.05 * max(1.0, a.cold_kh), note=f"coldest true room below {FLOOR_C:g} degC: {ours.cold_kh:.1f} against {a.cold_kh:.1f} (thermostat), {b.cold_kh:.1f} (valley)")
        room = b.yuan_m2 - c.yuan_m2
        wide = room >= 0.05 * b.yuan_m2
        report.add(f"loop.{case}.closed", 100 * (b.yuan_m2 - ours.yuan_m2) / room if abs(room) > 1e-9 else 0.0, "%", at_least=60.0 if wide else None,
                   note=f"valley schedule {b.yuan_m2:.3f}, perfect foresight {c.yuan_m2:.3f} ({100 * room / b.yuan_m2:.1f} % apart)")
    Path("build/results").mkdir(parents=True, exist_ok=True)
    _plot(outcomes, Path("build/results/bench-loop.png"))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return report.finish()


def _plot(outcomes: dict[tuple[str, str], Outcome], path: Path) -> None:
    try:
        import matplotlib as mpl
        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return
    cases = list(dict.fromkeys(case for case, _ in outcomes))
    figure, (money, cold) = plt.subplots(2, figsize=(9, 6), sharex=True)
    for k, who in enumerate(WHO):
        at = np.arange(len(cases)) + 0.2 * k
        money.bar(at, [outcomes[c, who].yuan_m2 for c in cases], 0.18, label=who)
        cold.bar(at, [outcomes[c, who].cold_kh for c in cases], 0.18)
    money.set_ylabel("yuan/m2")
    money.legend()
    cold.set_ylabel("K*h below 18 degC")
    cold.set_xticks(np.arange(len(cases)) + 0.3, cases)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
