"""What peers with a model of their own share: a community as one heater, one room and other load; a list of communities answered with who got a plan.

Standard library only. Must not know: any peer.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def house(model: dict[str, Any]) -> dict[str, Any]:
    """One room (first order), one heater that stands for all sources, its mean efficiency; the outdoor temperature carries sun and people.

    x[t+1] = a x[t] + b q[t] + d[t] is the community's own recursion: rate_k_h * dt is what full power adds in a step, cooling * dt is what is lost, so nothing is rounded away.
    """
    dt, n, building = model["dt"], model["steps"], model["building"]
    a, b = building["a"][0][0], building["b"][0]
    heat = [sum(u["cap"][t] for u in model["units"]) for t in range(n)]
    power = [sum(u["cap"][t] * u["beta"][t] for u in model["units"]) for t in range(n)]
    return {"power_kw": max(0.001, sum(power) / n), "rate_k_h": b * sum(heat) / n / dt, "cooling": (1 - a) / dt, "start": building["start"][0], "outdoor": [d[0] / (1 - a) for d in building["d"]],
            "low": building["low"], "high": building["high"], "keep": a, "kelvin_per_kw": b, "cop": sum(heat) / max(1e-9, sum(power)), "heat_kw": heat, "weight": building["weight"]}


def serve(solve: Callable[[dict[str, Any]], tuple[bool, str]]) -> None:
    """Answer {"models": [...]} with {"answers": [[usable, word, seconds], ...]}; a model that raises is not usable, and its word is the message."""
    request, answers = json.load(sys.stdin), []
    quiet = os.dup(1)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        os.dup2(nowhere.fileno(), 1)
        for model in request["models"]:
            began = time.perf_counter()
            try:
                usable, word = solve(model)
            except Exception as error:  # noqa: BLE001  whatever a peer raises is its answer
                usable, word = False, f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
            answers.append([usable, word, time.perf_counter() - began])
        sys.stdout.flush()
    os.dup2(quiet, 1)
    os.write(quiet, (json.dumps({"answers": answers}) + "\n").encode())
