"""Watches the audit chain from the portal's side: an alarm when it is behind, the late safety acts merged when it is back; and what its witnesses say.

Must not know: the audit key, pages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from cloud.functions.system.journal import OperationJournal
from cloud.portal.own_alarms import Own, OwnAlarms

log = logging.getLogger("kang.audit")
RULE = "audit_behind"
REWRITTEN, FORGED = "audit_contradiction", "audit_forged"


class Heard(Protocol):
    """What knows the agents as last heard: `cloud.portal.feed.Feed`."""

    async def agents(self, project_id: int | None = None) -> list[dict[str, Any]]:
        """Agents as last heard."""
        ...


class AuditWatch:
    """Looks once a second."""

    def __init__(self, journal: OperationJournal, alarms: OwnAlarms, heard: Heard, *, every_s: float = 1.0) -> None:
        self._journal, self._alarms, self._heard, self._every_s = journal, alarms, heard, every_s
        self.failing = False
        self.merged = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """One look."""
        try:
            state = await asyncio.to_thread(self._journal.health)
            failing, lag = state.failing, max(state.beat_age_ms, state.lag_ms)
            self.merged += await asyncio.to_thread(self._journal.merge)
        except (SQLAlchemyError, OSError) as error:
            log.error("the ledger does not answer: %s", type(error).__name__)
            failing, lag = True, 0
        if failing != self.failing:
            self.failing = failing
            log.log(logging.ERROR if failing else logging.WARNING, "the audit chain is %d ms behind" if failing else "the audit chain is whole again (%d ms)", lag)
        if failing:
            self._alarms.say(Own(RULE, "审计日志不能写入：除安全操作外的控制与变更已暂停，请检查 audit 进程",
                                 "The audit log cannot be written: control and changes other than safety acts are suspended; check the audit process", value=lag / 1000, limit=5.0))
        else:
            self._alarms.over(RULE)
        for agent in await self._heard.agents():
            self._witness(agent)
        await self._alarms.settle()

    def _witness(self, agent: Mapping[str, Any]) -> None:
        """What an agent says of the checkpoints it was given; one that was not heard says nothing."""
        who, project = str(agent["agent_id"]), int(agent["project_id"])
        against, forged = agent.get("audit_contradictions"), agent.get("audit_forged")
        if against:
            self._alarms.say(Own(REWRITTEN, f"代理 {who} 持有与平台审计日志互相矛盾的检查点：日志可能被改写或回退。请审计管理员运行 kang audit verify --checkpoints 核对",
                                 f"Agent {who} holds a checkpoint that contradicts the platform's audit log: it may have been rewritten or cut back. "
                                 "Let the audit administrator compare with kang audit verify --checkpoints", who, project, value=float(against), limit=0.0))
        elif against is not None:
            self._alarms.over(REWRITTEN, who)
        if forged:
            self._alarms.say(Own(FORGED, f"代理 {who} 收到未经审计密钥签名的检查点：链路或平台上有人伪造。请检查平台主机与该代理的 platform.json",
                                 f"Agent {who} received a checkpoint not signed by the audit key: somebody forges on the link or on the platform. "
                                 "Check the platform's host and this agent's platform.json", who, project, severity="major", value=float(forged), limit=0.0))
        elif forged is not None:
            self._alarms.over(FORGED, who)
