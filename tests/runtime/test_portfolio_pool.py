"""The portfolio on the platform's own Ray: prices as in process, survives a killed worker, and says so when there is no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cloud.installation import ray_environment
from tests.support.real import Real

pytestmark = pytest.mark.slow

#: In a process of its own: a Ray driver stays in the process it was started in.
DRIVER = """
import json, logging, os, signal, sys
import numpy as np
import ray
from cloud.runtime.loopback import stay_here
from cloud.runtime.portfolio import PortfolioPoolError, RayPool
from optimizers.methods.portfolio import LocalPool, split
from tests.optimizers.cases import ordinary

steps, communities = np.arange(26, 32), [ordinary(seed, 48) for seed in range(100, 105)]
try:
    RayPool(communities, steps)
except PortfolioPoolError as error:
    alone = error.code
stay_here()
ray.init(address=sys.argv[1], namespace="kang", log_to_driver=False, logging_level=logging.ERROR)
with RayPool(communities, steps, workers=2, cpus=0.1, seconds=60) as pool:
    price = np.full(6, 0.1)
    there, here = pool.price(price), LocalPool(communities, steps).price(price)
    first = pool.processes()
    os.kill(first[0], signal.SIGKILL)
    again = pool.price(price)
    free, least = (np.sum([c.profile for c in pool.price(np.full(6, p))], axis=0) for p in (0.0, 2.5))
    found = split(pool, free - 0.5 * (free - least), 0.25)
    print(json.dumps({
        "alone": alone, "projects": [c.project for c in there], "objectives": [[c.cost + float(price @ c.profile) for c in part] for part in (here, there, again)],
        "processes": [first, pool.processes()], "gap": found.gap, "chosen": sorted(found.chosen)}))
"""


def test_workers_price_as_this_process_does_and_a_killed_one_comes_back(real: Real) -> None:
    environment = {**os.environ, **ray_environment(real.settings), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", DRIVER, f"127.0.0.1:{real.settings.ray_port}"], capture_output=True, text=True, check=False, env=environment, timeout=150)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["alone"] == "E-PORTFOLIO-POOL"
    assert told["projects"] == list(range(5)) == told["chosen"]
    here, there, again = told["objectives"]
    assert np.allclose(there, here, rtol=1e-6)
    assert np.allclose(again, here, rtol=1e-6)
    before, after = told["processes"]
    assert before[0] != after[0]
    assert before[1] == after[1]
    assert told["gap"] <= 1e-4
