"""From holds to writes and from read-backs to results (控制执行), sans-IO: `plan` says what to write, the shell writes, `done` and `observe` judge.

A write is planned whenever what the holds decide differs from what was last written; pulses are journalled before they go out and never repeated.
Must not know: drivers, transports, wall clocks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from edge_agent.clock import Now
from edge_agent.commands.desk import SAFETY, Desk, Device, Image
from edge_agent.commands.journal import ACTING, WRITTEN, Entry
from edge_agent.templates import PointSpec, Step
from protos.arbitration import Authority, Hold
from protos.kang.v1 import command_pb2 as pb
from protos.points import BY_ID, BY_KEY

RETRY_MS: Final = 2_000
REASSERT_MS: Final = 30_000
_SEQUENCES: Final = frozenset({pb.COMMAND_KIND_STOP, pb.COMMAND_KIND_START, pb.COMMAND_KIND_RESTORE_HEAT})
_STARTS: Final = frozenset({pb.COMMAND_KIND_START, pb.COMMAND_KIND_RESTORE_HEAT})


class Outcome(enum.Enum):
    """What the driver can honestly say about a write."""

    DONE = "done"              # the device acknowledged
    REFUSED = "refused"        # the device said no: surely not done
    NOT_SENT = "not_sent"      # the channel is down: surely not done
    MAYBE = "maybe"            # no answer: may have been done


@dataclass(frozen=True, slots=True)
class Act:
    """One write to do now. `needs` are the points whose fresh values the interlocks want to see first; `command` is set for pulses."""

    device: int
    spec: PointSpec
    value: float
    command: bytes
    pulse: bool
    needs: tuple[str, ...]


@dataclass(slots=True)
class _Written:
    value: float
    command: bytes
    mono_ms: int
    done: bool
    maybe: bool = False


class Actuation:
    """The working memory between journal and devices. After a restart it is empty: absolute writes are simply repeated."""

    def __init__(self, desk: Desk, now: Now) -> None:
        self._desk, self._journal = desk, desk.journal
        self._written: dict[tuple[int, str], _Written] = {}
        self._retry_at: dict[tuple[int, str], int] = {}
        self._waiting_since: dict[tuple[bytes, int], int] = {}
        self.suppressed_frost: set[int] = set()
        #: Commands open when this process began: the one before it may have written them, so nobody can say "surely not done".
        self._inherited = {entry.id for entry in self._journal.open_entries()}
        # A pulse journalled as "acting" whose end nobody saw may or may not have happened: never again.
        with self._journal.transaction():
            for entry in self._journal.open_entries():
                if entry.phase == ACTING:
                    desk.close(entry, pb.STAGE_UNKNOWN, now.wall_ms, code="restart_while_acting")

    # --- what to write

    def plan(self, now: Now, images: Mapping[int, Image]) -> list[Act]:
        """The writes that are due; also moves sequences on and lets interlocks and frost protection judge."""
        self._journal.drop_expired(now.wall_ms)
        acts: list[Act] = []
        for device in self._desk.devices.values():
            if not device.writable:
                continue
            image = images.get(device.id, Image())
            self._frost(device, image)
            self._trip(device, image, now)
            for entry in self._journal.open_entries(device.id):
                if entry.kind in _SEQUENCES:
                    self._sequence(device, entry, image, now)
                elif entry.kind == pb.COMMAND_KIND_PULSE and entry.phase == "wait" and now.mono_ms >= self._retry_at.get((device.id, entry.id.hex()), 0):
                    spec = device.points[BY_ID[entry.point].key]
                    acts.append(Act(device.id, spec, entry.value if entry.value is not None else 1.0, entry.id, True, self._needs(device, spec.key)))
            acts += self._absolute(device, image, now)
        return acts

    def _absolute(self, device: Device, image: Image, now: Now) -> list[Act]:
        acts = []
        standing = self._desk.standing(device, image, now.wall_ms)
        self._watch_frost(device, standing)
        for spec in device.writable:
            assert spec.write is not None
            holds = standing.get(spec.key)
            slot = (device.id, spec.key)
            if not holds or spec.write.pulse:
                self._written.pop(slot, None)
                continue
            wanted = self._target(device, spec, image, now)
            if wanted is None:
                continue
            target, command = wanted
            present = image.values.get(spec.key)
            last = self._written.get(slot)
            if now.mono_ms < self._retry_at.get(slot, 0):
                continue
            drifted = (last is not None and present is not None and image.mono_ms > last.mono_ms and abs(present - target) > max(spec.write.tolerance, spec.resolution / 2)
                       and now.mono_ms - last.mono_ms >= REASSERT_MS)
            if last is None or not last.done or last.value != target or last.command != command or drifted:
                acts.append(Act(device.id, spec, target, command, False, self._needs(device, spec.key)))
        return acts

    def _target(self, device: Device, spec: PointSpec, image: Image, now: Now) -> tuple[float, bytes] | None:
        """(value, command behind it) an actuator should have now; None when nothing needs to be touched."""
        decision = self._desk.preview(device, spec, None, now.wall_ms, image)
        if decision.value is not None:
            return decision.value, decision.chosen_by.command_id if decision.chosen_by else b""
        # Only bounds are wished: correct the present value, touch nothing that lies within.
        present = image.values.get(spec.key)
        if present is None or decision.low <= present <= decision.high:
            return None
        return min(max(present, decision.low), decision.high), b""

    def permit(self, act: Act, fresh: Mapping[str, float]) -> str:
        """Judge the interlocks at the instant of writing; "" or the id of the interlock that forbids it."""
        return self._desk.permitted(self._desk.devices[act.device], act.spec.key, act.value, fresh)

    def forbidden(self, act: Act, interlock: str, now: Now) -> None:
        """An interlock forbade the write: commands behind it end, their holds are forgotten."""
        with self._journal.transaction():
            entry = self._journal.entry(act.command) if act.command else None
            if entry is not None and entry.stage in (pb.STAGE_RECEIVED, pb.STAGE_EXECUTING):
                self._journal.drop_holds_of(entry.id)
                written = self._written.get((act.device, act.spec.key))
                perhaps_done = entry.id in self._inherited or (written is not None and written.command == entry.id)
                untouched = entry.stage == pb.STAGE_RECEIVED and entry.kind not in SAFETY and not perhaps_done
                self._desk.close(entry, pb.STAGE_REFUSED if untouched else pb.STAGE_FAILED, now.wall_ms, code=f"interlock.{interlock}")
            elif act.command:
                self._journal.drop_holds_of(act.command)
        self._retry_at[act.device, act.spec.key] = now.mono_ms + RETRY_MS

    def begin(self, act: Act, now: Now, image: Image) -> bool:
        """The last word before a write goes out: since it was planned a lockout, a newer command or an expiry may have come.

        A pulse is journalled here; an absolute write needs no mark, but must still be what the holds decide.

        Returns:
            False when it is no longer to be done.
        """
        if not act.pulse:
            device = self._desk.devices[act.device]
            return bool(self._desk.standing(device, image, now.wall_ms).get(act.spec.key)) and self._target(device, act.spec, image, now) == (act.value, act.command)
        with self._journal.transaction():
            entry = self._journal.entry(act.command)
            if entry is None or entry.stage != pb.STAGE_RECEIVED or entry.phase != "wait":
                return False
            self._journal.progress(act.command, phase=ACTING)
        return True

    def done(self, act: Act, outcome: Outcome, now: Now, *, detail: str = "") -> None:
        """What became of a write."""
        entry = self._journal.entry(act.command) if act.command else None
        is_open = entry is not None and entry.stage in (pb.STAGE_RECEIVED, pb.STAGE_EXECUTING)
        if act.pulse:
            if entry is not None and is_open:
                self._pulse_done(act, entry, outcome, now, detail)
            return
        slot = (act.device, act.spec.key)
        before = self._written.get(slot)
        maybe = outcome is Outcome.MAYBE or (before is not None and before.command == act.command and before.maybe and not before.done)
        self._written[slot] = _Written(act.value, act.command, now.mono_ms, outcome is Outcome.DONE, maybe)
        if outcome is not Outcome.DONE:
            self._retry_at[slot] = now.mono_ms + RETRY_MS
        else:
            self._retry_at.pop(slot, None)
        if entry is None or not is_open:
            return
        with self._journal.transaction():
            if outcome is Outcome.DONE and entry.stage == pb.STAGE_RECEIVED:
                self._desk.close(entry, pb.STAGE_EXECUTING, now.wall_ms)
            elif outcome is Outcome.REFUSED and entry.kind not in (pb.COMMAND_KIND_EMERGENCY_STOP, pb.COMMAND_KIND_STOP):
                self._journal.drop_holds_of(entry.id)
                self._desk.close(entry, pb.STAGE_FAILED, now.wall_ms, code="device_refused", detail=detail)

    def _pulse_done(self, act: Act, entry: Entry, outcome: Outcome, now: Now, detail: str) -> None:
        with self._journal.transaction():
            if outcome is Outcome.DONE:
                self._journal.progress(entry.id, phase=WRITTEN)
                self._desk.close(entry, pb.STAGE_EXECUTING, now.wall_ms)
                self._written[act.device, entry.id.hex()] = _Written(act.value, entry.id, now.mono_ms, True)
            elif outcome is Outcome.MAYBE:
                self._desk.close(entry, pb.STAGE_UNKNOWN, now.wall_ms, code="pulse_unanswered", detail=detail)
            elif outcome is Outcome.REFUSED:
                self._desk.close(entry, pb.STAGE_FAILED, now.wall_ms, code="device_refused", detail=detail)
            else:
                self._journal.progress(entry.id, phase="wait")  # surely not sent: it may still go, until its time is over
                self._retry_at[act.device, entry.id.hex()] = now.mono_ms + RETRY_MS

    # --- what came of it

    def observe(self, now: Now, images: Mapping[int, Image]) -> None:
        """Judge open commands by read-backs taken after the write; close those whose time is over."""
        for entry in self._journal.open_entries():
            device = self._desk.devices.get(entry.device)
            if device is None:
                continue
            image = images.get(device.id, Image())
            if entry.kind in _SEQUENCES:
                proven, readback = self._sequence_proven(device, entry, image)
            elif entry.kind == pb.COMMAND_KIND_EMERGENCY_STOP:
                proofs = [self._proven(device, key, value, entry.id, image) for key, value in device.safe_state.items()]
                proven, readback = all(p for p, _ in proofs), proofs[0][1] if proofs else None
            elif entry.kind == pb.COMMAND_KIND_PULSE:
                proven, readback = self._pulse_proven(device, entry, image)
            else:
                proven, readback = self._hold_proven(device, entry, image, now)
            if proven:
                with self._journal.transaction():
                    self._desk.close(entry, pb.STAGE_VERIFIED, now.wall_ms, readback=readback)
            elif now.trusted and now.wall_ms >= entry.verify_by_ms:
                self._overdue(device, entry, readback, now)

    def _overdue(self, device: Device, entry: Entry, readback: float | None, now: Now) -> None:
        written = [w for (d, _), w in self._written.items() if d == device.id and w.command == entry.id]
        if entry.kind in _SEQUENCES or any(w.done for w in written) or entry.phase == WRITTEN:
            stage, code = (pb.STAGE_UNKNOWN, "no_readback") if readback is None else (pb.STAGE_FAILED, "not_verified")
        elif any(w.maybe for w in written):
            stage, code = pb.STAGE_UNKNOWN, "no_answer"
        else:
            stage, code = pb.STAGE_FAILED, "device_offline" if written or entry.kind == pb.COMMAND_KIND_PULSE else "not_written"
        with self._journal.transaction():
            if entry.kind in (pb.COMMAND_KIND_HOLD, *_STARTS) and stage == pb.STAGE_FAILED:
                self._journal.drop_holds_of(entry.id)  # a failed wish is not kept up behind the operator's back; stops are
            self._desk.close(entry, stage, now.wall_ms, code=code, readback=readback)

    def _proven(self, device: Device, key: str, value: float, command: bytes, image: Image) -> tuple[bool, float | None]:
        """(is the effect of `value` on `key` proven by a look taken after the write?, the read-back)."""
        spec = device.points[key]
        assert spec.write is not None
        written = self._written.get((device.id, key))
        seen = image.values.get(device.verify_point(spec))
        if written is None or not written.done or written.command != command or image.mono_ms <= written.mono_ms or seen is None:
            return False, None
        return spec.write.proves(value, seen), seen

    def _hold_proven(self, device: Device, entry: Entry, image: Image, now: Now) -> tuple[bool, float | None]:
        spec = device.points[BY_ID[entry.point].key]
        mine = next((h for h in self._journal.holds(device.id).get(entry.point, ()) if h.command_id == entry.id and h.alive(now.wall_ms)), None)
        if mine is None:
            return False, image.values.get(spec.key)  # its time is over: a value that happens to lie within the limits proves nothing
        decision = self._desk.preview(device, spec, None, now.wall_ms, image)
        if decision.chosen_by is not None and decision.chosen_by.command_id == entry.id and decision.value is not None:
            return self._proven(device, spec.key, decision.value, entry.id, image)
        if mine.value is not None:
            return False, image.values.get(spec.key)
        # Bounds: alone, or under somebody else's choice, which was clamped by them already.
        present = image.values.get(spec.key)
        within = present is not None and decision.low - spec.resolution <= present <= decision.high + spec.resolution
        return within, present

    def _pulse_proven(self, device: Device, entry: Entry, image: Image) -> tuple[bool, float | None]:
        spec = device.points[BY_ID[entry.point].key]
        assert spec.write is not None
        written = self._written.get((device.id, entry.id.hex()))
        seen = image.values.get(device.verify_point(spec))
        if entry.phase != WRITTEN or seen is None or (written is not None and image.mono_ms <= written.mono_ms):
            return False, None
        return spec.write.proves(entry.value if entry.value is not None else 1.0, seen), seen

    # --- sequences

    def _steps(self, device: Device, entry: Entry) -> tuple[Step, ...]:
        return device.stop if entry.kind == pb.COMMAND_KIND_STOP else device.start

    def _sequence(self, device: Device, entry: Entry, image: Image, now: Now) -> None:
        """Move a start or stop sequence on: put the holds of its steps, wait where it says so."""
        steps = self._steps(device, entry)
        current = entry
        while current.step < len(steps):
            step = steps[current.step]
            since = self._waiting_since.setdefault((current.id, current.step), now.mono_ms)
            if step.set:
                spec = device.points[step.set]
                mine = any(h.command_id == current.id for h in self._journal.holds(device.id).get(spec.point.id, ()))
                if not mine and since == now.mono_ms:
                    with self._journal.transaction():
                        self._journal.put_hold(device.id, spec.point.id, Hold(Authority(current.authority), step.value, None, None, current.version, current.expires_ms,
                                                                            current.holder, current.reason, current.id))
                written = self._written.get((device.id, step.set))
                if written is None or not written.done or written.command != current.id or written.value != step.value:
                    return
            else:
                assert step.wait is not None
                seen = image.values.get(step.wait.point)
                if not (seen is not None and image.mono_ms > since and step.wait.holds(seen)):
                    if now.mono_ms - since < step.within_s * 1000:
                        return
                    if current.kind in _STARTS:
                        with self._journal.transaction():
                            self._journal.drop_holds_of(current.id)
                            self._desk.close(current, pb.STAGE_FAILED, now.wall_ms, code="wait_timeout", detail=f"{step.wait.point} {step.within_s:g} s", readback=seen)
                        return
                    # A stop goes on: what follows makes it safer, and the end is judged by read-back anyway.
            self._waiting_since.pop((current.id, current.step), None)
            current = replace(current, step=current.step + 1)
            with self._journal.transaction():
                self._journal.progress(current.id, step=current.step)

    def _sequence_proven(self, device: Device, entry: Entry, image: Image) -> tuple[bool, float | None]:
        steps = self._steps(device, entry)
        final = {step.set: step.value for step in steps if step.set}
        proofs = [self._proven(device, key, value, entry.id, image) for key, value in final.items()]
        readback = proofs[-1][1] if proofs else None
        return entry.step >= len(steps) and all(p for p, _ in proofs), readback

    # --- the agent's own authority

    def _frost(self, device: Device, image: Image) -> None:
        frost = device.template.frost
        seen = image.values.get(frost.point) if frost is not None else None
        if frost is None or seen is None:
            return  # unreadable: what was decided stays
        if seen < frost.below:
            self._desk.frost.add(device.id)
        elif seen > frost.release_above:
            self._desk.frost.discard(device.id)

    def _watch_frost(self, device: Device, standing: Mapping[str, list[Hold]]) -> None:
        """A stop that beats frost protection must be seen (DOMAIN 2)."""
        beaten = device.id in self._desk.frost and any(h.authority < Authority.FROST for key in device.template.frost.act for h in standing.get(key, ())) if device.template.frost else False
        (self.suppressed_frost.add if beaten else self.suppressed_frost.discard)(device.id)

    def _trip(self, device: Device, image: Image, now: Now) -> None:
        """An interlock that forces a value ends the weaker wishes against it: nothing restarts by itself when it clears (frost protection may)."""
        for lock in device.interlocks:
            seen = image.values.get(lock.when.point)
            if seen is None or not lock.when.holds(seen):
                continue
            for key, value in lock.force.items():
                for hold in self._journal.holds(device.id).get(BY_KEY[key].id, ()):
                    if hold.value is not None and hold.value != value:
                        with self._journal.transaction():
                            self._journal.drop_hold(device.id, BY_KEY[key].id, hold.authority)
                            entry = self._journal.entry(hold.command_id)
                            if entry is not None and entry.stage in (pb.STAGE_RECEIVED, pb.STAGE_EXECUTING):
                                self._desk.close(entry, pb.STAGE_FAILED, now.wall_ms, code=f"interlock.{lock.id}")

    @staticmethod
    def _needs(device: Device, key: str) -> tuple[str, ...]:
        return tuple(sorted({lock.when.point for lock in device.interlocks if any(c.point == key for c in lock.forbid)}))
