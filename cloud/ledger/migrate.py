"""Brings the ledger's tables to this version (数据库迁移); safe to call from several processes at once.

Must not know: what the tables mean.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from cloud.ledger.engine import Ledger
from protos.errors import KangError

_PLACE = Path(__file__).parent / "migrations"
_LOCK = 0x4B414E47  # "KANG": PostgreSQL advisory lock


class LedgerNewerError(KangError):
    """The ledger was written by a newer Kang."""

    code = "E-LEDGER-NEWER"
    zh = "台账版本为“{found}”，比本程序新。请使用较新的程序，或从备份恢复。"
    en = "The ledger is at '{found}', newer than this program. Run the newer program, or restore a backup."


def migrate(ledger: Ledger) -> str:
    """Run outstanding migrations in one transaction.

    Returns:
        The version the ledger is at now.

    Raises:
        LedgerNewerError: the ledger knows a version this program does not.
    """
    config = Config()
    config.set_main_option("script_location", str(_PLACE).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with ledger.engine.execution_options(kang_begin="IMMEDIATE").begin() as connection:
        if not ledger.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in known:
            raise LedgerNewerError(found=found)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return str(scripts.get_current_head())
