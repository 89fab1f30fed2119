"""The made-up readings look like heat: quantised, bounded, the same for everybody, and every engine gets the same ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.data import workload
from benchmarks.data.bare import blocks, columns
from benchmarks.data.ingest import bottleneck
from benchmarks.data.road import AGENTS, DEVICES, Run, sweeps_for

START = 1_700_000_000_000


@given(st.integers(1, 6), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_readings_are_quantised_and_the_counter_never_falls(devices: int, count: int, seed: int) -> None:
    made = workload.sweeps(range(1, devices + 1), count, start_ms=START, seed=seed)
    for k, (_, steps, start, step) in enumerate(workload.KINDS):
        column = made.value[:, :, k]
        assert np.allclose(column * steps, np.rint(column * steps), atol=1e-6)
        if step:
            assert column.min() >= start * 0.6 - 1 / steps
            assert column.max() <= start * 1.4 + 1 / steps
    assert (np.diff(made.value[:, :, 6], axis=0) >= 0).all()
    assert (made.at_ms % workload.GRID_MS == 0).all()
    assert set(np.unique(made.value[:, :, 7])) <= {0.0, 1.0}
    assert ((made.value[:, :, 0] > 0) == (made.value[:, :, 7] == 1)).all()


def test_one_seed_gives_one_world() -> None:
    a, b, c = (workload.sweeps([1, 2], 30, start_ms=START, seed=s) for s in (5, 5, 6))
    assert (a.value == b.value).all()
    assert (a.value != c.value).any()


def test_every_engine_gets_the_same_readings() -> None:
    made = workload.sweeps([3, 9], 7, start_ms=START, seed=1)
    rows = [(r.device_id, r.point_id, r.at_ms, r.value) for r in workload.readings(made)]
    cols = columns(made)
    assert rows == list(zip(cols.device.tolist(), cols.point.tolist(), cols.at_ms.tolist(), cols.value.tolist(), strict=True))
    told = []
    for line in workload.lines(made, unit=1_000_000):
        head, fields, at = line.split(" ")
        assert int(at) % 1_000_000 == 0
        told += [(int(head.split("d=")[1]), int(name[1:]), int(at) // 1_000_000, float(value)) for name, value in (f.split("=") for f in fields.split(","))]
    assert told == rows


def test_blocks_hold_every_reading_once() -> None:
    parts = [(p, workload.sweeps([p * 10, p * 10 + 1], 50, start_ms=START, seed=p)) for p in (1, 2, 3)]
    made = blocks(parts, batch=100, rows=500)
    assert sum(n for n, _ in made) == sum(m.rows for _, m in parts)
    assert all(500 <= n < 700 for n, _ in made[:-1])


def test_a_run_is_a_whole_number_of_large_batches() -> None:
    for wanted in (1_000, 800_000, 2_000_000):
        assert sweeps_for(wanted) * DEVICES * len(workload.POINTS) % 5000 == 0
    assert sweeps_for(2_000_000) * AGENTS * DEVICES * len(workload.POINTS) > 1_500_000


def run(wall_s: float, **cpu: float) -> Run:
    return Run(1000, 1.0, cpu, 1, 0.1, 2, wall_s, 0.1)


def test_the_bottleneck_is_named_from_the_figures() -> None:
    assert bottleneck(run(1.0, host=0.95, store=0.3)).startswith("host fills one core")
    assert bottleneck(run(1.0, host=0.7, store=0.8, edge=0.4)).startswith("the two cores are full; most is store")
    assert bottleneck(run(4.0, host=0.7, store=0.8)).startswith("waiting for each other")
