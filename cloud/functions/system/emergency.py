"""Emergency grants (应急授权, break-glass): one of the staff takes another business role for at most four hours, with a reason, loudly; it ends by itself and is reviewed.

Must not know: FastAPI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select, update

from cloud.functions.system.errors import EmergencyError
from cloud.functions.system.people_tables import EmergencyGrant
from cloud.functions.system.sessions import SessionService
from cloud.functions.system.tables import User
from cloud.security.operations import STAFF, Principal, Role

LONGEST_S = 4 * 3600


class EmergencyService:
    """Grants of oneself, for hours."""

    def __init__(self, sessions: SessionService, now: Callable[[], int]) -> None:
        self._sessions = sessions
        self._ledger = sessions.ledger
        self._now = now

    def take(self, who: Principal, role: Role, *, seconds: int, reason: str) -> int:
        """Take a role of the staff for a while.

        Raises:
            EmergencyError: not one of the staff's roles, held already, or too long.
        """
        if role not in STAFF or role in who.roles:
            raise EmergencyError(reason_zh="只能取得尚未拥有的值班员、调度员或工程师角色", reason_en="only a staff role you do not hold yet can be taken")
        if not 60 <= seconds <= LONGEST_S:
            raise EmergencyError(reason_zh="时长应为 1 分钟到 4 小时", reason_en="it lasts between a minute and four hours")
        now = self._now()
        with self._ledger.write() as session:
            row = EmergencyGrant(user_id=who.user_id, role=str(role), reason=reason, created_ms=now, until_ms=now + seconds * 1000)
            session.add(row)
            session.flush()
            made = row.id
        self._sessions.forget()
        return made

    def end(self, grant_id: int, *, user_id: int | None) -> bool:
        """End a grant now; of `user_id` only, if given. False when there is none that runs."""
        now = self._now()
        with self._ledger.write() as session:
            query = update(EmergencyGrant).where(EmergencyGrant.id == grant_id, EmergencyGrant.ended_ms.is_(None), EmergencyGrant.until_ms > now)
            if user_id is not None:
                query = query.where(EmergencyGrant.user_id == user_id)
            found = session.execute(query.values(ended_ms=now).returning(EmergencyGrant.id)).scalar_one_or_none()
        self._sessions.forget()
        return found is not None

    def review(self, grant_id: int, who: Principal, text: str) -> None:
        """Somebody else says what they think of it, after it has ended.

        Raises:
            EmergencyError: it runs, was reviewed, or is one's own.
        """
        now = self._now()
        with self._ledger.write() as session:
            row = session.get(EmergencyGrant, grant_id, with_for_update=True)
            if row is None or row.user_id == who.user_id or row.reviewed_ms is not None or (row.ended_ms is None and row.until_ms > now):
                raise EmergencyError(reason_zh="仍在生效、已复核、不存在，或为本人所取得", reason_en="it still runs, was reviewed, does not exist, or is your own")
            row.reviewed_by_id, row.reviewed_ms, row.review = who.user_id, now, text

    def rows(self, *, user_id: int | None = None, limit: int = 200) -> list[dict[str, Any]]:
        """Newest first; of one person, if given."""
        now = self._now()
        query = select(EmergencyGrant, User).join(User, User.id == EmergencyGrant.user_id).order_by(EmergencyGrant.id.desc()).limit(limit)
        if user_id is not None:
            query = query.where(EmergencyGrant.user_id == user_id)
        with self._ledger.read() as session:
            return [{"id": g.id, "user_id": u.id, "name": u.name, "display_name": u.display_name, "role": g.role, "reason": g.reason, "created_ms": g.created_ms, "until_ms": g.until_ms,
                     "ended_ms": g.ended_ms, "running": g.ended_ms is None and g.until_ms > now, "reviewed_ms": g.reviewed_ms, "review": g.review} for g, u in session.execute(query)]
