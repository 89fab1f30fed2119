"""Two Ray nodes: one is killed; its partitions come back on the other without two owners, the rest never misses a second (issue line 7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rig.source import Source, sources
from benchmarks.stack import Stack
from cloud.bus.connection import connect
from cloud.bus.streams import STREAM_BYTES, ensure_stream
from cloud.functions.devices.directory import LedgerDirectory
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.ledger import open_ledger
from protos import batch, subjects
from protos.kang.v1 import link_pb2
from protos.points import point

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
POWER = point("active_power").id


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path, only=("nats", "store"), partitions=4, hosts=2) as running:
        yield running


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> Iterator[Any]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(stack.settings.credentials / "ray.token"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20})
    cluster.nodes = [cluster.add_node(num_cpus=2, object_store_memory=80 << 20) for _ in range(2)]
    ray.init(address=cluster.address, namespace="kang", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


async def test_a_killed_node_hands_its_partitions_over_and_the_others_never_miss_a_second(stack: Stack, cluster: Any) -> None:
    import ray

    from cloud.runtime.main import Supervisor

    settings = stack.settings
    store = ClickHouse(settings)
    await store.wait()
    await store.run(lambda c: create(c.command))
    ledger = open_ledger(settings.effective_ledger_url)
    made = sources(settings, ledger, 4, devices=2)
    client = await connect(settings.effective_nats_url, settings.credentials, "test")
    js = client.jetstream()
    for partition in range(4):
        await ensure_stream(js, subjects.telemetry_stream(partition), f"tel.{partition:03d}.>", max_bytes=STREAM_BYTES)
    supervisor = Supervisor(settings, LedgerDirectory(ledger))
    figures = await supervisor.tick()
    owner = {p: name for name, f in figures.items() for p in f["partitions"]} or {p: name for name, f in figures.items() for p in range(4)}
    nodes = {name: ray.get(host.node.remote()) for name, host in supervisor._hosts.items()}
    assert len(set(nodes.values())) == 2, "the two hosts must stand on two nodes"
    seen: dict[int, list[float]] = {}
    sent: dict[int, int] = {s.project_id: 0 for s in made}
    await watch(client, made, seen)
    stopping = asyncio.Event()
    feeding = asyncio.create_task(feed(js, made, sent, stopping))
    await until(lambda: all(len(seen.get(s.project_id, [])) > 3 for s in made), 60)
    victim = nodes["host-0"]
    struck = time.monotonic()
    cluster.remove_node(next(n for n in cluster.nodes if n.unique_id and n.node_id == victim) if hasattr(cluster.nodes[0], "node_id") else cluster.nodes[0], allow_graceful=False)
    keeping = asyncio.create_task(keep(supervisor, stopping))
    lost = [s for s in made if owner.get(s.partition, "") == "host-0"] or [s for s in made if s.partition % 2 == 0]
    kept = [s for s in made if s not in lost]
    await until(lambda: all(seen[s.project_id][-1] > struck + 1 for s in lost), 90)
    await asyncio.sleep(2)
    stopping.set()
    await feeding
    await keeping
    gaps = {s.project_id: max(b - a for a, b in zip(seen[s.project_id], seen[s.project_id][1:], strict=False)) for s in kept}
    assert all(gap < 4.0 for gap in gaps.values()), f"a project on the surviving node was not acknowledged for {gaps} s (flushes linger 1 s)"
    await until_async(store, made, sent)
    for s in made:
        raw, unique = (await store.query(f"SELECT count(), uniqExact(device_id, point_id, ts) FROM heat.raw WHERE project_id = {s.project_id}"))[0]
        assert unique == sent[s.project_id]
        assert raw == unique, "two owners wrote the same reading"
    await client.close()
    ledger.close()


async def watch(client: Any, made: list[Source], seen: dict[int, list[float]]) -> None:
    for s in made:
        async def on_ack(message: Any, project: int = s.project_id) -> None:
            assert link_pb2.Ack.FromString(message.data).ranges
            seen.setdefault(project, []).append(time.monotonic())

        await client.subscribe(subjects.down(s.project_id, s.agent_id, "ack"), cb=on_ack)


async def feed(js: Any, made: list[Source], sent: dict[int, int], stopping: asyncio.Event) -> None:
    base, k = int(time.time() * 1000) - 3_600_000, 0
    while not stopping.is_set():
        for s in made:
            rows = [batch.Reading(d, POWER, base + k * 1000 + n, float(n)) for d in s.devices for n in range(50)]
            await js.publish(s.subject, s.seal(rows), timeout=10)
            sent[s.project_id] += len(rows)
        k += 1
        await asyncio.sleep(0.3)


async def keep(supervisor: Any, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await supervisor.tick()
        await asyncio.sleep(0.5)


async def until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.1)


async def until_async(store: ClickHouse, made: list[Source], sent: dict[int, int]) -> None:
    deadline = time.monotonic() + 60
    while True:
        found = dict(await store.query("SELECT project_id, uniqExact(device_id, point_id, ts) FROM heat.raw GROUP BY project_id"))
        if all(found.get(s.project_id) == sent[s.project_id] for s in made):
            return
        assert time.monotonic() < deadline, f"sent {sent}, found {found}"
        await asyncio.sleep(0.3)


