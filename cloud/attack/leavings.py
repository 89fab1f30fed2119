"""What an attack made in a local installation, taken away again: accounts, organisations, clients and agents of its own, by the names it gave them.

The audit log keeps every row about them. Must not know: what is tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cloud.core.clock import now_ms
from cloud.functions.devices.tables import Agent
from cloud.functions.interfaces.tables import ExternalClient
from cloud.functions.system.people_tables import Organisation, ServiceContract
from cloud.functions.system.tables import User
from cloud.ledger import Base, Ledger, bump
from cloud.security import audit

#: A row that refers to an account by one of these is the account's own; by any other column it is somebody else's, and the account stays.
_OWN: Final = ("user_id", "requester_id")
_KINDS: Final = ("accounts", "organisations", "clients", "agents")


@dataclass
class Leavings:
    """Names and ids of what was made; `told` is what else a reader should know."""

    accounts: set[str] = field(default_factory=set)
    organisations: set[int] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    def clear(self, ledger: Ledger) -> str:
        """Remove it; says what is gone, and what is left and how to deal with it. Everything here was disabled or revoked before."""
        gone: dict[str, int] = {}
        for kind in _KINDS:
            for name in sorted(getattr(self, kind), key=str):
                try:
                    with ledger.write() as session:
                        getattr(self, f"_{kind}")(session, name)
                        audit.record(session, "system.attack.clear", at_ms=now_ms(), target=f"{kind}/{name}", object_=f"{kind}/{name}", level="notice", operator="kang attack")
                    gone[kind] = gone.get(kind, 0) + 1
                except IntegrityError:
                    self.told.append(f"left behind, disabled: {kind} {name}, which other records refer to; it can do nothing, and stands in its list as locked or revoked")
        lines = [f"removed what was made for this: {', '.join(f'{n} {kind}' for kind, n in gone.items())}; the audit log keeps their rows"] if gone else []
        return "\n".join([*lines, *self.told])

    @staticmethod
    def _accounts(session: Session, name: str) -> None:
        ids = select(User.id).where(User.name == name)
        _delete_referring(session, User.__table__.c.id, ids)
        session.execute(delete(User).where(User.name == name))

    @staticmethod
    def _organisations(session: Session, identity: int) -> None:
        session.execute(delete(ServiceContract).where(ServiceContract.organisation_id == identity))
        session.execute(delete(Organisation).where(Organisation.id == identity))

    @staticmethod
    def _clients(session: Session, identity: str) -> None:
        session.execute(delete(ExternalClient).where(ExternalClient.id == identity))

    @staticmethod
    def _agents(session: Session, name: str) -> None:
        """Its certificates stay signed by the authority, and an agent the ledger does not know is refused whatever it shows."""
        for table in reversed(Base.metadata.sorted_tables):
            if table.name.startswith("agent_") and "agent_id" in table.c:
                session.execute(delete(table).where(table.c.agent_id == name))
        session.execute(delete(Agent).where(Agent.agent_id == name))
        bump(session, "directory")
        bump(session, "agents")


def _delete_referring(session: Session, to: Any, ids: Any) -> None:
    for table in reversed(Base.metadata.sorted_tables):
        for column in table.columns:
            if column.name in _OWN and any(key.column is to for key in column.foreign_keys):
                session.execute(delete(table).where(column.in_(ids)))
