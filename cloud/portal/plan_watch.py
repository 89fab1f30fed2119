"""Looks whether the planner still plans (规划进程是否沉默), from what it keeps: a process that hangs cannot say so itself.

Must not know: how plans are made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from cloud.functions.economic_operation.alarms import of_planner
from cloud.functions.economic_operation.service import EconomicService
from cloud.portal.own_alarms import Own, OwnAlarms

log = logging.getLogger("kang.alarms")
LOOK_S = 30.0


class PlanWatch:
    """Looks twice a minute; what stands is written by who settles the alarms."""

    def __init__(self, service: EconomicService, alarms: OwnAlarms, now: Callable[[], int]) -> None:
        self._service, self._alarms, self._now = service, alarms, now
        self._born_ms = now()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One look; a ledger that does not answer is somebody else's alarm."""
        try:
            settings, newest = await asyncio.to_thread(self._service.settings), await asyncio.to_thread(self._service.last_issued)
        except (SQLAlchemyError, OSError) as error:
            log.warning("the ledger does not answer: %s", type(error).__name__)
            return
        found = of_planner(list(settings.values()), newest, self._born_ms, self._now())
        if found.pop("wrong", True):
            self._alarms.say(Own(**found))
        else:
            self._alarms.over(found["rule"])
