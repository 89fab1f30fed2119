"""A lawful cut of the audit log (审计记录到期清除): what is signed when records past their retention are deleted, and what makes a cut unlawful. Pure.

A cut ends at a signed checkpoint that is itself older than the retention: every record before it was linked before that moment. It keeps the last hash
and the tree's peaks, so that the chain and every later checkpoint stay verifiable without what was deleted. Must not know: the ledger, files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloud.core.retention import AUDIT_FLOOR_DAYS, DAY_MS
from cloud.security.audit_chain import Checkpoint, Suite, Tree


@dataclass(frozen=True, slots=True)
class Cut:
    """Records 1..n are gone.

    Attributes:
        n: the last record that was deleted.
        head: the chain after it, hex.
        root: Merkle root of the first n leaves, hex.
        peaks: (size, root in hex) of the complete subtrees, larger first: the tree goes on from here.
        record_id: the highest id in the log among them.
        covered_ms: when the checkpoint of n records was signed: none of them is younger.
        at_ms: when the cut was made.
        days: the retention in force then.
        suite: hash suite.
        signature: Ed25519 of the audit key over all of it, hex.
    """

    n: int
    head: str
    root: str
    peaks: tuple[tuple[int, str], ...]
    record_id: int
    covered_ms: int
    at_ms: int
    days: int
    suite: str
    signature: str = ""

    def body(self) -> bytes:
        """What is signed."""
        return json.dumps(["kang-audit-cut-1", self.n, self.head, self.root, [list(p) for p in self.peaks], self.record_id, self.covered_ms, self.at_ms, self.days, self.suite]).encode()

    def signed(self, key: Ed25519PrivateKey) -> Cut:
        """The same, signed."""
        return replace(self, signature=key.sign(self.body()).hex())

    def genuine(self, key: Ed25519PublicKey) -> bool:
        """True when the audit key signed it."""
        try:
            key.verify(bytes.fromhex(self.signature), self.body())
        except (InvalidSignature, ValueError):
            return False
        return True

    def tree(self) -> Tree:
        """The tree of the first n leaves, to go on from.

        Raises:
            ValueError: the peaks are not those of `root`.
        """
        suite = Suite(self.suite)
        tree = Tree(suite, [(size, bytes.fromhex(node)) for size, node in self.peaks])
        if tree.size != self.n or tree.root().hex() != self.root:
            raise ValueError("the peaks do not give the root")
        return tree

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"n": self.n, "head": self.head, "root": self.root, "peaks": [list(p) for p in self.peaks], "record_id": self.record_id, "covered_ms": self.covered_ms,
                "at_ms": self.at_ms, "days": self.days, "suite": self.suite, "signature": self.signature}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Cut:
        """From JSON.

        Raises:
            ValueError: a field is missing or has the wrong type.
        """
        try:
            return cls(int(document["n"]), str(document["head"]), str(document["root"]), tuple((int(size), str(node)) for size, node in document["peaks"]),
                       int(document["record_id"]), int(document["covered_ms"]), int(document["at_ms"]), int(document["days"]), str(document["suite"]), str(document["signature"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a cut: {error}") from None


def unlawful(cut: Cut, key: Ed25519PublicKey, points: Iterable[Checkpoint], now_ms: int) -> tuple[str, str] | None:
    """Why a cut may not be, in two languages; None when it may.

    Args:
        cut: as it stands in the ledger.
        key: the audit key's public half.
        points: every genuine checkpoint known, agents' included: one of no more records that is younger than three years shows that young records were deleted.
        now_ms: UTC milliseconds.
    """
    if not cut.genuine(key):
        return f"第 1 至 {cut.n} 条的清除记录未经审计密钥签名", f"the cut of records 1 to {cut.n} is not signed by the audit key"
    try:
        cut.tree()
    except (ValueError, KeyError):
        return f"第 1 至 {cut.n} 条的清除记录自相矛盾", f"the cut of records 1 to {cut.n} contradicts itself"
    if cut.at_ms > now_ms or cut.at_ms - cut.covered_ms < AUDIT_FLOOR_DAYS * DAY_MS or cut.days < AUDIT_FLOOR_DAYS:
        return f"第 1 至 {cut.n} 条未满三年即被清除", f"records 1 to {cut.n} were deleted before three years had passed"
    for point in points:
        if point.size == cut.n and (point.head, point.root) != (cut.head, cut.root):
            return f"第 1 至 {cut.n} 条的清除记录与检查点不符", f"the cut of records 1 to {cut.n} contradicts the checkpoint of as many"
        if point.size < cut.n and cut.at_ms - point.at_ms < AUDIT_FLOOR_DAYS * DAY_MS:
            return (f"检查点表明第 {point.size + 1} 条之后的记录未满三年即被清除", f"a checkpoint shows that records after number {point.size} were deleted before three years had passed")
    return None
