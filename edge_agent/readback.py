"""History read-back (历史补采): what a monitoring system kept while no agent was there comes in by the same road, marked as backfill.

The source answers GET url?start=MS&end=MS&limit=N with {series: [{device, point, at_ms: [UTC ms], value: []}], next}. Progress survives a
restart; the spool's backlog throttles it, so live data never wait behind it. Must not know: drivers, uplinks, commands.
"""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.spool import Spool
from protos.batch import Reading
from protos.kang.v1 import telemetry_pb2 as pb
from protos.points import BY_KEY

log = logging.getLogger("kang.edge.readback")
PAGE: Final = 20_000
BACKLOG: Final = 60      # sealed batches waiting: pause above
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class HistorySource:
    """Where history is kept. `codes`: the source's device codes -> our device ids."""

    url: str
    days: float
    codes: Mapping[str, int]


class Readback:
    """Copies a source's history into the spool, once."""

    def __init__(self, source: HistorySource, spool: Spool, progress: Path, boot_id: bytes) -> None:
        self._source, self._spool, self._progress, self._boot = source, spool, progress, boot_id
        self.copied = 0
        self.unknown = 0

    async def run(self, now_ms: Callable[[], int], mono_ms: Callable[[], int], woken: Callable[[], None]) -> None:
        """Copy everything up to the moment of the first start, then end."""
        state = self._load(now_ms())
        while state["next"] < state["end"]:
            if self._spool.batches > BACKLOG:
                await asyncio.sleep(0.2)
                continue
            try:
                page = await asyncio.to_thread(self._page, state["next"], state["end"])
            except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
                log.warning("history source does not answer", extra={"fields": {"why": str(error)[:200]}})
                await asyncio.sleep(5)
                continue
            readings = self._readings(page)
            if readings:
                taken = await asyncio.to_thread(self._spool.append, readings, now_ms=now_ms(), boot_id=self._boot, monotonic_ms=mono_ms(), origin=pb.ORIGIN_BACKFILL)
                self.copied += taken
                if taken < len(readings):
                    await asyncio.sleep(5)  # the spool is full: the same page again later
                    continue
            following = page.get("next")
            state["next"] = int(following) if following is not None and int(following) > state["next"] else state["end"]
            self._progress.write_text(json.dumps(state))
            woken()
            await asyncio.sleep(0)
        log.info("history copied", extra={"fields": {"readings": self.copied, "unknown": self.unknown}})

    def _load(self, now_ms: int) -> dict[str, int]:
        try:
            state = json.loads(self._progress.read_text())
            return {"next": int(state["next"]), "end": int(state["end"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {"next": now_ms - int(self._source.days * DAY_MS), "end": now_ms}

    def _page(self, start_ms: int, end_ms: int) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._source.url}?start={start_ms}&end={end_ms}&limit={PAGE}", timeout=30) as answer:  # noqa: S310 # nosec B310  the scheme is checked in config
            page = json.load(answer)
        if not isinstance(page, dict):
            raise TypeError("not an object")
        return page

    def _readings(self, page: Mapping[str, Any]) -> list[Reading]:
        out: list[Reading] = []
        for series in page["series"]:
            device, point = self._source.codes.get(series["device"]), BY_KEY.get(series["point"])
            if device is None or point is None:
                self.unknown += len(series["at_ms"])
                continue
            out += [Reading(device, point.id, int(at), float(value)) for at, value in zip(series["at_ms"], series["value"], strict=True) if value is not None]
        return out
