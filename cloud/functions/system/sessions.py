"""People, one-time sign-in codes and sessions (用户与会话). Nothing secret is stored: codes and session ids stand here as SHA-256.

A session slides: it ends `idle_s` after the last call, and `absolute_s` after signing in whatever happens.
Must not know: FastAPI, cookies.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable

from sqlalchemy import select, update

from cloud.core.clock import now_ms
from cloud.functions.system.errors import SignInRefusedError, UserError
from cloud.functions.system.tables import SessionRow, SignInCode, User
from cloud.ledger import Ledger
from cloud.security.operations import Principal, Role

_CACHE_MS = 5_000
_SEEN_EVERY_MS = 30_000


class SessionService:
    """Signs people in and knows them again.

    Args:
        idle_s: seconds without a call (or an open stream) after which a session ends.
        absolute_s: seconds after which it ends anyway.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms, *, idle_s: int = 900, absolute_s: int = 8 * 3600) -> None:
        self._ledger = ledger
        self._now = now
        self._idle_ms = idle_s * 1000
        self._absolute_ms = absolute_s * 1000
        self._cache: dict[str, tuple[int, Principal]] = {}

    @property
    def absolute_s(self) -> int:
        """Seconds a session lasts at most."""
        return self._absolute_ms // 1000

    def register_user(self, name: str, display_name: str, roles: Iterable[Role], *, project_ids: Iterable[int] | None = None,
                      device_ids: Iterable[int] | None = None) -> int:
        """Register or update a person.

        Raises:
            UserError: no name, no role, or a resident with other roles or without scope.
        """
        wanted = frozenset(roles)
        if not name or len(name) > 60:
            raise UserError(name=name, reason_zh="名称应为 1–60 个字符", reason_en="a name has 1-60 characters")
        if not wanted:
            raise UserError(name=name, reason_zh="至少需要一个角色", reason_en="at least one role is needed")
        if Role.RESIDENT in wanted and (len(wanted) > 1 or project_ids is None or device_ids is None):
            raise UserError(name=name, reason_zh="住户只能有住户角色，且须指定房间", reason_en="a resident has that role only, and named rooms")
        with self._ledger.write() as session:
            row = session.scalar(select(User).where(User.name == name))
            if row is None:
                row = User(name=name, created_ms=self._now())
                session.add(row)
            row.display_name, row.roles = display_name, sorted(wanted)
            row.project_ids = None if project_ids is None else sorted(project_ids)
            row.device_ids = None if device_ids is None else sorted(device_ids)
            session.flush()
            user_id = row.id
        self._cache.clear()
        return user_id

    def disable_user(self, name: str) -> None:
        """Refuse a person from now on and end their sessions."""
        with self._ledger.write() as session:
            row = session.scalar(select(User).where(User.name == name))
            if row is None:
                raise UserError(name=name, reason_zh="没有此用户", reason_en="there is no such user")
            row.disabled = True
            session.execute(update(SessionRow).where(SessionRow.user_id == row.id, SessionRow.ended_ms.is_(None)).values(ended_ms=self._now()))
        self._cache.clear()

    def issue_code(self, name: str, *, valid_s: int = 900) -> str:
        """A one-time sign-in code for a person (192 random bits), valid `valid_s` seconds."""
        code = secrets.token_urlsafe(24)
        with self._ledger.write() as session:
            user_id = session.scalar(select(User.id).where(User.name == name, User.disabled.is_(False)))
            if user_id is None:
                raise UserError(name=name, reason_zh="没有此用户", reason_en="there is no such user")
            session.add(SignInCode(digest=_digest(code), user_id=user_id, expires_ms=self._now() + valid_s * 1000))
        return code

    def redeem(self, code: str, *, address: str, agent: str) -> tuple[str, Principal]:
        """Turn a code into a session.

        Returns:
            The session token (only the browser keeps it) and who it is.

        Raises:
            SignInRefusedError: unknown, used or expired.
        """
        now, token = self._now(), secrets.token_urlsafe(32)
        with self._ledger.write() as session:
            user_id: int | None = session.execute(update(SignInCode).where(
                SignInCode.digest == _digest(code), SignInCode.used_ms.is_(None), SignInCode.expires_ms > now,
            ).values(used_ms=now).returning(SignInCode.user_id)).scalar_one_or_none()
            user = session.get(User, user_id) if user_id is not None else None
            if user is None or user.disabled:
                raise SignInRefusedError
            row = SessionRow(digest=_digest(token), user_id=user.id, csrf=secrets.token_urlsafe(24), address=address[:64], agent=agent[:200],
                             created_ms=now, seen_ms=now, expires_ms=now + self._absolute_ms)
            session.add(row)
            return token, _principal(user, row)

    async def authenticate(self, token: str) -> Principal | None:
        """Who a token belongs to; a live session slides on."""
        digest = _digest(token)
        cached = self._cache.get(digest)
        if cached is not None and 0 <= self._now() - cached[0] < _CACHE_MS:
            return cached[1]
        principal = await asyncio.to_thread(self._look, digest)
        self._cache.pop(digest, None)
        if principal is not None:
            if len(self._cache) > 10_000:
                self._cache.clear()
            self._cache[digest] = (self._now(), principal)
        return principal

    async def touch(self, principal: Principal) -> bool:
        """Keep a session alive while its page streams; False when it has ended."""
        return await asyncio.to_thread(self._look, principal.session) is not None

    def end(self, principal: Principal) -> None:
        """Sign out."""
        with self._ledger.write() as session:
            session.execute(update(SessionRow).where(SessionRow.digest == principal.session).values(ended_ms=self._now()))
        self._cache.pop(principal.session, None)

    def _look(self, digest: str) -> Principal | None:
        now = self._now()
        with self._ledger.read() as session:
            row = session.get(SessionRow, digest)
            if row is None or row.ended_ms is not None or now >= row.expires_ms or now - row.seen_ms >= self._idle_ms:
                return None
            user = session.get(User, row.user_id)
            if user is None or user.disabled:
                return None
            principal = _principal(user, row)
        if now - row.seen_ms >= _SEEN_EVERY_MS:
            with self._ledger.write() as session:
                session.execute(update(SessionRow).where(SessionRow.digest == digest).values(seen_ms=now))
        return principal


def _principal(user: User, row: SessionRow) -> Principal:
    return Principal(
        user_id=user.id, name=user.name, display_name=user.display_name, roles=frozenset(Role(r) for r in user.roles),
        project_ids=None if user.project_ids is None else frozenset(user.project_ids),
        device_ids=None if user.device_ids is None else frozenset(user.device_ids), session=row.digest, csrf=row.csrf)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
