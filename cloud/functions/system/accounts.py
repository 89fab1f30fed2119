"""Accounts (账号管理): the system administrator makes and locks them, the security administrator gives roles and scope, nobody decides about themselves.

Must not know: FastAPI, how factors are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cloud.functions.system.errors import PersonError, SelfError
from cloud.functions.system.factors import FactorService
from cloud.functions.system.people_tables import Account, Organisation, Passkey, UserRole
from cloud.functions.system.sessions import SessionService, person, set_roles
from cloud.functions.system.tables import User
from cloud.security import audit
from cloud.security.guard import NotFoundError
from cloud.security.operations import ADMINS, Principal, Role

#: Seconds a new or reset account's one-time code is good.
CODE_S = 86_400
SORTS = {"name": User.name, "display_name": User.display_name, "created_ms": User.created_ms, "last_sign_in_ms": Account.last_sign_in_ms, "expires_ms": Account.expires_ms}
STATES = ("active", "locked", "expired", "no_role")


@dataclass(frozen=True, slots=True)
class Access:
    """Roles and scope; None = not narrowed."""

    roles: frozenset[Role]
    organisation_id: int | None = None
    project_ids: tuple[int, ...] | None = None
    region_codes: tuple[str, ...] | None = None
    device_ids: tuple[int, ...] | None = None


class AccountService:
    """Who has an account, and what it may do."""

    def __init__(self, sessions: SessionService, factors: FactorService, now: Callable[[], int]) -> None:
        self._sessions = sessions
        self._ledger = sessions.ledger
        self._factors = factors
        self._now = now

    def rows(self, *, q: str = "", role: str = "", state: str = "", organisation_id: int | None = None, sort: str = "name", descending: bool = False, offset: int = 0,
             limit: int = 100) -> tuple[int, list[dict[str, Any]]]:
        """How many match, and a page of them."""
        query = self._matching(q.strip(), role, state, organisation_id)
        with self._ledger.read() as session:
            total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
            column = SORTS[sort]
            page = session.execute(query.order_by(column.desc() if descending else column, User.id).offset(offset).limit(limit)).all()
            return total, [self._view(session, row[0], row[1]) for row in page]

    def _matching(self, q: str, role: str, state: str, organisation_id: int | None) -> Select[User, Account]:
        now = self._now()
        query = select(User, Account).join(Account, Account.user_id == User.id)
        if q:
            query = query.where(or_(User.name.icontains(q, autoescape=True), User.display_name.icontains(q, autoescape=True)))
        if role:
            query = query.where(User.id.in_(select(UserRole.user_id).where(UserRole.role == role)))
        if organisation_id is not None:
            query = query.where(Account.organisation_id == organisation_id)
        expired = Account.expires_ms.is_not(None) & (Account.expires_ms <= now)
        wheres = {"locked": User.disabled.is_(True), "expired": expired, "no_role": Account.kind == "none",
                  "active": User.disabled.is_(False) & or_(Account.expires_ms.is_(None), Account.expires_ms > now)}
        return query.where(wheres[state]) if state else query

    def one(self, user_id: int) -> dict[str, Any]:
        """An account with what it has to prove identity.

        Raises:
            NotFoundError: there is none.
        """
        with self._ledger.read() as session:
            user, account = self._get(session, user_id)
            granted = session.scalars(select(UserRole).where(UserRole.user_id == user_id).order_by(UserRole.role)).all()
            view = self._view(session, user, account)
            return {**view, "granted": [{"role": r.role, "by": r.granted_by, "at_ms": r.granted_ms} for r in granted], "factors": self._factors.state(user_id)}

    def name_of(self, user_id: int) -> str:
        """The account's name, for the log."""
        with self._ledger.read() as session:
            return self._get(session, user_id)[0].name

    def create(self, name: str, display_name: str, *, organisation_id: int | None, expires_ms: int | None) -> tuple[int, str]:
        """A new account without a role; gives its id and a one-time code to hand over.

        Raises:
            PersonError: the name is taken, or there is no such organisation.
        """
        try:
            with self._ledger.write() as session:
                if session.scalar(select(User.id).where(func.lower(User.name) == name.lower())) is not None:
                    raise PersonError(name=name, reason_zh="账号名已存在，请另选", reason_en="the name is taken, choose another")
                user, account = person(session, name, self._now())
                user.display_name = display_name
                account.organisation_id, account.expires_ms = self._organisation(session, name, organisation_id), self._future(name, expires_ms)
                self._noted(session, "system.person.create", user, account, None)
                return user.id, self._sessions.code_for(session, user.id, valid_s=CODE_S)
        except IntegrityError:
            raise PersonError(name=name, reason_zh="账号名已存在，请另选", reason_en="the name is taken, choose another") from None

    def change(self, user_id: int, by: Principal, *, display_name: str, expires_ms: int | None) -> None:
        """Change what an account is called and when it ends."""
        self._not_self(user_id, by, "更改账号", "change the account of")
        with self._ledger.write() as session:
            user, account = self._get(session, user_id)
            if expires_ms is not None:
                self._not_last(session, user, account)
            before = self._document(session, user, account)
            user.display_name = display_name
            account.expires_ms = expires_ms if expires_ms == account.expires_ms else self._future(user.name, expires_ms)
            self._noted(session, "system.person.change", user, account, before, by)
        self._sessions.forget()

    def lock(self, user_id: int, by: Principal, *, locked: bool) -> None:
        """Lock an account (its sessions end) or unlock it."""
        self._not_self(user_id, by, "锁定或解锁", "lock or unlock")
        with self._ledger.write() as session:
            user, account = self._get(session, user_id)
            if locked:
                self._not_last(session, user, account)
                self._sessions.end_all(session, user_id)
            before = self._document(session, user, account)
            user.disabled = locked
            self._noted(session, "system.person.lock", user, account, before, by)
        self._sessions.forget()

    def reset(self, user_id: int, by: Principal) -> str:
        """Forget password, authenticator and passkeys, end the sessions; gives a one-time code to hand over."""
        self._not_self(user_id, by, "重置", "reset")
        with self._ledger.write() as session:
            user, account = self._get(session, user_id)
            before = self._document(session, user, account)
            self._factors.clear(session, user_id)
            self._sessions.end_all(session, user_id)
            code = self._sessions.code_for(session, user_id, valid_s=CODE_S)
            self._noted(session, "system.person.reset", user, account, before, by)
        self._sessions.forget()
        return code

    def grant(self, user_id: int, by: Principal, access: Access) -> None:
        """Give a person exactly these roles and this scope; live sessions take it up at their next call.

        Raises:
            SelfError, PersonError, UserError: oneself, a resident without rooms, an administrator with a narrower scope, roles that exclude each other.
        """
        self._not_self(user_id, by, "授权", "give roles to")
        try:
            with self._ledger.write() as session:
                user, account = self._get(session, user_id)
                session.refresh(account, with_for_update=True)
                before = self._document(session, user, account)
                self._fits(user.name, access)
                if account.kind in ADMINS and access.roles != {Role(account.kind)}:
                    self._not_last(session, user, account)
                user.project_ids = None if access.project_ids is None else sorted(set(access.project_ids))
                user.device_ids = None if access.device_ids is None else sorted(set(access.device_ids))
                account.region_codes = None if access.region_codes is None else sorted(set(access.region_codes))
                account.organisation_id = self._organisation(session, user.name, access.organisation_id)
                set_roles(session, user, account, access.roles, by=by.name, now=self._now())
                self._noted(session, "system.role.grant", user, account, before, by)
        except IntegrityError as error:
            raise PersonError(name=str(user_id), reason_zh="与同时进行的另一次授权冲突，请刷新后重试", reason_en="another grant happened at the same time; reload and try again") from error
        self._sessions.forget()

    @staticmethod
    def _document(session: Session, user: User, account: Account) -> dict[str, Any]:
        """What the audit keeps a digest of; of secrets only whether there is one."""
        session.flush()
        roles = session.scalars(select(UserRole.role).where(UserRole.user_id == user.id).order_by(UserRole.role)).all()
        return {"id": user.id, "name": user.name, "display_name": user.display_name, "disabled": user.disabled, "roles": list(roles), "project_ids": user.project_ids, "device_ids": user.device_ids,
                "region_codes": account.region_codes, "organisation_id": account.organisation_id, "expires_ms": account.expires_ms, "password": account.password_hash is not None,
                "authenticator": account.totp_sealed is not None}

    def _noted(self, session: Session, operation: str, user: User, account: Account, before: dict[str, Any] | None, by: Principal | None = None) -> None:
        """A row in the transaction of the change: whose account, digests of before and after."""
        audit.record(session, operation, at_ms=self._now(), target=f"people/{user.id}", object_=f"user/{user.id}", before=before, after=self._document(session, user, account), level="warning",
                     operator=by.name if by is not None else None)

    @staticmethod
    def _fits(name: str, access: Access) -> None:
        if Role.RESIDENT in access.roles and (not access.project_ids or not access.device_ids):
            raise PersonError(name=name, reason_zh="住户须指定项目和房间设备", reason_en="a resident needs a project and room devices")
        bounded = any(x is not None for x in (access.organisation_id, access.project_ids, access.region_codes, access.device_ids))
        if access.roles & ADMINS and bounded:
            raise PersonError(name=name, reason_zh="三员的范围是全平台，不能收窄", reason_en="the three administrators work for the whole platform; their scope cannot be narrowed")

    @staticmethod
    def _get(session: Session, user_id: int) -> tuple[User, Account]:
        user, account = session.get(User, user_id), session.get(Account, user_id)
        if user is None or account is None:
            raise NotFoundError(what="person", name=user_id)
        return user, account

    @staticmethod
    def _not_self(user_id: int, by: Principal, zh: str, en: str) -> None:
        if user_id == by.user_id:
            raise SelfError(what_zh=zh, what_en=en)

    def _not_last(self, session: Session, user: User, account: Account) -> None:
        """An administrator stays as long as there is no other of the same kind."""
        if account.kind not in ADMINS or user.disabled:
            return
        others = session.scalar(select(func.count()).select_from(Account).join(User, User.id == Account.user_id).where(
            Account.kind == account.kind, User.disabled.is_(False), User.id != user.id, or_(Account.expires_ms.is_(None), Account.expires_ms > self._now())))
        if not others:
            raise PersonError(name=user.name, reason_zh="这是该类管理员中最后一位，请先另设一位", reason_en="this is the last administrator of that kind; appoint another first")

    @staticmethod
    def _organisation(session: Session, name: str, organisation_id: int | None) -> int | None:
        if organisation_id is not None and session.get(Organisation, organisation_id) is None:
            raise PersonError(name=name, reason_zh="没有此单位", reason_en="there is no such organisation")
        return organisation_id

    def _future(self, name: str, expires_ms: int | None) -> int | None:
        if expires_ms is not None and expires_ms <= self._now():
            raise PersonError(name=name, reason_zh="有效期须在将来", reason_en="the expiry must lie ahead")
        return expires_ms

    def _view(self, session: Session, user: User, account: Account) -> dict[str, Any]:
        roles: Sequence[str] = session.scalars(select(UserRole.role).where(UserRole.user_id == user.id).order_by(UserRole.role)).all()
        organisation = session.get(Organisation, account.organisation_id) if account.organisation_id is not None else None
        expired = account.expires_ms is not None and account.expires_ms <= self._now()
        keys = session.scalar(select(func.count()).select_from(Passkey).where(Passkey.user_id == user.id)) or 0
        return {"id": user.id, "name": user.name, "display_name": user.display_name, "roles": list(roles), "kind": account.kind,
                "state": "locked" if user.disabled else "expired" if expired else "active" if roles else "no_role",
                "organisation": {"id": organisation.id, "name_zh": organisation.name_zh, "name_en": organisation.name_en} if organisation else None,
                "project_ids": user.project_ids, "region_codes": account.region_codes, "device_ids": user.device_ids, "created_ms": user.created_ms,
                "expires_ms": account.expires_ms, "last_sign_in_ms": account.last_sign_in_ms, "strong": bool(account.totp_sealed or keys)}
