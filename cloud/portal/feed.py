"""What moves on the page, from the bus: live values under a lease, commands, alarms, presence. Implements `core.ports.Live`.

Must not know: HTTP, browsers.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.core.clock import now_ms
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.remote_control.endings import told
from protos import subjects
from protos.kang.v1 import link_pb2, telemetry_pb2

LEASE_S = 30
BUFFER = 2000  # events per watcher; the oldest values are dropped first, commands and alarms never


class Feed:
    """One per portal process."""

    def __init__(self, client: Client, directory: LedgerDirectory, *, heartbeat_s: int = 5) -> None:
        self._client = client
        self._directory = directory
        self._stale_ms = heartbeat_s * 3000 + 1000
        self._beats: dict[str, tuple[telemetry_pb2.Heartbeat, int, bool]] = {}
        self._watchers: dict[asyncio.Queue[dict[str, Any]], frozenset[int]] = {}
        self._leases: dict[asyncio.Queue[dict[str, Any]], frozenset[int]] = {}
        self._last_state: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.dropped = 0
        self.figures: dict[str, Any] = {}

    async def start(self) -> None:
        """Subscribe and keep leases alive."""
        await self._client.subscribe("live.*", cb=self._on_live)
        await self._client.subscribe("event.*", cb=self._on_event)
        await self._client.subscribe("presence.>", cb=self._on_presence)
        await self._client.subscribe("stats.runtime", cb=self._on_stats)
        self._tasks = [asyncio.create_task(self._keep())]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()

    async def watch(self, project_ids: Sequence[int], device_ids: Sequence[int] = ()) -> AsyncIterator[dict[str, Any]]:
        """Events of some projects until closed; the devices named are leased on the live lane."""
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._watchers[events] = frozenset(project_ids)
        self._leases[events] = frozenset(device_ids)
        try:
            await self._lease()
            while True:
                yield await events.get()
        finally:
            del self._watchers[events], self._leases[events]

    async def agents(self, project_id: int | None = None) -> list[dict[str, Any]]:
        """Agents as last heard; one never heard is listed as offline."""
        rows = []
        for agent in self._directory.agents(project_id):
            known = self._beats.get(agent.agent_id)
            if known is None:
                rows.append({"project_id": agent.project_id, "agent_id": agent.agent_id, "online": False, "last_heard_ms": None, "devices": [], "uplink": agent.uplink, "revoked": agent.revoked})
            else:
                rows.append({**self._row(*known), "uplink": agent.uplink, "revoked": agent.revoked})
        return rows

    def _row(self, beat: telemetry_pb2.Heartbeat, heard_ms: int, connected: bool) -> dict[str, Any]:
        return {
            "project_id": beat.project_id, "agent_id": beat.agent_id, "online": connected and now_ms() - heard_ms < self._stale_ms, "last_heard_ms": heard_ms,
            "clock_offset_ms": beat.wall_ms - heard_ms, "clock_trusted": beat.clock_trusted, "clock_source": beat.clock_source, "spool_batches": beat.spool_batches,
            "spool_readings": beat.spool_readings, "oldest_ms": beat.oldest_ms or None, "version": beat.version, "cpu_share": beat.cpu_share, "rss_bytes": beat.rss_bytes,
            "readings_total": beat.readings_total, "audit_contradictions": beat.audit_contradictions, "audit_forged": beat.audit_forged,
            "devices": [{
                "device_id": d.device_id, "online": d.online, "last_ok_ms": d.last_ok_ms or None, "error_code": d.error_code, "local_manual": d.local_manual, "locked_out": d.locked_out,
                "lockout_holder": d.lockout_holder, "lockout_reason": d.lockout_reason, "lockout_ms": d.lockout_ms,
                "holders": [{"point_id": h.point_id, "authority": h.authority, "value": h.value, "until_ms": h.until_ms or None, "holder": h.holder, "reason": h.reason} for h in d.holders],
            } for d in beat.devices]}

    def _send(self, project_id: int, event: dict[str, Any]) -> None:
        for events, wanted in list(self._watchers.items()):
            if project_id in wanted:
                if events.qsize() >= BUFFER and event["type"] == "values":
                    self.dropped += 1
                    continue
                events.put_nowait(event)

    async def _on_live(self, message: Msg) -> None:
        try:
            frame = telemetry_pb2.LiveFrame.FromString(message.data)
        except DecodeError:
            return
        columns = [array("I", frame.device_id), array("H", frame.point_id), array("q", frame.at_ms), array("d", frame.value), frame.quality]
        rows = [list(row) for row in zip(*columns, strict=False)]
        if rows:
            self._send(frame.project_id, {"type": "values", "project_id": frame.project_id, "rows": rows})

    async def _on_event(self, message: Msg) -> None:
        event = json.loads(message.data)
        if event.get("type") == "command":
            device = self._directory.device(int(event.get("device_id") or 0))
            event = told(event, self._directory.template(device.template) if device else None)
        self._send(int(event["project_id"]), event)

    async def _on_presence(self, message: Msg) -> None:
        _, project, agent_id = message.subject.split(".", 2)
        if not message.data:
            known = self._beats.get(agent_id)
            if known is not None:
                self._beats[agent_id] = (known[0], known[1], False)
        else:
            try:
                beat = telemetry_pb2.Heartbeat.FromString(message.data)
            except DecodeError:
                return
            self._beats[agent_id] = (beat, now_ms(), True)
        if agent_id in self._beats:
            self._send(int(project), {"type": "agent", **self._row(*self._beats[agent_id])})

    async def _on_stats(self, message: Msg) -> None:
        self.figures = json.loads(message.data)

    async def _keep(self) -> None:
        """Renew leases; tell watchers when an agent fell silent."""
        count = 0
        while True:
            await asyncio.sleep(2)
            count += 1
            if count % (LEASE_S // 4) == 0:
                await self._lease()
            for agent_id, known in list(self._beats.items()):
                online = self._row(*known)["online"]
                if self._last_state.get(agent_id) is True and not online:
                    self._send(known[0].project_id, {"type": "agent", **self._row(*known)})
                self._last_state[agent_id] = online

    async def _lease(self) -> None:
        wanted: dict[tuple[int, str], set[int]] = {}
        for devices in self._leases.values():
            for device_id in devices:
                device = self._directory.device(device_id)
                if device is not None:
                    wanted.setdefault((device.project_id, device.agent_id), set()).add(device_id)
        until = now_ms() + LEASE_S * 1000
        for (project_id, agent_id), device_ids in wanted.items():
            await self._client.publish(subjects.down(project_id, agent_id, "lease"), link_pb2.Lease(device_id=sorted(device_ids), until_ms=until).SerializeToString())
