"""Several agents in one process, each with its own spool, journal, keys and connection: for benchmarks with many agents on a small machine.

`python -m benchmarks.rig.many SITE...`. Must not know: what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from edge_agent import logs
from edge_agent.agent import Agent
from edge_agent.config import load_credentials, load_site


async def _main(files: list[Path]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks: list[asyncio.Task[None]] = []
    for file in files:
        site = load_site(file)
        tasks.append(asyncio.create_task(Agent(site, load_credentials(site.credentials_dir)).run()))
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())
    await stop.wait()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def main() -> None:
    """Entry point."""
    logs.configure("WARNING")
    asyncio.run(_main([Path(a) for a in sys.argv[1:]]))


if __name__ == "__main__":
    main()
