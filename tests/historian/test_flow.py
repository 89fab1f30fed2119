"""Network records: written in batches, found by site and local day, never kept shorter than the law asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.stack import Stack
from cloud.historian.client import ClickHouse
from cloud.historian.flow import DayError, Flow, FlowLog, FlowReader, RetentionError, statements


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("flow"), only=("store",)) as running:
        yield running


@pytest.mark.point("P8")
@pytest.mark.parametrize("days", [0, 90, 182])
def test_less_than_183_days_is_refused(days: int) -> None:
    with pytest.raises(RetentionError):
        statements(days)
    assert "400 DAY" in statements()[1]


@pytest.mark.slow
@pytest.mark.point("P8")
async def test_a_days_records_of_a_site_are_found(stack: Stack) -> None:
    store = ClickHouse(stack.settings, threads=1)
    await store.wait()
    assert await FlowReader(store).search("2026-11-23", "Asia/Shanghai") == []
    flows = FlowLog(store)
    midnight = 1_795_449_600_000  # 2026-11-24 00:00 in Shanghai
    for k, (site, at) in enumerate((("edge-1", midnight - 1), ("edge-1", midnight), ("edge-2", midnight + 5), ("edge-1", midnight + 86_399_999), ("edge-1", midnight + 86_400_000))):
        flows.note(Flow("connect", "monitoring", site, "10.0.0.9", "EdgeLink/Connect", bytes_in=k, at_ms=at))
    await flows.flush()
    found = await FlowReader(store).search("2026-11-24", "Asia/Shanghai", site="edge-1")
    assert [row["bytes_in"] for row in found] == [3, 1]
    with pytest.raises(DayError):
        await FlowReader(store).search("2026-02-30", "Asia/Shanghai")
    store.close()
