"""Second persons (双人复核): an act is stored with the hash of exactly what was asked, another person approves it in time, its asker does it once.

`ask` and `consume` serve the guard for every operation marked `two_person`; functions that need a second person inside an act of their own
call them too. Must not know: FastAPI, what is approved.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session, aliased

from cloud.functions.system.errors import ApprovalError, SelfError
from cloud.functions.system.people_tables import Approval, EmergencyGrant, UserRole
from cloud.functions.system.tables import User
from cloud.ledger import Ledger
from cloud.security import audit
from cloud.security.guard import ForbiddenError, NotFoundError
from cloud.security.operations import Operation, OperationTable, Principal, Role

DEADLINE_S = 1800
_MOST_PENDING = 10


def withdraw(session: Session, digest: str, *, at_ms: int, by: str, why: str) -> list[str]:
    """End what still waits, or was approved and not used, with the act it was asked for; in the caller's transaction, a row in the log for each.

    Args:
        session: the transaction that ends the act.
        digest: of the call that the approvals are bound to.
        at_ms: UTC milliseconds.
        by: who ended the act.
        why: what became of it.

    Returns:
        Ids of those withdrawn.
    """
    found = list(session.scalars(update(Approval).where(Approval.digest == digest, Approval.state.in_(("pending", "approved"))).values(
        state="withdrawn", decided_ms=at_ms, decision=why[:200]).returning(Approval.id)))
    for approval_id in found:
        audit.record(session, "system.approval.withdraw", at_ms=at_ms, target=f"approvals {approval_id} withdraw", object_=f"approval/{approval_id}", after={"state": "withdrawn"}, level="notice", operator=by,
                     detail={"why": why})
    return found


class ApprovalService:
    """Pending, approved, refused and used approvals."""

    def __init__(self, ledger: Ledger, now: Callable[[], int], *, deadline_s: int = DEADLINE_S) -> None:
        self._ledger = ledger
        self._now = now
        self._deadline_ms = deadline_s * 1000

    async def ask(self, operation: Operation, principal: Principal, *, digest: str, target: str, reason: str, payload: str = "", projects: Iterable[int] | None = None) -> dict[str, Any]:
        """Store a pending approval, about `projects` where it is about any; asking the same again gives the one that waits.

        Raises:
            ApprovalError: the asker has too many waiting.
        """
        return await asyncio.to_thread(self._ask, operation, principal, digest, target, reason, payload, None if projects is None else sorted(set(projects)))

    def _ask(self, operation: Operation, principal: Principal, digest: str, target: str, reason: str, payload: str, projects: list[int] | None) -> dict[str, Any]:
        now = self._now()
        with self._ledger.write() as session:
            mine = session.scalars(select(Approval).where(Approval.requester_id == principal.user_id, Approval.state.in_(("pending", "approved")), Approval.deadline_ms > now)).all()
            row = next((a for a in mine if a.digest == digest and a.operation == operation.name), None)
            if row is None:
                if len(mine) >= _MOST_PENDING:
                    raise ApprovalError(reason_zh=f"您已有 {_MOST_PENDING} 项待审批，请先处理", reason_en=f"you have {_MOST_PENDING} waiting already; settle those first")
                row = Approval(id=uuid.uuid4().hex, operation=operation.name, target=target[:200], payload=payload[:4000], digest=digest, reason=reason[:200],
                               requester_id=principal.user_id, created_ms=now, deadline_ms=now + self._deadline_ms, project_ids=projects)
                session.add(row)
                session.flush()
            return {"id": row.id, "state": row.state, "operation": row.operation, "deadline_ms": row.deadline_ms}

    def decide(self, approval_id: str, who: Principal, table: OperationTable, *, approve: bool, reason: str) -> dict[str, Any]:
        """A second person approves or refuses.

        Raises:
            NotFoundError: no such approval.
            SelfError: the asker cannot decide.
            ForbiddenError: the row names other roles.
            ApprovalError: decided already, or too late.
        """
        now = self._now()
        with self._ledger.read() as session:
            found = session.get(Approval, approval_id)
        if found is None or not (_sees(who, found) or found.requester_id == who.user_id):
            raise NotFoundError(what="approval", name=approval_id)
        row = table[found.operation]
        if found.requester_id == who.user_id:
            raise SelfError(what_zh="提出的事项作出审批", what_en="decide about what you asked for")
        if not row.seconds & who.roles or (row.scope == "platform" and who.bounded):
            raise ForbiddenError(what_zh=f"审批：{row.zh}", what_en=f"approve: {row.en}")
        with self._ledger.write() as session:
            done = session.execute(update(Approval).where(
                Approval.id == approval_id, Approval.state == "pending", Approval.deadline_ms > now, Approval.requester_id != who.user_id,
            ).values(state="approved" if approve else "refused", decided_by_id=who.user_id, decided_ms=now, decision=reason[:200]).returning(Approval.id)).scalar_one_or_none()
        if done is None:
            raise ApprovalError(reason_zh="已被处理或已过期限", reason_en="it was decided already, or its deadline has passed")
        return next(r for r in self.rows(who, table) if r["id"] == approval_id)

    async def consume(self, approval_id: str, operation: Operation, principal: Principal, *, digest: str, key: str = "") -> str:
        """Use an approval once, by its asker, for exactly what was approved; gives the account name of who approved, and may still.

        Args:
            approval_id: the approval.
            operation: what is done.
            principal: who does it.
            digest: of exactly this call.
            key: its idempotency key: the same call with it, again, is the same act.

        Raises:
            ApprovalError: otherwise.
        """
        return await asyncio.to_thread(self._consume, approval_id, operation, principal, digest, key[:80])

    def _consume(self, approval_id: str, operation: Operation, principal: Principal, digest: str, key: str) -> str:
        now = self._now()
        mine = (Approval.id == approval_id, Approval.requester_id == principal.user_id, Approval.operation == operation.name, Approval.digest == digest)
        with self._ledger.write() as session:
            done = session.execute(update(Approval).where(*mine, Approval.state == "approved", Approval.deadline_ms > now).values(state="used", used_key=key or None)
                                   .returning(Approval.decided_by_id)).scalar_one_or_none()
            if done is None and key:
                done = session.scalar(select(Approval.decided_by_id).where(*mine, Approval.state == "used", Approval.used_key == key))
                approver = session.get(User, done) if done is not None else None
            else:
                approver = session.get(User, done) if done is not None else None
                if approver is not None and not self._may(session, approver, operation, now):
                    raise ApprovalError(reason_zh=f"批准人 {approver.name} 已无权批准该事项，请另请他人批准", reason_en=f"{approver.name}, who approved it, may not approve this any more; ask somebody else")
        if approver is None:
            raise ApprovalError(reason_zh="该批准不存在、未批准、已用过、已过期，或与所批准的内容不一致", reason_en="it does not exist, is not approved, was used, has expired, or is for something else")
        return str(approver.name)

    @staticmethod
    def _may(session: Session, approver: User, operation: Operation, now: int) -> bool:
        """The right of who approved, as of now: it may have been taken since."""
        roles = {Role(r) for r in session.scalars(select(UserRole.role).where(UserRole.user_id == approver.id))}
        roles |= {Role(r) for r in session.scalars(select(EmergencyGrant.role).where(EmergencyGrant.user_id == approver.id, EmergencyGrant.until_ms > now, EmergencyGrant.ended_ms.is_(None)))}
        return not approver.disabled and bool(operation.seconds & roles)

    def rows(self, who: Principal, table: OperationTable, *, limit: int = 200) -> list[dict[str, Any]]:
        """What `who` asked for or may decide, newest first."""
        mine_to_decide = [row.name for row in table if row.two_person and row.seconds & who.roles and not (row.scope == "platform" and who.bounded)]
        requester, decider = aliased(User), aliased(User)
        query = select(Approval, requester.display_name, requester.name, decider.display_name).join(requester, requester.id == Approval.requester_id).outerjoin(
            decider, decider.id == Approval.decided_by_id).where(or_(Approval.requester_id == who.user_id, Approval.operation.in_(mine_to_decide))).order_by(
            Approval.created_ms.desc(), Approval.id).limit(limit * 10 if who.bounded else limit)
        with self._ledger.read() as session:
            seen = [row for row in session.execute(query) if row[0].requester_id == who.user_id or _sees(who, row[0])]
            return [self._view(a, by, asker, decided, who, table, a.operation in mine_to_decide) for a, by, asker, decided in seen[:limit]]

    def waiting(self, who: Principal, table: OperationTable) -> int:
        """How many wait for `who` to decide."""
        names = [row.name for row in table if row.two_person and row.seconds & who.roles and not (row.scope == "platform" and who.bounded)]
        with self._ledger.read() as session:
            return sum(_sees(who, a) for a in session.scalars(select(Approval).where(
                Approval.state == "pending", Approval.deadline_ms > self._now(), Approval.requester_id != who.user_id, Approval.operation.in_(names))))

    def _view(self, a: Approval, by: str, asker: str, decided: str | None, who: Principal, table: OperationTable, may: bool) -> dict[str, Any]:
        state = "expired" if a.state in ("pending", "approved") and a.deadline_ms <= self._now() else a.state
        words = {row.name: row for row in table}.get(a.operation)
        mine = a.requester_id == who.user_id
        return {"id": a.id, "operation": a.operation, "zh": words.zh if words else a.operation, "en": words.en if words else a.operation, "target": a.target, "payload": a.payload,
                "reason": a.reason, "requester": by, "requester_name": asker, "created_ms": a.created_ms, "deadline_ms": a.deadline_ms, "state": state, "decided_by": decided, "decided_ms": a.decided_ms,
                "decision": a.decision, "mine": mine, "decidable": state == "pending" and may and not mine}


def _sees(who: Principal, approval: Approval) -> bool:
    """True when all an approval is about is in scope: nobody agrees to what one may not look at."""
    return all(who.sees_project(p) for p in approval.project_ids or ())
