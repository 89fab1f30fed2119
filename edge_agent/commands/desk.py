"""The desk (指令台), sans-IO: opens, checks and journals commands; says what may be believed and what is refused, and why.

Order of checks: envelope (addressee, decryption, signature), challenge, replay, known command, device, fencing, deadline, version, lockout,
interlock, authority. Safety acts (emergency stop, restore heat) skip fencing, deadline and lockout: they are never refused (DOMAIN 1).
What happens afterwards is `actuation.py`. Must not know: drivers, transports, wall clocks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from google.protobuf.message import DecodeError

from edge_agent.clock import Now
from edge_agent.commands.journal import OPEN, WAIT, Entry, Journal, Lockout
from edge_agent.commands.plan import Plan
from edge_agent.commands.plan import read as read_plan
from edge_agent.errors import CommandError, PlanError
from edge_agent.templates import Interlock, PointSpec, Step, Template
from protos import envelope, subjects
from protos.arbitration import Authority, Decision, Hold, decide
from protos.kang.v1 import command_pb2 as pb
from protos.kang.v1 import plan_pb2
from protos.points import BY_ID, BY_KEY
from protos.suites import VerifyingKey

SAFETY: Final = frozenset({pb.COMMAND_KIND_EMERGENCY_STOP, pb.COMMAND_KIND_RESTORE_HEAT})
ON_POINT: Final = frozenset({pb.COMMAND_KIND_HOLD, pb.COMMAND_KIND_RELEASE, pb.COMMAND_KIND_PULSE})
LOCKS: Final = frozenset({pb.COMMAND_KIND_LOCK, pb.COMMAND_KIND_UNLOCK})
MAX_HOLD_MS: Final = 31 * 86_400_000
LOCAL_MANUAL: Final = "local_manual"


@dataclass(frozen=True, slots=True)
class Image:
    """What a device looked like when it was last read: good values by key, and when (monotonic ms)."""

    values: Mapping[str, float] = field(default_factory=dict)
    mono_ms: int = -1


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the desk knows it."""

    id: int
    template: Template
    points: Mapping[str, PointSpec]

    @property
    def writable(self) -> list[PointSpec]:
        """Its actuators."""
        return [s for s in self.points.values() if s.write is not None]

    @property
    def interlocks(self) -> list[Interlock]:
        """Its interlocks; a sensor the device was built without guards nothing."""
        return [i for i in self.template.interlocks if i.when.point in self.points]

    @property
    def safe_state(self) -> dict[str, float]:
        """What an emergency stop holds."""
        return {key: value for key, value in self.template.safe_state.items() if key in self.points}

    @property
    def start(self) -> tuple[Step, ...]:
        """The start sequence, without steps on points the device lacks."""
        return self._present(self.template.start)

    @property
    def stop(self) -> tuple[Step, ...]:
        """The stop sequence, likewise."""
        return self._present(self.template.stop)

    def _present(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(s for s in steps if (s.set or (s.wait.point if s.wait else "")) in self.points)

    def verify_point(self, spec: PointSpec) -> str:
        """Where the effect of writing `spec` shows; the point itself where the device lacks the other."""
        assert spec.write is not None
        return spec.write.verify_point if spec.write.verify_point in self.points else spec.key


@dataclass(frozen=True, slots=True)
class _Checked:
    command: pb.Command
    digest: bytes
    device: Device
    spec: PointSpec | None


class Desk:
    """Takes sealed commands, gives journal entries."""

    def __init__(self, journal: Journal, devices: Mapping[int, Device], *, project_id: int, opener: envelope.Opener, command_key: VerifyingKey,
                 known_challenge: Callable[[bytes], bool], agent_id: str = "") -> None:
        self.journal, self.devices = journal, devices
        self.plan: Plan | None = None
        #: Further wishes of the box itself, by device: its rules.
        self.own: Callable[[int], Mapping[str, Sequence[Hold]]] = lambda _device: {}
        #: Why the last document was not taken: "E-PLAN.reason field", "" when it was.
        self.plan_refused = ""
        self._agent_id = agent_id
        self.dropped: Counter[str] = Counter()
        self.frost: set[int] = set()
        self._project_id, self._opener, self._command_key, self._known_challenge = project_id, opener, command_key, known_challenge
        self._window = envelope.ReplayWindow(journal.replay)
        if journal.plan:
            try:
                self.plan = read_plan(journal.plan, devices, project_id, agent_id)
            except PlanError as error:  # the site was changed under it
                self.plan_refused = f"{error.code}.{error.reason} {error.values['field']}"

    def receive(self, wire: bytes, now: Now, images: Mapping[int, Image]) -> bool:
        """Take one sealed command, or a sealed plan. What cannot be believed is dropped and counted (no answer to a forger); all else is journalled and answered.

        Returns:
            True when something was journalled.
        """
        try:
            kind = envelope.Header.unpack(wire).kind
            opened = self._opener.open(wire, envelope.Kind.PLAN if kind is envelope.Kind.PLAN else envelope.Kind.COMMAND)
            opened.verify(self._command_key, subjects.COMMAND_IDENTITY)
            if not self._known_challenge(opened.header.challenge):
                raise envelope.EnvelopeError(reason="challenge")
            self._window.check(opened.header.epoch, opened.header.sequence)
            if kind is envelope.Kind.PLAN:
                return self._take_plan(opened, now)
            command = pb.Command.FromString(opened.body)
        except envelope.EnvelopeError as error:
            self.dropped[error.reason] += 1
            return False
        except DecodeError:
            self.dropped["protobuf"] += 1
            return False
        if len(command.command_id) != 16:
            self.dropped["command_id"] += 1
            return False
        before = self._window.state
        self._window.accept(opened.header.epoch, opened.header.sequence)
        try:
            with self.journal.transaction():
                self.journal.set_replay(self._window.state)
                self._journal(command, opened.digest, now, images)
        except BaseException:
            self._window = envelope.ReplayWindow(before)
            raise
        return True

    def _take_plan(self, opened: envelope.Opened, now: Now) -> bool:
        """Keep a plan that fits; the newest version wins, the same one twice changes nothing."""
        before = self._window.state
        self._window.accept(opened.header.epoch, opened.header.sequence)
        try:
            delivery = _delivery(opened.body)
            if delivery.fencing < self.journal.fencing:
                raise PlanError(reason="fencing", field="fencing", detail=f"{delivery.fencing} < {self.journal.fencing}")
            if not now.trusted:
                raise PlanError(reason="clock", field="start_ms", detail="this box does not know the time yet")
            plan = read_plan(delivery.document, self.devices, self._project_id, self._agent_id)
        except PlanError as error:
            self.plan_refused = f"{error.code}.{error.reason} {error.values['field']}"
            self.dropped[f"plan.{error.reason}"] += 1
            with self.journal.transaction():
                self.journal.set_replay(self._window.state)
            return True
        newer = self.plan is None or plan.version > self.plan.version
        try:
            with self.journal.transaction():
                self.journal.set_replay(self._window.state)
                if delivery.fencing > self.journal.fencing:
                    self.journal.set_fencing(delivery.fencing)
                if newer:
                    self.journal.set_plan(delivery.document)
        except BaseException:
            self._window = envelope.ReplayWindow(before)
            raise
        if newer:
            self.plan, self.plan_refused = plan, ""
        return True

    def _journal(self, command: pb.Command, digest: bytes, now: Now, images: Mapping[int, Image]) -> None:
        known = self.journal.entry(command.command_id)
        if known is not None:
            # Delivered again: say once more where it stands; nothing is done twice.
            self.journal.emit(known, known.stage, now.wall_ms, code=known.code)
            return
        if command.fencing > self.journal.fencing:
            self.journal.set_fencing(command.fencing)
        try:
            checked = self._check(command, digest, now)
            entry = self._accept(checked, now, images)
        except CommandError as error:
            stage = {"superseded": pb.STAGE_SUPERSEDED, "deadline": pb.STAGE_EXPIRED}.get(error.reason, pb.STAGE_REFUSED)
            entry = _entry(command, digest, stage, code=error.reason)
            self.journal.insert(entry)
            self.journal.emit(entry, stage, now.wall_ms, code=error.reason, detail=str(error.values["detail"]))
            return
        point = command.point_id if command.kind in ON_POINT else 0
        version, created = self.journal.version(command.device_id, point)
        self.journal.set_version(command.device_id, point, max(version, command.version), max(created, command.created_ms))
        self.journal.insert(entry)
        self.journal.emit(entry, pb.STAGE_RECEIVED, now.wall_ms)
        if entry.stage != pb.STAGE_RECEIVED:
            self.journal.emit(entry, entry.stage, now.wall_ms, code=entry.code)

    # --- may it?

    def _check(self, command: pb.Command, digest: bytes, now: Now) -> _Checked:
        safety = command.kind in SAFETY
        device = self.devices.get(command.device_id)
        if command.project_id != self._project_id or device is None:
            raise CommandError("device", str(command.device_id))
        if command.kind not in pb.CommandKind.values() or command.kind == pb.COMMAND_KIND_UNSPECIFIED:
            raise CommandError("kind", str(command.kind))
        older_service = command.fencing < self.journal.fencing
        if not safety:
            if older_service:
                raise CommandError("fencing", f"{command.fencing} < {self.journal.fencing}")
            if not now.trusted:
                raise CommandError("clock")
            if command.deadline_ms and now.wall_ms > command.deadline_ms:
                raise CommandError("deadline", f"{(now.wall_ms - command.deadline_ms) / 1000:.1f} s")
            if command.kind not in LOCKS and (command.authority not in set(Authority) or command.authority < Authority.GRID_ORDER):
                raise CommandError("authority", str(command.authority))
            if command.kind not in LOCKS | {pb.COMMAND_KIND_RELEASE, pb.COMMAND_KIND_PULSE} and not now.wall_ms < command.expires_ms <= now.wall_ms + MAX_HOLD_MS:
                raise CommandError("expiry", f"{MAX_HOLD_MS / 86_400_000:g} d")
        if command.kind != pb.COMMAND_KIND_EMERGENCY_STOP and not (safety and older_service):
            self._check_version(command)
        spec = self._check_point(device, command) if command.kind in ON_POINT else None
        return _Checked(command, digest, device, spec)

    def _check_version(self, command: pb.Command) -> None:
        """An absolute write never goes out of version order; between a point and the whole device the time of acceptance decides."""
        on_point = command.kind in ON_POINT
        version, _ = self.journal.version(command.device_id, command.point_id if on_point else 0)
        if command.version <= version:
            raise CommandError("superseded", f"v{command.version} < v{version}")
        if command.created_ms and command.kind not in LOCKS:
            newest = self.journal.version(command.device_id, 0)[1] if on_point else self.journal.newest_created(command.device_id)
            if command.created_ms < newest:
                raise CommandError("superseded")

    @staticmethod
    def _check_point(device: Device, command: pb.Command) -> PointSpec:
        known = BY_ID.get(command.point_id)
        spec = device.points.get(known.key) if known else None
        if spec is None or spec.write is None:
            raise CommandError("point", known.key if known else str(command.point_id))
        if (command.kind == pb.COMMAND_KIND_PULSE) != spec.write.pulse and command.kind != pb.COMMAND_KIND_RELEASE:
            raise CommandError("kind", spec.key)
        numbers = [getattr(command, name) for name in ("value", "low", "high") if command.HasField(name)]
        if not all(math.isfinite(n) for n in numbers) or (command.kind != pb.COMMAND_KIND_RELEASE and not numbers):
            raise CommandError("value", spec.key)
        if any(not spec.write.low <= n <= spec.write.high for n in numbers):
            raise CommandError("range", f"{spec.key} {spec.write.low:g}–{spec.write.high:g}")
        if command.HasField("low") and command.HasField("high") and command.low > command.high:
            raise CommandError("value", f"{command.low:g} > {command.high:g}")
        return spec

    # --- then it is taken

    def _accept(self, checked: _Checked, now: Now, images: Mapping[int, Image]) -> Entry:
        command, device = checked.command, checked.device
        image = images.get(device.id, Image())
        take = {
            pb.COMMAND_KIND_HOLD: self._hold, pb.COMMAND_KIND_RELEASE: self._release, pb.COMMAND_KIND_PULSE: self._pulse, pb.COMMAND_KIND_STOP: self._stop,
            pb.COMMAND_KIND_START: self._start, pb.COMMAND_KIND_LOCK: self._lock, pb.COMMAND_KIND_UNLOCK: self._unlock,
            pb.COMMAND_KIND_EMERGENCY_STOP: self._emergency_stop, pb.COMMAND_KIND_RESTORE_HEAT: self._restore_heat}[command.kind]
        return take(checked, now, image)

    def _hold(self, checked: _Checked, now: Now, image: Image) -> Entry:
        command, device, spec = checked.command, checked.device, checked.spec
        assert spec is not None
        assert spec.write is not None
        self._must_be_free(device, image)
        hold = _hold_of(command)
        decision = self.preview(device, spec, hold, now.wall_ms, image)
        if hold in decision.conflicts:
            raise CommandError("held", _who(decision.chosen_by or decision.limited_by))
        if hold.value is not None:
            if decision.chosen_by is not hold:
                raise CommandError("held", _who(decision.chosen_by))
            assert decision.value is not None
            self._must_be_permitted(device, spec.key, decision.value, image.values)
        self._supersede(device.id, lambda e: e.point == command.point_id and e.authority == command.authority and e.kind == pb.COMMAND_KIND_HOLD, now.wall_ms)
        self.journal.put_hold(device.id, command.point_id, hold)
        code = "limited" if hold.value is not None and decision.limited_by is not None else ""
        return _entry(command, checked.digest, pb.STAGE_RECEIVED, value=decision.value, code=code, verify_by_ms=now.wall_ms + int(spec.write.verify_within_s * 1000))

    def _release(self, checked: _Checked, now: Now, _image: Image) -> Entry:
        command = checked.command
        # What made the hold that goes: a set-point, or a start or stop under way, which without it can neither end well nor be proven.
        makers = {h.command_id for h in self.journal.holds(command.device_id).get(command.point_id, ()) if h.authority == command.authority}
        self._supersede(command.device_id, lambda e: e.id in makers or (e.point == command.point_id and e.authority == command.authority and e.kind == pb.COMMAND_KIND_HOLD), now.wall_ms)
        self.journal.drop_hold(command.device_id, command.point_id, command.authority)
        return _entry(command, checked.digest, pb.STAGE_VERIFIED)

    def _pulse(self, checked: _Checked, now: Now, image: Image) -> Entry:
        command, device, spec = checked.command, checked.device, checked.spec
        assert spec is not None
        assert spec.write is not None
        self._must_be_free(device, image)
        value = command.value if command.HasField("value") else 1.0
        self._must_be_permitted(device, spec.key, value, image.values)
        return _entry(command, checked.digest, pb.STAGE_RECEIVED, value=value, verify_by_ms=now.wall_ms + int(spec.write.verify_within_s * 1000))

    def _stop(self, checked: _Checked, now: Now, image: Image) -> Entry:
        return self._sequence(checked, checked.device.stop, now, image)

    def _start(self, checked: _Checked, now: Now, image: Image) -> Entry:
        for lock in checked.device.interlocks:
            if lock.forbid_start:
                seen = image.values.get(lock.when.point)
                if seen is None:
                    raise CommandError(f"interlock.{lock.id}", "unreadable")
                if lock.when.holds(seen):
                    raise CommandError(f"interlock.{lock.id}")
        for step in checked.device.start:
            if step.set:
                self._must_be_permitted(checked.device, step.set, step.value, image.values)
        return self._sequence(checked, checked.device.start, now, image)

    def _sequence(self, checked: _Checked, steps: tuple[Step, ...], now: Now, image: Image) -> Entry:
        command, device = checked.command, checked.device
        self._must_be_free(device, image)
        if not steps:
            raise CommandError("sequence")
        for step in steps:
            if step.set:
                hold = replace(_hold_of(command), value=step.value, low=None, high=None)
                decision = self.preview(device, device.points[step.set], hold, now.wall_ms, image)
                if decision.chosen_by is not hold or decision.value != step.value:
                    raise CommandError("held", _who(decision.limited_by if decision.chosen_by is hold else decision.chosen_by))
        self._supersede(device.id, lambda e: e.authority >= command.authority and e.kind not in LOCKS | SAFETY | {pb.COMMAND_KIND_PULSE}, now.wall_ms)
        for point, holds in self.journal.holds(device.id).items():
            for old in holds:
                maker = self.journal.entry(old.command_id)
                if old.authority == command.authority and (maker is None or maker.kind not in ON_POINT):
                    self.journal.drop_hold(device.id, point, old.authority)  # what an earlier stop or start of the same authority held
        return _entry(command, checked.digest, pb.STAGE_RECEIVED, verify_by_ms=now.wall_ms + _patience(device, steps))

    def _lock(self, checked: _Checked, now: Now, _image: Image) -> Entry:
        command = checked.command
        tag = self.journal.lockout(command.device_id)
        if tag is not None and tag.holder != command.holder:
            raise CommandError("lockout", f"{tag.holder}: {tag.reason}")
        if not command.holder:
            raise CommandError("holder")
        # Nothing may start by itself when the tag is taken off: wishes of before are forgotten.
        self._drop_wishes(command.device_id, Authority.GRID_ORDER)
        self._supersede(command.device_id, lambda e: e.kind not in SAFETY, now.wall_ms)
        self.journal.lock(command.device_id, Lockout(command.holder, command.reason, command.work_order, now.wall_ms), command.command_id)
        return _entry(command, checked.digest, pb.STAGE_VERIFIED)

    def _unlock(self, checked: _Checked, _now: Now, _image: Image) -> Entry:
        command = checked.command
        tag = self.journal.lockout(command.device_id)
        people = {p.strip() for p in command.holder.split("+") if p.strip()}
        if tag is not None and tag.holder not in people and len(people) < 2:
            raise CommandError("tag", tag.holder)
        if tag is not None and command.HasField("value") and command.value != tag.since_ms:
            raise CommandError("tag_other", tag.holder)  # agreed to for a tag that hangs no more: this one is somebody else's
        self.journal.unlock(command.device_id)
        return _entry(command, checked.digest, pb.STAGE_VERIFIED)

    def _emergency_stop(self, checked: _Checked, now: Now, _image: Image) -> Entry:
        command, device = checked.command, checked.device
        if not device.safe_state:
            return _entry(command, checked.digest, pb.STAGE_FAILED, code="nothing_to_stop")
        self._supersede(device.id, lambda e: e.kind != pb.COMMAND_KIND_UNLOCK, now.wall_ms)
        expires = command.expires_ms if command.expires_ms > now.wall_ms else now.wall_ms + 3_600_000
        for key, value in device.safe_state.items():
            self.journal.put_hold(device.id, BY_KEY[key].id, Hold(Authority.EMERGENCY_STOP, value, None, None, command.version, expires, command.holder, command.reason, command.command_id))
        longest = max(s.write.verify_within_s for key in device.safe_state if (s := device.points[key]).write is not None)
        return _entry(command, checked.digest, pb.STAGE_RECEIVED, verify_by_ms=now.wall_ms + int(longest * 1000))

    def _restore_heat(self, checked: _Checked, now: Now, _image: Image) -> Entry:
        command, device = checked.command, checked.device
        if self.journal.lockout(device.id) is not None:  # somebody works on it: what fails changes nothing, or the stop would be gone when the tag comes off
            return _entry(command, checked.digest, pb.STAGE_FAILED, code="lockout")
        self._supersede(device.id, lambda e: e.kind not in LOCKS, now.wall_ms)
        self._drop_wishes(device.id, Authority.EMERGENCY_STOP)
        if not device.start:
            return _entry(command, checked.digest, pb.STAGE_VERIFIED)
        expires = command.expires_ms if command.expires_ms > now.wall_ms else now.wall_ms + 3_600_000
        changed = pb.Command()
        changed.CopyFrom(command)
        changed.expires_ms, changed.authority = expires, Authority.OPERATOR
        return _entry(changed, checked.digest, pb.STAGE_RECEIVED, verify_by_ms=now.wall_ms + _patience(device, device.start))

    # --- what both the desk and the actuation need

    def preview(self, device: Device, spec: PointSpec, hold: Hold | None, now_ms: int, image: Image) -> Decision:
        """Decide one actuator, with `hold` in the place of its authority's present one."""
        assert spec.write is not None
        holds = [h for h in self.standing(device, image, now_ms).get(spec.key, ()) if hold is None or h.authority != hold.authority]
        return decide([*holds, hold] if hold is not None else holds, now_ms, low=spec.write.low, high=spec.write.high)

    def standing(self, device: Device, image: Image, now_ms: int) -> dict[str, list[Hold]]:
        """All holds of a device by key, the agent's own (interlocks, frost) included; under local control or lockout only what stands above it."""
        out: dict[str, list[Hold]] = {}
        for point, holds in self.journal.holds(device.id).items():
            out[BY_ID[point].key] = [h for h in holds if h.alive(now_ms)]
        if self.plan is not None and not self._started_or_stopped(device, out):
            for key, wishes in self.plan.holds(device.id, now_ms).items():
                out.setdefault(key, []).extend(wishes)
        for key, own in self.own(device.id).items():
            out.setdefault(key, []).extend(own)
        for lock in device.interlocks:
            seen = image.values.get(lock.when.point)
            if seen is not None and lock.when.holds(seen):
                for key, value in lock.force.items():
                    out.setdefault(key, []).append(Hold(Authority.INTERLOCK, value, holder="interlock", reason=lock.id))
        frost = device.template.frost
        if frost is not None and device.id in self.frost:
            for key, value in frost.act.items():
                out.setdefault(key, []).append(Hold(Authority.FROST, value, holder="frost", reason=f"{frost.point} < {frost.below:g}"))
        if self.is_local(image) or self.journal.lockout(device.id) is not None:
            out = {key: [h for h in holds if h.authority < Authority.LOCKOUT] for key, holds in out.items()}
        return out

    @staticmethod
    def _started_or_stopped(device: Device, holds: Mapping[str, list[Hold]]) -> bool:
        """Somebody above the plan holds what starts or stops the device: then the plan lets go of all of it, or a start would give no heat."""
        switches = {s.set for s in (*device.start, *device.stop) if s.set}
        return any(h.authority < Authority.PLAN and h.value is not None for key in switches for h in holds.get(key, ()))

    @staticmethod
    def is_local(image: Image) -> bool:
        """Somebody stands at the device."""
        return image.values.get(LOCAL_MANUAL, 0.0) > 0.5

    def permitted(self, device: Device, key: str, value: float, values: Mapping[str, float]) -> str:
        """"" when no interlock forbids writing `value`, else the id of the one that does; an unreadable input forbids too."""
        for lock in device.interlocks:
            for condition in lock.forbid:
                if condition.point == key and condition.holds(value):
                    seen = values.get(lock.when.point)
                    if seen is None or lock.when.holds(seen):
                        return lock.id
        return ""

    def close(self, entry: Entry, stage: int, now_ms: int, *, code: str = "", detail: str = "", readback: float | None = None) -> None:
        """Move an entry and say so (inside a transaction)."""
        self.journal.progress(entry.id, stage=stage, code=code or entry.code)
        self.journal.emit(entry, stage, now_ms, code=code or entry.code, detail=detail, readback=readback)

    def _must_be_free(self, device: Device, image: Image) -> None:
        tag = self.journal.lockout(device.id)
        if tag is not None:
            raise CommandError("lockout", f"{tag.holder}: {tag.reason}")
        if self.is_local(image):
            raise CommandError("local_manual")

    def _must_be_permitted(self, device: Device, key: str, value: float, values: Mapping[str, float]) -> None:
        forbidden_by = self.permitted(device, key, value, values)
        if forbidden_by:
            lock = next(i for i in device.interlocks if i.id == forbidden_by)
            raise CommandError(f"interlock.{lock.id}", "" if lock.when.point in values else "unreadable")

    def _supersede(self, device: int, which: Callable[[Entry], bool], now_ms: int) -> None:
        """Close open commands and forget their holds. A pulse that went out is not taken back by a newer wish: its own read-back says what became of it."""
        for entry in self.journal.open_entries(device):
            if which(entry) and entry.stage in OPEN and entry.phase == WAIT:
                self.journal.drop_holds_of(entry.id)  # or it would come back when the newer wish ends
                self.close(entry, pb.STAGE_SUPERSEDED, now_ms, code="superseded")

    def _drop_wishes(self, device: int, strongest: Authority) -> None:
        """Forget holds from `strongest` downwards; interlock, lockout and frost are not stored wishes."""
        for point, holds in self.journal.holds(device).items():
            for hold in holds:
                if hold.authority >= strongest:
                    self.journal.drop_hold(device, point, hold.authority)


def _entry(command: pb.Command, digest: bytes, stage: int, *, value: float | None = None, code: str = "", verify_by_ms: int = 0) -> Entry:
    wish = command.value if command.HasField("value") else None
    return Entry(command.command_id, command.device_id, command.point_id, int(command.kind), command.authority, command.version, command.created_ms, stage, WAIT, 0,
                 wish if value is None else value, command.expires_ms, verify_by_ms, command.holder, command.reason, code, digest)


def _delivery(body: bytes) -> plan_pb2.PlanDelivery:
    try:
        return plan_pb2.PlanDelivery.FromString(body)
    except DecodeError:
        raise PlanError(reason="protobuf", field="plan", detail="not a plan") from None


def _hold_of(command: pb.Command) -> Hold:
    return Hold(Authority(command.authority), command.value if command.HasField("value") else None, command.low if command.HasField("low") else None,
                command.high if command.HasField("high") else None, command.version, command.expires_ms, command.holder, command.reason, command.command_id)


def _who(hold: Hold | None) -> str:
    return "" if hold is None else f"{hold.authority.name.lower()} {hold.holder}: {hold.reason}".strip(" :")


def _patience(device: Device, steps: tuple[Step, ...]) -> int:
    """Longest time a sequence may take, ms."""
    sets = [s.write.verify_within_s for step in steps if step.set and (s := device.points[step.set]).write is not None]
    return int(1000 * (sum(step.within_s for step in steps) + max(sets, default=0.0) + 5.0 * len(steps)))
