"""The ledger (台账): relational rows of the business, on SQLite or PostgreSQL.

Must not know: what the functions keep here.
"""

from cloud.ledger.base import Base, BigKey, Outbox, Revision
from cloud.ledger.engine import Ledger, LedgerUrlError, open_ledger
from cloud.ledger.events import announce, bump, mark_relayed, revision, waiting
from cloud.ledger.migrate import LedgerNewerError, migrate

__all__ = [
    "Base", "BigKey", "Ledger", "LedgerNewerError", "LedgerUrlError", "Outbox", "Revision",
    "announce", "bump", "mark_relayed", "migrate", "open_ledger", "revision", "waiting",
]
