"""Plans on their way to agents (计划下发), sans-IO: the newest document of each agent, and whether the agent holds it.

A plan is no command: it is not journalled step by step, only its activation is. It is sent until the heartbeat tells its hash.
Must not know: NATS, asyncio, how a plan is made.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud.control.desk import key_for
from cloud.control.errors import PlanRefusedError
from cloud.control.journal import Journal
from cloud.core.ports import AgentInfo, DeviceInfo, ProjectDirectory
from protos import envelope, subjects
from protos.arbitration import PLANNING, Authority
from protos.kang.v1 import plan_pb2, telemetry_pb2
from protos.points import BY_ID
from protos.suites import SigningKey, Suite

MAX_STEPS: Final = 2_000
MAX_DOCUMENT: Final = 700_000


@dataclass(slots=True)
class Standing:
    """Where the newest plan of an agent stands: "waiting", "held" or "refused"."""

    agent_id: str
    project_id: int
    version: int
    plan_id: str
    digest: bytes
    created_ms: int
    start_ms: int
    end_ms: int
    held_ms: int = 0
    refused: str = ""
    next_ms: int = 0
    attempts: int = 0

    def view(self) -> dict[str, Any]:
        """As shown on a page."""
        state = "held" if self.held_ms else "refused" if self.refused else "waiting"
        return {"agent_id": self.agent_id, "project_id": self.project_id, "version": self.version, "plan_id": self.plan_id, "digest": self.digest.hex(), "created_ms": self.created_ms,
                "start_ms": self.start_ms, "end_ms": self.end_ms, "state": state, "held_ms": self.held_ms or None, "refused": self.refused}


class Plans:
    """The newest plan of every agent."""

    def __init__(self, journal: Journal, directory: ProjectDirectory, keys: Mapping[Suite, SigningKey]) -> None:
        self._journal, self._directory, self._keys = journal, directory, keys
        self._standing: dict[str, Standing] = {}
        for row in journal.plans():
            self._standing[row["agent_id"]] = Standing(row["agent_id"], row["project_id"], row["version"], row["plan_id"], hashlib.sha256(row["document"]).digest(), row["created_ms"],
                                                       row["start_ms"], row["end_ms"], row["held_ms"])

    def submit(self, body: Mapping[str, Any], now_ms: int) -> list[dict[str, Any]]:
        """Take a plan of a project: one document for each of its agents concerned.

        Args:
            body: {project_id, plan_id, start_ms, step_s, actor, reason, activation: bool, tracks: [{device_id, point_id, authority, value, low, high, reason, holder}]};
                value, low, high: a list of numbers or None per interval in canonical units, or absent; grid_cap_kw: likewise, of the site, with grid_cap_authority and
                grid_cap_agent (needed only where a project has several agents).
            now_ms: UTC milliseconds.

        Raises:
            PlanRefusedError: names the field; nothing was changed.
        """
        project_id, step_s = _whole(body, "project_id", 1, 1 << 32), _whole(body, "step_s", 1, 86_400)
        start_ms = _whole(body, "start_ms", 0, 1 << 53)
        tracks = body.get("tracks")
        if not isinstance(tracks, list):
            raise PlanRefusedError(field="tracks", problem="a list is needed")
        by_agent: dict[str, list[plan_pb2.Track]] = {s.agent_id: [] for s in self._standing.values() if s.project_id == project_id}
        steps = 0
        for n, raw in enumerate(tracks):
            device, track, length = self._track(raw, project_id, f"tracks.{n}")
            if steps and length != steps:
                raise PlanRefusedError(field=f"tracks.{n}", problem=f"{length} intervals, the tracks before have {steps}")
            steps = length
            by_agent.setdefault(device.agent_id, []).append(track)
        plan_id = str(body.get("plan_id") or "")[:100]
        capped, cap, by = self._cap(body, project_id, steps)
        if capped:
            by_agent.setdefault(capped, [])
            steps = steps or len(cap) // 8
        documents: list[tuple[Standing, bytes]] = []
        for agent_id, mine in by_agent.items():
            before = self._standing.get(agent_id)
            version = max(now_ms, before.version + 1 if before else 1)
            document = plan_pb2.Plan(project_id=project_id, agent_id=agent_id, version=version, plan_id=plan_id, issued_ms=now_ms, start_ms=start_ms, step_s=step_s, tracks=mine,
                                     grid_cap_kw=cap if agent_id == capped else b"", grid_cap_authority=by if agent_id == capped else 0).SerializeToString()
            if len(document) > MAX_DOCUMENT:
                raise PlanRefusedError(field="tracks", problem=f"{len(document)} bytes for agent {agent_id}; at most {MAX_DOCUMENT}: use fewer intervals")
            documents.append((Standing(agent_id, project_id, version, plan_id, hashlib.sha256(document).digest(), now_ms, start_ms, start_ms + steps * step_s * 1000), document))
        with self._journal.transaction():
            for standing, document in documents:
                self._journal.put_plan(standing.agent_id, project_id, standing.version, plan_id, document, now_ms, start_ms, standing.end_ms)
            if body.get("activation"):
                self._journal.audit(now_ms, "plan.activate", "control", f"project/{project_id}", str(body.get("actor") or "?"), f"plan {plan_id}, {steps} intervals from {start_ms}",
                                    str(body.get("reason") or "")[:500], str(body.get("channel") or ""))
        for standing, _ in documents:
            self._standing[standing.agent_id] = standing
        return [standing.view() for standing, _ in documents]

    def _cap(self, body: Mapping[str, Any], project_id: int, steps: int) -> tuple[str, bytes, int]:
        """(agent that keeps the site's cap, the cap packed, authority); "" when the plan sets none."""
        series = body.get("grid_cap_kw")
        if series is None:
            return "", b"", 0
        if not isinstance(series, Sequence) or isinstance(series, str) or not 1 <= len(series) <= MAX_STEPS or (steps and len(series) != steps):
            raise PlanRefusedError(field="grid_cap_kw", problem=f"as many intervals as the tracks ({steps}), at most {MAX_STEPS}")
        by = _whole({"grid_cap_authority": Authority.PLAN, **body}, "grid_cap_authority", 0, 100)
        if by not in PLANNING:
            raise PlanRefusedError(field="grid_cap_authority", problem=f"{by} cannot plan")
        agents = [a.agent_id for a in self._directory.agents(project_id) if not a.revoked]
        wanted = body.get("grid_cap_agent") or (agents[0] if len(agents) == 1 else None)
        if wanted not in agents:
            raise PlanRefusedError(field="grid_cap_agent", problem=f"one of {', '.join(agents) or '(this project has no agent)'} is needed")
        return str(wanted), _pack(series, 0.0, 1e9, "grid_cap_kw", "grid cap"), by

    def _track(self, raw: Any, project_id: int, where: str) -> tuple[DeviceInfo, plan_pb2.Track, int]:
        if not isinstance(raw, Mapping):
            raise PlanRefusedError(field=where, problem="an object is needed")
        device = self._directory.device(_whole(raw, "device_id", 1, 1 << 32, where))
        point_id = _whole(raw, "point_id", 1, 1 << 16, where)
        setting = device.points.get(point_id) if device is not None and device.project_id == project_id else None
        if device is None or setting is None or not setting.writable:
            raise PlanRefusedError(field=f"{where}.point_id", problem=f"device {raw.get('device_id')} of project {project_id} has no writable point {point_id}")
        authority = _whole(raw, "authority", 0, 100, where)
        if authority not in PLANNING:
            raise PlanRefusedError(field=f"{where}.authority", problem=f"{authority} cannot plan")
        name = BY_ID[point_id].key if point_id in BY_ID else str(point_id)
        packed: dict[str, bytes] = {}
        length = 0
        for field in ("value", "low", "high"):
            series = raw.get(field)
            if series is None:
                continue
            if not isinstance(series, Sequence) or isinstance(series, str) or not 1 <= len(series) <= MAX_STEPS or (length and len(series) != length):
                raise PlanRefusedError(field=f"{where}.{field}", problem=f"1 to {MAX_STEPS} intervals, as many as the other series of the track")
            length = len(series)
            packed[field] = _pack(series, setting.low, setting.high, f"{where}.{field}", name)
        if not length:
            raise PlanRefusedError(field=f"{where}.value", problem="value, low or high is needed")
        return device, plan_pb2.Track(device_id=device.id, point_id=point_id, authority=authority, reason=str(raw.get("reason") or "")[:200], holder=str(raw.get("holder") or "")[:100], **packed), length

    # -- sending ----------------------------------------------------------------------------------------------------

    def due(self, now_ms: int, online: Callable[[int, str], bool]) -> list[Standing]:
        """Documents to (re)send now: again after 2, 4, 8 ... 60 s until the agent tells that it holds them."""
        return [s for s in self._standing.values() if not s.held_ms and now_ms >= s.next_ms and now_ms < s.end_ms and online(s.project_id, s.agent_id)]

    def seal(self, standing: Standing, agent: AgentInfo, challenge: bytes, now_ms: int) -> bytes:
        """A fresh envelope of an agent's newest plan, in the chain of its commands and in its suite.

        Raises:
            Sm2MissingError: as for commands.
        """
        key = key_for(self._keys, agent)
        document = self._journal.plan(standing.agent_id)
        body = plan_pb2.PlanDelivery(fencing=self._journal.fencing, document=document).SerializeToString()
        identity = subjects.agent_identity(standing.project_id, standing.agent_id)
        with self._journal.transaction():
            sequence, previous = self._journal.next_outgoing(standing.agent_id)
            header = envelope.Header(envelope.Kind.PLAN, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(identity), self._journal.epoch, sequence, now_ms,
                                     standing.end_ms, previous, challenge, int(Authority.PLAN), agent.suite)
            signed = envelope.sign(header, body, key)
            self._journal.sent_outgoing(standing.agent_id, sequence, signed.digest)
        standing.attempts += 1
        standing.next_ms = now_ms + min(60_000, 1000 << min(standing.attempts, 6))
        return envelope.Sealer(agent.box_public, suite=agent.suite).seal(signed)

    def heard(self, beat: telemetry_pb2.Heartbeat, now_ms: int) -> dict[str, Any] | None:
        """What a heartbeat says of the plan; the view when something changed."""
        standing = self._standing.get(beat.agent_id)
        if standing is None:
            return None
        if beat.plan_version == standing.version and beat.plan_digest == standing.digest:
            if standing.held_ms:
                return None
            standing.held_ms, standing.refused = now_ms, ""
            with self._journal.transaction():
                self._journal.hold_plan(standing.agent_id, standing.version, now_ms)
            return standing.view()
        if standing.held_ms and beat.plan_version < standing.version:  # the box lost its memory: once more
            standing.held_ms, standing.attempts, standing.next_ms = 0, 0, 0
            return standing.view()
        if standing.attempts and beat.plan_refused != standing.refused:
            standing.refused = beat.plan_refused
            return standing.view()
        return None

    def views(self, project_id: int) -> list[dict[str, Any]]:
        """The newest plans of a project's agents."""
        return [s.view() for s in self._standing.values() if s.project_id == project_id]


def _pack(series: Sequence[Any], low: float, high: float, where: str, name: str) -> bytes:
    out: list[float] = []
    for k, x in enumerate(series):
        if x is None:
            out.append(math.nan)
            continue
        if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) or not low <= x <= high:
            raise PlanRefusedError(field=f"{where}.{k}", problem=f"{x}; {name} allows {low:g} to {high:g}")
        out.append(float(x))
    return struct.pack(f"<{len(out)}d", *out)


def _whole(body: Mapping[str, Any], name: str, low: int, high: int, where: str = "") -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PlanRefusedError(field=f"{where}.{name}" if where else name, problem=f"a whole number from {low} to {high} is needed, not {value!r}"[:200])
    return value
