"""Keeps the last hundred checkpoints of the platform's audit log, so that nobody can rewrite it unseen.

Only what the audit key signed is believed; the key was learned at enrolment and is never replaced over the link. Two checkpoints of one size
that differ, or a later one that is shorter, contradict each other: both are kept, counted and reported. Must not know: how the log is kept, transports.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Final

from protos import checkpoint
from protos.suites import VerifyingKey, suite_of, verifies

log = logging.getLogger("kang.edge.witness")
KEEP: Final = 100
#: Contradicting checkpoints that are never dropped; the rest of the file is the newest.
EVIDENCE: Final = 20


class Witness:
    """Checkpoints in `file`, JSON lines, oldest first; the form `kang audit verify --checkpoints` reads.

    Args:
        file: made at the first checkpoint, mode 0600.
        key: the audit key's public half, of the box's suite; None at a box that was never told it: contradictions are seen, forgeries are not.

    Attributes:
        contradictions: checkpoints that contradict an earlier one, those in the file at start included: a restart silences nothing.
        forged: checkpoints the audit key did not sign, since start; none of them is kept.
    """

    def __init__(self, file: Path, key: VerifyingKey | None = None) -> None:
        self._file, self._key = file, key
        self.forged = 0
        self._held: list[dict[str, Any]] = []
        if file.exists():
            for line in file.read_text().splitlines():
                known = _read(line.encode())
                if known is not None:
                    self._held.append(known)
        self.contradictions = sum(any(_contradict(old, new) for old in self._held[:k]) for k, new in enumerate(self._held))

    def newest(self) -> int:
        """Records the newest checkpoint held speaks of; 0 without one."""
        return int(self._held[-1]["size"]) if self._held else 0

    def take(self, data: bytes) -> bool:
        """A checkpoint arrived; False when it is malformed, not signed by the audit key, or contradicts one held (then it is kept, as evidence)."""
        new = _read(data)
        if new is None:
            return False
        if any(new == old for old in self._held):
            return True
        if not self._genuine(new):
            self.forged += 1
            log.error("a checkpoint of %d records is not signed by the audit key", new["size"])
            return False
        against = [old for old in self._held if _contradict(old, new)]
        if against:
            self.contradictions += 1
            log.error("the platform's audit log was rewritten: checkpoint of %d records contradicts one held of %d", new["size"], against[0]["size"])
        self._held = _keep([*self._held, new])
        temporary = self._file.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, "".join(json.dumps(row) + "\n" for row in self._held).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self._file)
        return not against

    def _genuine(self, new: dict[str, Any]) -> bool:
        if self._key is None:
            return True
        try:
            return verifies(self._key, bytes.fromhex(new.get(checkpoint.SIGNATURE[suite_of(self._key)], "")), checkpoint.body(new))
        except (TypeError, ValueError):
            return False


def _contradict(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Can the two not both be true of one log that only grows?"""
    if a["size"] == b["size"] and (a["head"], a["root"]) != (b["head"], b["root"]):
        return True
    if a["control_n"] and a["control_n"] == b["control_n"] and a["control_head"] != b["control_head"]:
        return True
    early, late = (a, b) if a["at_ms"] <= b["at_ms"] else (b, a)
    return bool(early["at_ms"] < late["at_ms"] and early["size"] > late["size"])


def _keep(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest, and the first contradictions with what they contradict."""
    if len(rows) <= KEEP:
        return rows
    evidence = set[int]()
    for k, new in enumerate(rows):
        old = next((i for i in range(k) if _contradict(rows[i], new)), None)
        if old is not None and len(evidence) < EVIDENCE:
            evidence |= {old, k}
    room = KEEP - len(evidence)
    rest = [k for k in range(len(rows)) if k not in evidence]
    return [rows[k] for k in sorted(evidence | set(rest[len(rest) - room:]))]


def _read(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data[:4096])
        if not isinstance(found, dict) or type(found.get("signature")) is not str:
            return None
        checkpoint.body(found)
    except ValueError:
        return None
    return found
