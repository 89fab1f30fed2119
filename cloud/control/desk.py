"""The desk of the command service, sans-IO: accepts requests, decides what to send next, takes results, lets time pass.

Journal in, journal out; transports and time are arguments. Safety acts (emergency stop, restore heat) are never refused (DOMAIN 1).
Must not know: NATS, asyncio.
"""

from __future__ import annotations

import json
import math
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from cloud.control.errors import CommandConflictError, CommandGoneError, CommandTargetError, CommandValueError, CommandWritableError
from cloud.control.journal import Journal
from cloud.control.states import FINAL, FROM_STAGE, WAITING, State, may_move, may_report
from cloud.core.ports import AgentInfo, DeviceInfo, ProjectDirectory
from protos import envelope, subjects
from protos.arbitration import Authority
from protos.errors import KangError
from protos.kang.v1 import command_pb2 as pb
from protos.points import BY_ID
from protos.sm2 import Sm2MissingError
from protos.suites import SigningKey, Suite

KINDS: Final[Mapping[str, pb.CommandKind]] = {
    "hold": pb.COMMAND_KIND_HOLD, "release": pb.COMMAND_KIND_RELEASE, "pulse": pb.COMMAND_KIND_PULSE, "stop": pb.COMMAND_KIND_STOP, "start": pb.COMMAND_KIND_START,
    "lock": pb.COMMAND_KIND_LOCK, "unlock": pb.COMMAND_KIND_UNLOCK, "emergency_stop": pb.COMMAND_KIND_EMERGENCY_STOP, "restore_heat": pb.COMMAND_KIND_RESTORE_HEAT,
}
SAFETY: Final = frozenset({"emergency_stop", "restore_heat"})
ON_POINT: Final = frozenset({"hold", "release", "pulse"})
MAX_HOLD_S, MAX_DEADLINE_S = 30 * 86_400, 86_400
REPORT_GRACE_MS = 10_000
HAND_OVER_MS = 30_000


class Desk:
    """Decides; the service carries out."""

    def __init__(self, journal: Journal, directory: ProjectDirectory, keys: Mapping[Suite, SigningKey], permit: Callable[[], None] = lambda: None) -> None:
        """Args: keys: of the command service, one per suite; permit: raises when control is suspended as a whole; safety acts do not ask it."""
        self.journal = journal
        self._permit = permit
        self._directory = directory
        self._keys = keys
        self._retry_ms: dict[str, int] = {}
        self._before: dict[str, int] = {}  # of an attempt under way: what maybe_delivered was

    # -- requests ---------------------------------------------------------------------------------------------------

    def submit(self, request: Mapping[str, Any], now_ms: int, new_id: Callable[[], str] = lambda: uuid.uuid4().hex) -> tuple[dict[str, Any], list[str]]:
        """Accept a request into the journal.

        Args:
            request: fields of `core.ports.CommandRequest`.
            now_ms: UTC milliseconds.
            new_id: makes a command id, 32 hex digits.

        Returns:
            (view of the command, ids of commands it superseded)

        Raises:
            KangError: with a stable code; nothing was journalled but the audit row of the refusal.
        """
        key = str(request.get("idempotency_key") or "")
        canonical = json.dumps({k: request.get(k) for k in sorted(request) if k not in ("idempotency_key", "channel")}, sort_keys=True, default=str)
        if key:
            known = self.journal.by_key(key)
            if known is not None:
                if known["request"] != canonical:
                    raise CommandConflictError(id=known["id"])
                return self.journal.view(known), []
        try:
            if request.get("kind") not in SAFETY:
                self._permit()
            values = self._judge(request, now_ms)
        except KangError as error:
            with self.journal.transaction():
                self._audit(now_ms, "command.refused", "notice", request, f"{error.code} {error.message('en')}")
            raise
        command_id = new_id()
        superseded: list[str] = []
        with self.journal.transaction():
            version = self.journal.next_version(values["device_id"], values["point_id"])
            for rival in self.journal.rivals(values["device_id"], values["point_id"], values["authority"], version):
                self.journal.move(rival["id"], State.SUPERSEDED, now_ms, code="E-CMD-NEWER", detail=command_id)
                superseded.append(rival["id"])
            self.journal.insert({"id": command_id, **values, "version": version, "state": State.ACCEPTED, "changed_ms": now_ms, "key": key or None, "request": canonical})
            self._audit(now_ms, f"command.{values['kind']}", "control", request, f"accepted {command_id}")
        return self.view(command_id), superseded

    def _judge(self, request: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        kind = str(request.get("kind", ""))
        device = self._directory.device(int(request.get("device_id") or 0))
        if device is None or device.project_id != int(request.get("project_id") or 0) or kind not in KINDS:
            raise CommandTargetError(device_id=request.get("device_id"), point=kind if kind not in KINDS else request.get("point_id"))
        point_id = int(request.get("point_id") or 0) if kind in ON_POINT else 0
        value, low, high = (_number(request, name) for name in ("value", "low", "high"))
        if kind in ON_POINT:
            self._judge_point(device, point_id, kind, value, low, high)
        hold_s, deadline_s = _given(request, "hold_s", 3600.0), _given(request, "deadline_s", 30.0)
        for name, given, top in (("hold_s", hold_s, MAX_HOLD_S), ("deadline_s", deadline_s, MAX_DEADLINE_S)):
            if not 0 < given <= top:
                raise CommandValueError(field=name, value=given, low=0, high=top)
        authority = Authority.EMERGENCY_STOP if kind == "emergency_stop" else Authority.LOCKOUT if kind in ("lock", "unlock") else int(_given(request, "authority", Authority.OPERATOR))
        if authority not in tuple(Authority) or (kind not in SAFETY and kind not in ("lock", "unlock") and authority < Authority.GRID_ORDER):
            raise CommandValueError(field="authority", value=authority, low=int(Authority.GRID_ORDER), high=int(Authority.SCHEDULE))
        return {"project_id": device.project_id, "device_id": device.id, "point_id": point_id, "agent_id": device.agent_id, "kind": kind, "authority": int(authority), "value": value,
                "low": low, "high": high, "actor": _people(request), "reason": str(request.get("reason") or "")[:500], "work_order": str(request.get("work_order") or "")[:100],
                "channel": str(request.get("channel") or "")[:50], "created_ms": now_ms, "deadline_ms": now_ms + int(deadline_s * 1000),
                "expires_ms": 0 if kind == "lock" else now_ms + int(hold_s * 1000)}

    def _judge_point(self, device: DeviceInfo, point_id: int, kind: str, value: float | None, low: float | None, high: float | None) -> None:
        setting = device.points.get(point_id)
        name = BY_ID[point_id].key if point_id in BY_ID else str(point_id)
        if setting is None:
            raise CommandTargetError(device_id=device.id, point=name)
        if not setting.writable:
            raise CommandWritableError(point=name)
        if kind == "hold" and value is None and low is None and high is None:
            raise CommandValueError(field="value", value=None, low=setting.low, high=setting.high)
        for field, given in (("value", value), ("low", low), ("high", high)):
            if given is not None and not setting.low <= given <= setting.high:
                raise CommandValueError(field=field, value=given, low=setting.low, high=setting.high)
        if low is not None and high is not None and low > high:
            raise CommandValueError(field="low", value=low, low=setting.low, high=high)

    def _audit(self, now_ms: int, type_: str, level: str, request: Mapping[str, Any], result: str) -> None:
        self.journal.audit(now_ms, type_, level, f"device/{request.get('device_id')}/point/{request.get('point_id') or 0}", str(request.get("actor") or "?"), result,
                           json.dumps({k: request.get(k) for k in ("kind", "value", "low", "high", "reason")}, ensure_ascii=False, default=str), str(request.get("channel") or ""))

    def resolve(self, command_id: str, *, verified: bool, actor: str, reason: str, now_ms: int) -> dict[str, Any]:
        """A person says what became of an `unknown`.

        Raises:
            CommandGoneError: there is no such command, or it is not unknown.
            KangError: control is suspended.
        """
        self._permit()
        row = self.journal.row(command_id)
        if row is None or row["state"] != State.UNKNOWN:
            raise CommandGoneError(id=command_id, state=row["state"] if row else "-")
        after = State.VERIFIED if verified else State.FAILED
        with self.journal.transaction():
            self.journal.move(command_id, after, now_ms, code="resolved", detail=f"{actor}: {reason}"[:500])
            self.journal.audit(now_ms, "command.resolve", "control", f"command/{command_id}", actor, after, reason[:500], "portal")
        return self.view(command_id)

    def cancel(self, command_id: str, *, actor: str, now_ms: int) -> bool:
        """Call back a command that has surely not left yet; False when it may have.

        Raises:
            CommandGoneError: there is no such command.
        """
        row = self.journal.row(command_id)
        if row is None:
            raise CommandGoneError(id=command_id, state="-")
        if row["state"] not in (State.ACCEPTED, State.QUEUED) or row["maybe_delivered"] or row["kind"] in SAFETY:
            return False
        with self.journal.transaction():
            self.journal.move(command_id, State.REFUSED, now_ms, code="E-CMD-CANCELLED", detail=actor[:200])
            self.journal.audit(now_ms, "command.cancel", "control", f"command/{command_id}", actor, State.REFUSED, "", "portal")
        self._retry_ms.pop(command_id, None)
        return True

    def view(self, command_id: str) -> dict[str, Any]:
        """One command.

        Raises:
            CommandGoneError: there is none.
        """
        row = self.journal.row(command_id)
        if row is None:
            raise CommandGoneError(id=command_id, state="-")
        return self.journal.view(row)

    # -- sending ----------------------------------------------------------------------------------------------------

    def due(self, now_ms: int, online: Callable[[int, str], bool]) -> list[sqlite3.Row]:
        """Commands to (re)send now, strongest authority first; each again after 1, 2, 4 ... s until the agent has received it."""
        return [row for row in self.journal.open_rows()
                if row["state"] in WAITING and now_ms < row["deadline_ms"] and now_ms >= self._retry_ms.get(row["id"], 0)
                and (row["state"] != State.QUEUED or online(row["project_id"], row["agent_id"]))]

    def waits(self, command_id: str) -> bool:
        """True while a command still waits to be sent: a newer wish or its deadline may have come since it was due."""
        row = self.journal.row(command_id)
        return row is not None and row["state"] in WAITING

    def seal(self, row: sqlite3.Row, agent: AgentInfo, challenge: bytes, now_ms: int) -> bytes:
        """A fresh envelope of a command: signed, chained per agent, sealed to the agent's key, echoing its challenge.

        From here on it may arrive: journalled before it leaves, so that neither a newer wish nor a deadline nor a crash meanwhile calls it never sent.

        Raises:
            Sm2MissingError: the agent is of suite SM, and this machine has no SM2.
        """
        key = key_for(self._keys, agent)
        message = pb.Command(
            command_id=bytes.fromhex(row["id"]), project_id=row["project_id"], device_id=row["device_id"], point_id=row["point_id"], kind=KINDS[row["kind"]],
            authority=row["authority"], value=row["value"], low=row["low"], high=row["high"], version=row["version"], deadline_ms=row["deadline_ms"],
            expires_ms=row["expires_ms"], holder=row["actor"], reason=row["reason"], fencing=self.journal.fencing, work_order=row["work_order"],
            created_ms=row["created_ms"])
        identity = subjects.agent_identity(row["project_id"], row["agent_id"])
        with self.journal.transaction():
            sequence, previous = self.journal.next_outgoing(row["agent_id"])
            header = envelope.Header(envelope.Kind.COMMAND, envelope.identity_hash(subjects.COMMAND_IDENTITY), envelope.identity_hash(identity), self.journal.epoch, sequence, now_ms,
                                     row["deadline_ms"], previous, challenge, 0 if row["kind"] in SAFETY else min(row["authority"], 9), agent.suite)
            signed = envelope.sign(header, message.SerializeToString(), key)
            self.journal.sent_outgoing(row["agent_id"], sequence, signed.digest)
            self._before.setdefault(row["id"], row["maybe_delivered"])
            self.journal.note(row["id"], maybe_delivered=1)
        return envelope.Sealer(agent.box_public, suite=agent.suite).seal(signed)

    def attempted(self, command_id: str, outcome: str, now_ms: int) -> bool:
        """Record an attempt: "sent" (stands in the agent's connection), "offline" (nobody there), "maybe" (no answer). Returns True when the state moved."""
        row = self.journal.row(command_id)
        before_maybe = self._before.pop(command_id, row["maybe_delivered"] if row is not None else 0)
        if row is None or row["state"] not in WAITING:
            return False
        maybe = int(before_maybe or outcome != "offline")
        attempts = row["attempts"] + 1
        self._retry_ms[command_id] = now_ms + (500 if outcome == "offline" else min(1000 << min(attempts - 1, 4), 15_000))
        before = State(row["state"])
        after = State.SENT if outcome == "sent" else State.QUEUED if outcome == "offline" and before is not State.SENT else before
        with self.journal.transaction():
            if after is not before and may_move(before, after):
                self.journal.move(command_id, after, now_ms, code="" if after is State.SENT else "E-CMD-OFFLINE", attempts=attempts,
                                  maybe_delivered=maybe)
                return True
            self.journal.note(command_id, attempts=attempts, maybe_delivered=maybe)
        return False

    # -- results ----------------------------------------------------------------------------------------------------

    def take(self, result: pb.Result, epoch: bytes, now_ms: int) -> str | None:
        """Take one verified result from an agent's journal; returns the id of a command whose state moved."""
        command_id = result.command_id.hex()
        with self.journal.transaction():
            if self.journal.seen(result.agent_id, epoch, result.index):
                return None
            row = self.journal.row(command_id)
            if row is None or row["agent_id"] != result.agent_id or result.index <= row["result_index"] or result.stage not in FROM_STAGE:
                return None
            before, after = State(row["state"]), FROM_STAGE[result.stage]
            if not may_report(before, after):
                self.journal.note(command_id, result_index=result.index)
                return None
            self.journal.move(command_id, after, now_ms, code=result.code, detail=result.detail, result_index=result.index, maybe_delivered=1, handed=0,
                              readback=result.readback if result.HasField("readback") else row["readback"], verify_by_ms=result.verify_by_ms or row["verify_by_ms"])
            if after in FINAL or after is State.UNKNOWN:
                self.journal.audit(now_ms, f"command.{row['kind']}.result", "control", f"device/{row['device_id']}/point/{row['point_id']}", f"agent {result.agent_id}", after,
                                   json.dumps({"id": command_id, "code": result.code, "request_digest": result.request_digest.hex()}), "edge")
        self._retry_ms.pop(command_id, None)
        return command_id

    # -- time -------------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> list[str]:
        """Deadlines: what never left is expired; what may have arrived is unknown; an effect not reported in time is unknown, then handed to a person."""
        moved: list[str] = []
        for row in self.journal.open_rows():
            state = State(row["state"])
            after, code = None, ""
            if state in WAITING and now_ms >= row["deadline_ms"] + (2000 if row["maybe_delivered"] else 0):
                after, code = (State.UNKNOWN, "E-CMD-NO-RECEIPT") if row["maybe_delivered"] else (State.EXPIRED, "E-CMD-DEADLINE")
            elif (state is State.EXECUTING and row["verify_by_ms"] and now_ms >= row["verify_by_ms"] + REPORT_GRACE_MS) or (state is State.RECEIVED and now_ms >= max(row["changed_ms"], row["deadline_ms"]) + HAND_OVER_MS):
                after, code = State.UNKNOWN, "E-CMD-NO-RESULT"
            elif state is State.UNKNOWN and not row["handed"] and now_ms >= row["changed_ms"] + HAND_OVER_MS:
                with self.journal.transaction():
                    self.journal.note(row["id"], handed=1)
                moved.append(row["id"])
            if after is not None and may_move(state, after):
                with self.journal.transaction():
                    self.journal.move(row["id"], after, now_ms, code=code)
                    self.journal.audit(now_ms, f"command.{row['kind']}.result", "control", f"device/{row['device_id']}/point/{row['point_id']}", "platform", after, row["id"], "control")
                moved.append(row["id"])
                self._retry_ms.pop(row["id"], None)
        return moved


def key_for(keys: Mapping[Suite, SigningKey], agent: AgentInfo) -> SigningKey:
    """The command service's key of an agent's suite.

    Raises:
        Sm2MissingError: this machine has none.
    """
    key = keys.get(agent.suite)
    if key is None:
        raise Sm2MissingError(problem=f"needed for agent {agent.agent_id}")
    return key


def _given(request: Mapping[str, Any], name: str, default: float) -> float:
    """A number, or the default only where none was given: 0 is a number."""
    number = _number(request, name)
    return default if number is None else number


def _people(request: Mapping[str, Any]) -> str:
    """Who answers for an act: one name, or two joined by " + " as agents read it; no name can pretend to be two."""
    return " + ".join(name for part in ("actor", "second") if (name := str(request.get(part) or "").replace("+", "＋").strip()))


def _number(request: Mapping[str, Any], name: str) -> float | None:
    given = request.get(name)
    if given is None:
        return None
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CommandValueError(field=name, value=given, low="-", high="-")
    return number
