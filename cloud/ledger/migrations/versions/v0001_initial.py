"""The first tables: outbox, revision, who exists, people and what they did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward."""
    op.create_table('device_template',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('key', sa.String(length=80), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('profile', sa.String(length=60), nullable=False),
    sa.Column('document', sa.JSON(), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_device_template')),
    sa.UniqueConstraint('key', 'version', name=op.f('uq_device_template_key_version'))
    )
    op.create_table('operation_log',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.Column('operation', sa.String(length=80), nullable=False),
    sa.Column('level', sa.String(length=10), nullable=False),
    sa.Column('target', sa.String(length=200), nullable=False),
    sa.Column('process_id', sa.BigInteger(), nullable=False),
    sa.Column('operator', sa.String(length=60), nullable=False),
    sa.Column('result', sa.String(length=20), nullable=False),
    sa.Column('code', sa.String(length=60), nullable=False),
    sa.Column('request_id', sa.String(length=40), nullable=False),
    sa.Column('address', sa.String(length=64), nullable=False),
    sa.Column('detail', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_operation_log'))
    )
    op.create_index(op.f('ix_operation_log_at_ms'), 'operation_log', ['at_ms'], unique=False)
    op.create_index(op.f('ix_operation_log_operation'), 'operation_log', ['operation'], unique=False)
    op.create_index(op.f('ix_operation_log_operator'), 'operation_log', ['operator'], unique=False)
    op.create_table('outbox',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('topic', sa.String(length=120), nullable=False),
    sa.Column('key', sa.String(length=120), nullable=False),
    sa.Column('payload', sa.JSON(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('relayed_ms', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outbox'))
    )
    op.create_index(op.f('ix_outbox_relayed_ms'), 'outbox', ['relayed_ms'], unique=False)
    op.create_table('region',
    sa.Column('code', sa.String(length=60), nullable=False),
    sa.Column('name_zh', sa.String(length=120), nullable=False),
    sa.Column('name_en', sa.String(length=120), nullable=False),
    sa.Column('parent_code', sa.String(length=60), nullable=True),
    sa.ForeignKeyConstraint(['parent_code'], ['region.code'], name=op.f('fk_region_parent_code')),
    sa.PrimaryKeyConstraint('code', name=op.f('pk_region'))
    )
    op.create_table('revision',
    sa.Column('name', sa.String(length=60), nullable=False),
    sa.Column('value', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_revision'))
    )
    op.create_table('user_account',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('name', sa.String(length=60), nullable=False),
    sa.Column('display_name', sa.String(length=120), nullable=False),
    sa.Column('roles', sa.JSON(), nullable=False),
    sa.Column('project_ids', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('device_ids', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('disabled', sa.Boolean(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_user_account')),
    sa.UniqueConstraint('name', name=op.f('uq_user_account_name'))
    )
    op.create_table('project',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('code', sa.String(length=60), nullable=False),
    sa.Column('name_zh', sa.String(length=120), nullable=False),
    sa.Column('name_en', sa.String(length=120), nullable=False),
    sa.Column('region_code', sa.String(length=60), nullable=False),
    sa.Column('latitude', sa.Double(), nullable=False),
    sa.Column('longitude', sa.Double(), nullable=False),
    sa.Column('timezone', sa.String(length=60), nullable=False),
    sa.Column('heated_area_m2', sa.Double(), nullable=False),
    sa.Column('kind', sa.String(length=60), nullable=False),
    sa.Column('dedicated_host', sa.Boolean(), nullable=False),
    sa.Column('attributes', sa.JSON(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['region_code'], ['region.code'], name=op.f('fk_project_region_code')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_project')),
    sa.UniqueConstraint('code', name=op.f('uq_project_code'))
    )
    op.create_index(op.f('ix_project_region_code'), 'project', ['region_code'], unique=False)
    op.create_table('sign_in_code',
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('expires_ms', sa.BigInteger(), nullable=False),
    sa.Column('used_ms', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_sign_in_code_user_id')),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_sign_in_code'))
    )
    op.create_index(op.f('ix_sign_in_code_user_id'), 'sign_in_code', ['user_id'], unique=False)
    op.create_table('template_point',
    sa.Column('template_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('point_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('low', sa.Double(), nullable=False),
    sa.Column('high', sa.Double(), nullable=False),
    sa.Column('resolution', sa.Double(), nullable=False),
    sa.Column('max_silent_s', sa.Double(), nullable=False),
    sa.Column('writable', sa.Boolean(), nullable=False),
    sa.Column('verify_within_s', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['template_id'], ['device_template.id'], name=op.f('fk_template_point_template_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('template_id', 'point_id', name=op.f('pk_template_point'))
    )
    op.create_table('user_session',
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('user_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('csrf', sa.String(length=64), nullable=False),
    sa.Column('address', sa.String(length=64), nullable=False),
    sa.Column('agent', sa.String(length=200), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.Column('seen_ms', sa.BigInteger(), nullable=False),
    sa.Column('expires_ms', sa.BigInteger(), nullable=False),
    sa.Column('ended_ms', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['user_account.id'], name=op.f('fk_user_session_user_id')),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_user_session'))
    )
    op.create_index(op.f('ix_user_session_user_id'), 'user_session', ['user_id'], unique=False)
    op.create_table('agent',
    sa.Column('agent_id', sa.String(length=60), nullable=False),
    sa.Column('project_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('signing_public', sa.LargeBinary(length=32), nullable=False),
    sa.Column('box_public', sa.LargeBinary(length=32), nullable=False),
    sa.Column('uplink', sa.String(length=10), nullable=False),
    sa.Column('revoked', sa.Boolean(), nullable=False),
    sa.Column('certificate_serial', sa.String(length=80), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], name=op.f('fk_agent_project_id')),
    sa.PrimaryKeyConstraint('agent_id', name=op.f('pk_agent'))
    )
    op.create_index(op.f('ix_agent_project_id'), 'agent', ['project_id'], unique=False)
    op.create_table('device',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('project_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('agent_id', sa.String(length=60), nullable=False),
    sa.Column('code', sa.String(length=60), nullable=False),
    sa.Column('name_zh', sa.String(length=120), nullable=False),
    sa.Column('name_en', sa.String(length=120), nullable=False),
    sa.Column('template_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('parent_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('location', sa.String(length=200), nullable=False),
    sa.Column('rated_kw', sa.Double(), nullable=False),
    sa.Column('attributes', sa.JSON(), nullable=False),
    sa.Column('absent_points', sa.JSON(), nullable=False),
    sa.Column('created_ms', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['agent_id'], ['agent.agent_id'], name=op.f('fk_device_agent_id')),
    sa.ForeignKeyConstraint(['parent_id'], ['device.id'], name=op.f('fk_device_parent_id')),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], name=op.f('fk_device_project_id')),
    sa.ForeignKeyConstraint(['template_id'], ['device_template.id'], name=op.f('fk_device_template_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_device')),
    sa.UniqueConstraint('project_id', 'code', name=op.f('uq_device_project_id_code'))
    )
    op.create_index(op.f('ix_device_agent_id'), 'device', ['agent_id'], unique=False)
    op.create_index(op.f('ix_device_parent_id'), 'device', ['parent_id'], unique=False)
    op.create_index(op.f('ix_device_project_id'), 'device', ['project_id'], unique=False)
    op.create_index(op.f('ix_device_template_id'), 'device', ['template_id'], unique=False)


def downgrade() -> None:
    """Back."""
    op.drop_index(op.f('ix_device_template_id'), table_name='device')
    op.drop_index(op.f('ix_device_project_id'), table_name='device')
    op.drop_index(op.f('ix_device_parent_id'), table_name='device')
    op.drop_index(op.f('ix_device_agent_id'), table_name='device')
    op.drop_table('device')
    op.drop_index(op.f('ix_agent_project_id'), table_name='agent')
    op.drop_table('agent')
    op.drop_index(op.f('ix_user_session_user_id'), table_name='user_session')
    op.drop_table('user_session')
    op.drop_table('template_point')
    op.drop_index(op.f('ix_sign_in_code_user_id'), table_name='sign_in_code')
    op.drop_table('sign_in_code')
    op.drop_index(op.f('ix_project_region_code'), table_name='project')
    op.drop_table('project')
    op.drop_table('user_account')
    op.drop_table('revision')
    op.drop_table('region')
    op.drop_index(op.f('ix_outbox_relayed_ms'), table_name='outbox')
    op.drop_table('outbox')
    op.drop_index(op.f('ix_operation_log_operator'), table_name='operation_log')
    op.drop_index(op.f('ix_operation_log_operation'), table_name='operation_log')
    op.drop_index(op.f('ix_operation_log_at_ms'), table_name='operation_log')
    op.drop_table('operation_log')
    op.drop_table('device_template')
