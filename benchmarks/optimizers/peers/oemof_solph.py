"""oemof.solph with HiGHS: M1 as an energy system. A unit that is off before the horizon stays off for its whole shortest time: the cases are made so.

Must not know: code of the platform.
"""
# mypy: ignore-errors

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from harness import serve
from oemof import solph
from pyomo.environ import SolverFactory

warnings.simplefilter("ignore")


def build(c: dict[str, Any]) -> tuple[solph.Model, dict[str, Any]]:
    """Energy system and Pyomo model."""
    n, dt, prices, store, home = c["steps"], c["dt"], c["prices"], c["store"], c["building"]
    if len(home["start"]) != 1:
        raise ValueError("a second thermal node has no counterpart among solph's storages")
    times = pd.date_range("2015-01-01", periods=n + 1, freq=pd.Timedelta(hours=dt))
    system = solph.EnergySystem(timeindex=times, infer_last_interval=False)
    market, electric, heat, inside = (solph.buses.Bus(label=x) for x in ("market", "electric", "heat", "inside"))
    energy, pv, base = np.array(prices["energy"]), np.array(c["pv"]), np.array(c["base"])
    system.add(market, electric, heat, inside)
    system.add(
        solph.components.Source("grid", outputs={market: solph.Flow(nominal_capacity=c["contract"], variable_costs=energy)}),
        solph.components.Source("over", outputs={market: solph.Flow(nominal_capacity=c["transformer"] - c["contract"], variable_costs=energy + prices["contract"])}),
        solph.components.Converter("connection", inputs={market: solph.Flow()}, outputs={electric: solph.Flow(nominal_capacity=solph.Investment(
            ep_costs=prices["demand"], existing=prices["peak_so_far_kw"], maximum=c["transformer"] - prices["peak_so_far_kw"]))}),
        solph.components.Sink("sold", inputs={electric: solph.Flow(nominal_capacity=c["export_kw"], variable_costs=-np.array(prices["export"]))}),
        solph.components.Source("pv", outputs={electric: solph.Flow(nominal_capacity=max(pv.max(), 1e-6), maximum=pv / max(pv.max(), 1e-6))}),
        solph.components.Source("shed", outputs={electric: solph.Flow(nominal_capacity=base.max(), variable_costs=prices["shed"])}),
        solph.components.Sink("base", inputs={electric: solph.Flow(nominal_capacity=1, fix=base)}))
    for u in c["units"]:
        cap, beta = np.array(u["cap"]), np.array(u["beta"])
        full = cap.max()
        system.add(solph.components.Converter(u["name"], inputs={electric: solph.Flow()}, conversion_factors={electric: beta}, outputs={heat: solph.Flow(
            nominal_capacity=full, minimum=u["least"] * cap / full, maximum=cap / full,
            nonconvex=solph.NonConvex(initial_status=int(u["on"]), minimum_uptime=u["up"], minimum_downtime=u["down"], startup_costs=u["start_yuan"]))}))
    least = np.zeros(n + 1)
    least[-1] = store["energy_kwh"] / store["capacity_kwh"]
    system.add(solph.components.GenericStorage(
        "tank", inputs={heat: solph.Flow(nominal_capacity=store["charge_kw"])}, outputs={heat: solph.Flow(nominal_capacity=store["discharge_kw"])},
        nominal_capacity=store["capacity_kwh"], initial_storage_level=store["energy_kwh"] / store["capacity_kwh"], loss_rate=store["loss_per_h"], balanced=False, min_storage_level=least,
        inflow_conversion_factor=store["charge_efficiency"], outflow_conversion_factor=store["discharge_efficiency"]))
    a, b, d = home["a"][0][0], home["b"][0], np.array(home["d"])[:, 0]
    zero = min(*home["low"], home["start"][0]) - 1
    nominal = (45.0 - zero) * dt / b
    least = (np.array(home["low"]) - zero) * dt / b / nominal
    least[-1] = max(least[-1], (home["target"] - zero) * dt / b / nominal)
    least = np.r_[0.0, least]
    weather = (d + (a - 1) * zero) / b
    system.add(
        solph.components.Converter("emitter", inputs={heat: solph.Flow(nominal_capacity=home["emitter"])}, outputs={inside: solph.Flow()}),
        solph.components.Source("gain", outputs={inside: solph.Flow(nominal_capacity=1, fix=np.maximum(weather, 0))}),
        solph.components.Sink("loss", inputs={inside: solph.Flow(nominal_capacity=1, fix=np.maximum(-weather, 0))}),
        solph.components.GenericStorage("home", inputs={inside: solph.Flow()}, outputs={inside: solph.Flow()}, nominal_capacity=nominal, balanced=False,
                                        initial_storage_level=(home["start"][0] - zero) * dt / b / nominal, loss_rate=1 - a ** (1 / dt), min_storage_level=least))
    return solph.Model(system), c


def solve(made: tuple[solph.Model, dict[str, Any]], gap: float) -> tuple[float, dict[str, Any]]:
    """HiGHS through Pyomo's persistent interface."""
    model, _ = made
    solver = SolverFactory("appsi_highs")
    solver.highs_options = {"threads": 1, "mip_rel_gap": gap, "time_limit": 120.0, "output_flag": False}
    for name in ("dual", "rc"):  # solph leaves None where Pyomo looks for suffixes
        if getattr(model, name, 0) is None:
            delattr(model, name)
    solver.solve(model)
    flows = {key: value.value for key, value in model.flow.items()}
    return float(model.objective()), {"values": len(flows)}


if __name__ == "__main__":
    serve(build, solve)
