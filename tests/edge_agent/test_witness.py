"""An agent is a witness of the audit log: it keeps the last hundred checkpoints and names a contradiction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.witness import KEEP, Witness


def point(size: int, head: str = "aa", at_ms: int | None = None) -> bytes:
    return json.dumps({"size": size, "head": head, "root": head, "at_ms": size if at_ms is None else at_ms, "control_n": 0, "control_head": "", "suite": "sha256", "signature": "00"}).encode()


def test_the_last_hundred_are_kept_across_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    witness = Witness(file)
    for size in range(1, 151):
        assert witness.take(point(size))
    assert witness.take(point(150))
    sizes = [json.loads(line)["size"] for line in file.read_text().splitlines()]
    assert sizes == list(range(51, 151))
    assert len(sizes) == KEEP
    assert Witness(file).take(point(150))
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.point("19")
@pytest.mark.parametrize("forged", [point(120, "bb"), point(80, "aa", 10_000)])
def test_a_rewritten_or_shortened_log_is_named_and_the_evidence_kept(tmp_path: Path, forged: bytes) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    witness = Witness(file)
    for size in (100, 110, 120):
        witness.take(point(size))
    witness = Witness(file)
    assert not witness.take(forged)
    assert witness.contradictions == 1
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert json.loads(forged) in kept
    assert len(kept) == 4


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"{}", b'{"size": "1"}', b"\xff", b"1" * 10_000])
def test_what_is_no_checkpoint_is_refused_and_changes_nothing(tmp_path: Path, data: bytes) -> None:
    witness = Witness(tmp_path / "audit-checkpoints.jsonl")
    assert not witness.take(data)
    assert witness.contradictions == 0
