"""A share of the rotation campaign's agents in one process: the real agent with its spool, journal, uplink and renewal, without a field.

`python -m tests.faults.rotation_agents PLAN` reads orders from its input (one word a line: renew, stop) and writes what it did to PLAN.out.
Must not know: what is judged.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent import logs
from edge_agent.agent import Agent
from edge_agent.config import load_credentials, load_site
from edge_agent.enrolment import EnrolError
from protos.batch import Reading
from protos.points import point

POINTS = [point(key).id for key in ("active_power", "energy_import")]
EVERY_S, READINGS = 20.0, 20
#: Renewals a second the campaign asks for, all agents together.
RENEWALS_PER_S = 5.0


class Share:
    """Agents of one process."""

    def __init__(self, plan: dict[str, Any], out: Path) -> None:
        self.out = out.open("a", buffering=1)
        self.agents = {row["agent_id"]: (row, Agent(site := load_site(Path(row["site"])), load_credentials(site.credentials_dir), units=lambda _: {})) for row in plan["agents"]}
        self.sent = 0
        self.sealing = True
        self.failures: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def say(self, what: str, **facts: Any) -> None:
        """One line to whoever reads."""
        self.out.write(json.dumps({"what": what, "at": time.time(), **facts}) + "\n")

    async def run(self) -> None:
        """Until told to stop."""
        for row, agent in self.agents.values():
            self.tasks += [asyncio.create_task(self._live(agent)), asyncio.create_task(self._seal(row, agent)), asyncio.create_task(self._look(row["agent_id"], agent))]
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while order := (await reader.readline()).decode().strip():
            if order == "renew":
                self.tasks += [asyncio.create_task(self._renew(name, agent)) for name, (_, agent) in self.agents.items()]
            elif order == "rest":
                self.sealing = False
                self.say("rest", sent=self.sent)
            elif order == "count":
                self.say("count", waiting=sum(a.spool.batches for _, a in self.agents.values()), up=sum(a.link.up for _, a in self.agents.values()), sent=self.sent,
                         renewed=sum(a.renewal.counts["renewed"] > 0 for _, a in self.agents.values()), refused=sum(a.spool.refused.total() for _, a in self.agents.values()),
                         connections=sum(a.link.counts["connections"] for _, a in self.agents.values()), failures=self.failures[:5])
            elif order == "stop":
                break
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _live(self, agent: Agent) -> None:
        await asyncio.sleep(random.uniform(0, 10))
        try:
            await agent.run()
        except Exception as error:
            self.failures.append(f"{agent.site.agent_id} died: {error!r}")
            raise

    async def _seal(self, row: dict[str, Any], agent: Agent) -> None:
        number = 0
        await asyncio.sleep(random.uniform(0, EVERY_S))
        while self.sealing:
            now = int(time.time() * 1000)
            readings = [Reading(row["device"], p, now - k * 100, float(number + k)) for k in range(READINGS // len(POINTS)) for p in POINTS]
            taken = await asyncio.to_thread(lambda r=readings, n=now: agent.spool.append(r, now_ms=n, boot_id=agent.boot_id, monotonic_ms=agent.mono_ms()))
            self.sent += taken
            number += 1
            agent.link.wake.set()
            await asyncio.sleep(EVERY_S)

    async def _renew(self, name: str, agent: Agent) -> None:
        await asyncio.sleep(random.uniform(0, 4 * len(self.agents) / RENEWALS_PER_S))
        for attempt in range(20):
            try:
                await agent.renewal.renew()
            except (EnrolError, OSError) as error:
                if attempt == 19:
                    self.failures.append(f"{name}: {error}")
                await asyncio.sleep(random.uniform(1, 4))
                if not agent.renewal.counts["renewed"]:
                    continue
                try:
                    await agent.renewal.tend()  # only the confirmation is missing
                except EnrolError:
                    continue
                return
            else:
                return

    async def _look(self, name: str, agent: Agent) -> None:
        up = False
        while True:
            if agent.link.up != up:
                up = agent.link.up
                self.say("up" if up else "down", agent=name)
            await asyncio.sleep(0.02)


def main() -> None:
    """Entry point."""
    plan = Path(sys.argv[1])
    logs.configure("ERROR")
    asyncio.run(_run(json.loads(plan.read_text()), plan.with_suffix(".out")))


async def _run(plan: dict[str, Any], out: Path) -> None:
    await Share(plan, out).run()


if __name__ == "__main__":
    main()
