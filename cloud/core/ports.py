"""Small Protocols through which functions get what they need from the running system; `cloud.app` gives the real ones.

Must not know: Ray, NATS, ClickHouse, FastAPI.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from protos.suites import Suite, suite_of_public


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """A simple alarm rule of one point (阈值报警), canonical unit. `when` is "above" or "below"."""

    id: str
    point_id: int
    when: str
    limit: float
    hysteresis: float = 0.0
    delay_s: float = 0.0
    severity: str = "warning"  # critical, major, minor, warning, info
    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class PointSetting:
    """A point as one device has it: limits in canonical units, sampling promise in seconds."""

    point_id: int
    low: float
    high: float
    resolution: float
    max_silent_s: float
    writable: bool = False
    verify_within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A registered device (设备)."""

    id: int
    project_id: int
    agent_id: str
    code: str
    name_zh: str
    name_en: str
    template: str
    profile: str
    parent_id: int | None
    location: str
    rated_kw: float
    attributes: Mapping[str, Any]
    points: Mapping[int, PointSetting]
    alarms: tuple[AlarmRule, ...] = ()


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A signing key of before, for what an agent's `stream` ("batch" or "result") of `epoch` held up to `last_sequence`; None: not told yet."""

    stream: str
    signing_public: bytes
    epoch: bytes = b""
    last_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """An admitted edge agent: raw public keys (32 B each in suite STD, 64 B in SM), uplink kind ("grpc" or "nats").

    Attributes:
        certificates: serials of the certificates that may connect; empty = only `certificate_serial`.
        former_keys: what may still come signed by keys of before, oldest first.
        cloned: two live boots of its key were heard, and nobody has looked yet.
    """

    agent_id: str
    project_id: int
    signing_public: bytes
    box_public: bytes
    uplink: str
    revoked: bool = False
    certificate_serial: str = ""
    certificates: frozenset[str] = frozenset()
    former_keys: tuple[FormerKey, ...] = ()
    cloned: bool = False

    @property
    def suite(self) -> Suite:
        """The one suite it was admitted with: its keys say which."""
        return suite_of_public(self.signing_public)

    def verifying_keys(self, stream: str, epoch: bytes, sequence: int) -> tuple[bytes, ...]:
        """Public keys that may have signed this message; more than one only while the agent changes its key."""
        former = [f for f in self.former_keys if f.stream == stream]
        told = [f for f in former if f.last_sequence is not None and f.epoch == epoch and sequence <= f.last_sequence]
        if told:  # of two keys told to end at one number the later signed nothing: oldest first, the first of the smallest counts
            return (min(told, key=lambda f: f.last_sequence or 0).signing_public,)
        return (self.signing_public, *(f.signing_public for f in former if f.last_sequence is None))


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A heating project (供暖项目). Coordinates are WGS-84 degrees, area is heated m2."""

    id: int
    code: str
    name_zh: str
    name_en: str
    region: str
    latitude: float
    longitude: float
    timezone: str
    heated_area_m2: float
    kind: str  # boiler_storage, heat_pump, metered_district, decentralised, ...
    dedicated_host: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


class ProjectDirectory(Protocol):
    """Who exists: projects, agents, devices. Reads are synchronous and cheap; `version` rises with every change."""

    def version(self) -> int: ...
    def projects(self) -> Sequence[ProjectInfo]: ...
    def project(self, project_id: int) -> ProjectInfo | None: ...
    def devices(self, project_id: int) -> Sequence[DeviceInfo]: ...
    def device(self, device_id: int) -> DeviceInfo | None: ...
    def agents(self, project_id: int | None = None) -> Sequence[AgentInfo]: ...
    def agent(self, agent_id: str) -> AgentInfo | None: ...


@dataclass(frozen=True, slots=True)
class Latest:
    """Newest stored value of a point: UTC milliseconds, canonical unit, quality byte."""

    device_id: int
    point_id: int
    at_ms: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True)
class Series:
    """History of one point: bucket starts in UTC milliseconds; for raw data `mean` is the value and min/max equal it."""

    device_id: int
    point_id: int
    resolution_s: int  # 0 = raw
    at_ms: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    count: list[int]
    quality: list[int]


class Historian(Protocol):
    """Telemetry queries (采集数据查询)."""

    async def latest(self, project_id: int, device_ids: Sequence[int] | None = None) -> list[Latest]: ...
    async def history(self, project_id: int, series: Sequence[tuple[int, int]], start_ms: int, end_ms: int, *,
                      resolution_s: int | None = None, max_points: int = 2000) -> list[Series]:
        """`resolution_s` None picks raw, 60, 900, 3600 or 86400 so that at most `max_points` come back per series."""
        ...
    async def alarms(self, *, project_id: int | None = None, active: bool | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        """Newest first: {id, project_id, device_id, point_id, rule, severity, zh, en, raised_ms, cleared_ms|None, value, limit}."""
        ...
    async def quarantine(self, *, project_id: int | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        """Newest first: {id, project_id, agent_id, reason, detail, rows, received_ms, state: held|released|discarded}."""
        ...
    async def release(self, quarantine_id: str, *, offset_ms: int, actor: str) -> int:
        """Put a held batch on the road again, shifted by `offset_ms`; returns its row count."""
        ...
    async def discard(self, quarantine_id: str, *, actor: str) -> None: ...


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What a person or system wants (protos.arbitration authority numbers, canonical units, UTC milliseconds)."""

    project_id: int
    device_id: int
    kind: str  # hold, release, pulse, stop, start, lock, unlock, emergency_stop, restore_heat
    point_id: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    authority: int = 5
    hold_s: float = 3600.0      # how long the hold lasts once effective
    deadline_s: float = 30.0    # refuse if the agent has not received it by then
    actor: str = ""
    reason: str = ""
    work_order: str = ""
    idempotency_key: str = ""
    channel: str = "portal"
    second: str = ""            # the other named person, where an act needs two: another's tag


list_ = list  # CommandBus has a method of that name


class CommandBus(Protocol):
    """The command service (远程控制). Views are plain dicts: {id, project_id, device_id, point_id, kind, value, low, high, authority, state, version,
    actor, reason, created_ms, deadline_ms, expires_ms, readback, code, detail, verify_by_ms, steps: [{state, at_ms, code, detail}]};
    state in accepted, queued, sent, received, executing, verified, failed, expired, superseded, refused, unknown.
    """

    async def submit(self, request: CommandRequest) -> dict[str, Any]: ...
    async def get(self, command_id: str) -> dict[str, Any] | None: ...
    async def list(self, *, project_id: int | None = None, device_id: int | None = None, limit: int = 50, before_ms: int | None = None) -> list[dict[str, Any]]: ...
    async def resolve(self, command_id: str, *, verified: bool, actor: str, reason: str) -> dict[str, Any]:
        """A person resolves an `unknown`."""
        ...
    async def cancel(self, command_id: str, *, actor: str) -> bool:
        """Call back a command that has surely not left yet; False when it may have."""
        ...
    async def plans(self, project_id: int) -> list_[dict[str, Any]]:
        """Where the newest plan of each agent stands: {agent_id, version, plan_id, start_ms, end_ms, state: waiting|held|refused, held_ms, refused}."""
        ...


class Live(Protocol):
    """What moves on the page."""

    def watch(self, project_ids: Sequence[int], device_ids: Sequence[int] = ()) -> AsyncIterator[dict[str, Any]]:
        """Events until the iterator is closed: {type: "values", project_id, rows: [[device_id, point_id, at_ms, value, quality]]},
        {type: "command", ...CommandBus view}, {type: "alarm", ...}, {type: "agent", ...agents() row}. Devices named are leased on the live lane.
        """
        ...

    async def agents(self, project_id: int | None = None) -> list[dict[str, Any]]:
        """Agents as last heard: {project_id, agent_id, online, last_heard_ms, clock_offset_ms, clock_trusted, clock_source, spool_batches, spool_readings,
        oldest_ms, version, cpu_share, rss_bytes, devices: [{device_id, online, last_ok_ms, error_code, local_manual, locked_out,
        lockout_holder, lockout_reason, lockout_ms (since when), holders: [{point_id, authority, value, until_ms, holder, reason}]}]}.
        """
        ...


class Flows(Protocol):
    """Network and session records (网络与会话记录), by site and local day."""

    async def search(self, day: str, timezone: str, *, site: str = "", kind: str = "", limit: int = 500) -> list[dict[str, Any]]: ...
