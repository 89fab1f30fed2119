"""Batches of commands in the ledger (批量控制): made with their audit row, when a second person is needed, listed, cancelled, what can be put back.

Must not know: FastAPI, transports; who sends what is due is `runner`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from cloud.core.ports import CommandRequest, DeviceInfo
from cloud.functions.remote_control.errors import BatchError, BatchSizeError, BatchStateError
from cloud.functions.remote_control.tables import CommandBatch, CommandBatchItem
from cloud.functions.system.approvals import withdraw
from cloud.functions.system.people_tables import Approval
from cloud.functions.system.tables import User
from cloud.ledger import Ledger
from cloud.security import audit
from cloud.security.guard import approval_digest
from cloud.security.operations import Principal
from protos.points import BY_ID

#: Devices in one batch at most.
MOST: Final = 500
#: A batch ends on each device with one of these; what comes out of "unknown" later is shown, and changes nothing any more.
ENDED: Final = frozenset({"verified", "failed", "expired", "superseded", "refused", "unknown", "cancelled"})
OPEN: Final = ("pending", "running")
#: Who cancelled a batch that nobody answered in time.
LATE: Final = "~"
_FIELDS: Final = ("kind", "point_id", "value", "low", "high", "hold_s")


@dataclass(frozen=True, slots=True)
class Limits:
    """From what on a second person must agree (四眼): more devices, or more rated power (kW)."""

    devices: int = 20
    kw: float = 1000.0


def second_person(requests: Sequence[CommandRequest], devices: Mapping[int, DeviceInfo], documents: Mapping[int, Mapping[str, Any]], limits: Limits) -> list[dict[str, str]]:
    """Why a second person is needed, {zh, en} each; empty = nobody is.

    Args:
        requests: checked.
        devices: by id.
        documents: template document by device id; its `dangerous` lists kinds of acts and keys of points.
        limits: of the installation.
    """
    found = []
    if len(requests) > limits.devices:
        found.append({"zh": f"{len(requests)} 台设备，超过 {limits.devices} 台", "en": f"{len(requests)} devices, more than {limits.devices}"})
    kw = rated_kw(requests, devices)
    if kw > limits.kw:
        found.append({"zh": f"额定功率合计 {kw:g} kW，超过 {limits.kw:g} kW", "en": f"{kw:g} kW of rated power, more than {limits.kw:g} kW"})
    for request in requests:
        why = dangerous(request, documents.get(request.device_id) or {})
        if why is not None:
            found.append(why)
            break
    return found


def dangerous(request: CommandRequest, document: Mapping[str, Any]) -> dict[str, str] | None:
    """Does the device's template mark this act as dangerous? The reason in both languages, or None."""
    marked, point = set(document.get("dangerous") or ()), BY_ID.get(request.point_id)
    if request.kind in marked:
        return {"zh": "设备模板将此操作标为危险操作", "en": "the device's template marks this act as dangerous"}
    if point is not None and point.key in marked and request.kind != "release":
        return {"zh": f"设备模板将“{point.zh}”标为危险操作", "en": f"the device's template marks '{point.en}' as dangerous"}
    return None


def rated_kw(requests: Iterable[CommandRequest], devices: Mapping[int, DeviceInfo]) -> float:
    """Rated power of the devices concerned, kW."""
    return round(sum(devices[r.device_id].rated_kw for r in requests), 3)


def batch_id(who: int, key: str) -> str:
    """The id of the batch that a person asks for with an idempotency key."""
    return hashlib.sha256(f"{who}\0{key}".encode()).hexdigest()[:32]


def release_digest(identity: str) -> str:
    """What a second person's approval of a batch is bound to: the call that carries it out."""
    return approval_digest("POST", f"/api/v1/command-batches/{identity}/release", "", b"")


class BatchService:
    """Keeps batches."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self._ledger, self._now = ledger, now

    def create(self, identity: str, requests: Sequence[CommandRequest], wish: Mapping[str, Any], who: Principal, *, kw: float, second: Sequence[Mapping[str, str]] = (), start_ms: int = 0, of: str | None = None, kind: str = "") -> dict[str, Any]:
        """Store a batch with its audit row; the same identity again gives the one there is.

        One that needs a second person waits until `lay_before` names the approval asked for it: nobody is asked about what was not taken.

        Raises:
            BatchSizeError: no device, too many, or one twice.
            BatchError: the idempotency key was used for something else.
        """
        if not 0 < len(requests) <= MOST:
            raise BatchSizeError(problem_zh=f"设备数须在 1 与 {MOST} 之间", problem_en=f"between 1 and {MOST} devices are possible")
        if len({(r.device_id, r.point_id) for r in requests}) != len(requests):
            raise BatchSizeError(problem_zh="同一设备出现两次", problem_en="a device is named twice")
        now, first = self._now(), requests[0]
        with self._ledger.write() as session:
            known = session.get(CommandBatch, identity)
            if known is not None:
                items = () if of else session.scalars(select(CommandBatchItem).where(CommandBatchItem.batch_id == identity).order_by(CommandBatchItem.n)).all()
                if known.wish != dict(wish) or known.devices != len(requests) or known.reason != first.reason or [(i.device_id, i.wish) for i in items] != [(r.device_id, {f: getattr(r, f) for f in _FIELDS}) for r in requests if not of]:
                    raise BatchError(reason_zh="幂等键已用于另一批控制，请使用新的键", reason_en="the idempotency key was used for another batch; use a new one")
            else:
                session.add(CommandBatch(
                    id=identity, state="pending" if second else "running", kind=kind or first.kind, point_id=first.point_id, wish=dict(wish), reason=first.reason, actor_id=who.user_id, actor=who.name[:60],
                    authority=first.authority, devices=len(requests), kw=kw, second=[dict(s) for s in second], of=of, created_ms=now, start_ms=max(now, start_ms)))
                session.flush()
                session.add_all(CommandBatchItem(batch_id=identity, n=n, project_id=r.project_id, device_id=r.device_id, wish={f: getattr(r, f) for f in _FIELDS}) for n, r in enumerate(requests))
                session.flush()
                audit.record(session, "remote_control.batch.restore" if of else "remote_control.batch.submit", at_ms=now, target=f"command_batch/{identity}", object_=f"command_batch/{identity}",
                             after={"wish": dict(wish), "devices": [r.device_id for r in requests], "reason": first.reason}, level="notice", operator=who.name,
                             detail={"devices": len(requests), "kw": kw, "kind": kind or first.kind, "second": bool(second)})
        return self.batch(identity)

    def lay_before(self, identity: str, approval_id: str) -> dict[str, Any]:
        """Name the approval that a waiting batch waits for; an approval asked for one that has ended meanwhile ends too."""
        with self._ledger.write() as session:
            row = session.get(CommandBatch, identity)
            if row is not None and row.state == "pending":
                row.approval_id = approval_id
            elif row is not None and row.state == "cancelled":
                self._end_approvals(session, row)
        return self.batch(identity)

    def _end_approvals(self, session: Session, row: CommandBatch) -> None:
        by = row.cancelled_by or "-"
        withdraw(session, release_digest(row.id), at_ms=self._now(), by="platform" if by in ("-", LATE) else by, why=f"command_batch/{row.id} {row.state}")

    def batch(self, identity: str) -> dict[str, Any]:
        """One batch with its devices.

        Raises:
            KeyError: there is none.
        """
        with self._ledger.read() as session:
            row = session.get(CommandBatch, identity)
            if row is None:
                raise KeyError(identity)
            items = session.scalars(select(CommandBatchItem).where(CommandBatchItem.batch_id == identity).order_by(CommandBatchItem.n)).all()
            restored = session.scalars(select(CommandBatch.id).where(CommandBatch.of == identity)).first()
            return {**_view(row), "items": [_item(i) for i in items], "counts": counted((i.state, 1) for i in items), "restored_by": restored}

    def rows(self, *, projects: Sequence[int] | None, state: str = "", kind: str = "", text: str = "", sort: str = "-created_ms", limit: int = 50, offset: int = 0) -> tuple[int, list[dict[str, Any]]]:
        """(how many, those asked for) of batches that touch one of `projects` (None = all), without their devices."""
        asked = select(CommandBatch)
        if projects is not None:
            asked = asked.where(CommandBatch.id.in_(select(CommandBatchItem.batch_id).where(CommandBatchItem.project_id.in_(projects))))
        for column, value in ((CommandBatch.state, state), (CommandBatch.kind, kind)):
            if value:
                asked = asked.where(column == value)
        if text:
            like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            asked = asked.where(or_(CommandBatch.reason.like(like, escape="\\"), CommandBatch.actor.like(like, escape="\\"), CommandBatch.id == text))
        column = getattr(CommandBatch, sort.lstrip("-"))
        with self._ledger.read() as session:
            total = session.scalar(select(func.count()).select_from(asked.subquery())) or 0
            found = session.scalars(asked.order_by(column.desc() if sort.startswith("-") else column, CommandBatch.id).limit(limit).offset(offset)).all()
            ends: dict[str, list[tuple[str, int]]] = {}
            for identity, end, n in session.execute(select(CommandBatchItem.batch_id, CommandBatchItem.state, func.count()).where(
                    CommandBatchItem.batch_id.in_([r.id for r in found])).group_by(CommandBatchItem.batch_id, CommandBatchItem.state)):
                ends.setdefault(identity, []).append((end, n))
            return total, [{**_view(r), "counts": counted(ends.get(r.id, ()))} for r in found]

    def items_of(self, identities: Sequence[str]) -> list[dict[str, Any]]:
        """The devices of several batches, for export."""
        with self._ledger.read() as session:
            return [{**_item(i), "batch_id": i.batch_id} for i in session.scalars(select(CommandBatchItem).where(CommandBatchItem.batch_id.in_(identities)).order_by(CommandBatchItem.batch_id, CommandBatchItem.n))]

    def unfinished(self) -> list[str]:
        """Ids of batches to go on with after a restart."""
        with self._ledger.read() as session:
            return list(session.scalars(select(CommandBatch.id).where(CommandBatch.state == "running")))

    def release(self, identity: str) -> None:
        """The second person has agreed.

        Raises:
            BatchStateError: it does not wait.
        """
        now = self._now()
        with self._ledger.write() as session:
            row = session.get(CommandBatch, identity)
            if row is None or row.state != "pending":
                raise BatchStateError(id=identity[:8])
            row.state, row.start_ms = "running", max(row.start_ms, now)

    def cancel(self, identity: str, by: str) -> list[str]:
        """Send no more of it; returns ids of commands that may still wait at the command service.

        Raises:
            BatchStateError: it has ended already.
        """
        now = self._now()
        with self._ledger.write() as session:
            row = session.get(CommandBatch, identity)
            if row is None or row.state not in OPEN or row.cancelled_by:
                raise BatchStateError(id=identity[:8])
            session.execute(update(CommandBatchItem).where(CommandBatchItem.batch_id == identity, CommandBatchItem.state == "waiting").values(state="cancelled", ended_ms=now))
            row.cancelled_by = by[:60]
            if row.state == "pending":
                row.state, row.ended_ms = "cancelled", now
                self._end_approvals(session, row)
            session.flush()
            audit.record(session, "remote_control.batch.cancel", at_ms=now, target=f"command_batch/{identity}", object_=f"command_batch/{identity}", after={"cancelled_by": by}, level="notice", operator="platform" if by in ("-", LATE) else by)
            return [c for c in session.scalars(select(CommandBatchItem.command_id).where(and_(
                CommandBatchItem.batch_id == identity, CommandBatchItem.state.in_(("accepted", "queued"))))) if c]

    def lapse(self) -> list[str]:
        """End the batches whose second person refused, or never answered in time; gives their ids."""
        with self._ledger.read() as session:
            found = session.execute(select(CommandBatch.id, Approval.state, User.name).join(Approval, Approval.id == CommandBatch.approval_id).outerjoin(User, User.id == Approval.decided_by_id).where(
                CommandBatch.state == "pending", or_(Approval.state == "refused", and_(Approval.state.in_(("pending", "approved")), Approval.deadline_ms <= self._now())))).all()
        out = []
        for identity, state, decider in found:
            try:
                self.cancel(identity, str(decider) if state == "refused" and decider else LATE)
            except BatchStateError:  # carried out or cancelled at this very moment
                continue
            out.append(str(identity))
        return out

    def note(self, identity: str, n: int, **values: Any) -> bool:
        """Write what is known of a device; an end is not written over, except that of "unknown" by what was found out. True when written."""
        if values.get("state") in ENDED:
            values.setdefault("ended_ms", self._now())
        with self._ledger.write() as session:
            last = ENDED - {"unknown"}
            return session.execute(update(CommandBatchItem).where(CommandBatchItem.batch_id == identity, CommandBatchItem.n == n, CommandBatchItem.state.not_in(last)).values(**values)
                                   .returning(CommandBatchItem.n)).scalar_one_or_none() is not None

    def finish(self, identity: str) -> str:
        """Every device has ended: say how the whole did."""
        with self._ledger.write() as session:
            ends = set(session.scalars(select(CommandBatchItem.state).where(CommandBatchItem.batch_id == identity)))
            row = session.get(CommandBatch, identity)
            if row is not None and row.state == "running" and ends <= ENDED:
                row.state = "done" if ends == {"verified"} else "cancelled" if row.cancelled_by not in ("", "-") and ends <= {"verified", "cancelled"} else "failed"
                row.ended_ms = self._now()
                self._end_approvals(session, row)
            return row.state if row is not None else ""


def restorable(batch: Mapping[str, Any], newest: Mapping[tuple[int, int], str], now_ms: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What can be put back, and what cannot and why.

    Only absolute set-points: the hold that stood before comes back for the rest of its time, or ours is let go. What somebody has changed since is left alone.

    Args:
        batch: as of `BatchService.batch`.
        newest: id of the newest command of the batch's authority, by (device id, point id).
        now_ms: UTC milliseconds.

    Returns:
        (items with `wish` of the way back, items with `why` {zh, en}).
    """
    back, left = [], []
    for item in batch["items"]:
        wish, before = item["wish"], item["before"]
        if item["state"] in ("cancelled", "waiting") or not item["command_id"] or item["state"] in ("refused", "expired", "superseded"):
            continue  # nothing happened there
        if wish["kind"] not in ("hold", "release"):
            left.append({**item, "why": {"zh": "启停、脉冲与挂牌不能自动恢复", "en": "starts, stops, pulses and tags cannot be put back by themselves"}})
        elif newest.get((item["device_id"], wish["point_id"])) != item["command_id"]:
            left.append({**item, "why": {"zh": "此后已有新的指令，保持不动", "en": "somebody has changed it since; it is left alone"}})
        elif before is not None and before["until_ms"] - now_ms >= 60_000:
            back.append({**item, "wish": {"kind": "hold", "point_id": wish["point_id"], "value": before["value"], "low": before.get("low"), "high": before.get("high"), "hold_s": (before["until_ms"] - now_ms) / 1000}})
        elif wish["kind"] == "hold":
            back.append({**item, "wish": {"kind": "release", "point_id": wish["point_id"], "value": None, "low": None, "high": None, "hold_s": 3600.0}})
    return back, left


def counted(pairs: Iterable[Sequence[Any]]) -> dict[str, int]:
    """How many devices stand where, of (state, how many)."""
    found: dict[str, int] = {}
    for state, n in pairs:
        found[state] = found.get(state, 0) + int(n)
    return found


def _view(row: CommandBatch) -> dict[str, Any]:
    return {k: getattr(row, k) for k in ("id", "state", "kind", "point_id", "wish", "reason", "actor_id", "actor", "authority", "devices", "kw", "second", "approval_id", "of", "created_ms", "start_ms", "ended_ms",
                                         "cancelled_by")}


def _item(row: CommandBatchItem) -> dict[str, Any]:
    return {k: getattr(row, k) for k in ("n", "project_id", "device_id", "wish", "state", "command_id", "code", "why", "before", "readback", "sent_ms", "ended_ms")}
