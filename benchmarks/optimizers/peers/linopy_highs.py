"""linopy with HiGHS: M1 and M2 written with labelled arrays. Must not know: code of the platform."""
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

import linopy
import numpy as np
import pandas as pd
import xarray as xr
from harness import serve


def build(c: dict[str, Any]) -> tuple[linopy.Model, float]:
    """The model, and the constant of its objective."""
    n, dt, prices, store, home = c["steps"], c["dt"], c["prices"], c["store"], c["building"]
    m = linopy.Model()
    time = pd.RangeIndex(n, name="t")

    def data(values: Any) -> xr.DataArray:
        return xr.DataArray(np.broadcast_to(np.asarray(values, float), (n,)).copy(), coords=[time])

    def var(name: str, low: Any = 0.0, high: Any = np.inf, **kind: Any) -> Any:
        return m.add_variables(data(low), data(high), name=name, **kind)

    first = data(np.eye(1, n)[0])
    grid, over = var("grid", 0, c["transformer"]), var("over")
    sold, shed, spilled = var("sold", 0, c["export_kw"]), var("shed", 0, c["base"]), var("spilled", 0, c["pv"])
    cost = (dt * data(prices["energy"]) * grid).sum() - (dt * data(prices["export"]) * sold).sum() + (dt * prices["shed"] * shed).sum() + (dt * prices["contract"] * over).sum()
    heat, power = 0, 0
    for u in c["units"]:
        name, cap = u["name"], data(u["cap"])
        q, on, v, w = var(f"q{name}", 0, u["cap"]), m.add_variables(coords=[time], binary=True, name=f"u{name}"), var(f"v{name}", 0, 1), var(f"w{name}", 0, 1)
        m.add_constraints(on - on.shift(t=1) - v + w == first * float(u["on"]), name=f"switch{name}")
        m.add_constraints(q - cap * on <= 0, name=f"most{name}")
        m.add_constraints(q - u["least"] * cap * on >= 0, name=f"least{name}")
        m.add_constraints(v.rolling(t=u["up"]).sum() - on <= 0, name=f"up{name}")
        m.add_constraints(w.rolling(t=u["down"]).sum() + on <= 1, name=f"down{name}")
        if u["bound"]:
            m.add_constraints(on.isel(t=slice(0, u["bound"])) == float(u["on"]), name=f"bound{name}")
        cost = cost + (u["start_yuan"] * v).sum()
        heat, power = heat + q, power + data(u["beta"]) * q + u["alpha"] * on
    charge, discharge, energy = var("c", 0, store["charge_kw"]), var("r", 0, store["discharge_kw"]), var("E", 0, store["capacity_kwh"])
    keep = (1 - store["loss_per_h"]) ** dt
    m.add_constraints(energy - keep * energy.shift(t=1) - dt * store["charge_efficiency"] * charge + dt / store["discharge_efficiency"] * discharge == first * (keep * store["energy_kwh"]), name="store")
    short_e, short_t = m.add_variables(lower=0, name="short_e"), m.add_variables(lower=0, name="short_t")
    m.add_constraints(energy.isel(t=-1) + short_e >= store["energy_kwh"], name="end_e")
    h = var("h", 0, home["emitter"])
    m.add_constraints(heat + discharge - charge - h == 0, name="loop")
    states = [var(f"T{k}", -np.inf) for k in range(len(home["start"]))]
    d = np.array(home["d"])
    for k, x in enumerate(states):
        right = d[:, k].copy()
        right[0] += np.dot(home["a"][k], home["start"])
        left = x - home["b"][k] * h
        for j, other in enumerate(states):
            left = left - home["a"][k][j] * other.shift(t=1)
        m.add_constraints(left == data(right), name=f"state{k}")
    cold = var("cold")
    m.add_constraints(states[0] + cold >= data(home["low"]), name="cold_row")
    cost = cost + (dt * prices["comfort"] * cold).sum()
    if home["high"][0] is not None:
        hot = var("hot")
        m.add_constraints(states[0] - hot <= data(home["high"]), name="hot_row")
        cost = cost + (dt * prices["comfort"] * hot).sum()
    m.add_constraints(states[0].isel(t=-1) + short_t >= home["target"], name="end_t")
    m.add_constraints(grid - sold + shed - spilled - power == data(c["base"]) - data(c["pv"]), name="power")
    m.add_constraints(grid - over <= c["contract"], name="contract")
    peak = m.add_variables(lower=prices["peak_so_far_kw"], name="peak")
    m.add_constraints(grid - peak <= 0, name="peak_row")
    m.add_objective(cost + prices["terminal"] * short_e + prices["terminal"] * home["weight"] * short_t + prices["demand"] * peak)
    return m, prices["demand"] * prices["peak_so_far_kw"]


def solve(made: tuple[linopy.Model, float], gap: float) -> tuple[float, dict[str, Any]]:
    """HiGHS by its direct interface."""
    m, constant = made
    m.solve("highs", io_api="direct", output_flag=False, threads=1, mip_rel_gap=gap, time_limit=120)
    float(m.solution["grid"].sum())
    return float(m.objective.value) - constant, {}


if __name__ == "__main__":
    serve(build, solve)
