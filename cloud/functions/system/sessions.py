"""Sessions and one-time sign-in codes (会话): who a token belongs to. Nothing secret is stored: codes and session ids stand here as SHA-256.

A session slides: it ends `idle_s` after the last call, and `absolute_s` after signing in whatever happens. Every sign-in makes a new id.
Must not know: FastAPI, cookies, how a factor is checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from cloud.core.clock import now_ms
from cloud.functions.system.errors import SignInRefusedError, UserError
from cloud.functions.system.people_tables import Account, EmergencyGrant, ServiceContract, UserRole
from cloud.functions.system.tables import SessionRow, SignInCode, User
from cloud.ledger import Ledger
from cloud.security.operations import Contract, Principal, Role, kind_of

_CACHE_MS = 5_000
_SEEN_EVERY_MS = 30_000
_DAY_MS = 86_400_000


class SessionService:
    """Signs people in and knows them again.

    Args:
        idle_s: seconds without a call (or an open stream) after which a session ends.
        absolute_s: seconds after which it ends anyway.
        password_days: age at which a password must be changed; 0 = never.
        regions_of: codes of a project's region and of those above it.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], int] = now_ms, *, idle_s: int = 900, absolute_s: int = 8 * 3600, password_days: int = 0,
                 regions_of: Callable[[int], frozenset[str]] | None = None) -> None:
        self.ledger = ledger
        self._ledger = ledger
        self._now = now
        self._idle_ms = idle_s * 1000
        self._absolute_ms = absolute_s * 1000
        self._password_ms = password_days * _DAY_MS
        self._regions_of = regions_of
        self._cache: dict[str, tuple[int, int, Principal]] = {}

    @property
    def absolute_s(self) -> int:
        """Seconds a session lasts at most."""
        return self._absolute_ms // 1000

    def register_user(self, name: str, display_name: str, roles: Iterable[Role], *, project_ids: Iterable[int] | None = None, device_ids: Iterable[int] | None = None,
                      organisation_id: int | None = None, region_codes: Iterable[str] | None = None, by: str = "bootstrap") -> int:
        """Register or update a person with roles: the way of whoever holds the server (first start, `kang person`), not of the pages.

        Raises:
            UserError: no name, no role, roles that exclude each other, or a resident without scope.
        """
        wanted = frozenset(roles)
        if not wanted:
            raise UserError(name=name, reason_zh="至少需要一个角色", reason_en="at least one role is needed")
        if Role.RESIDENT in wanted and (project_ids is None or device_ids is None):
            raise UserError(name=name, reason_zh="住户须指定房间", reason_en="a resident needs named rooms")
        with self._ledger.write() as session:
            user, account = person(session, name, self._now())
            user.display_name = display_name
            user.project_ids = None if project_ids is None else sorted(project_ids)
            user.device_ids = None if device_ids is None else sorted(device_ids)
            account.organisation_id = organisation_id
            account.region_codes = None if region_codes is None else sorted(region_codes)
            set_roles(session, user, account, wanted, by=by, now=self._now())
            user_id = user.id
        self.forget()
        return user_id

    def disable_user(self, name: str) -> None:
        """Refuse a person from now on and end their sessions."""
        with self._ledger.write() as session:
            row = session.scalar(select(User).where(User.name == name))
            if row is None:
                raise UserError(name=name, reason_zh="没有此用户", reason_en="there is no such user")
            row.disabled = True
            self.end_all(session, row.id)
        self.forget()

    def end_all(self, session: Session, user_id: int, *, but: str = "") -> None:
        """End a person's sessions in the caller's transaction, except `but`; unused codes with them."""
        now = self._now()
        session.execute(update(SessionRow).where(SessionRow.user_id == user_id, SessionRow.ended_ms.is_(None), SessionRow.digest != but).values(ended_ms=now))
        session.execute(update(SignInCode).where(SignInCode.user_id == user_id, SignInCode.used_ms.is_(None)).values(used_ms=now))

    def forget(self) -> None:
        """Look everybody up again at their next call."""
        self._cache.clear()

    def issue_code(self, name: str, *, valid_s: int = 900) -> str:
        """A one-time sign-in code for a person (192 random bits), valid `valid_s` seconds."""
        with self._ledger.write() as session:
            user_id = session.scalar(select(User.id).where(User.name == name, User.disabled.is_(False)))
            if user_id is None:
                raise UserError(name=name, reason_zh="没有此用户", reason_en="there is no such user")
            return self.code_for(session, user_id, valid_s=valid_s)

    def knows(self, name: str) -> bool:
        """True when somebody is called that."""
        with self._ledger.read() as session:
            return session.scalar(select(User.id).where(User.name == name)) is not None

    def code_if_welcome(self, name: str, *, valid_s: int = 900) -> str:
        """A one-time code, "" for somebody locked, expired or unknown."""
        with self._ledger.write() as session:
            user = session.scalar(select(User).where(User.name == name))
            return self.code_for(session, user.id, valid_s=valid_s) if user is not None and self.welcome(session, user) else ""

    def code_for(self, session: Session, user_id: int, *, valid_s: int = 900) -> str:
        """The same within the caller's transaction."""
        code = secrets.token_urlsafe(24)
        session.add(SignInCode(digest=_digest(code), user_id=user_id, expires_ms=self._now() + valid_s * 1000))
        return code

    def redeem(self, code: str, *, address: str, agent: str) -> tuple[str, Principal]:
        """Turn a code into a session.

        Returns:
            The session token (only the browser keeps it) and who it is.

        Raises:
            SignInRefusedError: unknown, used or expired.
        """
        with self._ledger.write() as session:
            user = self.take_code(session, code)
            if user is None:
                raise SignInRefusedError
            return self.start(session, user, method="code", address=address, agent=agent)

    def take_code(self, session: Session, code: str) -> User | None:
        """Use a code up; the person it was for."""
        now = self._now()
        user_id: int | None = session.execute(update(SignInCode).where(
            SignInCode.digest == _digest(code), SignInCode.used_ms.is_(None), SignInCode.expires_ms > now,
        ).values(used_ms=now).returning(SignInCode.user_id)).scalar_one_or_none()
        user = session.get(User, user_id) if user_id is not None else None
        return user if user is not None and self.welcome(session, user) else None

    def welcome(self, session: Session, user: User) -> bool:
        """True when the account is neither locked nor expired."""
        account = session.get(Account, user.id)
        return not user.disabled and account is not None and (account.expires_ms is None or self._now() < account.expires_ms)

    def start(self, session: Session, user: User, *, method: str, address: str, agent: str, proved: bool = True) -> tuple[str, Principal]:
        """A new session of a person who has proved who they are, in the caller's transaction; its id is always new. Args: proved: False = with one factor only, as far as we know."""
        now, token = self._now(), secrets.token_urlsafe(32)
        row = SessionRow(digest=_digest(token), user_id=user.id, csrf=secrets.token_urlsafe(24), address=address[:64], agent=agent[:200], created_ms=now, seen_ms=now,
                         expires_ms=now + self._absolute_ms, ended_ms=None, factor_ms=now if proved else 0, method=method)
        session.add(row)
        account = session.get(Account, user.id)
        if account is not None:
            account.last_sign_in_ms = now
        session.flush()
        return token, self._principal(session, user, row)[0]

    def renew(self, session: Session, principal: Principal) -> None:
        """The person of this session has just proved who they are again."""
        session.execute(update(SessionRow).where(SessionRow.digest == principal.session).values(factor_ms=self._now()))
        self._cache.pop(principal.session, None)

    async def authenticate(self, token: str) -> Principal | None:
        """Who a token belongs to; a live session slides on."""
        digest = _digest(token)
        cached = self._cache.get(digest)
        now = self._now()
        if cached is not None and 0 <= now - cached[0] < _CACHE_MS and now < cached[1]:
            return cached[2]
        found = await asyncio.to_thread(self._look, digest)
        self._cache.pop(digest, None)
        if found is None:
            return None
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[digest] = (now, found[1], found[0])
        return found[0]

    async def touch(self, principal: Principal) -> bool:
        """Keep a session alive while its page streams; False when it has ended."""
        return await asyncio.to_thread(self._look, principal.session) is not None

    def end(self, principal: Principal) -> None:
        """Sign out."""
        self.end_digest(principal.session)

    def end_token(self, token: str) -> None:
        """End the session a cookie names, if it names one."""
        self.end_digest(_digest(token))

    def end_digest(self, digest: str, *, user_id: int | None = None) -> bool:
        """End a session; False when there is none (of that user)."""
        with self._ledger.write() as session:
            query = update(SessionRow).where(SessionRow.digest == digest, SessionRow.ended_ms.is_(None))
            if user_id is not None:
                query = query.where(SessionRow.user_id == user_id)
            found = session.execute(query.values(ended_ms=self._now()).returning(SessionRow.digest)).scalar_one_or_none()
        self._cache.pop(digest, None)
        return found is not None

    def rows(self, *, user_id: int | None = None) -> list[dict[str, Any]]:
        """Live sessions, newest first; `id` is the first half of the digest, enough to name one and useless to be one."""
        now = self._now()
        query = select(SessionRow, User).join(User, User.id == SessionRow.user_id).where(
            SessionRow.ended_ms.is_(None), SessionRow.expires_ms > now, SessionRow.seen_ms > now - self._idle_ms).order_by(SessionRow.created_ms.desc()).limit(2000)
        if user_id is not None:
            query = query.where(SessionRow.user_id == user_id)
        with self._ledger.read() as session:
            return [{"id": r.digest[:32], "user_id": u.id, "name": u.name, "display_name": u.display_name, "address": r.address, "agent": r.agent, "method": r.method,
                     "created_ms": r.created_ms, "seen_ms": r.seen_ms, "expires_ms": r.expires_ms, "factor_ms": r.factor_ms} for r, u in session.execute(query)]

    def end_named(self, session_id: str, *, user_id: int | None = None) -> bool:
        """End the live session that `rows` calls `session_id`."""
        with self._ledger.read() as session:
            digest = session.scalar(select(SessionRow.digest).where(SessionRow.digest.startswith(session_id, autoescape=True), SessionRow.ended_ms.is_(None)))
        return len(session_id) == 32 and digest is not None and self.end_digest(digest, user_id=user_id)

    def _look(self, digest: str) -> tuple[Principal, int] | None:
        now = self._now()
        with self._ledger.read() as session:
            row = session.get(SessionRow, digest)
            if row is None or row.ended_ms is not None or now >= row.expires_ms or now - row.seen_ms >= self._idle_ms:
                return None
            user = session.get(User, row.user_id)
            if user is None or not self.welcome(session, user):
                return None
            found = self._principal(session, user, row)
        if now - row.seen_ms >= _SEEN_EVERY_MS:
            with self._ledger.write() as session:
                session.execute(update(SessionRow).where(SessionRow.digest == digest).values(seen_ms=now))
        return found

    def _principal(self, session: Session, user: User, row: SessionRow) -> tuple[Principal, int]:
        """Who it is, and until when that may be remembered."""
        now = self._now()
        account = session.get_one(Account, user.id)
        roles = {Role(r) for r in session.scalars(select(UserRole.role).where(UserRole.user_id == user.id))}
        grants = session.execute(select(EmergencyGrant.role, EmergencyGrant.until_ms).where(
            EmergencyGrant.user_id == user.id, EmergencyGrant.ended_ms.is_(None), EmergencyGrant.until_ms > now)).all() if account.kind == "business" else []
        until = min([row.expires_ms, *([account.expires_ms] if account.expires_ms else []), *(g[1] for g in grants)])
        contracts = None
        if account.organisation_id is not None:
            contracts = tuple(Contract(int(p), c.starts_ms, c.ends_ms) for c in session.scalars(select(ServiceContract).where(
                ServiceContract.organisation_id == account.organisation_id)) for p in c.project_ids)
        stale = row.method == "password" and self._password_ms and account.password_ms is not None and now - account.password_ms >= self._password_ms
        return Principal(
            user_id=user.id, name=user.name, display_name=user.display_name, roles=frozenset(roles | {Role(g[0]) for g in grants}),
            project_ids=None if user.project_ids is None else frozenset(user.project_ids), device_ids=None if user.device_ids is None else frozenset(user.device_ids),
            session=row.digest, csrf=row.csrf, organisation_id=account.organisation_id, region_codes=None if account.region_codes is None else frozenset(account.region_codes),
            contracts=contracts, factor_ms=row.factor_ms, restricted="password" if stale else "", now=self._now, regions_of=self._regions_of), until


def person(session: Session, name: str, now: int) -> tuple[User, Account]:
    """The person called `name` with their account, made when there is none.

    Raises:
        UserError: not a name.
    """
    if not name or len(name) > 60 or not name.isprintable() or name != name.strip():
        raise UserError(name=name, reason_zh="名称应为 1–60 个可见字符", reason_en="a name has 1-60 visible characters")
    user = session.scalar(select(User).where(User.name == name))
    if user is None:
        user = User(name=name, display_name=name, created_ms=now)
        session.add(user)
        session.flush()
    account = session.get(Account, user.id)
    if account is None:
        account = Account(user_id=user.id)
        session.add(account)
        session.flush()
    return user, account


def set_roles(session: Session, user: User, account: Account, wanted: frozenset[Role], *, by: str, now: int) -> None:
    """Give a person exactly these roles; the database's constraints have the last word.

    Raises:
        UserError: they exclude each other.
    """
    kind = kind_of(wanted)
    if not kind:
        raise UserError(name=user.name, reason_zh="系统、安全、审计三类管理员与住户角色互斥，且不得兼任其他角色",
                        reason_en="the three administrators and residents exclude each other and every other role")
    have = {r.role: r for r in session.scalars(select(UserRole).where(UserRole.user_id == user.id))}
    for role in have.keys() - {str(r) for r in wanted}:
        session.delete(have[role])
    if account.kind != kind:
        session.execute(delete(UserRole).where(UserRole.user_id == user.id))
        have = {}
    session.flush()
    account.kind = kind
    session.flush()
    session.add_all(UserRole(user_id=user.id, role=str(r), kind=kind, granted_by=by[:60], granted_ms=now) for r in sorted(wanted) if str(r) not in have)
    session.flush()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
