"""FlexMeasures' device_scheduler, alone inside a bare Flask context: the room as a stock that leaks, the heater as its inflow. Its own model of the same job.

The comfort band is the stock's band, as its users write it by default. Must not know: ours, other peers.
"""
# mypy: ignore-errors

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import flask
import jobs
import numpy as np
import pandas as pd
from flexmeasures.data.models.planning.linear_optimization import device_scheduler
from flexmeasures.data.models.planning.utils import initialize_df, initialize_series

COLUMNS = ["equals", "max", "min", "efficiency", "derivative equals", "derivative max", "derivative min", "derivative down efficiency", "derivative up efficiency", "stock delta"]
APP = flask.Flask("peer")
APP.config.update(FLEXMEASURES_LP_SOLVER="appsi_highs", LOGGING_LEVEL="WARNING", FLEXMEASURES_LP_SOLVER_OPTIONS={})


def solve(model: dict[str, Any]) -> tuple[bool, str]:
    """(a plan one can follow, its status). Stock in kWh above what the room holds now."""
    house, dt, n = jobs.house(model), model["dt"], model["steps"]
    start, step = datetime(2026, 1, 10, tzinfo=timezone.utc), timedelta(hours=dt)  # noqa: UP017  the peer's own Python may be older
    end = start + n * step

    def frame(columns: list[str]) -> Any:
        return initialize_df(columns, start, end, step).astype(float)

    capacity = house["cop"] * dt / house["kelvin_per_kw"]
    room, rest, ems = frame(COLUMNS), frame(COLUMNS), frame(["derivative max", "derivative min"])
    room["min"] = capacity / house["cop"] * (np.array(house["low"]) - house["start"])
    room["max"] = capacity / house["cop"] * np.array([np.nan if h is None else h - house["start"] for h in house["high"]])
    room["efficiency"] = house["keep"]
    room["derivative max"], room["derivative min"], room["derivative up efficiency"] = house["power_kw"], 0.0, house["cop"]
    room["stock delta"] = capacity / house["cop"] * (1 - house["keep"]) * (np.array(house["outdoor"]) - house["start"])
    rest["derivative equals"] = np.array(model["base"]) - np.array(model["pv"])
    ems["derivative max"], ems["derivative min"] = model["transformer"], -model["export_kw"]
    up, down = (initialize_series(np.array(model["prices"][k], float) * dt, start, end, step) for k in ("energy", "export"))
    with APP.app_context():
        powers, _, results, _ = device_scheduler([room, rest], ems, commitment_quantities=[initialize_series(0.0, start, end, step)], commitment_downwards_deviation_price=[down],
                                                 commitment_upwards_deviation_price=[up], initial_stock=0)
    status = str(results.solver.termination_condition)
    return status == "optimal" and bool(np.isfinite(pd.Series(powers[0]).to_numpy(float)).all()), status


if __name__ == "__main__":
    jobs.serve(solve)
