"""Alembic's entry: runs on the connection that `cloud.ledger.migrate` opened and locked.

Must not know: addresses, tables.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False, render_as_batch=True)
context.run_migrations()
