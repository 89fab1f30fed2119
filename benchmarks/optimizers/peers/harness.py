"""What every peer script shares: read the request, run the job `repeat` times (the first warms imports and caches), print the last.

Standard library only: it also runs in environments without the platform.
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


def serve(build: Callable[[Any], Any], solve: Callable[[Any, float], tuple[float, dict[str, Any]]], prepare: Callable[[dict[str, Any]], Any] | None = None) -> None:
    """Answer one request.

    Args:
        build: model -> the peer's own problem (timed as build_s).
        solve: (problem, relative gap) -> (objective in yuan, more to tell), solution read back (timed as solve_s).
        prepare: what lies outside the clock: JSON to the objects the peer's user would have at hand.
    """
    request = json.load(sys.stdin)
    said: dict[str, Any] = {}
    quiet = os.dup(1)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # solvers print from C
        os.dup2(nowhere.fileno(), 1)
        for _ in range(int(request.get("repeat", 1))):
            model = request["model"] if prepare is None else prepare(request["model"])
            began = time.perf_counter()
            problem = build(model)
            built = time.perf_counter()
            objective, more = solve(problem, float(request.get("gap", 1e-3)))
            ended = time.perf_counter()
            said = {"objective": objective, "build_s": built - began, "solve_s": ended - built, "total_s": ended - began, **more}
        sys.stdout.flush()
    os.dup2(quiet, 1)
    os.write(quiet, (json.dumps(said) + "\n").encode())
