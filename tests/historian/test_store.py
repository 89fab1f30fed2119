"""The store process with the real engine: its HTTP protocol, tokens, first arrival wins, sealing. Real sockets, real chDB."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stack import Stack
from cloud.historian.client import ClickHouse, HistorianQueryError
from cloud.historian.columns import Columns
from cloud.historian.reader import QuarantineError, RangeError, Reader
from cloud.historian.schema import create
from cloud.historian.seal import Sealer
from cloud.historian.writer import AlarmRow, BatchRow, Flush, QuarantineRow, Writer, reference

pytestmark = pytest.mark.slow
NOW = 1_790_000_000_000
HOUR = 3_600_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("store"), only=("store",)) as running:
        yield running


@pytest.fixture
async def store(stack: Stack) -> ClickHouse:
    client = ClickHouse(stack.settings)
    await client.wait()
    await client.run(lambda c: create(c.command))
    return client


def columns(device: int, at: list[int], value: list[float]) -> Columns:
    n = len(at)
    return Columns(np.full(n, device, "<u4"), np.full(n, 45, "<u2"), np.array(at, "<i8"), np.array(value, "<f8"), np.zeros(n, "u1"))


def flush(project: int, sequence: int, rows: Columns) -> Flush:
    ref = reference(1, 3, sequence)
    return Flush(3, f"stream{project}", sequence, sequence, batches=[BatchRow(ref, project, "a", bytes(16), sequence, NOW, 1, 1, rows, 10)],
                 touched={(project, int(h)): ref for h in np.unique(rows.at_ms // HOUR)})


async def test_the_same_flush_twice_is_one_flush(store: ClickHouse) -> None:
    writer = Writer(store)
    once = flush(11, 1, columns(1, [NOW, NOW + 1000], [1.0, 2.0]))
    await writer.commit(once)
    await writer.commit(once)
    assert await store.query("SELECT count(), sum(value) FROM heat.raw WHERE project_id = 11") == [(2, 3.0)]
    assert await writer.cursor(3, 1) >= 1


async def test_the_first_arrival_of_a_reading_wins_and_raw_keeps_both_until_merged(store: ClickHouse) -> None:
    writer = Writer(store)
    await writer.commit(flush(12, 5, columns(1, [NOW], [1.0])))
    await writer.commit(flush(12, 6, columns(1, [NOW], [9.0])))
    assert await store.query("SELECT value FROM heat.raw FINAL WHERE project_id = 12") == [(1.0,)]
    history = await Reader(store).history(12, [(1, 45)], NOW - 1, NOW + 1)
    assert history[0].mean == [1.0]


async def test_a_flush_across_months_is_cut_and_complete(store: ClickHouse) -> None:
    month = 31 * 24 * HOUR
    await Writer(store).commit(flush(13, 1, columns(1, [NOW + k * month for k in range(4)], [1.0, 2.0, 3.0, 4.0])))
    assert await store.query("SELECT count(), uniqExact(toYYYYMM(ts)) FROM heat.raw WHERE project_id = 13") == [(4, 4)]


async def test_sealed_hours_equal_raw_and_are_sealed_again_when_late_rows_arrive(store: ClickHouse) -> None:
    writer, sealer = Writer(store), Sealer(store, "Asia/Shanghai")
    base = NOW // HOUR * HOUR
    await writer.commit(flush(14, 1, columns(1, [base + k * 60_000 for k in range(120)], [float(k) for k in range(120)])))
    while (await sealer.run((base + 10 * HOUR) // 1000)).hours:
        pass
    rolled = "SELECT sum(cnt), sum(vsum), min(vmin), max(vmax) FROM heat.{} FINAL WHERE project_id = 14"
    raw = await store.query("SELECT count(), sum(value), min(value), max(value) FROM heat.raw FINAL WHERE project_id = 14")
    assert await store.query(rolled.format("r1h")) == raw == await store.query(rolled.format("r1d"))
    await writer.commit(flush(14, 2, columns(1, [base + 30_000], [500.0])))
    while (await sealer.run((base + 10 * HOUR) // 1000)).hours:
        pass
    raw = await store.query("SELECT count(), sum(value), min(value), max(value) FROM heat.raw FINAL WHERE project_id = 14")
    assert await store.query(rolled.format("r1h")) == raw == await store.query(rolled.format("r1d"))
    hours = await Reader(store).history(14, [(1, 45)], base, base + 2 * HOUR, resolution_s=3600)
    assert hours[0].count == [61, 60]
    assert hours[0].high[0] == 500.0


async def test_committed_ranges_are_read_back_as_ranges(store: ClickHouse) -> None:
    writer = Writer(store)
    for sequence in (1, 2, 3, 6, 7, 9):
        await writer.commit(flush(15, sequence, columns(1, [NOW + sequence], [1.0])))
    assert await writer.committed(15, "a", bytes(16)) == (0, [(1, 3), (6, 7), (9, 9)])


async def test_a_stream_lost_and_made_again_gets_a_higher_generation(store: ClickHouse) -> None:
    writer = Writer(store)
    assert [await writer.generation(9, name, NOW) for name in ("aaaa", "aaaa", "bbbb", "aaaa")] == [1, 1, 2, 1]


async def test_alarms_are_upserts_by_id(store: ClickHouse) -> None:
    writer, reader = Writer(store), Reader(store)
    ident = uuid.uuid4()

    def row(cleared: int) -> AlarmRow:
        return AlarmRow(ident, 16, 1, 45, "hot", "major", "超温", "Too hot", NOW, cleared, 91.0, 90.0)

    await writer.books([row(0)], [], [], "t1")
    assert [a["id"] for a in await reader.alarms(project_id=16, active=True)] == [str(ident)]
    await writer.books([row(NOW + 5000)], [], [], "t2")
    await writer.books([row(0)], [], [], "t3")  # a replay of the raise does not reopen it
    assert await reader.alarms(project_id=16, active=True) == []
    assert (await reader.alarms(project_id=16))[0]["cleared_ms"] == NOW + 5000


async def test_a_quarantined_item_is_decided_once(store: ClickHouse) -> None:
    released = []

    async def release(row: QuarantineRow, offset_ms: int) -> int:
        released.append((row.payload, offset_ms))
        return 3

    writer, reader = Writer(store), Reader(store, release=release)
    row = QuarantineRow(uuid.uuid4(), 17, "a", "clock", "1970", 3, NOW, b"\x00\xff'payload\\")
    await writer.books([], [row], [], "q")
    assert await reader.release(str(row.id), offset_ms=5, actor="me") == 3
    assert released == [(b"\x00\xff'payload\\", 5)]
    with pytest.raises(QuarantineError):
        await reader.discard(str(row.id), actor="me")
    assert [(q["state"], q["actor"]) for q in await reader.quarantine(project_id=17)] == [("released", "me")]


@pytest.mark.parametrize("bad", ["'; DROP TABLE heat.raw", "not-a-uuid", ""])
async def test_a_hostile_quarantine_id_is_refused(store: ClickHouse, bad: str) -> None:
    with pytest.raises(QuarantineError):
        await Reader(store).discard(bad, actor="me")


@pytest.mark.parametrize(("start", "end", "resolution"), [(5, 5, None), (9, 5, None), (0, 1 << 60, None), (0, 10, 7)])
async def test_an_absurd_range_is_refused_before_it_is_run(store: ClickHouse, start: int, end: int, resolution: int | None) -> None:
    with pytest.raises(RangeError):
        await Reader(store).history(1, [(1, 45)], start, end, resolution_s=resolution)


async def test_an_engine_error_arrives_with_its_code(store: ClickHouse) -> None:
    with pytest.raises(HistorianQueryError, match="code: 47"):
        await store.query("SELECT nothing FROM heat.raw")


async def test_a_wrong_secret_is_refused(stack: Stack, tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"http://127.0.0.1:{stack.settings.store_port}/?query=SELECT+1", headers={"X-ClickHouse-Key": "wrong"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    assert caught.value.code == 403
    caught.value.close()


async def test_a_second_process_on_the_same_path_is_refused(stack: Stack) -> None:
    import subprocess
    import sys

    home = stack.settings.home
    second = subprocess.run([sys.executable, "-m", "cloud.historian.store", "--path", str(home / "historian" / "data"), "--port", "1", "--secret-file", str(stack.settings.credentials / "store.secret")],
                            capture_output=True, timeout=60, check=False)
    assert second.returncode != 0
