"""Opens what arrives on a partition: envelope, signature, columns, identity; says accepted, duplicate, or set aside and why. Sans-IO.

Must not know: streams, stores, Ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloud.core.ports import ProjectDirectory
from cloud.historian.columns import Columns, decode
from protos import batch as batches
from protos import subjects
from protos.envelope import EnvelopeError, Header, Kind, Opened, Opener, identity_hash
from protos.kang.v1 import telemetry_pb2 as pb
from protos.suites import BoxKey, Suite, VerifyingKey, verifying_key

RELEASE_AGENT: Final = "_release"  # batches the platform itself puts back from the quarantine


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that is what it claims: `previous` and `digest` are its chain links."""

    project_id: int
    agent_id: str
    owner: str           # agent whose devices the rows must belong to
    epoch: bytes
    sequence: int
    previous: bytes
    digest: bytes
    columns: Columns
    origin: int
    clock_state: int
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is set aside whole. `sequence` 0: the sender cannot be told which one it was."""

    project_id: int
    agent_id: str
    epoch: bytes
    sequence: int
    reason: str
    detail: str
    payload: bytes
    rows: int = 0


class Decoder:
    """Opens batches of known agents."""

    def __init__(self, directory: ProjectDirectory, telemetry_keys: Iterable[BoxKey], platform_public: bytes) -> None:
        """Args: telemetry_keys: one per suite that is opened at all; platform_public: of releases, which are of suite STD."""
        self._directory = directory
        self._opener = Opener(subjects.PLATFORM_IDENTITY, *telemetry_keys)
        self._platform_public = platform_public
        self._loaded: dict[bytes, VerifyingKey] = {}

    def _key(self, public: bytes) -> VerifyingKey:
        """A public key, loaded once."""
        key = self._loaded.get(public)
        if key is None:
            if len(self._loaded) >= 20_000:
                self._loaded.clear()
            key = self._loaded[public] = verifying_key(public)
        return key

    def _verify(self, opened: Opened, agent_id: str, public: bytes, identity: str) -> None:
        """Check the signature; an agent that changes its key may have signed with the one before, and our picture of it may be a moment old.

        Raises:
            EnvelopeError: sender or signature.
        """
        fresh = getattr(self._directory, "refresh", None)
        for attempt in (0, 1):
            known = self._directory.agent(agent_id) if agent_id != RELEASE_AGENT else None
            candidates = known.verifying_keys("batch", opened.header.epoch, opened.header.sequence) if known is not None else (public,)
            for k, candidate in enumerate(candidates):
                try:
                    opened.verify(self._key(candidate), identity)
                except EnvelopeError:
                    if k == len(candidates) - 1 and (attempt or fresh is None or known is None):
                        raise
                else:
                    return
            if fresh is not None:
                fresh()

    def _suite(self, agent_id: str, header: Header) -> Suite:
        """The suite an agent is admitted with; our picture of it may be a moment old. The platform's own releases are of suite STD."""
        fresh = getattr(self._directory, "refresh", None)
        known = self._directory.agent(agent_id)
        if known is not None and known.suite is not header.suite and fresh is not None:
            fresh()
            known = self._directory.agent(agent_id)
        return known.suite if known is not None else Suite.STD

    def open(self, subject: str, data: bytes) -> Arrived | Rejected:
        """Open one message of a telemetry subject `tel.<partition>.<project>.<agent>`."""
        parts = subject.split(".")
        project_id, agent_id = (int(parts[2]), parts[3]) if len(parts) == 4 and parts[2].isdecimal() else (0, "")
        epoch, sequence = b"", 0
        try:
            if agent_id == RELEASE_AGENT:
                identity, public = subjects.RELEASE_IDENTITY, self._platform_public
            else:
                known = self._directory.agent(agent_id)
                if known is None or known.project_id != project_id or known.revoked:
                    return Rejected(project_id, agent_id, b"", 0, "agent", f"agent {agent_id!r} of project {project_id} is not admitted", data)
                identity, public = subjects.agent_identity(project_id, agent_id), known.signing_public
            header = Header.unpack(data)
            if header.sender == identity_hash(identity):
                epoch, sequence = header.epoch, header.sequence
            opened = self._opener.open(data, Kind.BATCH, self._suite(agent_id, header))
            self._verify(opened, agent_id, public, identity)
            parsed = batches.parse(opened.body)
        except EnvelopeError as error:
            return Rejected(project_id, agent_id, epoch, sequence, f"envelope_{error.reason}", error.message("en"), data)
        except batches.BatchError as error:
            return Rejected(project_id, agent_id, epoch, sequence, f"batch_{error.reason}", error.message("en"), opened.body)
        rows = len(parsed.quality)
        if parsed.project_id != project_id or agent_id not in (parsed.agent_id, RELEASE_AGENT):
            return Rejected(project_id, agent_id, epoch, sequence, "project",
                            f"the batch says project {parsed.project_id}, agent {parsed.agent_id!r}; it came as project {project_id}, agent {agent_id!r}", opened.body, rows)
        if parsed.epoch != header.epoch or parsed.sequence != header.sequence:
            return Rejected(project_id, agent_id, epoch, sequence, "sequence", "the batch and its envelope disagree on epoch or sequence", opened.body, rows)
        if parsed.clock_state == pb.CLOCK_STATE_UNTRUSTED:
            return Rejected(project_id, agent_id, epoch, sequence, "clock",
                            f"stamped by a clock nobody vouches for (first at {parsed.base_ms} ms); release with the right offset", opened.body, rows)
        return Arrived(project_id, agent_id, parsed.agent_id, header.epoch, header.sequence, header.previous, opened.digest, decode(parsed), parsed.origin,
                       parsed.clock_state, len(data), opened.body)
