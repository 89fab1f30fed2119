"""The composition root of the planner process: every quarter of an hour, and at once when somebody changes how a project is run or the grid asks for something, each project is
planned anew; beside it the desk of demand response.

Holds nothing durable: what it learnt it learns again. Must not know: HTTP, envelopes, how a plan is made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
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
from cloud.core.ports import ProjectInfo
from cloud.core.settings import Settings, load
from cloud.functions.demand_response.desk import Desk
from cloud.functions.demand_response.metering import just_before, meter_of
from cloud.functions.demand_response.records import Records
from cloud.functions.demand_response.resources import metered, optimised, stage_kw
from cloud.functions.demand_response.service import ResponseService
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.economic_operation import alarms
from cloud.functions.economic_operation.commitments import Commitment
from cloud.functions.economic_operation.rolling import Rolling
from cloud.functions.economic_operation.service import EconomicService, Setting
from cloud.functions.economic_operation.site import Site, site
from cloud.functions.economic_operation.weather import File, OpenMeteo, Provider
from cloud.historian.client import ClickHouse, HistorianQueryError, HistorianUnavailableError
from cloud.historian.reader import Reader
from cloud.ledger import open_ledger
from protos.arbitration import Authority
from protos.errors import KangError
from protos.kang.v1 import telemetry_pb2
from protos.points import point

log = logging.getLogger("kang.planner")
PERIOD_MS = 900_000
LOOK_S = 5.0
RETRY_MS = 30_000
DESK_S = 2.0
#: What projects without a plan can be asked for is looked at again so often.
METERED_MS = 300_000


class Planning:
    """Says when; `Rolling` says what."""

    def __init__(self, settings: Settings, client: Client) -> None:
        ledger = open_ledger(settings.effective_ledger_url)
        self._directory = LedgerDirectory(ledger)
        self._service = EconomicService(ledger, now_ms)
        self._client = client
        self._heard: dict[int, dict[int, dict[str, Any]]] = {}
        self._done: dict[int, tuple[Any, ...]] = {}
        self._tried: dict[int, tuple[int, tuple[Commitment, ...]]] = {}
        self._acting: dict[int, bool] = {}
        reader = Reader(ClickHouse(settings, threads=1, name="planner"), settings.timezone)
        self.rolling = Rolling(self._service, reader, ControlClient(client), provider(settings), now_ms)
        self._historian, self.response = reader, ResponseService(ledger, now_ms)
        self.desk = Desk(self.response, Records(ledger), self._directory, reader, now_ms, self._told)
        self._held: dict[int, tuple[Commitment, ...]] = {}
        self._capped: set[int] = set()
        self._boxed: dict[int, tuple[Commitment, ...]] = {}
        self._offered: dict[int, tuple[int, int]] = {}
        self._late: dict[int, int] = {}
        self._wrong: dict[tuple[str, str], bool] = {}
        self.wake = asyncio.Event()

    async def start(self) -> None:
        """Listen to what agents say of their devices; projects whose box may still hold a cap are looked at first."""
        self._capped = await asyncio.to_thread(self.response.touched)
        await self._client.subscribe("presence.>", cb=self._on_presence)

    async def _on_presence(self, message: Msg) -> None:
        try:
            beat = telemetry_pb2.Heartbeat.FromString(message.data)
        except DecodeError:
            return
        self._heard.setdefault(beat.project_id, {}).update({d.device_id: _state(d) for d in beat.devices})

    async def look(self) -> int:
        """Plan every project that is due; returns how many."""
        now, count = now_ms(), 0
        quarter = now // PERIOD_MS
        wanted = await asyncio.to_thread(self._service.settings)
        for project in self._directory.projects():
            setting = wanted.get(project.id)
            held = self._held.get(project.id, ())
            if setting is None or setting.mode != "act":
                count += await self._cap(project, held)
            if setting is not None and setting.mode != "act" and self._acting.get(project.id, True) and not await self._let_go(project.id):
                continue
            heard = self._heard.get(project.id, {})
            # What an interlock, a person or a lockout holds cannot be planned with: a change of it is planned for at once.
            state = (quarter, 0 if setting is None else setting.version, frozenset((d, h["held_until_ms"] // PERIOD_MS) for d, h in heard.items() if h["locked_out"] or h["local_manual"]), held)
            if setting is None or setting.mode == "off" or self._done.get(project.id) == state or self._soon(project.id, setting, held, now):
                continue
            self._tried[project.id] = (now, held)
            try:
                outcome = await self.rolling.plan(project, self._directory.devices(project.id), heard, setting, held)
            except (HistorianUnavailableError, HistorianQueryError, ControlUnavailableError) as error:
                log.warning("project %d waits: %s", project.id, error)
                self._tried[project.id] = (now - RETRY_MS + 10_000, held)  # again in ten seconds
                continue
            except KangError as error:  # the command service refused the document
                log.error("project %d: the plan was refused: %s", project.id, error)
                outcome = {"outcome": "failed", "code": error.code}
            if outcome["outcome"] == "planned":  # else once more soon
                self._done[project.id] = state
            if setting.mode == "act":
                self._capped = self._capped | {project.id} if held else self._capped - {project.id}
            self._acting[project.id] = setting.mode == "act"
            count += 1
            await self._say(alarms.of_plan(project, outcome))
            await self._say(alarms.of_cold(project, float(outcome.get("cold_k", 0.0))))
            await self._say(alarms.of_weather(project, self.rolling.weather_age_h(project.id, now)))
            await self._client.publish(f"event.{project.id}", json.dumps({"type": "planned", "project_id": project.id, **outcome}).encode())
        return count

    async def _cap(self, project: ProjectInfo, held: tuple[Commitment, ...]) -> int:
        """A project nobody plans is held by its box alone; returns 1 when something was sent."""
        if self._boxed.get(project.id) == held or not (held or project.id in self._capped):
            return 0
        try:
            await self.rolling.cap(project, self._directory.devices(project.id), held)
        except KangError as error:
            log.warning("project %d is not held yet: %s", project.id, error)
            return 0
        self._boxed[project.id] = held
        self._capped = self._capped | {project.id} if held else self._capped - {project.id}
        return 1

    async def respond(self, stop: asyncio.Event) -> None:
        """Demand response beside the planning: events move on every few seconds; what projects are held to is planned for at once."""
        while not stop.is_set():
            try:
                await self.desk.tick()
                held = await self.desk.commitments()
                if held != self._held:
                    self._held = held
                    self.wake.set()
                await self._offer()
            except KangError as error:
                log.warning("demand response waits: %s", error)
            try:
                await asyncio.wait_for(stop.wait(), DESK_S)
            except TimeoutError:
                continue

    async def _offer(self) -> None:
        """Keep what one project can do for the grid now: each once after it was planned, those nobody plans every few minutes."""
        now, strategies = now_ms(), await asyncio.to_thread(self.response.strategies)
        for project in self._directory.projects():
            plain = self.rolling.plain(project.id)
            mark = (0 if plain is None else plain.start_ms, strategies[project.id].version if project.id in strategies else 0)
            known = self._offered.get(project.id)
            if known is not None and known[1] == mark[1] and (known[0] == mark[0] if plain is not None else now - known[0] < METERED_MS):
                continue
            where = site(project.id, project.heated_area_m2, self._directory.devices(project.id))
            least = strategies[project.id].least_kw if project.id in strategies else 0.0
            if plain is not None:
                found = await asyncio.to_thread(optimised, plain.community, plain.grid_kw.tolist(), plain.start_ms, now, least, step_kw=stage_kw(where))
                self._offered[project.id] = mark
            elif not where.sources:
                self._offered[project.id] = (now, mark[1])
                continue  # nothing a box could lower by itself
            else:
                drawn = await just_before(self._historian, meter_of(project, self._directory.devices(project.id)), now)
                self._offered[project.id] = (now, mark[1])
                if drawn is None:  # nothing metered yet: again in half a minute
                    self._offered[project.id] = (now - METERED_MS + RETRY_MS, mark[1])
                    continue
                found = metered(drawn, least, now, step_kw=stage_kw(where), other_kw=await self._beside(project.id, where, drawn))
            await asyncio.to_thread(self.response.keep_resource, project.id, found)
            return  # one at a time: events come first

    async def _beside(self, project_id: int, where: Site, drawn: float) -> float:
        """What a site draws beside its sources now, kW."""
        power = {v.device_id: v.value for v in await self._historian.latest(project_id, [s.device_id for s in where.sources] + [where.grid_meter]) if v.point_id == point("active_power").id and math.isfinite(v.value)}
        return max(0.0, power.get(where.grid_meter, drawn) - sum(power.get(s.device_id, 0.0) for s in where.sources))

    async def _say(self, alarm: dict[str, Any] | None) -> None:
        """To whoever keeps the platform's own alarms: when it is wrong, and once when it is over."""
        if alarm is None:
            return
        key, wrong = (str(alarm["rule"]), str(alarm["who"])), bool(alarm.get("wrong", True))
        if not wrong and self._wrong.get(key) is False:
            return
        self._wrong[key] = wrong
        await self._client.publish("alarm.own", json.dumps(alarm).encode())

    async def _told(self, event: dict[str, Any]) -> None:
        """Tell the pages of every project meant; an event that is not kept is an alarm."""
        await self._say(alarms.of_response(event, self._late))
        codes = set(event["document"]["resources"])
        told = {"type": "response", "event": event["id"], "event_id": event["event_id"], "state": event["state"], **({"minute": event["minute"]} if "minute" in event else {})}
        for project in self._directory.projects():
            if project.code in codes:
                await self._client.publish(f"event.{project.id}", json.dumps({**told, "project_id": project.id}).encode())

    async def _let_go(self, project_id: int) -> bool:
        """Economic operation was switched off: what residents chose is put back, everything else goes to the site's own controllers."""
        try:
            await self.rolling.release(project_id)
        except KangError as error:
            log.warning("project %d is not let go yet: %s", project_id, error)
            return False
        self._acting[project_id] = False
        return True

    def _soon(self, project_id: int, setting: Setting, held: tuple[Commitment, ...], now: int) -> bool:
        """True when it was tried just now, and nothing was changed or asked for since."""
        done, (at, before) = self._done.get(project_id), self._tried.get(project_id, (0, ()))
        return now - at < RETRY_MS and (done is None or done[1] == setting.version) and before == held


def _state(d: telemetry_pb2.DeviceState) -> dict[str, Any]:
    """What planning needs of a device: whether it can be planned with, and where somebody holds it for a while, until when (`held_until_ms`)."""
    above = [h for h in d.holders if h.authority < Authority.PLAN and h.authority not in (Authority.GRID_ORDER, Authority.DEMAND_RESPONSE)]
    people = [h.until_ms for h in above if h.authority in (Authority.EMERGENCY_STOP, Authority.OPERATOR, Authority.RESIDENT)]
    gone = d.locked_out or not d.online
    return {"locked_out": gone or bool(above), "local_manual": d.local_manual, "held_until_ms": max(people) if not gone and above and len(people) == len(above) and all(people) else 0,
            "planned": frozenset(h.point_id for h in d.holders if h.authority == Authority.PLAN)}


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
    responding = asyncio.create_task(planning.respond(stop), name="demand response")
    while not stop.is_set():
        planning.wake.clear()
        done = await planning.look()
        if done:
            log.info("planned %d projects", done)
        waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(planning.wake.wait())]
        await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if responding.done():
            responding.result()  # whatever ended it ends the process: the supervisor starts both again
    await responding
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
