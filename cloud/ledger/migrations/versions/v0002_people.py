"""People, factors, approvals (用户、双因素、审批)."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ADMINS = ("system_admin", "security_admin", "audit_admin")


def upgrade() -> None:
    """Forward."""
    op.create_table('organisation',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('code', sa.String(length=60), nullable=False),
    sa.Column('name_zh', sa.String(length=120), nullable=False),
    sa.Column('name_en', sa.String(length=120), nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("kind IN ('owner', 'provider', 'customer')", name=op.f('ck_organisation_kind')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_organisation')),
    sa.UniqueConstraint('code', name=op.f('uq_organisation_code'))
    )
    op.create_table('sign_in_failure',
    sa.Column('key', sa.String(length=64), nullable=False),
    sa.Column('count', sa.BigInteger(), nullable=False),
    sa.Column('first_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_sign_in_failure'))
    )
    op.create_index(op.f('ix_sign_in_failure_first_ms'), 'sign_in_failure', ['first_ms'], unique=False)
    op.create_table('account',
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=False, nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('organisation_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('region_codes', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('expires_ms', sa.BigInteger(), nullable=True),
    sa.Column('password_hash', sa.String(length=200), nullable=True),
    sa.Column('password_ms', sa.BigInteger(), nullable=True),
    sa.Column('totp_sealed', sa.LargeBinary(), nullable=True),
    sa.Column('totp_pending', sa.LargeBinary(), nullable=True),
    sa.Column('totp_step', sa.BigInteger(), nullable=False),
    sa.Column('last_sign_in_ms', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['organisation_id'], ['organisation.id'], name=op.f('fk_account_organisation_id')),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_account_user_id')),
    sa.PrimaryKeyConstraint('user_id', name=op.f('pk_account')),
    sa.UniqueConstraint('user_id', 'kind', name=op.f('uq_account_user_id_kind'))
    )
    op.create_index(op.f('ix_account_organisation_id'), 'account', ['organisation_id'], unique=False)
    op.create_table('approval',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('operation', sa.String(length=80), nullable=False),
    sa.Column('target', sa.String(length=200), nullable=False),
    sa.Column('payload', sa.String(length=4000), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('reason', sa.String(length=200), nullable=False),
    sa.Column('requester_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('deadline_ms', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(length=10), nullable=False),
    sa.Column('decided_by_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('decided_ms', sa.BigInteger(), nullable=True),
    sa.Column('decision', sa.String(length=200), nullable=False),
    sa.CheckConstraint("state IN ('pending', 'approved', 'refused', 'used')", name=op.f('ck_approval_state')),
    sa.CheckConstraint('decided_by_id IS NULL OR decided_by_id <> requester_id', name=op.f('ck_approval_two_persons')),
    sa.ForeignKeyConstraint(['decided_by_id'], ['user_account.id'], name=op.f('fk_approval_decided_by_id')),
    sa.ForeignKeyConstraint(['requester_id'], ['user_account.id'], name=op.f('fk_approval_requester_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_approval'))
    )
    op.create_index(op.f('ix_approval_created_ms'), 'approval', ['created_ms'], unique=False)
    op.create_index(op.f('ix_approval_requester_id'), 'approval', ['requester_id'], unique=False)
    op.create_table('emergency_grant',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('role', sa.String(length=20), nullable=False),
    sa.Column('reason', sa.String(length=200), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('until_ms', sa.BigInteger(), nullable=False),
    sa.Column('ended_ms', sa.BigInteger(), nullable=True),
    sa.Column('reviewed_by_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('reviewed_ms', sa.BigInteger(), nullable=True),
    sa.Column('review', sa.String(length=200), nullable=False),
    sa.CheckConstraint("NOT (role IN ('system_admin', 'security_admin', 'audit_admin', 'resident'))", name=op.f('ck_emergency_grant_role')),
    sa.CheckConstraint('reviewed_by_id IS NULL OR reviewed_by_id <> user_id', name=op.f('ck_emergency_grant_review')),
    sa.CheckConstraint('until_ms > created_ms AND until_ms - created_ms <= 14400000', name=op.f('ck_emergency_grant_hours')),
    sa.ForeignKeyConstraint(['reviewed_by_id'], ['user_account.id'], name=op.f('fk_emergency_grant_reviewed_by_id')),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_emergency_grant_user_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_emergency_grant'))
    )
    op.create_index(op.f('ix_emergency_grant_user_id'), 'emergency_grant', ['user_id'], unique=False)
    op.create_table('passkey',
    sa.Column('id', sa.String(length=400), nullable=False),
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.String(length=60), nullable=False),
    sa.Column('public_key', sa.LargeBinary(), nullable=False),
    sa.Column('sign_count', sa.BigInteger(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('used_ms', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_passkey_user_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_passkey'))
    )
    op.create_index(op.f('ix_passkey_user_id'), 'passkey', ['user_id'], unique=False)
    op.create_table('password_history',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('hash', sa.String(length=200), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_password_history_user_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_password_history'))
    )
    op.create_index(op.f('ix_password_history_user_id'), 'password_history', ['user_id'], unique=False)
    op.create_table('recovery_code',
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('used_ms', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_recovery_code_user_id')),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_recovery_code'))
    )
    op.create_index(op.f('ix_recovery_code_user_id'), 'recovery_code', ['user_id'], unique=False)
    op.create_table('service_contract',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('organisation_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('number', sa.String(length=60), nullable=False),
    sa.Column('project_ids', sa.JSON(), nullable=False),
    sa.Column('starts_ms', sa.BigInteger(), nullable=False),
    sa.Column('ends_ms', sa.BigInteger(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('ends_ms > starts_ms', name=op.f('ck_service_contract_dates')),
    sa.ForeignKeyConstraint(['organisation_id'], ['organisation.id'], name=op.f('fk_service_contract_organisation_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_service_contract')),
    sa.UniqueConstraint('number', name=op.f('uq_service_contract_number'))
    )
    op.create_index(op.f('ix_service_contract_organisation_id'), 'service_contract', ['organisation_id'], unique=False)
    op.create_table('user_role',
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=False, nullable=False),
    sa.Column('role', sa.String(length=20), nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('granted_by', sa.String(length=60), nullable=False),
    sa.Column('granted_ms', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("(role IN ('system_admin', 'security_admin', 'audit_admin', 'resident') AND kind = role) OR (NOT (role IN ('system_admin', 'security_admin', 'audit_admin', 'resident')) AND kind = 'business')", name=op.f('ck_user_role_kind')),
    sa.ForeignKeyConstraint(['user_id', 'kind'], ['account.user_id', 'account.kind'], name=op.f('fk_user_role_user_id_kind')),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_user_role_user_id')),
    sa.PrimaryKeyConstraint('user_id', 'role', name=op.f('pk_user_role'))
    )
    op.add_column('user_session', sa.Column('factor_ms', sa.BigInteger(), nullable=True))
    op.add_column('user_session', sa.Column('method', sa.String(length=20), server_default='', nullable=False))
    _carry_roles()
    op.drop_column('user_account', 'roles')


def _carry_roles() -> None:
    """Everybody keeps the roles they had; who was auditor and something else keeps the something else."""
    bind = op.get_bind()
    for user_id, given, created_ms in bind.execute(sa.text("SELECT id, roles, created_ms FROM user_account")).all():
        roles = {("audit_admin" if r == "auditor" else str(r)) for r in (json.loads(given) if isinstance(given, str) else given)}
        if len(roles) > 1:
            roles -= {*_ADMINS, "resident"}
        kind = next((r for r in roles if r in (*_ADMINS, "resident")), "business" if roles else "none")
        bind.execute(sa.text("INSERT INTO account (user_id, kind, totp_step) VALUES (:user, :kind, 0)"), {"user": user_id, "kind": kind})
        for role in sorted(roles):
            bind.execute(sa.text("INSERT INTO user_role (user_id, role, kind, granted_by, granted_ms) VALUES (:user, :role, :kind, 'migration', :at)"),
                         {"user": user_id, "role": role, "kind": kind, "at": created_ms})
