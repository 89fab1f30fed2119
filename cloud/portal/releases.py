"""Puts a quarantined batch back on the road: same partition, signed by the platform, its id as epoch, so that releasing twice is one batch.

Must not know: HTTP, the historian's tables.
"""

from __future__ import annotations

from nats.aio.client import Client

from cloud.core.clock import now_ms
from cloud.core.ports import ProjectDirectory
from cloud.core.settings import Settings
from cloud.historian.reader import QuarantineError
from cloud.historian.writer import QuarantineRow
from cloud.runtime.decode import RELEASE_AGENT
from cloud.runtime.placement import partition_for
from cloud.security import keys
from protos import batch, envelope, subjects
from protos.kang.v1 import telemetry_pb2 as pb


class Releaser:
    """Signs releases with a key of their own; the command key stays with the command service."""

    def __init__(self, client: Client, directory: ProjectDirectory, settings: Settings) -> None:
        self._js = client.jetstream(timeout=5)
        self._directory = directory
        self._settings = settings

    async def release(self, row: QuarantineRow, offset_ms: int) -> int:
        """Publish the rows again, `offset_ms` later; returns how many.

        Raises:
            QuarantineError: the bytes were never a readable batch, or the project is gone.
        """
        project = self._directory.project(row.project_id)
        try:
            readings = list(batch.readings(batch.parse(row.payload)))
        except batch.BatchError as error:
            raise QuarantineError(id=row.id, problem=f"cannot be read ({error.reason}); only discarding is possible / 无法解析，只能丢弃") from error
        if project is None:
            raise QuarantineError(id=row.id, problem="its project is gone / 项目已不存在")
        moved = [batch.Reading(r.device_id, r.point_id, r.at_ms + offset_ms, r.value, r.quality) for r in readings]
        stamp = batch.Stamp(row.project_id, row.agent_id, row.id.bytes, 1, bytes(16), 0, pb.CLOCK_STATE_REDATED, pb.ORIGIN_MANUAL)
        body = batch.encode(stamp, moved)
        credentials = self._settings.credentials
        header = envelope.Header(envelope.Kind.BATCH, envelope.identity_hash(subjects.RELEASE_IDENTITY), envelope.identity_hash(subjects.PLATFORM_IDENTITY), row.id.bytes, 1, now_ms())
        signed = envelope.sign(header, body, keys.signing_key(credentials / "release.ed25519"))
        sealed = envelope.Sealer(keys.box_key(credentials / "telemetry.x25519").public_key().public_bytes_raw()).seal(signed)
        subject = subjects.telemetry(partition_for(project, self._settings.partitions), row.project_id, RELEASE_AGENT)
        await self._js.publish(subject, sealed, headers={"Nats-Msg-Id": f"{RELEASE_AGENT}:{row.id}"})
        return len(moved)
