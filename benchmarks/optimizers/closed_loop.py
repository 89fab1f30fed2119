"""Closed loop on a plant not of our making: `python -m benchmarks.optimizers.closed_loop plant.json [--days 7]`, or the row FMI on the plant that is brought along.

The plant is an FMU (see `fmi`); a JSON file says which of its variables are the room, the heat and the weather, and in which units. Ours first watches nine
days under a thermostat whose set-point moves, identifies the building from them and then plans; the thermostats, which know nothing, run over the same weather
and tariff. Weather is known here (no forecast error): EMULATED, not a field result. Must not know: what is inside the plant.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.optimizers.cases import WEEKS, m1, outdoor
from benchmarks.optimizers.environments import PeerError, ask
from benchmarks.optimizers.fmi import Fmu, FmuError
from benchmarks.report import QUICK, Report
from optimizers.formulations.building import thermal
from optimizers.identification import identify
from optimizers.methods.dispatch import Dispatcher
from optimizers.specification import Array, Building, Community, ElectricBoiler, Prices
from optimizers.validation import plannable

PLANT = Path(__file__).parent / "plant"
WATCH_DAYS, HORIZON_H = 9, 24.0


@dataclass(frozen=True, slots=True)
class Wire:
    """A variable of the plant: in it = factor * ours + offset (heat, outdoor); ours = factor * it + offset (room)."""

    variable: str
    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        """The value on the other side."""
        return self.factor * value + self.offset


@dataclass(frozen=True, slots=True)
class Plant:
    """A plant's file and wiring.

    Attributes:
        room: its room temperature, degC when wired.
        heat: input, from kW.
        weather: input, outdoor temperature from degC.
        rated_kw: the most heat.
        floor_c: what people are owed.
        step_s: of control.
        start: values set before it begins.
    """

    fmu: Path
    room: Wire
    heat: Wire
    weather: Wire
    rated_kw: float
    floor_c: float
    step_s: float
    start: dict[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """What happened: per step, room at its end (degC) and heat (kW)."""

    room_c: Array
    heat_kw: Array


def read(file: Path) -> Plant:
    """A plant from its JSON file; the FMU stands beside it unless its path is absolute."""
    raw: dict[str, Any] = json.loads(file.read_text())
    return Plant(file.parent / raw["fmu"], Wire(**raw["room"]), Wire(**raw["heat"]), Wire(**raw["outdoor"]), float(raw["rated_kw"]), float(raw.get("floor_c", 20.0)),
                 float(raw.get("step_s", 900.0)), dict(raw.get("start", {})))


def compiled(home: Path, source: Path = PLANT / "room.c") -> Path:
    """The plant that is brought along, built with the machine's C compiler.

    Raises:
        FmuError: there is no compiler, or it fails.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FmuError("no C compiler (cc) to build the plant that is brought along; name an FMU of your own")
    home.mkdir(parents=True, exist_ok=True)
    library, fmu = home / "room.so", home / "room.fmu"
    done = subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FmuError(done.stderr.strip().splitlines()[-1])
    with zipfile.ZipFile(fmu, "w") as archive:
        archive.write(source.parent / "modelDescription.xml", "modelDescription.xml")
        archive.write(library, "binaries/linux64/room.so")
    return fmu


def drive(plant: Plant, weather_c: Array, decide: Callable[[int, float], float]) -> Run:
    """Run a plant over the weather: `decide(step, room_c)` gives kW of heat for the step that begins."""
    rooms, heats = np.empty(len(weather_c)), np.empty(len(weather_c))
    with Fmu(plant.fmu, plant.start) as fmu:
        room = plant.room(fmu.get([plant.room.variable])[plant.room.variable])
        for k, outside in enumerate(weather_c):
            heats[k] = float(np.clip(decide(k, room), 0, plant.rated_kw))
            fmu.set({plant.heat.variable: plant.heat(heats[k]), plant.weather.variable: plant.weather(float(outside))})
            fmu.step(plant.step_s)
            room = rooms[k] = plant.room(fmu.get([plant.room.variable])[plant.room.variable])
    return Run(rooms, heats)


def thermostat(plant: Plant, set_point: Callable[[int], float], band_k: float = 0.5) -> Callable[[int, float], float]:
    """All or nothing, with a dead band below the set-point."""
    on = [False]

    def decide(step: int, room_c: float) -> float:
        goal = set_point(step)
        on[0] = room_c < goal - band_k if not on[0] else room_c < goal
        return plant.rated_kw if on[0] else 0.0

    return decide


class Planner:
    """Ours in the loop: a building identified from a watched run, the mass followed by its model, a plan every step.

    Args:
        plant: limits only.
        building: what was identified.
        weather_c, price: of the run and a horizon beyond it.
    """

    def __init__(self, plant: Plant, building: Building, weather_c: Array, price: Array) -> None:
        self._plant, self._building, self._weather, self._price = plant, building, weather_c, price
        self._step_h = plant.step_s / 3600
        self._mass_c: float | None = None
        self._given = 0.0
        self._last: tuple[float, float] | None = None
        self._planner = Dispatcher()

    def __call__(self, step: int, room_c: float) -> float:
        """Heat in kW for the step that begins."""
        ahead = slice(step, step + round(HORIZON_H / self._step_h))
        if self._last is not None and self._building.mass_kwh_k > 0:
            self._mass_c = self._follow(*self._last)
        # A margin below what is owed is kept for what the identified model gets wrong.
        owed = self._plant.floor_c + 0.1
        building = dataclasses.replace(self._building, room_c=room_c, mass_c=self._mass_c, emitter_kw=self._plant.rated_kw, floor_c=self._plant.floor_c, low_c=owed, high_c=owed + 4, target_c=owed)
        prices = Prices(self._price[ahead], comfort=2000.0, floor=4000.0, terminal=0.35)
        community = plannable(Community("plant", self._step_h, prices, self._weather[ahead], [building], [ElectricBoiler("heater", self._plant.rated_kw, 1.0)]))
        plan = self._planner.plan(community)
        if self._mass_c is None and building.mass_kwh_k > 0:
            self._mass_c = float(thermal(building, community).start[1])
        self._given = float(plan.building_kw["identified"][0])
        self._last = (room_c, float(self._weather[step]))
        return self._given

    def _follow(self, room_c: float, outside: float) -> float:
        """The mass a step on by the model."""
        building = dataclasses.replace(self._building, room_c=room_c, mass_c=self._mass_c)
        state = thermal(building, Community("plant", self._step_h, Prices(np.zeros(1)), np.array([outside]), [building]))
        return float((state.a @ state.start + state.b * self._given + state.d[0])[1])


def score(run: Run, plant: Plant, price: Array) -> tuple[float, float, float]:
    """(yuan, kWh, K*h below what is owed)."""
    hours = plant.step_s / 3600
    return float(run.heat_kw @ price[:len(run.heat_kw)]) * hours, float(run.heat_kw.sum()) * hours, float(np.maximum(0, plant.floor_c - run.room_c).sum()) * hours


def watched(plant: Plant, weather_c: Array) -> Building:
    """The building as nine days under a moving set-point show it."""
    draw = np.random.default_rng(7)
    goals = plant.floor_c + draw.uniform(0, 3, len(weather_c) // 16 + 1)
    run = drive(plant, weather_c, thermostat(plant, lambda k: float(goals[k // 16])))
    found = identify(run.room_c, run.heat_kw, weather_c, np.zeros(len(weather_c)), plant.step_s / 3600)
    return found.building("identified", plant.floor_c)


def compare(plant: Plant, days: int, report: Report) -> None:
    """Thermostats and ours over the same days."""
    per_day = round(86_400 / plant.step_s)
    count, extra = days * per_day, round(HORIZON_H * 3600 / plant.step_s)
    weather, before = outdoor(WEEKS[2], count + extra), outdoor(WEEKS[0], WATCH_DAYS * per_day)
    tariff = m1(WEEKS[2], 96).prices.energy
    price = tariff[(np.arange(count + extra) * len(tariff) // per_day) % len(tariff)]
    building = watched(plant, before)
    best = None
    for goal in np.arange(plant.floor_c + 0.2, plant.floor_c + 2.6, 0.2):
        run = drive(plant, weather[:count], thermostat(plant, lambda _, g=float(goal): g))  # type: ignore[misc]
        if score(run, plant, price)[2] < 1e-9:
            best = score(run, plant, price)
            break
    ours = score(drive(plant, weather[:count], Planner(plant, building, weather, price)), plant, price)
    if best is None:
        report.missing("FMI.thermostat", "no set-point holds the floor")
        return
    report.add("FMI.ours.below", ours[2], "K*h", at_most=0.1, note=f"{days} days, {ours[1]:.0f} kWh, {ours[0]:.0f} yuan; building identified from {WATCH_DAYS} days before; weather known, EMULATED")
    report.add("FMI.thermostat.ratio", best[0] / ours[0], "x ours", at_least=1.08, note=f"cost of the best set-point that holds the floor ({goal:.1f} degC): {best[1]:.0f} kWh, {best[0]:.0f} yuan")


def same(plant: Plant, report: Report) -> None:
    """The same inputs through FMPy, in an environment of its own."""
    heats = np.random.default_rng(3).uniform(0, plant.rated_kw, 96)
    mine = drive(plant, np.full(96, -5.0), lambda k, _: float(heats[k]))
    request = {"fmu": str(plant.fmu.absolute()), "step_s": plant.step_s, "inputs": [[plant.heat(h), plant.weather(-5.0)] for h in heats], "names": [plant.heat.variable, plant.weather.variable], "read": plant.room.variable}
    try:
        theirs = np.array(ask("fmpy", request)["values"])
    except PeerError as error:
        report.missing("FMI.fmpy", str(error))
        return
    report.add("FMI.fmpy", float(np.abs(plant.room.factor * theirs + plant.room.offset - mine.room_c).max()), "K", at_most=1e-9, note="largest difference of our drive to FMPy's over a day")


def run(report: Report) -> None:
    """The row FMI: the plant that is brought along."""
    try:
        fmu = compiled(Path("build/results/plant"))
    except FmuError as error:
        report.missing("FMI", str(error))
        return
    plant = dataclasses.replace(read(PLANT / "room.json"), fmu=fmu)
    same(plant, report)
    compare(plant, 2 if QUICK else 7, report)


def main() -> int:
    """One plant of the caller's."""
    arguments = argparse.ArgumentParser(description="ours and thermostats on an FMI 2.0 co-simulation plant")
    arguments.add_argument("plant", type=Path, help="JSON file: fmu, room, heat, outdoor (variable, factor, offset), rated_kw, floor_c, step_s, start")
    arguments.add_argument("--days", type=int, default=7)
    asked = arguments.parse_args()
    report = Report("bench-fmi")
    try:
        compare(read(asked.plant), asked.days, report)
    except (FmuError, OSError, KeyError, TypeError, ValueError) as error:
        print(f"{asked.plant}: {error}", file=sys.stderr)
        return 2
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
