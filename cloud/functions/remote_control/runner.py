"""Carries batches out: one task per batch sends what is due, follows every device, stops or puts back after a failure as asked.

All it knows stands in the ledger: after a restart it goes on where it was, and the command service takes the same idempotency key for the same command.
Must not know: FastAPI, transports.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from cloud.core.ports import CommandBus, CommandRequest, Live
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.state import by_device
from cloud.functions.remote_control import service
from cloud.functions.remote_control.batches import ENDED, BatchService, restorable
from cloud.functions.remote_control.endings import ending
from cloud.functions.remote_control.errors import BatchError, RestoreError
from cloud.security.operations import Principal
from protos.errors import KangError

log = logging.getLogger("kang.batches")
TOGETHER: Final = 16
LOOK_S: Final = 0.4
#: How often batches that wait for a second person are looked at, s.
LAPSE_S: Final = 5.0
#: How long the command service may be away before what could not be handed over counts as failed.
PATIENCE_MS: Final = 60_000
_BAD: Final = frozenset({"failed", "refused", "expired", "unknown"})


class BatchRunner:
    """Sends and follows."""

    def __init__(self, batches: BatchService, commands: CommandBus, live: Live, directory: LedgerDirectory, now: Callable[[], int]) -> None:
        self.batches = batches
        self._commands, self._live, self._directory, self._now = commands, live, directory, now
        self._running: dict[str, asyncio.Task[None]] = {}
        self._lapsing: asyncio.Task[None] | None = None

    def start(self, identity: str) -> None:
        """Go on with a batch until it has ended; safe to say twice."""
        if identity not in self._running:
            task = self._running[identity] = asyncio.create_task(self._run(identity), name=f"batch {identity[:8]}")
            task.add_done_callback(lambda _: self._running.pop(identity, None))

    def resume(self) -> None:
        """After a restart: go on with all that had not ended, and end what nobody agreed to."""
        self._lapsing = asyncio.create_task(self._lapse(), name="batches lapse")
        for identity in self.batches.unfinished():
            self.start(identity)

    async def close(self) -> None:
        """Stop following; the ledger knows where each batch stands."""
        tasks = [*self._running.values(), *([self._lapsing] if self._lapsing is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lapse(self) -> None:
        while True:
            try:
                for identity in await asyncio.to_thread(self.batches.lapse):
                    log.info("batch %s ends: nobody agreed to it", identity[:8])
            except (KangError, SQLAlchemyError) as error:
                log.warning("batches that wait are looked at again: %s", error)
            await asyncio.sleep(LAPSE_S)

    async def _run(self, identity: str) -> None:
        next_ms = 0
        while True:
            try:
                batch = await asyncio.to_thread(self.batches.batch, identity)
                if batch["state"] != "running":
                    return
                await self._follow(batch)
                batch = await asyncio.to_thread(self.batches.batch, identity)
                if await self._judge(batch):
                    continue
                now, waiting = self._now(), [i for i in batch["items"] if i["state"] == "waiting"]
                if waiting and not batch["cancelled_by"] and now >= max(batch["start_ms"], next_ms):
                    gap_ms = int(float(batch["wish"].get("gap_s") or 0) * 1000)
                    await asyncio.gather(*(self._send(batch, i) for i in waiting[:1 if gap_ms else TOGETHER]))
                    next_ms = now + gap_ms
                    continue
                if await asyncio.to_thread(self.batches.finish, identity) != "running":
                    return
            except (KangError, SQLAlchemyError, KeyError) as error:
                log.warning("batch %s waits: %s", identity[:8], error)
            await asyncio.sleep(LOOK_S)

    async def _send(self, batch: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        """One device: judge it again by what is known now, note what it was held at, hand it over."""
        identity, n, now = batch["id"], item["n"], self._now()
        device = self._directory.device(item["device_id"])
        try:
            if device is None:
                raise BatchError(reason_zh="设备已不存在", reason_en="the device is no longer there")
            heard = by_device(await self._live.agents(device.project_id)).get(device.id)
            wish = item["wish"]
            request = service.check(CommandRequest(
                device.project_id, device.id, wish["kind"], wish["point_id"], wish["value"], wish["low"], wish["high"], batch["authority"], wish["hold_s"], float(batch["wish"].get("deadline_s") or 30.0), batch["actor"],
                batch["reason"], str(batch["wish"].get("work_order") or ""), f"batch-{identity}-{n}"), device, self._directory.template(device.template) or {}, heard)
        except KangError as error:
            await self._note(identity, n, state="refused", code=error.code, why={"zh": error.message("zh"), "en": error.message("en")})
            return
        held = next((h for h in (heard or {}).get("holders", ()) if int(h["point_id"]) == request.point_id and int(h["authority"]) == request.authority), None)
        before = None if held is None or held.get("value") is None else {"value": held["value"], "until_ms": int(held.get("until_ms") or 0), "holder": str(held.get("holder", ""))}
        if item["before"] is None and before is not None:  # noted before it is sent: after a crash in between it would read our own hold
            await self._note(identity, n, before=before)
        try:
            view = await self._commands.submit(request)
        except KangError as error:
            away = error.code == "E-CMD-DOWN"
            if not away or now - batch["start_ms"] > PATIENCE_MS + int(float(batch["wish"].get("gap_s") or 0) * 1000) * n:
                await self._note(identity, n, state="failed" if away else "refused", code=error.code, why={"zh": error.message("zh"), "en": error.message("en")})
            else:
                await asyncio.sleep(LOOK_S)
            return
        await self._note(identity, n, state=str(view["state"]), command_id=view["id"], sent_ms=now)

    async def _note(self, identity: str, n: int, **values: Any) -> None:
        await asyncio.to_thread(lambda: self.batches.note(identity, n, **values))

    async def _follow(self, batch: Mapping[str, Any]) -> None:
        going = [i for i in batch["items"] if i["command_id"] and i["state"] not in ENDED]
        for k in range(0, len(going), TOGETHER):
            views = await asyncio.gather(*(self._commands.get(i["command_id"]) for i in going[k:k + TOGETHER]))
            for item, view in zip(going[k:k + TOGETHER], views, strict=True):
                if view is not None and view["state"] != item["state"]:
                    device, code = self._directory.device(item["device_id"]), str(view.get("code") or "")
                    why = ending(code, str(view.get("detail") or ""), self._directory.template(device.template) if device is not None else None)
                    state = "cancelled" if code == "E-CMD-CANCELLED" else view["state"]
                    await self._note(batch["id"], item["n"], state=state, code=code, readback=view.get("readback"), why=why)

    async def _judge(self, batch: Mapping[str, Any]) -> bool:
        """After a failure: go on, stop, or put back what was done, as the batch was asked to. True = something has changed, look again."""
        policy = batch["wish"].get("on_failure") or "go_on"
        if policy == "go_on" or not any(i["state"] in _BAD for i in batch["items"]):
            return False
        if not batch["cancelled_by"]:
            await self.cancel(batch["id"], "-")
            return True
        if policy == "restore" and batch["restored_by"] is None and batch["cancelled_by"] == "-" and all(i["state"] in ENDED for i in batch["items"]):
            who = Principal(batch["actor_id"], batch["actor"], batch["actor"], frozenset(), None, None, "", "")
            try:
                await self.restore(batch, who, reason=batch["reason"])
            except RestoreError as error:
                log.info("batch %s: %s", batch["id"][:8], error)
        return False

    async def cancel(self, identity: str, by: str) -> None:
        """Send no more of a batch, and call back what the command service has not sent yet.

        Raises:
            BatchStateError: it has ended already.
        """
        for command_id in await asyncio.to_thread(self.batches.cancel, identity, by):
            try:
                await self._commands.cancel(command_id, actor=by)
            except KangError as error:  # it goes its way, and is followed
                log.warning("command %s was not called back: %s", command_id[:8], error)

    async def restore(self, batch: Mapping[str, Any], who: Principal, *, reason: str) -> dict[str, Any]:
        """Put back what a batch changed, as a batch of its own.

        Raises:
            RestoreError: nothing can be put back; says why.
        """
        if batch["of"] is not None:
            raise RestoreError(reason_zh="这一批本身就是恢复", reason_en="this batch itself put something back")
        newest: dict[tuple[int, int], str] = {}
        for device_id in {i["device_id"] for i in batch["items"] if i["command_id"]}:
            for row in await self._commands.list(device_id=device_id, limit=50):  # newest first
                if row["authority"] == batch["authority"] and row["state"] not in ("refused", "expired"):
                    newest.setdefault((device_id, row["point_id"]), row["id"])
        back, left = restorable(batch, newest, self._now())
        if batch["restored_by"] is not None or not back:
            first: Mapping[str, str] = left[0]["why"] if left else {"zh": "没有已生效的设定", "en": "no set-point had taken effect"}
            raise RestoreError(reason_zh=first["zh"] if batch["restored_by"] is None else "已经恢复过", reason_en=first["en"] if batch["restored_by"] is None else "it was put back already")
        requests = [CommandRequest(i["project_id"], i["device_id"], authority=batch["authority"], actor=who.name, reason=reason, **i["wish"]) for i in back]
        made = await asyncio.to_thread(lambda: self.batches.create(f"{batch['id'][:24]}-restore"[:32], requests, {"deadline_s": batch["wish"].get("deadline_s"), "of": batch["id"]}, who,
                                                                   kw=self._kw(requests), of=batch["id"], kind="restore"))
        self.start(made["id"])
        return {**made, "left": [{"device_id": i["device_id"], "why": i["why"]} for i in left]}

    def _kw(self, requests: Sequence[CommandRequest]) -> float:
        return sum(d.rated_kw for r in requests if (d := self._directory.device(r.device_id)) is not None)
