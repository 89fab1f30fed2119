"""The composition root of the planner process: every quarter of an hour, and at once when somebody changes how a project is run, each project is planned anew.

Holds nothing durable: what it learnt it learns again. Must not know: HTTP, envelopes, how a plan is made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.bus.connection import connect
from cloud.control.client import ControlClient, ControlUnavailableError
from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.settings import Settings, load
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.economic_operation.rolling import Rolling
from cloud.functions.economic_operation.service import EconomicService, Setting
from cloud.functions.economic_operation.weather import File, OpenMeteo, Provider
from cloud.historian.client import ClickHouse, HistorianQueryError, HistorianUnavailableError
from cloud.historian.reader import Reader
from cloud.ledger import open_ledger
from protos.arbitration import Authority
from protos.errors import KangError
from protos.kang.v1 import telemetry_pb2

log = logging.getLogger("kang.planner")
PERIOD_MS = 900_000
LOOK_S = 5.0
RETRY_MS = 30_000


class Planning:
    """Says when; `Rolling` says what."""

    def __init__(self, settings: Settings, client: Client) -> None:
        ledger = open_ledger(settings.effective_ledger_url)
        self._directory = LedgerDirectory(ledger)
        self._service = EconomicService(ledger, now_ms)
        self._client = client
        self._heard: dict[int, dict[int, dict[str, Any]]] = {}
        self._done: dict[int, tuple[int, int, frozenset[int]]] = {}
        self._tried: dict[int, int] = {}
        self._acting: dict[int, bool] = {}
        reader = Reader(ClickHouse(settings, threads=1, name="planner"), settings.timezone)
        self.rolling = Rolling(self._service, reader, ControlClient(client), provider(settings), now_ms)

    async def start(self) -> None:
        """Listen to what agents say of their devices."""
        await self._client.subscribe("presence.>", cb=self._on_presence)

    async def _on_presence(self, message: Msg) -> None:
        try:
            beat = telemetry_pb2.Heartbeat.FromString(message.data)
        except DecodeError:
            return
        self._heard.setdefault(beat.project_id, {}).update({d.device_id: {
            "locked_out": d.locked_out or not d.online or any(h.authority < Authority.PLAN and h.authority not in (Authority.GRID_ORDER, Authority.DEMAND_RESPONSE) for h in d.holders),
            "local_manual": d.local_manual,
            "planned": frozenset(h.point_id for h in d.holders if h.authority == Authority.PLAN)} for d in beat.devices})

    async def look(self) -> int:
        """Plan every project that is due; returns how many."""
        now, count = now_ms(), 0
        quarter = now // PERIOD_MS
        wanted = await asyncio.to_thread(self._service.settings)
        for project in self._directory.projects():
            setting = wanted.get(project.id)
            if setting is not None and setting.mode != "act" and self._acting.get(project.id, True) and not await self._let_go(project.id):
                continue
            heard = self._heard.get(project.id, {})
            # What an interlock, a person or a lockout holds cannot be planned with: a change of it is planned for at once.
            state = (quarter, 0 if setting is None else setting.version, frozenset(d for d, h in heard.items() if h["locked_out"] or h["local_manual"]))
            if setting is None or setting.mode == "off" or self._done.get(project.id) == state or (now - self._tried.get(project.id, 0) < RETRY_MS and self._same(project.id, setting)):
                continue
            self._tried[project.id] = now
            try:
                outcome = await self.rolling.plan(project, self._directory.devices(project.id), heard, setting)
            except (HistorianUnavailableError, HistorianQueryError, ControlUnavailableError) as error:
                log.warning("project %d waits: %s", project.id, error)
                self._tried[project.id] = now - RETRY_MS + 10_000  # again in ten seconds
                continue
            except KangError as error:  # the command service refused the document
                log.error("project %d: the plan was refused: %s", project.id, error)
                outcome = {"outcome": "failed", "code": error.code}
            if outcome["outcome"] == "planned":  # else once more soon
                self._done[project.id] = state
            self._acting[project.id] = setting.mode == "act"
            count += 1
            await self._client.publish(f"event.{project.id}", json.dumps({"type": "planned", "project_id": project.id, **outcome}).encode())
        return count

    async def _let_go(self, project_id: int) -> bool:
        """Economic operation was switched off: what residents chose is put back, everything else goes to the site's own controllers."""
        try:
            await self.rolling.release(project_id)
        except KangError as error:
            log.warning("project %d is not let go yet: %s", project_id, error)
            return False
        self._acting[project_id] = False
        return True

    def _same(self, project_id: int, setting: Setting) -> bool:
        done = self._done.get(project_id)
        return done is None or done[1] == setting.version


def provider(settings: Settings) -> Provider | None:
    """The weather as set: a file, an Open-Meteo address, or none (then the site's own sensor)."""
    where = settings.weather_url
    if not where:
        return None
    return File(Path(where.removeprefix("file://"))) if where.startswith("file://") else OpenMeteo(where)


async def serve(home: Path) -> None:
    """Run until SIGTERM."""
    settings = load(home)
    client = await connect(settings.effective_nats_url, settings.credentials, "planner")
    planning = Planning(settings, client)
    await planning.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    log.info("planner ready")
    while not stop.is_set():
        done = await planning.look()
        if done:
            log.info("planned %d projects", done)
        try:
            await asyncio.wait_for(stop.wait(), LOOK_S)
        except TimeoutError:
            continue
    await client.close()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.planning --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-planner")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("planner")
    asyncio.run(serve(args.home))


if __name__ == "__main__":
    main()
