"""EMHASS, in process, without Home Assistant: one thermal deferrable load as its documentation shows it, for each community asked. Its own model of the same job.

BAND=hard gives it the comfort band as min_temperatures / max_temperatures, BAND=soft as desired_temperatures with its penalty. Must not know: ours, other peers.
"""
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from typing import Any

import emhass
import jobs
import numpy as np
import orjson
import pandas as pd
from emhass import utils
from emhass.optimization import Optimization

LOGGER = logging.getLogger("emhass")
ROOT = pathlib.Path(emhass.__file__).parent
HARD = os.environ.get("BAND", "hard") == "hard"


def configured(model: dict[str, Any]) -> tuple[Any, ...]:
    """Its three configurations for one community: a house with one heater."""
    house = jobs.house(model)
    conf = {"root_path": ROOT, "data_path": pathlib.Path.cwd(), "defaults_path": ROOT / "data/config_defaults.json", "associations_path": ROOT / "data/associations.csv"}
    config = asyncio.run(utils.build_config(conf, LOGGER, str(conf["defaults_path"])))
    config |= {
        "optimization_time_step": round(model["dt"] * 60), "delta_forecast_daily": model["steps"] * model["dt"] / 24, "number_of_deferrable_loads": 1, "num_threads": 1, "lp_solver_timeout": 30,
        "nominal_power_of_deferrable_loads": [house["power_kw"] * 1e3], "minimum_power_of_deferrable_loads": [0.0], "operating_hours_of_each_deferrable_load": [0],
        "treat_deferrable_load_as_semi_cont": [False], "set_deferrable_load_single_constant": [False], "set_deferrable_startup_penalty": [0.0],
        "start_timesteps_of_each_deferrable_load": [0], "end_timesteps_of_each_deferrable_load": [0], "set_use_pv": True, "set_use_battery": False,
        "maximum_power_from_grid": model["transformer"] * 1e3, "maximum_power_to_grid": model["export_kw"] * 1e3}
    params = asyncio.run(utils.build_params(conf, {"time_zone": "Asia/Shanghai"}, config, LOGGER))
    hass, optim, plant = utils.get_yaml_parse(orjson.dumps(params, default=str).decode(), LOGGER)
    low, high = list(house["low"]), [None if h is None else float(h) for h in house["high"]]
    thermal = {"heating_rate": house["rate_k_h"], "cooling_constant": house["cooling"], "start_temperature": house["start"], "sense": "heat"}
    if HARD:
        thermal |= {"min_temperatures": low, "max_temperatures": [99.0 if h is None else h for h in high]}
    else:
        thermal |= {"desired_temperatures": low, "overshoot_temperature": max(h for h in [*(h for h in high if h is not None), 30.0]), "penalty_factor": 10}
    optim["def_load_config"] = [{"thermal_config": thermal}]
    return hass, optim, plant, conf


def solve(model: dict[str, Any]) -> tuple[bool, str]:
    """(a plan one can follow, its status)."""
    hass, optim, plant, conf = configured(model)
    optimiser = Optimization(hass, optim, plant, "unit_load_cost", "unit_prod_price", "cost", conf, LOGGER, opt_time_delta=round(model["steps"] * model["dt"]))
    house, n = jobs.house(model), model["steps"]
    index = pd.date_range("2026-01-10", periods=n, freq=pd.Timedelta(hours=model["dt"]), tz=hass["time_zone"])
    data = pd.DataFrame({"outdoor_temperature_forecast": house["outdoor"], hass["sensor_power_photovoltaics"]: np.array(model["pv"]) * 1e3, hass["sensor_power_load_no_var_loads"]: np.array(model["base"]) * 1e3,
                         "unit_load_cost": model["prices"]["energy"], "unit_prod_price": model["prices"]["export"]}, index=index)
    plan = optimiser.perform_optimization(data, np.array(model["pv"]) * 1e3, np.array(model["base"]) * 1e3, np.array(model["prices"]["energy"]), np.array(model["prices"]["export"]))
    status = str(optimiser.optim_status)
    return status.lower().startswith("optimal") and bool(np.isfinite(plan["P_deferrable0"].to_numpy(float)).all()), status


if __name__ == "__main__":
    jobs.serve(solve)
