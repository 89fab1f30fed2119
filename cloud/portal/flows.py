"""What the portal tells the network records: sign-ins and their results, calls of external clients, refused tokens; sizes, never contents.

Must not know: the historian's tables, what operations do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson
from starlette.types import Message, Scope, Send

from cloud.historian.flow import Flow
from cloud.security.operations import Operation

Note = Callable[[Flow], None]
SIGN_IN: Final = frozenset({"system.session.open", "system.session.close", "system.session.reauthenticate", "interfaces.token.issue"})


class Watched:
    """A `send` that remembers status, size and the code of a refusal."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status, self.size, self.code = 0, 0, ""
        self.started = time.monotonic()

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            body = message.get("body", b"")
            self.size += len(body)
            if self.status >= 400 and not self.code and body:
                try:
                    self.code = str(orjson.loads(body).get("code") or orjson.loads(body).get("error") or "")
                except (orjson.JSONDecodeError, AttributeError):
                    self.code = ""
        await self._send(message)

    def kind(self, scope: Scope, row: Operation) -> str:
        """auth, call, refused, or "" for what people read on their pages: the operation log has what they change."""
        bearer = any(name == b"authorization" and value[:7].lower() == b"bearer " for name, value in scope["headers"])
        if row.name in SIGN_IN:
            return "auth"
        if "client" in scope.get("state", {}):
            return "refused" if self.status in (401, 403, 429) else "call"
        return "refused" if bearer and self.status == 401 else ""

    def flow(self, scope: Scope, row: Operation, kind: str) -> Flow:
        """The record."""
        state = scope.get("state", {})
        client, operator = str(state.get("client", "")), str(state.get("operator", ""))
        foreign = bool(client) or row.name.startswith("interfaces.") or kind == "refused"
        size = next((int(v) for n, v in scope["headers"] if n == b"content-length" and v.isdigit()), 0)
        result = "ok" if 0 < self.status < 400 else self.code or (str(self.status) if self.status else "hung-up")
        return Flow(kind, "third-party" if foreign else "platform", client or operator.removeprefix("client:"), str((scope.get("client") or ("",))[0]), row.name, result[:60], size, self.size, 1,
                    time.monotonic() - self.started)
