"""JetStream as a partitioned log: create streams, read them by sequence, purge to a cursor, claim by compare-and-set.

A stream's identity is a random word kept in its metadata: a stream lost and created again restarts its numbers, and must not be
mistaken for the old one. Stream life: limits retention, discard new (publishers are refused when full), purge to the lowest
committed cursor. Must not know: what a message means.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Any

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import KeyWrongLastSequenceError, NotFoundError

from protos import subjects
from protos.errors import KangError

#: Room of one partition on disk; a full stream refuses publishers, and agents keep what is refused.
STREAM_BYTES = 512 << 20


class FencedError(KangError):
    """Another process owns the partition now; this one must stop."""

    code = "E-FENCED"
    zh = "分区 {partition} 已由另一进程接管，本进程停止写入。无需处理。"
    en = "Partition {partition} is owned by another process now; this one stops writing. Nothing to do."


class StreamLostError(KangError):
    """The stream is not the one that was opened: it was deleted, or made again with a new identity."""

    code = "E-STREAM-LOST"
    zh = "数据流 {stream} 已丢失或重建，正在按新身份重新打开；未确认的批次由边缘重发。"
    en = "Stream {stream} was lost or made again; it is opened under its new identity, and agents send again what was not acknowledged."


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a partition's log. `received_ms`: when the stream stored it, UTC milliseconds."""

    sequence: int
    subject: str
    data: bytes
    received_ms: int


async def ensure_stream(js: JetStreamContext, name: str, subject: str, *, max_bytes: int, duplicate_window_s: float = 120.0, replicas: int = 1) -> str:
    """Create the stream if it does not exist; returns its identity."""
    try:
        info = await js.stream_info(name)
    except NotFoundError:
        info = await js.add_stream(StreamConfig(
            name=name, subjects=[subject], retention=RetentionPolicy.LIMITS, storage=StorageType.FILE, discard=DiscardPolicy.NEW,
            max_bytes=max_bytes, duplicate_window=duplicate_window_s, num_replicas=replicas, max_msg_size=2 << 20, allow_direct=True,
            metadata={"kang.identity": secrets.token_hex(8)}))
    metadata = info.config.metadata or {}
    identity: str | None = metadata.get("kang.identity")
    if identity is None:
        raise KangError(problem=f"stream {name} was not made by Kang")
    return identity


class PartitionLog:
    """Reads one stream by sequence, from a position the caller owns (AckNone consumer: the log is the record, not the consumer)."""

    def __init__(self, client: Client, stream: str, subject: str, *, max_bytes: int = STREAM_BYTES) -> None:
        self._client = client
        self._js = client.jetstream(timeout=10)
        self._stream = stream
        self._subject = subject
        self._max_bytes = max_bytes
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._next = 1
        self.identity = ""

    async def open(self) -> str:
        """Make sure the stream exists; returns its identity."""
        self.identity = await ensure_stream(self._js, self._stream, self._subject, max_bytes=self._max_bytes)
        return self.identity

    async def seek(self, sequence: int) -> None:
        """The next message fetched is the first one at or after `sequence`."""
        self._next = sequence
        await self._close()

    async def bounds(self) -> tuple[int, int]:
        """(first, last) sequence stored; last < first when empty."""
        state = (await self._js.stream_info(self._stream)).state
        return state.first_seq, state.last_seq

    async def fetch(self, limit: int, wait_s: float) -> list[Message]:
        """Up to `limit` messages in order; an empty list after `wait_s` without any. Survives server restarts.

        Raises:
            StreamLostError: the stream is not the one opened.
        """
        try:
            if self._subscription is None:
                self._subscription = await self._js.pull_subscribe(
                    self._subject, durable=None, stream=self._stream, pending_msgs_limit=-1, pending_bytes_limit=-1,
                    config=ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._next,
                                          inactive_threshold=300.0, mem_storage=True))
            raw = await self._subscription.fetch(limit, timeout=wait_s)
        except (TimeoutError, nats.errors.TimeoutError):
            await self._check()
            return []
        except (nats.errors.Error, nats.js.errors.Error, OSError):
            await self._close()
            await asyncio.sleep(0.1)
            await self._check()
            return []
        messages: list[Message] = []
        for item in raw:
            meta = item.metadata
            sequence = meta.sequence.stream
            if sequence >= self._next:
                self._next = sequence + 1
                messages.append(Message(sequence, item.subject, item.data, int(meta.timestamp.timestamp() * 1000)))
        return messages

    async def purge(self, up_to: int) -> None:
        """Forget messages with sequence <= `up_to`."""
        await self._js.purge_stream(self._stream, seq=up_to + 1)

    async def _check(self) -> None:
        """An idle fetch may mean the consumer is gone (server restart) or the stream was recreated: look, and start again."""
        try:
            info = await self._js.stream_info(self._stream)
        except (TimeoutError, NotFoundError, nats.errors.Error, OSError) as error:
            if isinstance(error, NotFoundError):
                raise StreamLostError(stream=self._stream) from error
            await self._close()
            return
        if (info.config.metadata or {}).get("kang.identity") != self.identity:
            raise StreamLostError(stream=self._stream)
        if info.state.last_seq >= self._next:
            await self._close()

    async def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except (nats.errors.Error, OSError):
                return


class ClaimStore:
    """Compare-and-set record per partition in a JetStream key-value bucket."""

    BUCKET = "claims"

    def __init__(self, client: Client) -> None:
        self._js = client.jetstream(timeout=10)
        self._bucket: Any = None

    async def _kv(self) -> Any:
        if self._bucket is None:
            try:
                self._bucket = await self._js.key_value(self.BUCKET)
            except NotFoundError:
                self._bucket = await self._js.create_key_value(bucket=self.BUCKET, history=1)
        return self._bucket

    async def load(self, partition: int) -> tuple[dict[str, Any] | None, int]:
        """(claim, revision); (None, 0) when there is none."""
        bucket = await self._kv()
        try:
            entry = await bucket.get(f"p{partition}")
        except nats.js.errors.KeyNotFoundError:
            return None, 0
        return json.loads(entry.value), entry.revision

    async def store(self, partition: int, claim: dict[str, Any], revision: int) -> int:
        """Write the claim if nobody wrote since `revision`; returns the new revision.

        Raises:
            FencedError: somebody did.
        """
        bucket = await self._kv()
        data = json.dumps(claim).encode()
        try:
            if revision == 0:
                return int(await bucket.create(f"p{partition}", data))
            return int(await bucket.update(f"p{partition}", data, last=revision))
        except KeyWrongLastSequenceError:
            raise FencedError(partition=partition) from None


async def ensure_results(js: JetStreamContext) -> str:
    """The stream of command results."""
    return await ensure_stream(js, subjects.RESULT_STREAM, "ctl.>", max_bytes=256 << 20)
