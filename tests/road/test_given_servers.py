"""The same platform with URLs of servers it did not start: only addresses and credentials differ (rule 2 of the house)."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.rig.source import sources
from benchmarks.stack import Stack
from cloud.bus.connection import connect
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.ledger import open_ledger
from cloud.runtime.host import ProjectHost
from protos import batch
from protos.points import point
from tests.support.real import eventually

pytestmark = pytest.mark.slow


async def test_readings_reach_a_given_historian_through_a_given_nats(tmp_path: Path) -> None:
    with Stack(tmp_path / "servers", only=("nats", "store"), partitions=2) as servers:
        mine = tmp_path / "platform" / "credentials"
        mine.mkdir(parents=True, mode=0o700)
        theirs = servers.settings.credentials
        for name, as_name in (("nats-platform.seed", "nats-platform.seed"), ("store.secret", "store.secret"), ("edge-ca.pem", "nats-ca.pem"), ("nats-platform.jwt", "nats-platform.jwt"),
                              ("platform-nats.pem", "nats-client.pem"), ("platform-nats.key", "nats-client.key")):
            shutil.copy(theirs / name, mine / as_name)
        with Stack(tmp_path / "platform", only=("control", "gateway"), partitions=2, nats_url=f"tls://127.0.0.1:{servers.settings.nats_port}",
                   historian_url=f"clickhouse://127.0.0.1:{servers.settings.store_port}") as platform:
            store = ClickHouse(platform.settings, threads=1)
            await store.wait()
            await store.run(lambda c: create(c.command))
            ledger = open_ledger(platform.settings.effective_ledger_url)
            source = sources(platform.settings, ledger, 1)[0]
            host = ProjectHost(str(platform.settings.home), [0, 1], "given")
            await host.start()
            client = await connect(platform.settings.effective_nats_url, platform.settings.credentials, "given")
            now = int(time.time() * 1000)
            await client.jetstream().publish(source.subject, source.seal([batch.Reading(d, point("active_power").id, now, 5.0) for d in source.devices]))

            async def arrived() -> bool:
                return bool((await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id}"))[0][0] == len(source.devices))

            await eventually(arrived, 30, "the readings in the given historian")
            for task in host._tasks.values():
                task.cancel()
            await asyncio.gather(*host._tasks.values(), return_exceptions=True)
            await client.close()
            ledger.close()
        assert not (tmp_path / "platform" / "jetstream").exists()
        assert not (tmp_path / "platform" / "historian").exists()
