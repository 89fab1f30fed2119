"""The historian's door over a real store: urgent queries go first, and a query whose caller has gone is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from benchmarks.stack import Stack
from cloud.core.admission import BATCH, PRIORITY, SAFETY
from cloud.historian.client import ClickHouse

pytestmark = pytest.mark.slow
SLOW = "SELECT sum(sleepEachRow(0.2)) FROM numbers(100) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 100000000"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("door"), only=("store",)) as running:
        yield running


async def _as(priority: int, store: ClickHouse, sql: str) -> float:
    PRIORITY.set(priority)
    started = time.monotonic()
    await store.query(sql)
    return time.monotonic() - started


@pytest.mark.point("32")
async def test_a_cancelled_callers_query_is_ended(stack: Stack) -> None:
    store = ClickHouse(stack.settings, threads=2)
    await store.wait()
    task = asyncio.create_task(_as(BATCH, store, SLOW))
    running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.2)%' AND query NOT LIKE '%processes%'"
    for _ in range(100):
        if (await store.query(running))[0][0] == 1:
            break
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = time.monotonic()
    while (await store.query(running))[0][0]:
        assert time.monotonic() - started < 5, "the query still runs"
        await asyncio.sleep(0.1)
    assert store.cancelled == 1
    store.close()


@pytest.mark.point("32")
async def test_an_urgent_query_overtakes_two_hundred_slow_ones(stack: Stack) -> None:
    flood, urgent = ClickHouse(stack.settings, threads=40), ClickHouse(stack.settings, threads=2)
    await urgent.wait()
    low = [asyncio.create_task(_as(BATCH, flood, "SELECT sleep(0.05)")) for _ in range(200)]
    await asyncio.sleep(0.5)
    took = sorted([await _as(SAFETY, urgent, "SELECT 1") for _ in range(10)])
    waits = sorted(await asyncio.gather(*low))
    assert took[-2] < 0.5
    assert took[len(took) // 2] < waits[len(waits) // 2] / 5
    flood.close()
    urgent.close()
