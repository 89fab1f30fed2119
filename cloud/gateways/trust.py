"""Closes what may no longer be open: streams by certificate serial, NATS connections by nkey; notices two live boots of one key.

gRPC does not cut a connection whose certificate was revoked or has ended, so somebody has to hold the streams. Must not know: sealed bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from cloud.functions.devices.agents_service import AgentService
from cloud.security.authority import AuthorityClient
from protos.errors import KangError

log = logging.getLogger("kang.gateway")
LOOK_S = 0.2
#: A boot id heard again within this, after another one, is a second live box; later it may be a restored disk image.
MEMORY_S = 86_400.0


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
    """Looks five times a second whether any agent's identity has changed (one row), and acts on it."""

    def __init__(self, service: AgentService, authority: AuthorityClient | None, clones: CloneWatch, *, wall_ms: Callable[[], int]) -> None:
        """Args: authority: None where NATS is given and its users are not ours."""
        self._service, self._authority, self._clones, self._wall_ms = service, authority, clones, wall_ms
        self.streams: dict[str, OpenStream] = {}
        self.closed = 0
        self._seen = self._nats_seen = -1
        self._usable: dict[str, frozenset[str]] = {}

    def may_connect(self, agent_id: str, serial: str) -> bool:
        """Is this a certificate the agent may use now? An agent admitted without a recorded serial may use any of the edge zone's."""
        serials = self._usable.get(agent_id)
        return serials is not None and (not serials or serial in serials)

    async def run(self) -> None:
        """Until cancelled."""
        last_clock = 0.0
        while True:
            try:
                changed = await self.look()
            except SQLAlchemyError as error:
                log.warning("revocations cannot be read: %s", error)
            else:
                if changed or time.monotonic() - last_clock > 5:
                    last_clock = time.monotonic()
                    self.close_what_is_refused()
                if self._nats_seen != self._seen and self._authority is not None:
                    await self._revoke_nats(self._authority)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> bool:
        """Read again if something has changed."""
        version = await asyncio.to_thread(self._service.version)
        if version == self._seen:
            return False
        self._usable, suspects = await asyncio.to_thread(self._service.usable)
        self._seen = version
        for agent_id in self._clones.suspects():
            if agent_id not in suspects:
                self._clones.clear(agent_id)
        return True

    def close_what_is_refused(self) -> None:
        """End the streams of revoked agents, replaced certificates and certificates that have ended."""
        now = self._wall_ms()
        for stream in list(self.streams.values()):
            if not self.may_connect(stream.agent_id, stream.serial):
                stream.end("E-LINK-REVOKED: this certificate was revoked or replaced")
                self.closed += 1
            elif stream.not_after_ms and now > stream.not_after_ms:
                stream.end("E-LINK-EXPIRED: this certificate has ended")
                self.closed += 1

    async def _revoke_nats(self, authority: AuthorityClient) -> None:
        seen = self._seen
        try:
            revoked = await asyncio.to_thread(self._service.nats_revocations)
            await asyncio.to_thread(lambda: authority.ask("nats_revoke", revoked=revoked))
            self._nats_seen = seen
        except KangError as error:
            log.warning("NATS revocations wait: %s", error)
