"""Suite SM at the agent: its own keys, one suite in everything it signs and believes, and no way between the suites but a new enrolment."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.security.audit_chain import Checkpoint
from edge_agent import cli, enrolment, keygen
from edge_agent.agent import Agent
from edge_agent.clock import AgentClock
from edge_agent.commands.journal import Journal
from edge_agent.config import load_credentials, load_site
from edge_agent.enrolment import EnrolError, learn
from edge_agent.errors import SiteError, SpoolError
from edge_agent.spool import Spool
from edge_agent.witness import Witness
from protos import envelope, subjects, suites
from protos.batch import Reading
from protos.kang.v1 import command_pb2, link_pb2
from protos.suites import SigningKey, Suite

AGENT, EPOCH = subjects.agent_identity(7, "box1"), b"e" * 16
KEYS = {suite: suites.signing_key(suite) for suite in Suite}
OTHER = {Suite.STD: Suite.SM, Suite.SM: Suite.STD}
SITE = {"project_id": 7, "agent_id": "box1", "state_dir": "state", "credentials_dir": "credentials", "uplink": {"kind": "grpc", "address": "127.0.0.1:1"}, "clock": "system"}


def spool(path: Any, key: SigningKey) -> Spool:
    return Spool(path, project_id=7, agent_id="box1", signing_key=key, new_epoch=EPOCH)


def journal(path: Any, key: SigningKey) -> Journal:
    return Journal(path, project_id=7, agent_id="box1", signing_key=key, new_epoch=EPOCH)


def emit(one: Journal) -> None:
    from edge_agent.commands.journal import Entry
    entry = Entry(b"i" * 16, 1, 0, command_pb2.COMMAND_KIND_LOCK, 1, 1, 1, command_pb2.STAGE_VERIFIED, "", 0, None, 0, 0, "", "", "", b"")
    with one.transaction():
        one.emit(entry, command_pb2.STAGE_VERIFIED, 5)


def append(one: Spool, n: int = 1) -> None:
    for k in range(n):
        one.append([Reading(1, 1, 1_780_000_000_000 + 1000 * k, float(k))], now_ms=1_780_000_000_000, boot_id=bytes(16), monotonic_ms=0)


def credentials(home: Path, suite: Suite, platform: Suite | None = None) -> Path:
    directory = home / "credentials"
    keygen.make(directory, suite)
    theirs = platform or suite
    (directory / "platform.json").write_text(json.dumps({"telemetry_box": suites.raw_public(suites.box_key(theirs)).hex(), "command_signing": suites.raw_public(KEYS[theirs]).hex()}))
    return directory


def test_keygen_makes_private_keys_of_the_suite(tmp_path: Path) -> None:
    assert cli.main(["keygen", str(tmp_path / "keys"), "--suite", "SM"]) == 0
    for name in ("agent-sign.sm2", "agent-box.sm2", "agent.key"):
        assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600
    assert not list((tmp_path / "keys").glob("*25519"))
    request = json.loads((tmp_path / "keys" / "agent.request.json").read_text())
    assert (request["suite"], len(request["signing_public"]), len(request["box_public"])) == ("sm", 128, 128)
    assert (tmp_path / "keys" / "agent-sign.sm2").read_bytes().hex() not in json.dumps(request)
    assert cli.main(["keygen", str(tmp_path / "keys")]) == 2, "keys of one suite are not joined by those of the other"


@pytest.mark.parametrize("suite", list(Suite))
def test_an_agent_starts_only_with_keys_of_the_suite_its_site_names(tmp_path: Path, suite: Suite) -> None:
    found = load_credentials(credentials(tmp_path, suite))
    assert found.suite is suite
    for named in Suite:
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE | {"suite": named.text}))
        site = load_site(tmp_path / "site.yaml")
        if named is suite:
            agent = Agent(site, found)
            append(agent.spool)
            sealed = agent.link._sealer.seal(agent.spool.get(1) or pytest.fail("nothing spooled"))
            assert envelope.Header.unpack(sealed).suite is suite
            agent.spool.close()
            agent.journal.close()
        else:
            with pytest.raises(SiteError, match="new enrolment"):
                Agent(site, found)
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE | {"suite": "tlcp"}))
    with pytest.raises(SiteError, match="std or sm"):
        load_site(tmp_path / "site.yaml")


@pytest.mark.parametrize("suite", list(Suite))
def test_a_platform_of_the_other_suite_is_not_believed(tmp_path: Path, suite: Suite) -> None:
    with pytest.raises(SiteError, match="new enrolment"):
        load_credentials(credentials(tmp_path, suite, OTHER[suite]))


def test_keys_of_both_suites_in_one_directory_are_refused(tmp_path: Path) -> None:
    directory = credentials(tmp_path, Suite.SM)
    enrolment.write(directory / "agent.ed25519", bytes(32))
    with pytest.raises(SiteError, match="both suites"):
        load_credentials(directory)


def test_enrolment_does_not_reuse_keys_of_the_other_suite(tmp_path: Path) -> None:
    keygen.make(tmp_path / "credentials", Suite.STD)
    with pytest.raises(EnrolError, match="other suite"):
        asyncio.run(enrolment.enrol("https://127.0.0.1:1", "0" * 32, "ab", tmp_path / "credentials", Suite.SM))


@pytest.mark.parametrize("suite", list(Suite))
def test_batches_and_results_are_signed_and_chained_in_the_suite_of_the_key(suite: Suite) -> None:
    one, two = spool(":memory:", KEYS[suite]), journal(":memory:", KEYS[suite])
    append(one, 3)
    for _ in range(3):
        emit(two)
    for store in (one, two):
        previous = envelope.GENESIS
        for sequence in (1, 2, 3):
            signed = store.get(sequence)
            assert signed is not None
            header = envelope.Header.unpack(signed.header)
            assert (header.suite, header.previous) == (suite, previous)
            envelope.Opened(header, signed).verify(suites.verifying_key(suites.raw_public(KEYS[suite])), AGENT)
            digest = suites.BY_NUMBER[suite].digest
            previous = digest(signed.header + digest(signed.body))


@pytest.mark.parametrize("suite", list(Suite))
def test_what_waits_in_one_suite_is_never_taken_over_by_the_other(tmp_path: Path, suite: Suite) -> None:
    first, second = spool(tmp_path / "spool.db", KEYS[suite]), journal(tmp_path / "journal.db", KEYS[suite])
    append(first, 2)
    emit(second)
    for store in (first, second):
        with pytest.raises(SpoolError, match="suite"):
            store.use_key(KEYS[OTHER[suite]])
        store.close()
    for make, name in ((spool, "spool.db"), (journal, "journal.db")):
        with pytest.raises(SpoolError, match="suite"):
            make(tmp_path / name, KEYS[OTHER[suite]])
    drained = spool(tmp_path / "spool.db", KEYS[suite])
    drained.free([(1, 2)])
    drained.close()
    changed = spool(tmp_path / "spool.db", KEYS[OTHER[suite]])
    append(changed)
    signed = changed.get(3)
    assert signed is not None
    assert envelope.Header.unpack(signed.header).suite is OTHER[suite]


@pytest.mark.parametrize("suite", list(Suite))
def test_the_signed_time_counts_only_in_the_box_s_own_suite(suite: Suite) -> None:
    challenge = b"c" * 12
    for signer in Suite:
        clock = AgentClock(command_key=suites.verifying_key(suites.raw_public(KEYS[suite])), floor_ms=0)
        clock.asked(0)
        wall = 1_780_000_000_000
        welcome = link_pb2.Welcome(wall_ms=wall, signature=suites.signed(KEYS[signer], challenge + wall.to_bytes(8, "little", signed=True)))
        assert clock.welcome(welcome, [challenge], 5, 10) == (signer is suite)


def test_a_witness_of_suite_sm_believes_the_second_signature_only(tmp_path: Path) -> None:
    ed, sm = suites.signing_key(Suite.STD), suites.signing_key(Suite.SM)
    point = Checkpoint(5, "aa", "aa", 5, 0, "", "sha256")
    both = point.signed(ed, sm)  # type: ignore[arg-type]
    assert both.genuine(ed.public_key())  # type: ignore[arg-type]
    witness = Witness(tmp_path / "held.jsonl", sm.public_key())
    assert witness.take(json.dumps(both.document()).encode())
    assert witness.newest() == 5
    for wrong in (point.signed(ed).document() | {"size": 6}, both.document() | {"size": 7}, both.document() | {"size": 8, "signature_sm2": "zz"}, both.document() | {"size": 9, "signature_sm2": 1}):  # type: ignore[arg-type]
        assert not witness.take(json.dumps(wrong).encode())
    assert (witness.forged, witness.newest()) == (4, 5)
    assert Witness(tmp_path / "std.jsonl", ed.public_key()).take(json.dumps(both.document()).encode())
    assert Checkpoint.read(both.document()) == both


def test_the_audit_key_is_learned_in_the_box_s_own_suite(tmp_path: Path) -> None:
    directory = credentials(tmp_path, Suite.SM)
    assert not learn(directory, {"audit_signing": "ab" * 32})
    assert learn(directory, {"audit_signing": suites.raw_public(KEYS[Suite.SM]).hex()})
    assert load_credentials(directory).audit_signing == KEYS[Suite.SM].public_key()
