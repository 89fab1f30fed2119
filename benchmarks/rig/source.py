"""Agents without devices: they seal batches of made-up readings with the production code and publish them, as fast as asked.

For benchmarks and tests of the road behind the field. Must not know: what is measured.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.rig.build import TEMPLATE
from cloud.core.settings import Settings
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.ledger import Ledger
from cloud.security import keys
from protos import batch, envelope, subjects


@dataclass
class Source:
    """One project with one agent whose keys we hold."""

    project_id: int
    agent_id: str
    partition: int
    devices: tuple[int, ...]
    key: Ed25519PrivateKey
    sealer: envelope.Sealer
    epoch: bytes = field(default_factory=lambda: os.urandom(16))
    sequence: int = 0
    previous: bytes = envelope.GENESIS

    @property
    def subject(self) -> str:
        """Where its batches go."""
        return subjects.telemetry(self.partition, self.project_id, self.agent_id)

    def seal(self, readings: list[batch.Reading]) -> bytes:
        """The next sealed batch."""
        self.sequence += 1
        body = batch.encode(batch.Stamp(self.project_id, self.agent_id, self.epoch, self.sequence, bytes(16)), readings)
        header = envelope.Header(envelope.Kind.BATCH, envelope.identity_hash(subjects.agent_identity(self.project_id, self.agent_id)), envelope.identity_hash(subjects.PLATFORM_IDENTITY),
                                 self.epoch, self.sequence, time.time_ns() // 1_000_000, previous=self.previous)
        signed = envelope.sign(header, body, self.key)
        self.previous = signed.digest
        return self.sealer.seal(signed)


def sources(settings: Settings, ledger: Ledger, count: int, *, devices: int = 10, prefix: str = "src", dedicated: bool = False) -> list[Source]:
    """Register `count` projects with one agent and `devices` rig devices each."""
    service = DeviceService(ledger)
    service.register_region("rig", "试验区", "Rig")
    service.register_template(yaml.safe_load(TEMPLATE.read_text()))
    box = keys.box_key(settings.credentials / "telemetry.x25519").public_key().public_bytes_raw()
    out = []
    for k in range(count):
        name = f"{prefix}{k}"
        new = NewProject(name, name, name, "rig", 40.0, 116.0, 1000.0, "boiler_storage", dedicated_host=dedicated)
        project_id = service.register_project(new)
        key, agent_id = Ed25519PrivateKey.generate(), f"{name}-a1"
        service.register_agent(agent_id, project_id, signing_public=key.public_key().public_bytes_raw(), box_public=X25519PrivateKey.generate().public_key().public_bytes_raw(), uplink="nats")
        ids = service.register_devices(project_id, [NewDevice(f"{name}-d{d}", name, name, agent_id, "rig_device") for d in range(devices)])
        partition = project_id % settings.partitions if not dedicated else 1024 + project_id % 1024
        out.append(Source(project_id, agent_id, partition, tuple(ids.values()), key, envelope.Sealer(box)))
    return out
