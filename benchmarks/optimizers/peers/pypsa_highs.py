"""PyPSA with HiGHS: M1 as a network. The building is a store of heat above its lowest temperature; weather is a load on it. Must not know: code of the platform.

`HARD=1` keeps the comfort band as a wall (for the hostile cases); otherwise missing heat is a priced generator.
"""
# mypy: ignore-errors

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
import pypsa
from harness import serve

HARD = os.environ.get("HARD") == "1"


def build(c: dict[str, Any]) -> tuple[pypsa.Network, dict[str, Any]]:
    """The network; PyPSA writes the programme when it solves."""
    n, dt, prices, store, home = c["steps"], c["dt"], c["prices"], c["store"], c["building"]
    if len(home["start"]) != 1:
        raise ValueError("a second thermal node has no counterpart among PyPSA's stores")
    net = pypsa.Network()
    net.set_snapshots(pd.RangeIndex(n))
    net.snapshot_weightings = pd.DataFrame(float(dt), index=net.snapshots, columns=net.snapshot_weightings.columns)
    for bus in ("market", "electric", "heat", "tank", "home"):
        net.add("Bus", bus)
    time = net.snapshots

    def series(values: Any) -> pd.Series:
        return pd.Series(np.broadcast_to(np.asarray(values, float), (n,)).copy(), index=time)

    energy, pv = np.array(prices["energy"]), np.array(c["pv"])
    net.add("Generator", "grid", bus="market", p_nom=c["contract"], marginal_cost=series(energy))
    net.add("Generator", "over", bus="market", p_nom=max(0.0, c["transformer"] - c["contract"]), marginal_cost=series(energy + prices["contract"]))
    net.add("Link", "connection", bus0="market", bus1="electric", p_nom_extendable=True, p_nom_min=prices["peak_so_far_kw"], p_nom_max=c["transformer"], capital_cost=prices["demand"])
    net.add("Generator", "sold", bus="electric", p_nom=c["export_kw"], p_min_pu=-1.0, p_max_pu=0.0, marginal_cost=series(prices["export"]))
    net.add("Generator", "pv", bus="electric", p_nom=max(pv.max(), 1e-6), p_max_pu=series(pv / max(pv.max(), 1e-6)))
    net.add("Generator", "shed", bus="electric", p_nom=max(c["base"]), marginal_cost=prices["shed"])
    net.add("Load", "base", bus="electric", p_set=series(c["base"]))
    for u in c["units"]:
        cap, beta = np.array(u["cap"]), np.array(u["beta"])
        drawn = cap * beta
        full = max(drawn.max(), 1e-6)
        net.add("Link", u["name"], bus0="electric", bus1="heat", p_nom=full, efficiency=series(1 / beta), p_max_pu=series(drawn / full), p_min_pu=series(u["least"] * drawn / full), committable=True,
                min_up_time=u["up"], min_down_time=u["down"], start_up_cost=u["start_yuan"], up_time_before=u["up"] if u["on"] else 0, down_time_before=0 if u["on"] else u["down"])
    net.add("Link", "charge", bus0="heat", bus1="tank", p_nom=store["charge_kw"], efficiency=store["charge_efficiency"])
    # The limit on discharge stands on what arrives.
    net.add("Link", "discharge", bus0="tank", bus1="heat", p_nom=store["discharge_kw"] / store["discharge_efficiency"], efficiency=store["discharge_efficiency"])
    low = np.zeros(n)
    low[-1] = store["energy_kwh"] / store["capacity_kwh"]
    keep = (1 - store["loss_per_h"]) ** dt
    # The first step applies no standing loss to what was there: taken off before.
    net.add("Store", "tank", bus="tank", e_nom=store["capacity_kwh"], e_initial=store["energy_kwh"] * keep, standing_loss=store["loss_per_h"], e_min_pu=series(low))
    a, b, d = home["a"][0][0], home["b"][0], np.array(home["d"])[:, 0]
    zero = min(*home["low"], home["start"][0]) - 1
    high = 45.0 if home["high"][0] is None else max(home["high"])
    nominal = (high - zero) * dt / b
    least = (np.array(home["low"]) - zero) * dt / b / nominal
    least[-1] = max(least[-1], (home["target"] - zero) * dt / b / nominal)
    top = np.ones(n) if home["high"][0] is None else (np.array(home["high"], float) - zero) * dt / b / nominal
    net.add("Store", "home", bus="home", e_nom=nominal, e_initial=(home["start"][0] - zero) * dt / b * a, standing_loss=1 - a ** (1 / dt), e_min_pu=series(least), e_max_pu=series(top))
    net.add("Load", "weather", bus="home", p_set=series(-(d + (a - 1) * zero) / b))
    net.add("Link", "emitter", bus0="heat", bus1="home", p_nom=home["emitter"])
    if not HARD:
        net.add("Generator", "missing", bus="home", p_nom=1e4, marginal_cost=prices["terminal"])
    return net, c


def solve(made: tuple[pypsa.Network, dict[str, Any]], gap: float) -> tuple[float, dict[str, Any]]:
    """HiGHS by linopy's direct interface; statuses that history still binds are fixed."""
    net, c = made

    def bound(net: pypsa.Network, _: pd.Index) -> None:
        status = net.model["Link-status"]
        for u in c["units"]:
            if u["bound"]:
                net.model.add_constraints(status.sel(name=u["name"]).isel(snapshot=slice(0, u["bound"])) == float(u["on"]), name=f"bound-{u['name']}")

    status, condition = net.optimize(solver_name="highs", io_api="direct", extra_functionality=bound, include_objective_constant=False,
                                     solver_options={"output_flag": False, "threads": 1, "mip_rel_gap": gap, "time_limit": 120.0})
    if net.objective is None or not np.isfinite(net.objective):
        raise RuntimeError(f"{status}: {condition}")
    return float(net.objective) - c["prices"]["demand"] * c["prices"]["peak_so_far_kw"], {"condition": condition}


if __name__ == "__main__":
    serve(build, solve)
