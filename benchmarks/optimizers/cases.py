"""The benchmark's communities M1 and M2 on measured Beijing winter weather, as objects and as plain JSON for peers. Adding a case = one entry of CASES.

Money is such that no limit needs to be broken in these cases, so a hard limit (peers) and a priced one (ours) have the same optimum.
Must not know: solvers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np

from benchmarks.plants.weather import FIRST_HOUR, measured
from optimizers.formulations.building import thermal
from optimizers.formulations.units import units
from optimizers.specification import Array, Building, Community, ElectricBoiler, HeatPump, Performance, Prices, Storage, series
from optimizers.validation import plannable

STEP_H = 0.25
#: Starts of winter weeks (local midnight), all measured.
WEEKS = tuple(date(year, month, day) for year, month in ((2013, 12), (2014, 1), (2014, 12), (2015, 1), (2015, 12), (2016, 1)) for day in (3, 10, 17, 21))


def outdoor(start: date, steps: int) -> Array:
    """Measured temperature from local midnight of a day, degC, linear between hours."""
    first = (start - FIRST_HOUR).days * 24
    hours = np.arange(steps) * STEP_H
    table = measured()[0][first:first + int(np.ceil(steps * STEP_H)) + 2, 0]
    return np.asarray(np.interp(hours, np.arange(len(table)), table), np.float64)


def _shared(start: date, steps: int, scale: float) -> dict[str, Any]:
    hour = np.arange(steps) * STEP_H % 24
    valley, sharp = (hour < 7) | (hour >= 23), (hour >= 18) & (hour < 20)
    peak = ((hour >= 10) & (hour < 13)) | ((hour >= 17) & (hour < 22))
    energy = np.select([valley, sharp, peak], [0.28, 1.22, 1.02], 0.62)
    sun = np.clip(np.sin((hour - 7.4) / 9.6 * np.pi), 0, 1) * ((hour > 7.4) & (hour < 17)) * 0.45
    prices = Prices(energy, export=0.2, demand=1.6, peak_so_far_kw=260 * scale, contract=5.0, comfort=2000.0, floor=4000.0, terminal=20.0)
    return {"step_h": STEP_H, "prices": prices, "outdoor_c": outdoor(start, steps), "sun_kw_m2": sun, "supply_c": 45.0, "base_kw": (40 + 25 * np.sin((hour - 8) / 24 * 2 * np.pi)) * scale,
            "pv_kw": 130 * sun * scale, "contract_kw": 560.0 * scale, "transformer_kw": 900.0 * scale, "export_kw": 100.0 * scale}


def m1(start: date = WEEKS[0], steps: int = 96, *, loss: float = 1.0) -> Community:
    """Boiler, heat pump, tank, 1R1C, four price levels, demand charge, contracted capacity, photovoltaics with export."""
    homes = Building("homes", 300.0, 14.0 * loss, 20.2, solar_m2=60.0, gains_kw=20.0, emitter_kw=700.0, floor_c=5.0, low_c=19.5, high_c=np.inf)
    boiler = ElectricBoiler("boiler", 300.0, 0.97, 0.25, 0, 1.0, 1.0, 5.0, False, 0.0)
    pump = HeatPump("pump", 320.0, minimum_load=0.3, up_h=1.0, down_h=0.75, start_yuan=3.0, on=False, since_h=0.0)
    tank = Storage("tank", 1200.0, 500.0, 350.0, 350.0, 0.98, 0.98, 0.006)
    return Community(f"M1 {start} {steps}", buildings=[homes], sources=[boiler, pump], stores=[tank], **_shared(start, steps, 1.0))


def m2(start: date = WEEKS[0], steps: int = 96, *, loss: float = 1.0) -> Community:
    """Three boilers and two heat pumps with standby power, exact 2R2C, comfort on both sides."""
    homes = Building("homes", 180.0, 8.0 * loss, 20.5, mass_kwh_k=900.0, coupling_kw_k=120.0, mass_loss_kw_k=7.0 * loss, solar_m2=60.0, gains_kw=20.0, emitter_kw=800.0, floor_c=18.0, low_c=19.5, high_c=22.5)
    boilers = [ElectricBoiler(f"boiler{k}", kw, 0.97, 0.25, 0, 1.0, 1.0, 5.0, False, 6.0) for k, kw in enumerate((120.0, 150.0, 180.0))]
    pumps = [HeatPump(f"pump{k}", kw, Performance(cop=(5.3 + 0.2 * k, 0.08, -0.055)), standby_kw=2.0 + k, start_yuan=3.0, on=k == 0, since_h=6.0) for k, kw in enumerate((160.0, 200.0))]
    tank = Storage("tank", 1200.0, 500.0, 350.0, 350.0, 0.98, 0.98, 0.006)
    return Community(f"M2 {start} {steps}", buildings=[homes], sources=[*boilers, *pumps], stores=[tank], **_shared(start, steps, 1.2))


CASES: dict[str, Callable[..., Community]] = {"M1": m1, "M2": m2}


def ordinary(count: int, steps: int = 96) -> list[Community]:
    """Cases of measured winter days: M1 and M2 in turn, 0.8-1.2 times the heat loss."""
    draw = np.random.default_rng(20161)
    return [(m1, m2)[k % 2](WEEKS[int(draw.integers(len(WEEKS)))], steps, loss=float(draw.uniform(0.8, 1.2))) for k in range(count)]


def as_json(community: Community) -> dict[str, Any]:
    """Everything of a community with one store and one building, derived numbers included: a peer needs no code of ours."""
    c = plannable(community)
    (building,), (store,), n = c.buildings, c.stores, c.steps
    state = thermal(building, c)
    prices = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in dataclasses.asdict(c.prices).items()}
    target = max(float(series(building.floor_c, n)[-1]), min(building.room_c, float(series(building.high_c, n)[-1])))
    made = [{**dataclasses.asdict(u), "cap": u.cap.tolist(), "beta": u.beta.tolist()} for u in units(c)]
    return {
        "name": c.name, "steps": n, "dt": c.step_h, "prices": {**prices, "export": series(c.prices.export, n).tolist()}, "base": series(c.base_kw, n).tolist(), "pv": series(c.pv_kw, n).tolist(),
        "contract": c.contract_kw, "transformer": c.transformer_kw, "export_kw": c.export_kw, "units": made, "store": dataclasses.asdict(store),
        "building": {"a": state.a.tolist(), "b": state.b.tolist(), "d": state.d.tolist(), "start": state.start.tolist(), "low": series(building.low_c, n).tolist(),
                     "high": [None if np.isinf(v) else v for v in series(building.high_c, n).tolist()], "target": target, "weight": float(state.weight.sum()), "emitter": building.emitter_kw}}


def from_json(model: dict[str, Any]) -> Community:
    """The community a JSON model was made of (for peers that are our own code)."""
    case = model["case"]
    return CASES[case["kind"]](date.fromisoformat(case["start"]), case["steps"], loss=case["loss"])


def request(kind: str, start: date, steps: int, *, loss: float = 1.0, repeat: int = 1, gap: float = 1e-3) -> dict[str, Any]:
    """What a peer script is asked."""
    model = as_json(CASES[kind](start, steps, loss=loss))
    return {"model": {**model, "case": {"kind": kind, "start": start.isoformat(), "steps": steps, "loss": loss}}, "repeat": repeat, "gap": gap}
