"""The portal (门户): FastAPI app and pages. `create_app(Services(...))` is all that others need.

Must not know: engines.
"""

from cloud.functions.services import Services
from cloud.portal.app import create_app, operation_table

__all__ = ["Services", "create_app", "operation_table"]
