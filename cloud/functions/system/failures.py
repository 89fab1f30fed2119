"""Failed sign-ins by name and by address (登录失败锁定): five within 15 minutes suspend for 15 minutes. In the ledger, so that a restart forgets nothing.

A name that does not exist is counted like one that does. An attempt is counted before it is judged, so that many at once are not more tries.
Must not know: what is tried.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cloud.functions.system.errors import TooManyFailuresError
from cloud.functions.system.people_tables import SignInFailure
from cloud.ledger import Ledger

MOST, WINDOW_MS = 5, 900_000


def attempt(ledger: Ledger, name: str, address: str, now: int) -> None:
    """`begin` in a transaction of its own; two first failures at the same moment are both counted.

    Raises:
        TooManyFailuresError: the name or the address is suspended.
    """
    for left in range(MOST, -1, -1):
        try:
            with ledger.write() as session:
                begin(session, name, address, now)
            return
        except IntegrityError:
            if not left:
                raise


def begin(session: Session, name: str, address: str, now: int) -> None:
    """Count an attempt as failed until `succeeded` takes it back.

    Raises:
        TooManyFailuresError: the name or the address is suspended.
    """
    session.execute(delete(SignInFailure).where(SignInFailure.first_ms <= now - WINDOW_MS))
    rows = {key: session.get(SignInFailure, key, with_for_update=True) for key in _keys(name, address)}
    suspended = [r for r in rows.values() if r is not None and r.count >= MOST]
    if suspended:
        raise TooManyFailuresError(retry_after_s=max(1, -(-(max(r.first_ms for r in suspended) + WINDOW_MS - now) // 1000)))
    for key, row in rows.items():
        if row is None:
            session.add(SignInFailure(key=key, count=1, first_ms=now))
        else:
            row.count += 1
            row.first_ms = now if row.count >= MOST else row.first_ms
    session.flush()


def succeeded(session: Session, name: str, address: str) -> None:
    """The attempt was right: the name starts anew, the address gets this one try back."""
    of_name, of_address = _keys(name, address)
    session.execute(delete(SignInFailure).where(SignInFailure.key == of_name))
    row = session.get(SignInFailure, of_address, with_for_update=True)
    if row is not None:
        row.count -= 1
        if row.count <= 0:
            session.delete(row)


def _keys(name: str, address: str) -> tuple[str, str]:
    return tuple(hashlib.sha256(f"{kind}:{text}".encode()).hexdigest() for kind, text in (("name", name.strip().casefold()), ("address", address)))  # type: ignore[return-value]
