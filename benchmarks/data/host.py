"""A project host without Ray: the same class in a plain process. `python -m benchmarks.data.host --home DIR`. Must not know: what is measured."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from cloud.core.settings import load
from cloud.historian.client import ClickHouse
from cloud.historian.schema import create
from cloud.runtime.host import ProjectHost


async def _main(home: Path) -> None:
    settings = load(home)
    store = ClickHouse(settings, threads=1, name="plain")
    await store.wait()
    await store.run(lambda c: create(c.command))
    store.close()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    host = ProjectHost(str(home), list(range(settings.partitions)), "plain")
    await host.start()
    print("host stands", flush=True)
    await stop.wait()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    asyncio.run(_main(parser.parse_args().home))


if __name__ == "__main__":
    main()
