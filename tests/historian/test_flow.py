"""Network records: written in batches, found by site and local day, never kept shorter than the law asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from benchmarks.stack import Stack
from cloud.core.retention import DAY_MS, RetentionError
from cloud.functions.system.journal import OperationJournal
from cloud.historian.client import ClickHouse
from cloud.historian.flow import DayError, Flow, FlowLog, FlowReader, FlowRetention, statements
from cloud.ledger import Ledger
from cloud.portal.retention import once


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


@pytest.mark.slow
@pytest.mark.point("P8")
async def test_whole_months_past_their_retention_go_and_the_audit_log_says_so(stack: Stack, ledger: Ledger) -> None:
    store = ClickHouse(stack.settings, threads=1)
    await store.wait()
    now, site = 1_795_500_000_000, "retained"
    flows, reader = FlowLog(store, days=4000), FlowReader(store, days=4000)
    for age in (500, 440, 399, 200, 1):
        flows.note(Flow("connect", "monitoring", site, "10.0.0.9", "EdgeLink/Connect", at_ms=now - age * DAY_MS))
    await flows.flush()

    async def left() -> list[int]:
        found = []
        for age in (500, 440, 399, 200, 1):
            day = datetime.fromtimestamp((now - age * DAY_MS) / 1000, UTC).strftime("%Y-%m-%d")
            found += [age] * len(await reader.search(day, "UTC", site=site))
        return found

    assert await left() == [500, 440, 399, 200, 1]
    job = FlowRetention(store, 4000, now=lambda: now)
    assert await once(job, ledger) == 0
    assert OperationJournal(ledger).rows(operation="system.network.cut") == []
    job.days = 400
    assert await once(job, ledger) == 2
    assert [age for age in await left() if age < 400] == [399, 200, 1]
    assert {500, 440}.isdisjoint(await left())
    row = OperationJournal(ledger).rows(operation="system.network.cut")[0]
    assert (row["operator"], row["level"]) == ("kang-retention", "warning")
    with pytest.raises(RetentionError):
        FlowRetention(store, 182)
    store.close()
