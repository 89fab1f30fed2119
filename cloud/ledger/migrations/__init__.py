"""Alembic scripts of the ledger; each stands by itself and imports no tables."""
