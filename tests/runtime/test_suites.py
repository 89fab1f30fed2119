"""Whose batch in which suite is opened: the one its agent is admitted with, and no other, however well it is signed."""

from __future__ import annotations

from cloud.core.ports import AgentInfo
from cloud.runtime.decode import Arrived, Decoder, Rejected
from protos import batch, envelope, subjects, suites
from protos.batch import Reading, Stamp
from protos.suites import BoxKey, SigningKey, Suite

EPOCH = b"e" * 16
TELEMETRY: dict[Suite, BoxKey] = {suite: suites.box_key(suite) for suite in Suite}
SIGNING: dict[Suite, SigningKey] = {suite: suites.signing_key(suite) for suite in Suite}


def agent(suite: Suite) -> AgentInfo:
    return AgentInfo("a1", 1, suites.raw_public(SIGNING[suite]), suites.raw_public(suites.box_key(suite)), "grpc")


class Directory:
    """One agent; `later` is what a fresh look finds."""

    def __init__(self, now: AgentInfo, later: AgentInfo | None = None) -> None:
        self._now, self._later, self.looks = now, later, 0

    def agent(self, agent_id: str) -> AgentInfo | None:
        return self._now if agent_id == "a1" else None

    def refresh(self) -> int:
        self.looks += 1
        self._now = self._later or self._now
        return self.looks


def wire(suite: Suite, key: SigningKey | None = None) -> bytes:
    body = batch.encode(Stamp(1, "a1", EPOCH, 1, bytes(16)), [Reading(1, 1, 1_780_000_000_000, 21.5)])
    header = envelope.Header(envelope.Kind.BATCH, envelope.identity_hash(subjects.agent_identity(1, "a1")), envelope.identity_hash(subjects.PLATFORM_IDENTITY), EPOCH, 1, 5, suite=suite)
    return envelope.Sealer(suites.raw_public(TELEMETRY[suite]), suite=suite).seal(envelope.sign(header, body, key or SIGNING[suite]))


def opened(directory: Directory, sealed: bytes, keys: dict[Suite, BoxKey] | None = None) -> Arrived | Rejected:
    return Decoder(directory, (keys or TELEMETRY).values(), bytes(32)).open("tel.000.1.a1", sealed)  # type: ignore[arg-type]


def test_each_suite_is_opened_for_the_agents_that_are_of_it() -> None:
    for suite in Suite:
        directory = Directory(agent(suite))
        found = opened(directory, wire(suite))
        assert isinstance(found, Arrived)
        assert (found.sequence, found.columns.value[0], directory.looks) == (1, 21.5, 0)


def test_a_batch_of_the_other_suite_is_set_aside_by_name() -> None:
    for mine, other in ((Suite.SM, Suite.STD), (Suite.STD, Suite.SM)):
        found = opened(Directory(agent(mine)), wire(other))
        assert isinstance(found, Rejected)
        assert (found.reason, found.sequence) == ("envelope_suite", 1)


def test_another_key_of_the_same_suite_is_refused_as_ever() -> None:
    for suite in Suite:
        found = opened(Directory(agent(suite)), wire(suite, suites.signing_key(suite)))
        assert isinstance(found, Rejected)
        assert found.reason == "envelope_signature"


def test_a_box_admitted_again_in_the_other_suite_a_moment_ago_is_heard() -> None:
    found = opened(Directory(agent(Suite.STD), agent(Suite.SM)), wire(Suite.SM))
    assert isinstance(found, Arrived)


def test_a_platform_without_a_suite_opens_nothing_in_it() -> None:
    found = opened(Directory(agent(Suite.SM)), wire(Suite.SM), {Suite.STD: TELEMETRY[Suite.STD]})
    assert isinstance(found, Rejected)
    assert found.reason == "envelope_suite"
