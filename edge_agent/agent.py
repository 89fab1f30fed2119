"""The agent: read, image, decide, write; readings into the spool, commands through the desk, the uplink beside.

This is the shell around the sans-IO parts: here are the tasks, the clocks and the randomness. Must not know: protocols' frames, gRPC, NATS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from edge_agent import host
from edge_agent.algorithms.rule import Given, Rules, local_hour
from edge_agent.clock import AgentClock, Challenges, Now
from edge_agent.commands.actuation import Act, Actuation, Outcome
from edge_agent.commands.desk import Desk, Image
from edge_agent.commands.journal import Journal
from edge_agent.config import Credentials, Site, SiteDevice
from edge_agent.dialogue import Dialogue
from edge_agent.drivers.driver import Driver, Value
from edge_agent.drivers.meters import Cjt188Driver, Dlt645Driver
from edge_agent.drivers.modbus import ModbusChannel, ModbusDriver
from edge_agent.drivers.stream import ByteChannel
from edge_agent.errors import DeviceError, SiteError
from edge_agent.readback import Readback
from edge_agent.renewal import Renewal
from edge_agent.sampling import Sampler, image
from edge_agent.spool import Spool
from edge_agent.status import heartbeat
from edge_agent.uplink import grpc, nats
from edge_agent.uplink.link import Link
from edge_agent.witness import Witness
from protos import envelope, subjects
from protos.arbitration import Authority
from protos.batch import Reading
from protos.kang.v1 import link_pb2, telemetry_pb2
from protos.points import BY_KEY

log = logging.getLogger("kang.edge")
WATCH_S: Final = 1.0
FLOOR_MS: Final = 60_000
BUFFER_LIMIT: Final = 200_000


@dataclass(slots=True)
class Unit:
    """One device at work."""

    site: SiteDevice
    driver: Driver
    sampler: Sampler
    look: asyncio.Event = field(default_factory=asyncio.Event)
    last_ok_ms: int = 0
    online: bool = False


class System(Protocol):
    """What the agent asks of its operating system: `edge_agent.host`, or the simulator's."""

    def wall_ms(self) -> int:
        """The local wall clock, UTC milliseconds."""
        ...

    def mono_ms(self) -> int:
        """Milliseconds since boot."""
        ...

    def boot_id(self) -> bytes:
        """16 bytes that change with every boot."""
        ...

    def cpu_s(self) -> float:
        """Processor seconds used."""
        ...

    def clock_synchronised(self) -> bool:
        """True when the clock is disciplined."""
        ...


class Agent:
    """One edge box."""

    def __init__(self, site: Site, credentials: Credentials, *, system: System = host, units: Callable[[Site], dict[int, Unit]] | None = None) -> None:
        if site.suite is not credentials.suite:
            raise SiteError(field="suite", problem=f"says {site.suite.text}, the keys in credentials_dir are {credentials.suite.text}; a change of suite needs an empty directory and a new enrolment (kang-edge enrol --suite)")
        self.site = site
        self.system = system
        self.counts: Counter[str] = Counter()
        self.boot_id = self.system.boot_id()
        self.spool = Spool(site.state_dir / "spool.db", project_id=site.project_id, agent_id=site.agent_id, signing_key=credentials.signing, new_epoch=os.urandom(16),
                           limit_bytes=site.spool_limit_bytes, batch_readings=max(site.batch_readings, 5000))
        self.journal = Journal(site.state_dir / "journal.db", project_id=site.project_id, agent_id=site.agent_id, signing_key=credentials.signing, new_epoch=os.urandom(16))
        self.clock = AgentClock(command_key=credentials.command_signing, floor_ms=self.spool.floor_ms, mode=site.clock)
        self.clock.local(synchronised=self.system.clock_synchronised())
        self.challenges = Challenges()
        self.images: dict[int, Image] = {}
        self.desk = Desk(self.journal, {d.device.id: d.device for d in site.devices.values()}, project_id=site.project_id,
                         opener=envelope.Opener(subjects.agent_identity(site.project_id, site.agent_id), credentials.box), command_key=credentials.command_signing,
                         known_challenge=self.challenges.known, agent_id=site.agent_id)
        self.rules = Rules(list(site.rules))
        self.desk.own = self.rules.holds
        self.actuation = Actuation(self.desk, self.now())
        self.link = Link(self, self.spool, self.journal, credentials.telemetry_box, heartbeat_s=site.heartbeat_s)
        self.dialogue: Dialogue | None = None  # opened when it runs
        self.link.witness = Witness(site.state_dir / "audit-checkpoints.jsonl", credentials.audit_signing)
        self.renewal = Renewal(credentials.directory, credentials.platform, {"batch": self.spool, "result": self.journal}, nats=site.uplink.kind == "nats", wall_ms=lambda: self.now().wall_ms)
        self.units = (units or make_units)(site)
        self._credentials = credentials
        self._leases: dict[int, int] = {}
        self._dated: list[Reading] = []
        self._undated: list[Reading] = []
        self._full = asyncio.Event()
        self._act = asyncio.Event()
        self._cpu = (self.system.cpu_s(), self.system.mono_ms())

    # --- time

    def mono_ms(self) -> int:
        """Monotonic milliseconds."""
        return self.system.mono_ms()

    def now(self) -> Now:
        """The best known time."""
        return self.clock.now(self.system.wall_ms(), self.system.mono_ms())

    # --- life

    async def run(self) -> None:
        """Work until cancelled; a task that fails takes the agent down (the supervisor starts it again, nothing is lost)."""
        self.dialogue = Dialogue(self.site.state_dir / "dialogue.db")
        log.info("agent starts", extra={"fields": {"agent": self.site.agent_id, "devices": len(self.units), "epoch": self.spool.epoch.hex()}})
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._cycle(), self._flush_loop(), self._tend_clock(), self._uplink(), self._read_back(), self.renewal.run()):
                    group.create_task(work)
                for unit in self.units.values():
                    group.create_task(self._poll(unit))
        finally:
            await self._flush()
            for unit in self.units.values():
                await unit.driver.close()
            self.spool.close()
            self.journal.close()
            self.dialogue.close()

    def _uplink(self) -> Coroutine[Any, Any, None]:
        uplink, where = self.site.uplink, self._credentials.directory
        if uplink.kind == "grpc":
            return grpc.run(self.link, address=uplink.address, credentials_dir=where, gateway_name=self._credentials.gateway_name)
        partition = uplink.partition if uplink.partition is not None else subjects.partition_of(self.site.project_id, self.site.partitions)
        return nats.Nats(self.link, url=uplink.url, credentials_dir=where, project_id=self.site.project_id, agent_id=self.site.agent_id, partition=partition).run()

    async def _read_back(self) -> None:
        """Copy what the monitoring system kept before us, once the clock can be trusted."""
        source = self.site.history
        if source is None:
            return
        while not self.now().trusted:  # noqa: ASYNC110 - the clock has no event
            await asyncio.sleep(1)
        await Readback(source, self.spool, self.site.state_dir / "readback.json", self.boot_id).run(lambda: self.now().wall_ms, self.mono_ms, self.link.wake.set)

    # --- reading

    async def _poll(self, unit: Unit) -> None:
        """Read a device on its grid; sooner when a command waits for its read-back or somebody looks."""
        period = int(unit.site.poll_s * 1000)
        while True:
            await self._read(unit)
            now = self.now()
            wait = (period - now.wall_ms % period) / 1000
            if self._watched(unit.site.device.id, now):
                wait = min(wait, WATCH_S)
            try:
                async with asyncio.timeout(wait):
                    await unit.look.wait()
            except TimeoutError:
                pass
            unit.look.clear()

    async def _read(self, unit: Unit) -> None:
        device = unit.site.device
        started = self.now()
        try:
            values = await unit.driver.read(list(device.points.values()))
        except DeviceError as error:
            if unit.online or not unit.last_ok_ms:
                log.warning("device silent", extra={"fields": {"device": device.id, "code": f"{error.code}.{error.reason}", "detail": error.values["detail"]}})
            unit.online = False
            self.counts["reads_failed"] += 1
            self.images[device.id] = Image({}, started.mono_ms)
            self._keep(unit.sampler.silent(self._stamp(started), started.mono_ms), started)
            return
        if not unit.online:
            log.info("device answers", extra={"fields": {"device": device.id}})
        unit.online, unit.last_ok_ms = True, started.wall_ms
        self.counts["reads"] += 1
        self.images[device.id] = Image(image(values), started.mono_ms)
        self._keep(unit.sampler.take(values, self._stamp(started), started.mono_ms), started)
        if self._leases.get(device.id, 0) > started.wall_ms and started.trusted:
            self._show(device.id, values, started)
        self._act.set()

    @staticmethod
    def _stamp(now: Now) -> int:
        return now.wall_ms if now.trusted else now.mono_ms

    def _keep(self, readings: list[Reading], now: Now) -> None:
        if not readings:
            return
        target = self._dated if now.trusted else self._undated
        if len(target) + len(readings) > BUFFER_LIMIT:  # the disk has been stuck for long
            self.counts["readings_dropped"] += len(readings)
            return
        target.extend(readings)
        self.counts["readings"] += len(readings)
        if len(target) >= self.site.batch_readings:
            self._full.set()

    def _show(self, device: int, values: dict[str, Value], now: Now) -> None:
        import sys
        from array import array
        rows = [(BY_KEY[key].id, v) for key, v in values.items() if v.value == v.value]  # NaN never travels
        columns = array("I", [device] * len(rows)), array("H", [p for p, _ in rows]), array("q", [now.wall_ms] * len(rows)), array("d", [v.value for _, v in rows])
        if sys.byteorder == "big":
            for column in columns:
                column.byteswap()
        devices, points, times, numbers = (c.tobytes() for c in columns)
        self.link.show(telemetry_pb2.LiveFrame(project_id=self.site.project_id, agent_id=self.site.agent_id, device_id=devices, point_id=points, at_ms=times, value=numbers,
                                               quality=bytes(int(v.quality) for _, v in rows)))

    def _watched(self, device: int, now: Now) -> bool:
        return self._leases.get(device, 0) > now.wall_ms or bool(self.journal.open_entries(device))

    # --- spooling

    async def _flush_loop(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.site.linger_s):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            await self._flush()

    async def _flush(self) -> None:
        now = self.now()
        dated, undated = self._dated, self._undated
        self._dated, self._undated = [], []
        try:
            if dated:
                await _durably(lambda: self.spool.append(dated, now_ms=now.wall_ms, boot_id=self.boot_id, monotonic_ms=min(r.at_ms for r in dated) - now.wall_ms + now.mono_ms))
                dated = []
                self.link.wake.set()
            if undated:
                await _durably(lambda: self.spool.hold(undated, boot_id=self.boot_id, wall_minus_mono_ms=self.system.wall_ms() - self.system.mono_ms()))
                undated = []
            if now.trusted and self.spool.undated:
                await _durably(lambda: self.spool.redate(boot_id=self.boot_id, offset_ms=now.wall_ms - now.mono_ms, now_ms=now.wall_ms, monotonic_ms=now.mono_ms))
                self.link.wake.set()
        except sqlite3.Error as error:
            # A full or failing disk: what is in memory waits (bounded by BUFFER_LIMIT), the same row twice is one row at the platform.
            self._dated, self._undated = dated + self._dated, undated + self._undated
            self.counts["spool_errors"] += 1
            log.error("the spool cannot be written", extra={"fields": {"why": str(error), "waiting": len(self._dated) + len(self._undated)}})

    async def _tend_clock(self) -> None:
        while True:
            self.clock.local(synchronised=self.system.clock_synchronised())
            self._raise_floor()
            await asyncio.sleep(10)

    def _raise_floor(self) -> None:
        """Write down a trusted time, so that no later life believes in an earlier one."""
        now = self.now()
        if now.trusted and now.wall_ms - self.clock.floor_ms >= FLOOR_MS:
            self.clock.floor_ms = now.wall_ms
            self.spool.raise_floor(now.wall_ms)

    # --- deciding and writing

    async def _cycle(self) -> None:
        """Decide at every cycle, at every reading and at every command."""
        while True:
            now = self.now()
            self.actuation.observe(now, self.images)
            self.rules.run(self._given(now))
            acts = self.actuation.plan(now, self.images)
            if acts:
                by_channel: dict[str, list[Act]] = {}
                for act in acts:
                    by_channel.setdefault(self.units[act.device].site.channel, []).append(act)
                await asyncio.gather(*(self._write_all(group) for group in by_channel.values()))
            self.link.wake.set()
            try:
                async with asyncio.timeout(self.site.cycle_s):
                    await self._act.wait()
            except TimeoutError:
                pass
            self._act.clear()

    def _given(self, now: Now) -> Given:
        """What the rules of the box look at."""
        plan = self.desk.plan if now.trusted else None
        return Given(now, self.images, local_hour(now.wall_ms, self.site.timezone) if now.trusted else None, plan.grid_cap_kw(now.wall_ms) if plan else None,
                     plan.grid_cap_by if plan else Authority.PLAN)

    async def _write_all(self, acts: list[Act]) -> None:
        for act in acts:
            await self._write(act)

    async def _write(self, act: Act) -> None:
        """One write: interlock inputs are read afresh, a pulse is journalled, then the device is written."""
        unit = self.units[act.device]
        if act.needs:
            try:
                fresh = image(await unit.driver.read([unit.site.device.points[key] for key in act.needs]))
            except DeviceError as error:
                self.actuation.done(act, Outcome.NOT_SENT, self.now(), detail=error.reason)
                return
            forbidden = self.actuation.permit(act, fresh)
            if forbidden:
                log.warning("interlock forbids a write", extra={"fields": {"device": act.device, "point": act.spec.key, "value": act.value, "interlock": forbidden}})
                self.actuation.forbidden(act, forbidden, self.now())
                return
        if not self.actuation.begin(act, self.now(), self.images.get(act.device, Image())):
            return
        outcome, detail = Outcome.DONE, ""
        try:
            await unit.driver.write(act.spec, act.value)
        except DeviceError as error:
            detail = str(error.values["detail"])
            outcome = {"refused": Outcome.REFUSED, "read_only": Outcome.REFUSED, "connect": Outcome.NOT_SENT}.get(error.reason, Outcome.MAYBE)
        self.counts[f"writes_{outcome.value}"] += 1
        log.info("write", extra={"fields": {"device": act.device, "point": act.spec.key, "value": act.value, "outcome": outcome.value}})
        self.actuation.done(act, outcome, self.now(), detail=detail)
        self.link.hurry()
        unit.look.set()

    # --- what the link asks

    def heartbeat(self) -> telemetry_pb2.Heartbeat:
        """A fresh heartbeat."""
        now = self.now()
        used, since = self.system.cpu_s(), now.mono_ms
        share = (used - self._cpu[0]) / max(0.001, (since - self._cpu[1]) / 1000)
        self._cpu = (used, since)
        self.clock.asked(now.mono_ms)
        beat = heartbeat(self, now, self.challenges.current(now.mono_ms, os.urandom(12)), share)
        if self.dialogue is not None:
            try:
                notes, states = self.dialogue.outgoing()
                beat.notes.extend(notes)
                beat.note_states.extend(states)
            except sqlite3.Error:  # a full disk keeps people waiting, never the heartbeat
                self.counts["notes_failed"] += 1
        return beat

    def on_command(self, wire: bytes) -> None:
        """A sealed command: judged and journalled at once, done in the next cycle, which starts now."""
        if self.desk.receive(wire, self.now(), self.images):
            self._act.set()
            self.link.hurry()
            for unit in self.units.values():
                if self.journal.open_entries(unit.site.device.id):
                    unit.look.set()

    def on_lease(self, lease: link_pb2.Lease) -> None:
        """Somebody is looking at these devices."""
        for device in lease.device_id:
            if device in self.units:
                self._leases[device] = lease.until_ms
                self.units[device].look.set()

    def on_welcome(self, welcome: link_pb2.Welcome) -> None:
        """The platform's time, when signed."""
        if welcome.signature and not self.clock.welcome(welcome, self.challenges.all(), self.system.wall_ms(), self.system.mono_ms()):
            log.warning("signed time refused")
        self._raise_floor()  # before anything is stamped with it
        if self.dialogue is not None:
            try:
                self.dialogue.incoming(welcome.notes, welcome.note_states)
            except sqlite3.Error:
                self.counts["notes_failed"] += 1


async def _durably(work: Callable[[], object]) -> None:
    """Run disk work in a thread; a cancellation waits until the disk has it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def make_units(site: Site) -> dict[int, Unit]:
    """The devices of a site with their drivers; devices of one channel share its connection and lock."""
    streams: dict[str, ByteChannel] = {}
    lines: dict[str, ModbusChannel] = {}
    units: dict[int, Unit] = {}
    for entry in site.devices.values():
        spec, device = site.channels[entry.channel], entry.device
        driver: Driver
        if spec.protocol == "modbus":
            if spec.name not in lines:
                lines[spec.name] = ModbusChannel(spec, timeout_s=entry.link.number("timeout_s", 1.0), retries=int(entry.link.number("retries", 1)))
            driver = ModbusDriver(lines[spec.name], entry.link)
        else:
            channel = streams.setdefault(spec.name, ByteChannel(spec))
            driver = (Dlt645Driver if spec.protocol == "dlt645" else Cjt188Driver)(channel, entry.link)
        units[device.id] = Unit(entry, driver, Sampler(device.id, device.points, int(entry.poll_s * 1000)))
    return units
