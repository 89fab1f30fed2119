"""Closes what may no longer be open: streams by certificate serial, NATS connections by nkey; notices two live boots of one key.

gRPC does not cut a connection whose certificate was revoked or has ended, so somebody has to hold the streams. Must not know: sealed bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud.core.ports import AgentInfo
from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.directory import LedgerDirectory
from cloud.security.authority import AuthorityClient
from protos.errors import KangError

log = logging.getLogger("kang.gateway")
LOOK_S = 0.2
#: A boot id heard again within this, after another one, is a second live box; later it may be a restored disk image.
MEMORY_S = 86_400.0


def may_connect(agent: AgentInfo | None, serial: str) -> bool:
    """Is this certificate one the agent may use now?"""
    return agent is not None and not agent.revoked and (not agent.certificate_serial or serial == agent.certificate_serial or serial in agent.certificates)


@dataclass(slots=True)
class OpenStream:
    """One agent's live stream."""

    agent_id: str
    project_id: int
    serial: str
    not_after_ms: int
    boot_id: bytes
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""

    def end(self, why: str) -> None:
        """Close it."""
        self.why = why
        self.ended.set()


class CloneWatch:
    """A boot id never comes back after another one was heard: if it does, two boxes live with one key. Sans-IO."""

    def __init__(self, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._mono_s = mono_s
        self._heard: dict[str, dict[bytes, float]] = {}
        self._newest: dict[str, bytes] = {}
        self._distrusted: dict[str, bytes] = {}

    def heard(self, agent_id: str, boot_id: bytes) -> bool:
        """Note a heartbeat; True when it proves a second box."""
        now = self._mono_s()
        boots = self._heard.setdefault(agent_id, {})
        for old in [b for b, at in boots.items() if now - at > MEMORY_S]:
            del boots[old]
        proof = boot_id in boots and boot_id != self._newest[agent_id]
        if boot_id not in boots:
            if len(boots) >= 8:
                del boots[min(boots, key=boots.__getitem__)]
            self._newest[agent_id] = boot_id
        boots[boot_id] = now
        if proof and agent_id not in self._distrusted:
            self._distrusted[agent_id] = self._newest[agent_id]
        return proof

    def trusted(self, agent_id: str, boot_id: bytes) -> bool:
        """May control be based on what this boot says? Not on the newest of two."""
        return self._distrusted.get(agent_id) != boot_id

    def clear(self, agent_id: str) -> None:
        """A person has looked: only the boots heard from now on count."""
        for known in (self._heard, self._newest, self._distrusted):
            known.pop(agent_id, None)

    def suspects(self) -> list[str]:
        """Agents with a distrusted boot."""
        return list(self._distrusted)


class TrustWatch:
    """Looks five times a second whether anything about agents has changed (one row), and acts on it."""

    def __init__(self, directory: LedgerDirectory, service: AgentService, authority: AuthorityClient | None, clones: CloneWatch, *, wall_ms: Callable[[], int]) -> None:
        """Args: authority: None where NATS is given and its users are not ours."""
        self._directory, self._service, self._authority, self._clones, self._wall_ms = directory, service, authority, clones, wall_ms
        self.streams: dict[str, OpenStream] = {}
        self.closed = 0
        self._nats_version = -1

    async def run(self) -> None:
        """Until cancelled."""
        seen, last_clock = -1, 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                version = await asyncio.to_thread(self._directory.refresh)
            except Exception as error:  # noqa: BLE001  a ledger that cannot be read now is read again in a moment
                log.warning("revocations cannot be read: %s", error)
                continue
            if version != seen or time.monotonic() - last_clock > 5:
                seen, last_clock = version, time.monotonic()
                self.close_what_is_refused()
            if version != self._nats_version and self._authority is not None:
                await self._revoke_nats(version)

    def close_what_is_refused(self) -> None:
        """End the streams of revoked agents, replaced certificates and certificates that have ended."""
        now = self._wall_ms()
        for stream in list(self.streams.values()):
            if not may_connect(self._directory.agent(stream.agent_id), stream.serial):
                stream.end("E-LINK-REVOKED: this certificate was revoked or replaced")
                self.closed += 1
            elif stream.not_after_ms and now > stream.not_after_ms:
                stream.end("E-LINK-EXPIRED: this certificate has ended")
                self.closed += 1
        for agent_id in self._clones.suspects():
            agent = self._directory.agent(agent_id)
            if agent is not None and not agent.cloned:
                self._clones.clear(agent_id)

    async def _revoke_nats(self, version: int) -> None:
        assert self._authority is not None
        try:
            revoked = await asyncio.to_thread(self._service.nats_revocations)
            await asyncio.to_thread(lambda: self._authority.ask("nats_revoke", revoked=revoked))  # type: ignore[union-attr]
            self._nats_version = version
        except KangError as error:
            log.warning("NATS revocations wait: %s", error)
