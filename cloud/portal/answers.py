"""JSON answers by orjson: NaN and infinities become null, numpy-free. Must not know: what is in them."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import JSONResponse


class Answer(JSONResponse):
    """A JSON answer."""

    def render(self, content: Any) -> bytes:
        """Bytes of the answer."""
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
