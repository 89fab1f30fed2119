"""Lawful cuts of the audit log (审计记录到期清除): only what stands under a cut can be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COVERED = "SELECT 1 FROM audit_link JOIN audit_cut ON audit_link.n <= audit_cut.n WHERE audit_link.record_id = OLD.id"


def upgrade() -> None:
    """Forward."""
    op.create_table("audit_cut", sa.Column("n", _KEY, autoincrement=False, nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False),
                    sa.Column("document", sa.JSON(), nullable=False), sa.PrimaryKeyConstraint("n", name=op.f("pk_audit_cut")))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER operation_log_keeps_rows")
        op.execute(f"CREATE TRIGGER operation_log_keeps_rows BEFORE DELETE ON operation_log WHEN NOT EXISTS ({_COVERED})"
                   " BEGIN SELECT RAISE(ABORT, 'operation_log is append-only'); END")
    else:
        op.execute("CREATE OR REPLACE FUNCTION operation_log_keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                   f" IF TG_OP = 'DELETE' AND EXISTS ({_COVERED}) THEN RETURN OLD; END IF;"
                   " RAISE EXCEPTION 'operation_log is append-only'; END $$")
