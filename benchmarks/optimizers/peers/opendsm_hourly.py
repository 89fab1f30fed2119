"""OpenDSM's hourly model (the successor of CalTRACK): fitted on one span, predicting another with the temperature that was. Must not know: ours, other peers."""
# mypy: ignore-errors

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from opendsm.eemeter import HourlyBaselineData, HourlyModel, HourlyReportingData


def frame(part: dict[str, Any]) -> Any:
    """Hourly rows: observed, temperature in degrees Fahrenheit."""
    index = pd.date_range(part["start"], periods=len(part["outdoor_c"]), freq="h", tz="UTC")
    columns = {"temperature": [9 / 5 * t + 32 for t in part["outdoor_c"]], **({"observed": part["load"]} if "load" in part else {})}
    return pd.DataFrame(columns, index=index)


def main() -> None:
    """One request from stdin, one answer to stdout."""
    request = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    quiet = os.dup(1)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        os.dup2(nowhere.fileno(), 1)
        baseline = HourlyBaselineData(frame(request["baseline"]), is_electricity_data=False)
        began = time.perf_counter()
        model = HourlyModel().fit(baseline, ignore_disqualification=True)
        took = time.perf_counter() - began
        reported = frame(request["reporting"])
        predicted = model.predict(HourlyReportingData(reported, is_electricity_data=False), ignore_disqualification=True)
        values = predicted["predicted"].reindex(reported.index).tolist()
        sys.stdout.flush()
    os.dup2(quiet, 1)
    os.write(quiet, (json.dumps({"predicted": [None if v != v else v for v in values], "fit_s": took}) + "\n").encode())  # noqa: PLR0124  not-a-number differs from itself


if __name__ == "__main__":
    main()
