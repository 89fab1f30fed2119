"""The NATS uplink: batches and results into JetStream, everything down on the agent's own subjects.

Must not know: what sealed bytes contain, gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from edge_agent.backoff import Backoff
from edge_agent.errors import MissingExtra
from edge_agent.uplink.link import Link, Outgoing
from protos import subjects
from protos.kang.v1 import link_pb2

log = logging.getLogger("kang.edge.nats")
PUBLISH_S = 5.0


class Nats:
    """One agent's conversation over NATS."""

    def __init__(self, link: Link, *, url: str, credentials_dir: Path, project_id: int, agent_id: str, partition: int) -> None:
        self._link, self._url, self._credentials = link, url, credentials_dir
        self._project_id, self._agent_id = project_id, agent_id
        self._telemetry = subjects.telemetry(partition, project_id, agent_id)
        self._result = subjects.result(project_id, agent_id)
        self._publishing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keep a connection until cancelled.

        Raises:
            MissingExtra: nats-py is not installed.
        """
        try:
            import nats
            import nats.errors
        except ImportError:
            raise MissingExtra(package="nats-py", extra="edge-nats") from None
        backoff = Backoff(cap_s=60.0)
        while True:
            closed = asyncio.Event()
            try:
                client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=5, closed_cb=_setter(closed, self._link.wake), disconnected_cb=_setter(closed, self._link.wake),
                                            error_cb=_quiet, **self._security())
            except (ValueError, ssl.SSLError) as error:
                log.error("the certificate files cannot be used", extra={"fields": {"why": str(error)}})
            except (nats.errors.Error, OSError, TimeoutError) as error:
                log.warning("uplink not reached", extra={"fields": {"why": str(error) or type(error).__name__}})
            else:
                try:
                    await self._converse(client, closed, backoff)
                except (nats.errors.Error, OSError, TimeoutError, DecodeError) as error:
                    log.warning("uplink lost", extra={"fields": {"why": str(error) or type(error).__name__}})
                finally:
                    self._link.lost()
                    for task in self._publishing:
                        task.cancel()
                    await asyncio.shield(_close(client))
            await asyncio.sleep(backoff.failed(time.monotonic(), random.random()))

    def _security(self) -> dict[str, Any]:
        # Its own inbox, so that the server can forbid one agent to hear another's answers.
        options: dict[str, Any] = {"inbox_prefix": f"_INBOX.{self._agent_id}", "name": self._agent_id}
        seed = self._credentials / "nats.seed"
        if seed.exists():
            options["nkeys_seed_str"] = seed.read_text(encoding="ascii").strip()
        token = self._credentials / "nats.jwt"
        if token.exists():
            options["user_jwt_cb"] = lambda: bytearray(token.read_bytes().strip())  # renewed once a day beside us
        if self._url.startswith("tls://"):
            context = ssl.create_default_context(cafile=self._credentials / "zone-ca.pem")
            if (self._credentials / "agent.pem").exists():
                context.load_cert_chain(self._credentials / "agent.pem", self._credentials / "agent.key")
            options["tls"] = context
        return options

    async def _converse(self, client: Any, closed: asyncio.Event, backoff: Backoff) -> None:
        for what, take in (("ack", self._on_ack), ("command", self._on_command), ("lease", self._on_lease), ("welcome", self._on_welcome)):
            await client.subscribe(subjects.down(self._project_id, self._agent_id, what), cb=take)
        await client.flush(5)
        await self._beat(client)
        self._link.connected()
        backoff.succeeded()
        log.info("uplink stands")
        stream = client.jetstream(timeout=PUBLISH_S)
        last_beat, beating = time.monotonic(), None
        while not closed.is_set():
            if self._link.beat_due(time.monotonic(), last_beat):
                if beating is not None and beating.done():
                    beating.result()
                    beating = None
                if beating is None:
                    beating = asyncio.create_task(self._beat(client))
                last_beat = time.monotonic()
            messages = self._link.due()
            for message in messages:
                task = asyncio.create_task(self._publish(stream, message))
                self._publishing.add(task)
                task.add_done_callback(self._publishing.discard)
            while not self._link.live.empty():
                await client.publish(subjects.up(self._project_id, self._agent_id, "live"), self._link.live.get_nowait().SerializeToString())
            if messages:
                await asyncio.sleep(0)
            else:
                await self._link.pause(max(0.01, min(0.5, last_beat + self._link.heartbeat_s - time.monotonic())))

    async def _beat(self, client: Any) -> None:
        beat = self._link.agent.heartbeat()
        answer = await client.request(subjects.up(self._project_id, self._agent_id, "heartbeat"), beat.SerializeToString(), timeout=5)
        self._link.on_welcome(link_pb2.Welcome.FromString(answer.data))

    async def _publish(self, stream: Any, message: Outgoing) -> None:
        from nats.errors import Error
        subject, prefix = (self._telemetry, "") if message.batch else (self._result, "r:")
        try:
            taken = await stream.publish(subject, message.wire, headers={"Nats-Msg-Id": f"{prefix}{self._agent_id}:{message.epoch.hex()}:{message.sequence}"}, timeout=PUBLISH_S)
            if taken.duplicate:
                # It stands in the log, and its acknowledgement may have been lost with a connection: only a second copy makes the platform say it again.
                self._link.counts["asked_again"] += 1
                await stream.publish(subject, message.wire, timeout=PUBLISH_S)
        except (Error, OSError, TimeoutError) as error:
            self._link.failed(message, type(error).__name__)

    async def _on_ack(self, message: Any) -> None:
        try:
            self._link.on_ack(link_pb2.Ack.FromString(message.data))
        except DecodeError:
            self._link.counts["malformed_ack"] += 1

    async def _on_command(self, message: Any) -> None:
        if message.reply:
            await message.respond(b"")  # it stands in the agent's connection: "sent"
        self._link.agent.on_command(message.data)

    async def _on_lease(self, message: Any) -> None:
        try:
            self._link.agent.on_lease(link_pb2.Lease.FromString(message.data))
        except DecodeError:
            self._link.counts["malformed_lease"] += 1

    async def _on_welcome(self, message: Any) -> None:
        try:
            self._link.on_welcome(link_pb2.Welcome.FromString(message.data))
        except DecodeError:
            self._link.counts["malformed_welcome"] += 1


def _setter(*events: asyncio.Event) -> Any:
    async def done() -> None:
        for event in events:
            event.set()

    return done


async def _quiet(error: Exception) -> None:
    log.debug("nats: %s", error)


async def _close(client: Any) -> None:
    from nats.errors import Error
    try:
        await client.close()
    except (Error, OSError, TimeoutError):
        log.debug("closing failed")
