"""An agent is a witness of the audit log: it believes what the audit key signed, keeps the last hundred checkpoints and names a contradiction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.security.audit_chain import Checkpoint
from edge_agent.enrolment import learn
from edge_agent.witness import EVIDENCE, KEEP, Witness

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32), Ed25519PrivateKey.from_private_bytes(b"\x06" * 32)


def point(size: int, head: str = "aa", at_ms: int | None = None, key: Ed25519PrivateKey = KEY, control: tuple[int, str] = (0, "")) -> bytes:
    made = Checkpoint(size, head, head, size if at_ms is None else at_ms, *control, "sha256")
    return json.dumps(made.signed(key).document()).encode()


def witness(folder: Path) -> Witness:
    return Witness(folder / "audit-checkpoints.jsonl", KEY.public_key())


def held(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "audit-checkpoints.jsonl").read_text().splitlines()]


def test_the_last_hundred_are_kept_across_a_restart(tmp_path: Path) -> None:
    first = witness(tmp_path)
    for size in range(1, 151):
        assert first.take(point(size))
    assert first.take(point(150))
    assert [row["size"] for row in held(tmp_path)] == list(range(51, 151))
    assert len(held(tmp_path)) == KEEP
    assert witness(tmp_path).take(point(150))
    assert (tmp_path / "audit-checkpoints.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.point("19")
@pytest.mark.point("P7")
@pytest.mark.parametrize("against", [point(120, "bb"), point(80, "aa", 10_000), point(130, "aa", 105), point(121, "aa", control=(7, "ff"))])
def test_a_rewritten_or_shortened_log_is_named_and_the_evidence_kept(tmp_path: Path, against: bytes) -> None:
    first = witness(tmp_path)
    for size in (100, 110, 120):
        assert first.take(point(size, control=(7, "ee")))
    again = witness(tmp_path)
    assert again.contradictions == 0
    assert not again.take(against)
    assert again.contradictions == 1
    assert json.loads(against) in held(tmp_path)
    assert len(held(tmp_path)) == 4
    assert witness(tmp_path).contradictions == 1  # a restart does not silence it


def test_evidence_outlives_a_hundred_later_checkpoints(tmp_path: Path) -> None:
    one = witness(tmp_path)
    for wire in (point(5), point(5, "bb", at_ms=6), *(point(size) for size in range(10, 10 + 2 * KEEP))):
        one.take(wire)
    rows = held(tmp_path)
    assert len(rows) == KEEP
    assert {row["head"] for row in rows if row["size"] == 5} == {"aa", "bb"}
    assert rows[-1]["size"] == 9 + 2 * KEEP
    assert witness(tmp_path).contradictions == one.contradictions == 1


@pytest.mark.point("P7")
def test_a_checkpoint_of_another_key_is_counted_and_never_kept(tmp_path: Path) -> None:
    one = witness(tmp_path)
    assert one.take(point(10))
    assert not one.take(point(5, "bb", at_ms=20, key=OTHER))  # were it believed, it would contradict: anybody on the link could raise the alarm
    altered = json.loads(point(11)) | {"size": 12}
    assert not one.take(json.dumps(altered).encode())
    assert (one.forged, one.contradictions) == (2, 0)
    assert [row["size"] for row in held(tmp_path)] == [10]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_altered_field_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    document = json.loads(point(20, "ab" * 32))
    name = data.draw(st.sampled_from(sorted(document)))
    was = document[name]
    document[name] = was + 1 if isinstance(was, int) else data.draw(st.text("0123456789abcdef", max_size=140).filter(lambda text: text != was))
    one = witness(tmp_path_factory.mktemp("w"))
    assert not one.take(json.dumps(document).encode())
    assert one.forged == 1


def test_an_old_box_without_the_key_still_sees_contradictions(tmp_path: Path) -> None:
    one = Witness(tmp_path / "audit-checkpoints.jsonl")
    assert one.take(point(10))
    assert not one.take(point(10, "bb"))
    assert one.contradictions == 1


def test_the_key_is_learned_once_and_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "platform.json"
    assert not learn(tmp_path, {"audit_signing": "ab" * 32})
    file.write_text('{"gateway_name": "kang-gateway"}')
    for wrong in ({}, {"audit_signing": None}, {"audit_signing": "xy" * 32}, {"audit_signing": "ab"}):
        assert not learn(tmp_path, wrong)
    assert learn(tmp_path, {"audit_signing": "ab" * 32})
    assert not learn(tmp_path, {"audit_signing": "cd" * 32})
    assert json.loads(file.read_text()) == {"gateway_name": "kang-gateway", "audit_signing": "ab" * 32}


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"{}", b'{"size": "1"}', b"\xff", b"1" * 10_000, b'{"size": 1, "head": "", "root": "", "at_ms": true, "signature": ""}'])
def test_what_is_no_checkpoint_is_refused_and_changes_nothing(tmp_path: Path, data: bytes) -> None:
    one = witness(tmp_path)
    assert not one.take(data)
    assert (one.contradictions, one.forged) == (0, 0)
    assert not (tmp_path / "audit-checkpoints.jsonl").exists()
    assert EVIDENCE < KEEP
