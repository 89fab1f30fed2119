"""Passwords (口令): the level-3 policy and Argon2id. At most two hashes at a time, and a bounded queue before them.

Must not know: accounts, the ledger, HTTP.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from protos.errors import KangError

T = TypeVar("T")
#: 19 MiB, two passes, one lane: the tried setting (21-57 ms).
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16, type=Type.ID)
SHORTEST, LONGEST, CLASSES, HISTORY = 12, 128, 3, 5
_AT_ONCE, _WAITING = 2, 40
_DENIED = ("password", "passw0rd", "qwerty", "asdfgh", "zxcvbn", "1q2w3e", "admin", "welcome", "letmein", "iloveyou", "abc123", "123456", "654321", "111111", "000000", "888888",
           "666666", "woaini", "5201314", "kang", "dianre", "gongnuan", "heating", "monkey", "dragon", "sunshine", "changeme", "default", "secret", "test1234", "root")
#: Compared for names that do not exist, so that they cost the same time.
_NOBODY = _HASHER.hash("nobody has this one")


class PasswordPolicyError(KangError):
    """The new password does not satisfy the policy."""

    code = "E-PASSWORD-POLICY"
    zh = "新口令不符合要求：{reason_zh}。请更换后重试。"
    en = "The new password will not do: {reason_en}. Choose another."


class BusyError(KangError):
    """Too many people sign in at this moment."""

    code = "E-SIGN-IN-RATE"
    zh = "此刻登录的人过多。请在 {retry_after_s} 秒后重试。"
    en = "Too many people are signing in at this moment. Try again in {retry_after_s} s."


def check_policy(password: str, names: Iterable[str] = ()) -> None:
    """Length 12 to 128, three of the four classes (lower, upper, digit, other), nothing well known, not the account's own names.

    Raises:
        PasswordPolicyError: says which rule.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordPolicyError(reason_zh=f"长度应为 {SHORTEST}–{LONGEST} 个字符", reason_en=f"it must have {SHORTEST} to {LONGEST} characters")
    if sum(bool(re.search(p, password)) for p in (r"[a-z]", r"[A-Z]", r"\d", r"[^a-zA-Z\d]")) < CLASSES:
        raise PasswordPolicyError(reason_zh="小写字母、大写字母、数字、其他字符中至少含三类", reason_en="it must mix three of: lower case, upper case, digits, other characters")
    low = password.casefold()
    if any(word in low for word in _DENIED) or len(set(low)) < 6:
        raise PasswordPolicyError(reason_zh="含有常见口令或重复字符过多", reason_en="it contains a well-known password or too few different characters")
    if any(len(n) >= 3 and n.casefold() in low for n in names):
        raise PasswordPolicyError(reason_zh="不得包含账号名或姓名", reason_en="it must not contain the account's name")


class Hashes:
    """Argon2id off the event loop, two at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def make(self, password: str) -> str:
        """The hash to store."""
        return await self._run(_HASHER.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """True when `password` is the one of `stored`; None costs the same and is never right."""
        right = await self._run(_verify, stored or _NOBODY, password)
        return right and stored is not None

    async def _run(self, act: Callable[..., T], *args: str) -> T:
        if self._waiting >= _WAITING:
            raise BusyError(retry_after_s=2)
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(act, *args)
        finally:
            self._waiting -= 1


def outdated(stored: str) -> bool:
    """True when the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored)


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
