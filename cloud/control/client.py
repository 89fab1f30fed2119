"""The command service seen from other processes: implements `core.ports.CommandBus` over NATS request and reply.

Must not know: who asks.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import nats
from nats.aio.client import Client

from cloud.core.ports import CommandRequest
from protos.errors import KangError

#: The class has a method of that name.
list_ = list


class ControlUnavailableError(KangError):
    """The command service does not answer."""

    code = "E-CMD-DOWN"
    zh = "命令服务暂不可用，命令未下达。紧急情况请就地操作；稍后自动恢复。"
    en = "The command service does not answer; nothing was sent. In an emergency act on site; it recovers by itself."


class ControlRefusedError(KangError):
    """The command service refused; carries its own code and texts."""

    def __init__(self, error: dict[str, str]) -> None:
        self.code, self.zh, self.en = error["code"], error["zh"], error["en"]
        super().__init__()

    def message(self, language: str = "zh") -> str:
        """The command service's own text, verbatim."""
        return self.zh if language.startswith("zh") else self.en


class ControlClient:
    """Calls the command service."""

    def __init__(self, client: Client, *, timeout_s: float = 5.0) -> None:
        self._client = client
        self._timeout = timeout_s

    async def _call(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._client.request(f"svc.control.{what}", json.dumps(body).encode(), timeout=self._timeout)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise ControlUnavailableError from error
        decoded: dict[str, Any] = json.loads(answer.data)
        if "error" in decoded:
            raise ControlRefusedError(decoded["error"])
        return decoded

    async def submit(self, request: CommandRequest) -> dict[str, Any]:
        """Accept a command into the journal; returns its view.

        Raises:
            ControlRefusedError: with the command service's code.
            ControlUnavailableError: no answer; use the same idempotency key to ask again.
        """
        view: dict[str, Any] = (await self._call("submit", dataclasses.asdict(request)))["command"]
        return view

    async def get(self, command_id: str) -> dict[str, Any] | None:
        """One command."""
        view: dict[str, Any] | None = (await self._call("get", {"id": command_id}))["command"]
        return view

    async def list(self, *, project_id: int | None = None, device_id: int | None = None, limit: int = 50, before_ms: int | None = None) -> list[dict[str, Any]]:
        """Commands, newest first."""
        found: list[dict[str, Any]] = (await self._call("list", {"project_id": project_id, "device_id": device_id, "limit": limit, "before_ms": before_ms}))["commands"]
        return found

    async def resolve(self, command_id: str, *, verified: bool, actor: str, reason: str) -> dict[str, Any]:
        """A person resolves an `unknown`."""
        view: dict[str, Any] = (await self._call("resolve", {"id": command_id, "verified": verified, "actor": actor, "reason": reason}))["command"]
        return view

    async def cancel(self, command_id: str, *, actor: str) -> bool:
        """Call back a command that has not left yet; False when it may have.

        Raises:
            ControlRefusedError: there is no such command.
            ControlUnavailableError: no answer.
        """
        return bool((await self._call("cancel", {"id": command_id, "actor": actor}))["cancelled"])

    async def plan(self, body: dict[str, Any]) -> list_[dict[str, Any]]:
        """Hand a plan over; returns where each agent's document stands. Fields: `cloud.control.plans.Plans.submit`.

        Raises:
            ControlRefusedError: E-PLAN, names the field.
            ControlUnavailableError: no answer.
        """
        views: list_[dict[str, Any]] = (await self._call("plan", body))["plans"]
        return views

    async def plans(self, project_id: int) -> list_[dict[str, Any]]:
        """Where the newest plans of a project stand."""
        views: list_[dict[str, Any]] = (await self._call("plans", {"project_id": project_id}))["plans"]
        return views

    async def stats(self) -> dict[str, Any]:
        """Counts by state, fencing number, audit check."""
        return await self._call("stats", {})
