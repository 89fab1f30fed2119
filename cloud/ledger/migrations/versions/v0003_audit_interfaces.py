"""Audit chain, external clients (审计链、外部接口)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SQLITE = ("CREATE TRIGGER operation_log_keeps_{what} BEFORE {verb} ON operation_log BEGIN SELECT RAISE(ABORT, 'operation_log is append-only'); END")


def upgrade() -> None:
    """Forward."""
    for name, kind, default in (("of", sa.BigInteger(), "0"), ("object", sa.String(120), ""), ("before", sa.String(64), ""), ("after", sa.String(64), ""),
                                ("channel", sa.String(20), "portal")):
        op.add_column("operation_log", sa.Column(name, kind, nullable=False, server_default=default))
    op.create_index(op.f("ix_operation_log_of"), "operation_log", ["of"])
    op.create_table(
        "audit_link", sa.Column("n", _KEY, autoincrement=False, nullable=False), sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.String(64), nullable=False), sa.Column("chain", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_audit_link")), sa.UniqueConstraint("record_id", name=op.f("uq_audit_link_record_id")))
    op.create_table(
        "audit_checkpoint", sa.Column("size", _KEY, autoincrement=False, nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False), sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_checkpoint")))
    op.create_table(
        "audit_state", sa.Column("id", _KEY, autoincrement=False, nullable=False), sa.Column("beat_ms", sa.BigInteger(), nullable=False),
        sa.Column("process_id", sa.BigInteger(), nullable=False), sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_state")))
    op.create_table(
        "external_client", sa.Column("id", sa.String(40), nullable=False), sa.Column("name", sa.String(120), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False), sa.Column("certificate", sa.String(64), nullable=False), sa.Column("operations", sa.JSON(), nullable=False),
        sa.Column("project_ids", sa.JSON()), sa.Column("hidden_fields", sa.JSON(), nullable=False), sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("burst", sa.BigInteger(), nullable=False), sa.Column("priority", sa.BigInteger(), nullable=False), sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False), sa.Column("created_ms", sa.BigInteger(), nullable=False), sa.Column("created_by", sa.String(60), nullable=False),
        sa.Column("expires_ms", sa.BigInteger()), sa.PrimaryKeyConstraint("id", name=op.f("pk_external_client")),
        sa.UniqueConstraint("name", name=op.f("uq_external_client_name")))
    op.create_table(
        "idempotent_answer", sa.Column("key", sa.String(64), nullable=False), sa.Column("body", sa.String(64), nullable=False), sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False), sa.Column("answer", sa.JSON()), sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotent_answer")))
    op.create_index(op.f("ix_idempotent_answer_at_ms"), "idempotent_answer", ["at_ms"])
    if op.get_bind().dialect.name == "sqlite":
        for what, verb in (("rows", "DELETE"), ("values", "UPDATE")):
            op.execute(_SQLITE.format(what=what, verb=verb))
    else:
        op.execute("CREATE FUNCTION operation_log_keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'operation_log is append-only'; END $$")
        op.execute("CREATE TRIGGER operation_log_keeps BEFORE UPDATE OR DELETE ON operation_log FOR EACH ROW EXECUTE FUNCTION operation_log_keeps()")
