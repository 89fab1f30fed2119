"""The road of a partition: log -> projects -> historian -> acknowledged ranges, exactly once. Sans-IO: everything outside is a port.

Before an insert the range of stream sequences is claimed by compare-and-set; the claim's revision fences a zombie. After a restart the
lower of claim and historian cursor decides, and a claimed but unconfirmed range is read again exactly and inserted with the same token.
Must not know: NATS, ClickHouse, Ray, wall clocks (time is a function given).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cloud.core.ports import Latest, ProjectDirectory
from cloud.functions.monitoring.live import LastAlarm
from cloud.historian.client import HistorianQueryError, HistorianUnavailableError
from cloud.historian.columns import Columns
from cloud.historian.writer import HOUR_MS, AlarmRow, BatchRow, Flush, GapRow, QuarantineRow, reference
from cloud.runtime.decode import RELEASE_AGENT, Arrived, Decoder, Rejected
from cloud.runtime.project import Project, SetAside
from cloud.runtime.streams import AgentStream
from protos import batch as batches
from protos.kang.v1 import telemetry_pb2 as pb

log = logging.getLogger("kang.ingest")
_ASIDE_SPACE = uuid.UUID("6f1b7a52-5f5e-4d0e-9b57-9d6f3f1f0c02")
CHECKPOINT_S = 600
#: Bytes a reading takes on the wire in batches of 500, by which an unopened message is judged.
WIRE_BYTES = 4


class LogMessage(Protocol):
    """One message of the log."""

    sequence: int
    subject: str
    data: bytes
    received_ms: int


class Log(Protocol):
    """A partition's stream."""

    identity: str

    async def open(self) -> str: ...
    async def seek(self, sequence: int) -> None: ...
    async def bounds(self) -> tuple[int, int]: ...
    async def fetch(self, limit: int, wait_s: float) -> Sequence[Any]: ...
    async def purge(self, up_to: int) -> None: ...


class Claims(Protocol):
    """Compare-and-set record per partition."""

    async def load(self, partition: int) -> tuple[dict[str, Any] | None, int]: ...
    async def store(self, partition: int, claim: dict[str, Any], revision: int) -> int: ...


class Store(Protocol):
    """The historian's writing side."""

    async def commit(self, flush: Flush) -> None: ...
    async def generation(self, partition: int, identity: str, now_ms: int) -> int: ...
    async def cursor(self, partition: int, generation: int) -> int: ...
    async def committed(self, project_id: int, agent_id: str, epoch: bytes) -> tuple[int, list[tuple[int, int]]]: ...
    async def open_gaps(self, project_id: int, agent_id: str, epoch: bytes) -> list[tuple[int, int, int]]: ...


class Recall(Protocol):
    """What a project needs after a restart."""

    async def latest(self, project_id: int) -> Sequence[Latest]: ...
    async def alarms(self, project_id: int) -> Sequence[LastAlarm]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a flush may grow, and how long it may wait.

    Attributes:
        rows: readings per flush.
        messages: messages per flush.
        linger_s: wait for more after the first message.
        idle_s: how long one empty fetch waits.
    """

    rows: int = 50_000
    messages: int = 2_000
    linger_s: float = 1.0
    idle_s: float = 5.0


@dataclass(slots=True)
class Counters:
    """What a partition did since its start."""

    messages: int = 0
    readings: int = 0
    duplicates: int = 0
    set_aside: int = 0
    flushes: int = 0
    repeated: int = 0
    alarms: int = 0


@dataclass(slots=True)
class _Work:
    flush: Flush
    acks: dict[tuple[int, str, bytes], list[int]] = field(default_factory=dict)
    streams: dict[tuple[int, str, bytes], list[int]] = field(default_factory=dict)


Acknowledge = Callable[[int, str, bytes, list[int]], Awaitable[None]]
Notify = Callable[[dict[str, Any]], Awaitable[None]]


class PartitionIngest:
    """Owns one partition while it holds the newest claim."""

    def __init__(self, partition: int, *, log: Log, claims: Claims, store: Store, recall: Recall, decoder: Decoder, directory: ProjectDirectory,
                 acknowledge: Acknowledge, notify: Notify, now_ms: Callable[[], int], limits: Limits | None = None) -> None:
        self.partition = partition
        self.counters = Counters()
        self._log, self._claims, self._store, self._recall = log, claims, store, recall
        self._decoder, self._directory = decoder, directory
        self._acknowledge, self._notify, self._now_ms = acknowledge, notify, now_ms
        self._limits = limits or Limits()
        self._projects: dict[int, Project] = {}
        self._streams: dict[tuple[int, str, bytes], AgentStream] = {}
        self._directory_version = -1
        self._revision = 0
        self._generation = 0
        self._committed = 0
        self._purged = 0
        self._checkpoint_ms = 0
        self._touched: dict[tuple[int, int], int] = {}
        self._failures: dict[tuple[tuple[int, str, bytes], int], int] = {}

    @property
    def committed(self) -> int:
        """Highest stream sequence committed."""
        return self._committed

    async def open(self) -> None:
        """Take the partition over: fence the former owner, finish what it claimed, stand at the cursor.

        Raises:
            FencedError: somebody else took it at the same moment.
        """
        identity = await self._log.open()
        self._generation = await self._store.generation(self.partition, identity, self._now_ms())
        claim, revision = await self._claims.load(self.partition)
        cursor = await self._store.cursor(self.partition, self._generation)
        mine = claim if claim and claim["identity"] == identity else None
        # Writing the claim again with a new revision fences a zombie before anything else is done.
        first, last = (int(mine["first"]), int(mine["last"])) if mine else (1, 0)
        self._revision = await self._claims.store(self.partition, {"identity": identity, "first": first, "last": last}, revision)
        self._committed = min(cursor, last)
        if cursor > last:
            # The claim store lost its newest word (restored from an older copy): what the historian holds is committed.
            self._committed = cursor
        await self._log.seek(self._committed + 1)
        if last > self._committed:
            await self._repeat(first, last)

    async def _repeat(self, first: int, last: int) -> None:
        """Read a claimed range again and insert it with the same token."""
        start = self._committed + 1
        if start < first:
            # The historian is older than the claim (restored): what lies before the claimed range is new to it.
            await self._commit_range(start, first - 1)
        await self._commit_range(max(first, start), last, token_first=first)
        self.counters.repeated += 1

    async def _commit_range(self, first: int, last: int, token_first: int | None = None) -> None:
        messages: list[Any] = []
        oldest, newest = await self._log.bounds()
        begin = first if token_first is None else token_first
        if newest < begin or oldest > last:
            self._committed = max(self._committed, last)
            return
        await self._log.seek(begin)
        while not messages or messages[-1].sequence < min(last, newest):
            got = await self._log.fetch(self._limits.messages, self._limits.idle_s)
            messages += [m for m in got if m.sequence <= last]
            if got and got[-1].sequence > last:
                break
        await self._log.seek(last + 1)
        await self._process(messages, begin, last, claim=False)

    async def step(self) -> int:
        """Fetch, commit and acknowledge once; returns the number of messages.

        Raises:
            FencedError: the partition has another owner; stop for good.
        """
        messages = list(await self._log.fetch(self._limits.messages, self._limits.idle_s))
        if not messages:
            await self.tick()
            return 0
        until = asyncio.get_running_loop().time() + self._limits.linger_s
        size = sum(len(m.data) for m in messages)
        while size < self._limits.rows * WIRE_BYTES and len(messages) < self._limits.messages:
            left = until - asyncio.get_running_loop().time()
            if left <= 0.01:
                break
            more = await self._log.fetch(self._limits.messages - len(messages), left)
            messages += more
            size += sum(len(m.data) for m in more)
        first = self._committed + 1
        messages = [m for m in messages if m.sequence >= first]
        if messages:
            await self._process(messages, first, messages[-1].sequence, claim=True)
        await self.tick()
        return len(messages)

    async def _process(self, messages: Sequence[Any], first: int, last: int, *, claim: bool) -> None:
        self._refresh()
        work = _Work(Flush(self.partition, self._log.identity, first, last))
        for message in messages:
            await self._take(message, work)
        if claim:
            self._revision = await self._claims.store(self.partition, {"identity": self._log.identity, "first": first, "last": last}, self._revision)
        self._book(work.flush)
        await self._commit(work.flush)
        self._committed = last
        self.counters.flushes += 1
        self.counters.messages += len(messages)
        self.counters.readings += work.flush.rows
        self.counters.set_aside += len(work.flush.quarantine)
        self.counters.alarms += len(work.flush.alarms)
        for key, sequences in work.streams.items():
            stream = self._streams[key]
            for sequence in sequences:
                stream.add(sequence)
        for (project_id, agent_id, epoch), sequences in work.acks.items():
            await self._acknowledge(project_id, agent_id, epoch, sequences)
        for alarm in work.flush.alarms:
            await self._notify({"type": "alarm", "id": str(alarm.id), "project_id": alarm.project_id, "device_id": alarm.device_id, "point_id": alarm.point_id, "rule": alarm.rule,
                                "severity": alarm.severity, "zh": alarm.zh, "en": alarm.en, "raised_ms": alarm.raised_ms, "cleared_ms": alarm.cleared_ms or None,
                                "value": alarm.value, "limit": alarm.threshold})

    async def _commit(self, flush: Flush) -> None:
        """Commit until it is done: the flush keeps its token, so trying again is harmless, and giving up would lose the place."""
        pause = 0.2
        while True:
            try:
                await self._store.commit(flush)
            except (HistorianUnavailableError, HistorianQueryError) as error:
                log.warning("partition %d waits for the historian: %s", self.partition, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                return

    async def _take(self, message: Any, work: _Work) -> None:
        ref = reference(self._generation, self.partition, message.sequence)
        opened = self._decoder.open(message.subject, message.data)
        key = (opened.project_id, opened.agent_id, opened.epoch)
        sequence = opened.sequence
        if sequence:
            stream = await self._stream(key)
            if stream.has(sequence) or sequence in work.streams.get(key, ()):
                self.counters.duplicates += 1
                work.acks.setdefault(key, []).append(sequence)
                self._empty_row(work, ref, opened, message)
                return
            if isinstance(opened, Arrived) and not stream.chained(sequence, opened.previous, opened.digest):
                opened = Rejected(opened.project_id, opened.agent_id, opened.epoch, sequence, "chain", f"batch {sequence} does not continue the hash chain of its neighbours", opened.body, len(opened.columns))
            if isinstance(opened, Rejected) and opened.reason.startswith("envelope_") and self._first_failures(key, sequence):
                # Damaged on the way, perhaps: the agent keeps it and sends it again.
                self._set_aside(work, message, opened)
                self._empty_row(work, ref, opened, message, confirmed=False)
                return
            work.streams.setdefault(key, []).append(sequence)
            work.acks.setdefault(key, []).append(sequence)
        if isinstance(opened, Rejected):
            self._set_aside(work, message, opened)
            self._empty_row(work, ref, opened, message)
            return
        project = await self._project(opened.project_id)
        if project is None:
            self._set_aside(work, message, Rejected(opened.project_id, opened.agent_id, opened.epoch, sequence, "project", f"project {opened.project_id} is not registered", opened.body, len(opened.columns)))
            self._empty_row(work, ref, opened, message)
            return
        effects = project.on_batch(opened.owner, opened.columns, message.received_ms, judge=opened.origin == pb.ORIGIN_MEASURED and opened.agent_id != RELEASE_AGENT)
        for aside in effects.set_aside:
            self._set_aside(work, message, Rejected(opened.project_id, opened.owner, opened.epoch, sequence, aside.reason, aside.detail, _pack(opened, aside), len(aside.rows)))
        work.flush.batches.append(BatchRow(ref, opened.project_id, opened.agent_id, opened.epoch, sequence, message.received_ms, opened.origin, opened.clock_state, effects.accepted, opened.size))
        for hour in _hours(effects.accepted):
            self._touch(work.flush, opened.project_id, hour, ref, message.received_ms)
        work.flush.alarms += [
            AlarmRow(c.id, opened.project_id, c.device_id, c.rule.point_id, c.rule.id, c.rule.severity, c.rule.zh, c.rule.en, c.raised_ms, c.cleared_ms, c.value, c.rule.limit)
            for c in effects.alarms]

    def _first_failures(self, key: tuple[int, str, bytes], sequence: int, *, patience: int = 3) -> bool:
        """True while a batch that cannot be opened should be asked for again; after `patience` arrivals the quarantine has the last word."""
        count = self._failures[key, sequence] = self._failures.get((key, sequence), 0) + 1
        if len(self._failures) > 10_000:
            self._failures.clear()
        return count < patience

    def _set_aside(self, work: _Work, message: Any, what: Rejected) -> None:
        """One quarantine row; the same batch refused again for the same reason is the same row."""
        origin = f"{what.project_id}:{what.agent_id}:{what.epoch.hex()}:{what.sequence}" if what.sequence else f"{self._log.identity}:{self.partition}:{message.sequence}"
        work.flush.quarantine.append(QuarantineRow(
            uuid.uuid5(_ASIDE_SPACE, f"{origin}:{what.reason}"), what.project_id, what.agent_id, what.reason, what.detail[:500], what.rows, message.received_ms, what.payload))

    def _empty_row(self, work: _Work, ref: int, opened: Arrived | Rejected, message: Any, *, confirmed: bool = True) -> None:
        """A message without accepted rows still moves the cursor; unconfirmed ones stand under the stream's own number."""
        known = confirmed and opened.sequence > 0
        epoch, sequence = (opened.epoch, opened.sequence) if known else (bytes(16), message.sequence)
        work.flush.batches.append(BatchRow(ref, opened.project_id, opened.agent_id, epoch, sequence, message.received_ms, 0, 0, Columns.empty(), len(message.data)))

    def _touch(self, flush: Flush, project_id: int, hour: int, ref: int, received_ms: int) -> None:
        """Mark an hour for sealing; one mark is enough while it cannot have been sealed yet."""
        key = (project_id, hour)
        still_open = (hour + 1) * HOUR_MS > received_ms
        if still_open and key in self._touched:
            return
        if still_open:
            self._touched[key] = hour
            if len(self._touched) > 20_000:
                oldest = sorted(self._touched.values())[10_000]
                self._touched = {k: h for k, h in self._touched.items() if h > oldest}
        flush.touched[key] = max(flush.touched.get(key, 0), ref)

    def _book(self, flush: Flush) -> None:
        """Every ten minutes the agents' contiguous cursors are written down, so that a restart reads few batch rows."""
        now = self._now_ms()
        if now - self._checkpoint_ms >= CHECKPOINT_S * 1000:
            self._checkpoint_ms = now
            flush.cursors = {key: s.high for key, s in self._streams.items() if s.high}

    async def tick(self) -> None:
        """Housekeeping between flushes: purge what is committed, report gaps."""
        now = self._now_ms()
        gaps: list[GapRow] = []
        for (project_id, agent_id, epoch), stream in self._streams.items():
            gaps += [GapRow(project_id, agent_id, epoch, first, last, seen, now if healed else 0) for first, last, seen, healed in stream.gap_changes(now)]
        if gaps:
            await self._report(gaps)
        if self._committed > self._purged:
            await self._log.purge(self._committed)
            self._purged = self._committed

    async def _report(self, gaps: list[GapRow]) -> None:
        books = getattr(self._store, "books", None)
        if books is not None:
            await books([], [], gaps, "")

    async def _stream(self, key: tuple[int, str, bytes]) -> AgentStream:
        stream = self._streams.get(key)
        if stream is None:
            high, ranges = await self._store.committed(*key)
            stream = self._streams[key] = AgentStream(high, [list(r) for r in ranges if r[1] > high])
            if stream.ranges and stream.ranges[0][0] <= stream.high + 1:
                stream.high = stream.ranges.pop(0)[1]
            for first, last, seen_ms in await self._store.open_gaps(*key):
                # Reported by whoever had the partition before: it is ours to say that they closed.
                stream.since_ms[first], stream.reported[first] = seen_ms, last
        return stream

    def _refresh(self) -> None:
        version = self._directory.version()
        if version != self._directory_version:
            self._directory_version = version
            for project_id, project in list(self._projects.items()):
                info = self._directory.project(project_id)
                if info is None:
                    del self._projects[project_id]
                else:
                    project.refresh(info, self._directory.devices(project_id))

    async def _project(self, project_id: int) -> Project | None:
        project = self._projects.get(project_id)
        if project is None:
            info = self._directory.project(project_id)
            if info is None:
                return None
            project = Project(info, self._directory.devices(project_id))
            project.restore(await self._recall.latest(project_id), await self._recall.alarms(project_id))
            self._projects[project_id] = project
        return project


def _hours(columns: Columns) -> set[int]:
    if not len(columns):
        return set()
    first, last = int(columns.at_ms.min()) // HOUR_MS, int(columns.at_ms.max()) // HOUR_MS
    return {first} if first == last else {int(h) for h in set((columns.at_ms // HOUR_MS).tolist())}


def _pack(opened: Arrived, aside: SetAside) -> bytes:
    """Rows set aside, as a batch body that can be released later."""
    rows = aside.rows
    stamp = batches.Stamp(opened.project_id, opened.owner, opened.epoch, opened.sequence, bytes(16), 0, opened.clock_state or pb.CLOCK_STATE_TRUSTED, opened.origin)
    return batches.encode(stamp, [batches.Reading(int(d), int(p), int(t), float(v), int(q)) for d, p, t, v, q in
                                  zip(rows.device, rows.point, rows.at_ms, rows.value, rows.quality, strict=True)])
