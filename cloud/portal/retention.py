"""The daily job that deletes network records past their retention (网络记录到期清除); what it deleted stands in the audit log.

Must not know: engines, pages. The audit log's own retention belongs to the chainer, which alone can sign a cut.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from cloud.core.clock import now_ms
from cloud.historian.flow import FlowRetention
from cloud.ledger import Ledger
from cloud.security.audit import record
from protos.errors import KangError

log = logging.getLogger("kang.retention")
DAY_S: Final = 86_400
FIRST_S: Final = 600
AGAIN_S: Final = 900


async def once(flows: FlowRetention, ledger: Ledger) -> int:
    """Delete what is due and say so in the audit log; returns how many records.

    Raises:
        KangError: the historian is away.
    """
    gone = await flows.run_once()
    if gone:
        def tell() -> None:
            with ledger.write() as session:
                record(session, "system.network.cut", at_ms=now_ms(), target="network", operator="kang-retention", level="warning", detail={"records": gone, "days": flows.days})

        await asyncio.to_thread(tell)
        log.warning("%d network records past their %d days are deleted", gone, flows.days)
    return gone


async def keep(flows: FlowRetention, ledger: Ledger) -> None:
    """Once a day until cancelled; not in the first minutes, when everything starts."""
    pause = FIRST_S
    while True:
        await asyncio.sleep(pause)
        try:
            await once(flows, ledger)
            pause = DAY_S
        except (KangError, SQLAlchemyError) as error:
            log.warning("network records wait to be deleted: %s", error)
            pause = AGAIN_S
