"""Two hundred lives, in chunks; a failing one names its seed. And the same seed is the same life, whatever Python's hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.life import live
from tests.simulation.run import report

SEEDS, CHUNK = 200, 10


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_is_lost_doubled_or_done_out_of_order_in_lives_from(first: int) -> None:
    failed = [found for seed in range(first, first + CHUNK) if (found := live(seed)).violations]
    assert not failed, "\n".join(map(report, failed))


def test_the_same_seed_is_the_same_life_in_another_process_too() -> None:
    here = live(7)
    code = "from tests.simulation.life import live; print(live(7).trace_hash)"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.getcwd()})
    assert there.stdout.split() == [here.trace_hash]


def test_another_seed_is_another_life() -> None:
    assert live(7).trace_hash != live(8).trace_hash


def test_the_faults_happen() -> None:
    """A simulator in which nothing goes wrong proves nothing."""
    wanted = {"crashes", "pauses", "fenced", "dropped", "doubled", "flipped", "deduplicated by token", "deduplicated by message id", "alarms", "quarantine clock",
              "rows written twice, merged by key", "commands verified", "commands superseded", "commands unknown", "commands refused", "commands expired"}
    for seed in (*range(12), *range(28, 60)):
        wanted -= {what for what, n in live(seed).counts.items() if n > 0}
        if not wanted:
            return
    raise AssertionError(f"never happened: {sorted(wanted)}")
