"""How people prove who they are (身份鉴别): password with a second factor, passkeys, recovery codes; signing in and proving it again.

A password alone never signs in. What is refused is refused with the same words and the same work whether or not the name exists.
Must not know: FastAPI, cookies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from cloud.functions.system import failures
from cloud.functions.system.errors import FactorRefusedError, PasswordRefusedError
from cloud.functions.system.people_tables import Account, Passkey, PasswordHistory, RecoveryCode
from cloud.functions.system.sessions import SessionService
from cloud.functions.system.tables import SignInCode, User
from cloud.security import totp
from cloud.security.operations import Principal
from cloud.security.passkeys import PasskeyError, Passkeys, Site
from cloud.security.passwords import HISTORY, Hashes, PasswordPolicyError, check_policy, outdated
from cloud.security.sealing import Seal

_NOBODYS_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - compared with for names that do not exist, so that they cost the same
_MOST_PASSKEYS = 10


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody brings to prove who they are once more; one of them."""

    code: str = ""       # of the authenticator app, or a recovery code
    one_time: str = ""   # a one-time sign-in code
    token: str = ""      # of the passkey's challenge
    credential: dict[str, Any] | None = None


class FactorService:
    """Passwords, authenticator apps, passkeys of people."""

    def __init__(self, sessions: SessionService, seal: Seal, now: Callable[[], int]) -> None:
        self._sessions = sessions
        self._ledger = sessions.ledger
        self._seal = seal
        self._now = now
        self._hashes = Hashes()
        self._passkeys = Passkeys(seal)

    async def sign_in(self, name: str, password: str, code: str, *, address: str, agent: str) -> tuple[str, Principal]:
        """Password and second factor become a session.

        Raises:
            PasswordRefusedError: something is wrong, it is not told what.
            TooManyFailuresError: the name or the address is suspended.
        """
        stored = await asyncio.to_thread(self._begin, name, address)
        right = await self._hashes.verify(stored, password)
        renewed = await self._hashes.make(password) if right and stored is not None and outdated(stored) else None
        return await asyncio.to_thread(self._judge, name, code, right, renewed, address, agent)

    def _begin(self, name: str, address: str) -> str | None:
        failures.attempt(self._ledger, name, address, self._now())
        with self._ledger.read() as session:
            return session.scalar(select(Account.password_hash).join(User, User.id == Account.user_id).where(User.name == name))

    def _judge(self, name: str, code: str, right: bool, renewed: str | None, address: str, agent: str) -> tuple[str, Principal]:
        with self._ledger.write() as session:
            user = session.scalar(select(User).where(User.name == name))
            second = self._second(session, user.id if user else 0, code) if right else self._second(session, 0, code)
            if user is None or not (right and second and self._sessions.welcome(session, user)):
                raise PasswordRefusedError
            failures.succeeded(session, name, address)
            if renewed is not None:
                session.get_one(Account, user.id).password_hash = renewed
            return self._sessions.start(session, user, method="password", address=address, agent=agent)

    def _second(self, session: Session, user_id: int, code: str) -> bool:
        """Use a code of the app (each time step once) or a recovery code (once)."""
        account = session.get(Account, user_id)
        sealed = account.totp_sealed if account else None
        opened = self._seal.open("totp", sealed, str(user_id)) if sealed else None
        step = totp.matching_step(opened.decode() if opened else _NOBODYS_SECRET, code, self._now())
        if opened and step is not None:
            used = session.execute(update(Account).where(Account.user_id == user_id, Account.totp_step < step).values(totp_step=step).returning(Account.user_id))
            return used.scalar_one_or_none() is not None
        taken = session.execute(update(RecoveryCode).where(RecoveryCode.digest == totp.digest(code), RecoveryCode.user_id == user_id, RecoveryCode.used_ms.is_(None)).values(
            used_ms=self._now()).returning(RecoveryCode.digest))
        return taken.scalar_one_or_none() is not None

    def passkey_request(self, site: Site, who: Principal | None = None) -> dict[str, Any]:
        """A challenge: to sign in as whoever has a passkey here, or to prove again who `who` is."""
        have = [] if who is None else self._ids(who.user_id)
        if who is not None and not have:
            raise FactorRefusedError(reason_zh="本账号没有通行密钥", reason_en="this account has no passkey")
        return self._passkeys.request(site, user_id=0 if who is None else who.user_id, have=have, now_ms=self._now())

    def sign_in_passkey(self, site: Site, token: str, credential: dict[str, Any], *, address: str, agent: str) -> tuple[str, Principal]:
        """A passkey becomes a session.

        Raises:
            PasskeyError: it is not right, not registered here, or its account may not sign in.
        """
        with self._ledger.write() as session:
            user = session.get(User, self._use(session, site, token, credential, 0))
            if user is None or not self._sessions.welcome(session, user):
                raise PasskeyError
            return self._sessions.start(session, user, method="passkey", address=address, agent=agent)

    def prove(self, who: Principal, proof: Proof, site: Site, *, address: str) -> None:
        """Prove again who one is: the session's factor age starts anew.

        Raises:
            FactorRefusedError, PasskeyError: not right.
            TooManyFailuresError: too often wrong.
        """
        failures.attempt(self._ledger, who.name, address, self._now())
        with self._ledger.write() as session:
            if proof.credential is not None:
                right = self._use(session, site, proof.token, proof.credential, who.user_id) == who.user_id
            elif proof.one_time:
                owner = session.scalar(select(SignInCode.user_id).where(SignInCode.digest == sha256(proof.one_time.encode()).hexdigest()))
                right = owner == who.user_id and self._sessions.take_code(session, proof.one_time) is not None
            else:
                right = self._second(session, who.user_id, proof.code)
            if not right:
                raise FactorRefusedError(reason_zh="验证码有误、已用过或已失效，请换新的重试", reason_en="the code is wrong, used or expired; take a new one")
            failures.succeeded(session, who.name, address)
            self._sessions.renew(session, who)

    def _use(self, session: Session, site: Site, token: str, credential: dict[str, Any], user_id: int) -> int:
        row = session.get(Passkey, str(credential.get("id", "")).rstrip("=")[:400], with_for_update=True)
        if row is None or (user_id and row.user_id != user_id):
            raise PasskeyError
        row.sign_count = self._passkeys.used(site, token, credential, user_id=user_id, public_key=row.public_key, sign_count=row.sign_count, now_ms=self._now())
        row.used_ms = self._now()
        return row.user_id

    def _ids(self, user_id: int) -> list[str]:
        with self._ledger.read() as session:
            return list(session.scalars(select(Passkey.id).where(Passkey.user_id == user_id)))

    def state(self, user_id: int) -> dict[str, Any]:
        """What a person has: {password_ms, totp, recovery_left, passkeys: [{id, name, created_ms, used_ms}]}."""
        with self._ledger.read() as session:
            account = session.get_one(Account, user_id)
            left = session.scalar(select(func.count()).select_from(RecoveryCode).where(RecoveryCode.user_id == user_id, RecoveryCode.used_ms.is_(None)))
            keys = session.scalars(select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.created_ms))
            return {"password_ms": account.password_ms, "totp": account.totp_sealed is not None, "recovery_left": left or 0,
                    "passkeys": [{"id": k.id, "name": k.name, "created_ms": k.created_ms, "used_ms": k.used_ms} for k in keys]}

    async def set_password(self, who: Principal, new: str, old: str) -> None:
        """Set one's password; the other sessions end.

        Raises:
            FactorRefusedError: the present one is wrong.
            PasswordPolicyError: the new one will not do.
        """
        check_policy(new, (who.name, who.display_name))
        stored, earlier = await asyncio.to_thread(self._passwords, who.user_id)
        if stored is not None and not await self._hashes.verify(stored, old):
            raise FactorRefusedError(reason_zh="当前口令有误", reason_en="the present password is wrong")
        for one in earlier:
            if await self._hashes.verify(one, new):
                raise PasswordPolicyError(reason_zh=f"不得与最近 {HISTORY} 次口令相同", reason_en=f"it must differ from the last {HISTORY}")
        await asyncio.to_thread(self._store_password, who, await self._hashes.make(new))

    def _passwords(self, user_id: int) -> tuple[str | None, list[str]]:
        with self._ledger.read() as session:
            earlier = session.scalars(select(PasswordHistory.hash).where(PasswordHistory.user_id == user_id).order_by(PasswordHistory.id.desc()).limit(HISTORY))
            return session.get_one(Account, user_id).password_hash, list(earlier)

    def _store_password(self, who: Principal, made: str) -> None:
        with self._ledger.write() as session:
            account = session.get_one(Account, who.user_id)
            account.password_hash, account.password_ms = made, self._now()
            session.add(PasswordHistory(user_id=who.user_id, hash=made, created_ms=self._now()))
            session.flush()
            keep = select(PasswordHistory.id).where(PasswordHistory.user_id == who.user_id).order_by(PasswordHistory.id.desc()).limit(HISTORY)
            session.execute(delete(PasswordHistory).where(PasswordHistory.user_id == who.user_id, PasswordHistory.id.not_in(list(session.scalars(keep)))))
            self._sessions.end_all(session, who.user_id, but=who.session)
        self._sessions.forget()

    def begin_totp(self, who: Principal) -> dict[str, str]:
        """A new secret for an authenticator app, not in force until a code of it is shown; as text, address and QR picture."""
        secret = totp.new_secret()
        with self._ledger.write() as session:
            session.get_one(Account, who.user_id).totp_pending = self._seal.close("totp", secret.encode(), str(who.user_id))
        address = totp.address(secret, who.name)
        return {"secret": secret, "address": address, "svg": totp.picture(address)}

    def confirm_totp(self, who: Principal, code: str) -> list[str]:
        """Put the pending secret in force; gives new recovery codes, shown once.

        Raises:
            FactorRefusedError: nothing pending, or not its code.
        """
        codes = totp.recovery_codes()
        with self._ledger.write() as session:
            account = session.get_one(Account, who.user_id, with_for_update=True)
            opened = self._seal.open("totp", account.totp_pending, str(who.user_id)) if account.totp_pending else None
            step = totp.matching_step(opened.decode(), code, self._now()) if opened else None
            if step is None:
                raise FactorRefusedError(reason_zh="动态口令有误。请核对手机时间后输入新的 6 位数字", reason_en="the code is wrong. Check the phone's clock and enter the new six digits")
            account.totp_sealed, account.totp_pending, account.totp_step = account.totp_pending, None, step
            session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == who.user_id))
            session.add_all(RecoveryCode(digest=totp.digest(c), user_id=who.user_id) for c in codes)
            self._sessions.renew(session, who)
        return codes

    def remove_totp(self, who: Principal) -> None:
        """Take the authenticator app out of force.

        Raises:
            FactorRefusedError: it is the last factor.
        """
        with self._ledger.write() as session:
            if not session.scalar(select(func.count()).select_from(Passkey).where(Passkey.user_id == who.user_id)):
                raise FactorRefusedError(reason_zh="它是仅有的第二因素。请先添加通行密钥", reason_en="it is the only second factor. Add a passkey first")
            account = session.get_one(Account, who.user_id)
            account.totp_sealed = account.totp_pending = None
            session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == who.user_id))

    def begin_passkey(self, who: Principal, site: Site) -> dict[str, Any]:
        """Options for a new passkey."""
        return self._passkeys.registration(site, user_id=who.user_id, name=who.name, display_name=who.display_name, have=self._ids(who.user_id), now_ms=self._now())

    def add_passkey(self, who: Principal, site: Site, token: str, credential: dict[str, Any], name: str) -> None:
        """Register a passkey.

        Raises:
            PasskeyError: it is not right.
            FactorRefusedError: there are ten already.
        """
        found = self._passkeys.registered(site, token, credential, user_id=who.user_id, now_ms=self._now())
        with self._ledger.write() as session:
            if session.get(Passkey, found.id) is not None:
                raise PasskeyError
            if (session.scalar(select(func.count()).select_from(Passkey).where(Passkey.user_id == who.user_id)) or 0) >= _MOST_PASSKEYS:
                raise FactorRefusedError(reason_zh=f"最多 {_MOST_PASSKEYS} 个通行密钥", reason_en=f"{_MOST_PASSKEYS} passkeys at most")
            session.add(Passkey(id=found.id, user_id=who.user_id, name=name, public_key=found.public_key, sign_count=found.sign_count, created_ms=self._now()))
            self._sessions.renew(session, who)

    def remove_passkey(self, who: Principal, passkey_id: str) -> bool:
        """Forget one's passkey; False when there is none of that name.

        Raises:
            FactorRefusedError: it is the last factor.
        """
        with self._ledger.write() as session:
            row = session.get(Passkey, passkey_id)
            if row is None or row.user_id != who.user_id:
                return False
            others = session.scalar(select(func.count()).select_from(Passkey).where(Passkey.user_id == who.user_id, Passkey.id != passkey_id))
            if not others and session.get_one(Account, who.user_id).totp_sealed is None:
                raise FactorRefusedError(reason_zh="它是仅有的第二因素。请先绑定动态口令或另一个通行密钥", reason_en="it is the only second factor. Add an authenticator or another passkey first")
            session.delete(row)
            return True

    def clear(self, session: Session, user_id: int) -> None:
        """Forget everything a person proves identity with, in the caller's transaction (a reset)."""
        account = session.get_one(Account, user_id)
        account.password_hash = account.password_ms = account.totp_sealed = account.totp_pending = None
        session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        session.execute(delete(Passkey).where(Passkey.user_id == user_id))
