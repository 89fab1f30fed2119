"""The portal's ledger fixtures serve the browser too."""

from tests.portal.conftest import furnished, ledger

__all__ = ["furnished", "ledger"]
