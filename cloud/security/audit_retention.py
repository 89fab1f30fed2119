"""Deletes audit records past their retention (审计记录到期清除), after checking that each is still what was signed: a cut never hides an alteration.

Runs in the chainer's process, the only holder of the audit key. Must not know: functions, HTTP.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import delete, select

from cloud.core.clock import now_ms
from cloud.core.retention import DAY_MS, audit_days
from cloud.ledger import Ledger
from cloud.security.audit import AuditCheckpoint, AuditCut, AuditLink, OperationLog, canonical, record
from cloud.security.audit_chain import GENESIS, Checkpoint, Suite, Tree
from cloud.security.audit_cut import Cut
from protos.errors import KangError

log = logging.getLogger("kang.audit")
#: Records of one cut: it is checked while nothing is linked.
AT_ONCE: Final = 100_000
_SWEEP: Final = 2_000


class CutRefusedError(KangError):
    """What would be deleted is not what was signed: it is evidence and stays."""

    code = "E-AUDIT-CUT"
    zh = "到期审计记录未清除：第 {n} 条与签名不符，须保留作证据。请审计管理员运行 kang audit verify。"
    en = "Audit records past their retention were not deleted: number {n} is not what was signed and stays as evidence. Let the audit administrator run kang audit verify."


def newest_cut(ledger: Ledger, key: Ed25519PublicKey) -> Cut | None:
    """The cut in force: the newest the audit key signed; what else stands there deletes nothing (and `verify` names it)."""
    with ledger.read() as session:
        documents = list(session.scalars(select(AuditCut.document).order_by(AuditCut.n.desc())))
    for document in documents:
        with suppress(ValueError):
            cut = Cut.read(document)
            if cut.genuine(key):
                return cut
    return None


def leaf_file(folder: Path, base: int) -> Path:
    """The file of leaves after record `base`."""
    return folder / (f"leaves-{base}.bin" if base else "leaves.bin")


class Retention:
    """Cuts and sweeps.

    Args:
        days: retention, days; 0 = never.

    Raises:
        RetentionError: fewer than three years.
    """

    def __init__(self, ledger: Ledger, key: Ed25519PrivateKey, folder: Path, *, days: int, now: Callable[[], int] = now_ms) -> None:
        self._ledger, self._key, self._folder, self._days, self._now = ledger, key, folder, audit_days(days), now

    def cut(self) -> Cut | None:
        """Make the cut that is due, if one is: signed, told in the log itself, and in force from here on.

        Raises:
            CutRefusedError: a record that would be deleted was altered or is missing.
        """
        if not self._days:
            return None
        now, before = self._now(), newest_cut(self._ledger, self._key.public_key())
        base = before.n if before is not None else 0
        with self._ledger.read() as session:
            row = session.scalar(select(AuditCheckpoint).where(AuditCheckpoint.at_ms < now - self._days * DAY_MS, AuditCheckpoint.size > base,
                                                               AuditCheckpoint.size <= base + AT_ONCE).order_by(AuditCheckpoint.size.desc()).limit(1))
        if row is None:
            return None
        point = Checkpoint.read(row.document)
        if point.size != row.size or point.at_ms != row.at_ms or not point.genuine(self._key.public_key()):
            raise CutRefusedError(n=row.size)
        tree, highest = self._checked(point, before)
        made = Cut(point.size, point.head, point.root, tuple((size, node.hex()) for size, node in tree.peaks), highest, point.at_ms, now, self._days, point.suite).signed(self._key)
        with self._ledger.write() as session:
            session.add(AuditCut(n=made.n, at_ms=now, document=made.document()))
            record(session, "system.audit.cut", at_ms=now, target=f"audit/1..{made.n}", object_=f"audit_cut/{made.n}", after=made.document(), operator="kang-audit", level="warning",
                   detail={"n": made.n, "head": made.head, "covered_ms": made.covered_ms, "days": self._days})
        descriptor = os.open(self._folder / "cuts.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(made.document()).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        log.warning("records 1 to %d of the audit log are past their %d days and are deleted", made.n, self._days)
        return made

    def _checked(self, point: Checkpoint, before: Cut | None) -> tuple[Tree, int]:
        """Walk the records up to `point`: (the tree, highest id)."""
        suite = Suite(point.suite)
        tree, chain = (before.tree(), bytes.fromhex(before.head)) if before is not None else (Tree(suite), GENESIS)
        highest = before.record_id if before is not None else 0
        with self._ledger.read() as session:
            for link, row in session.execute(select(AuditLink, OperationLog).outerjoin(OperationLog, OperationLog.id == AuditLink.record_id)
                                             .where(AuditLink.n > tree.size, AuditLink.n <= point.size).order_by(AuditLink.n).execution_options(yield_per=2000)):
                if row is None or link.n != tree.size + 1 or suite.leaf(canonical(row)).hex() != link.leaf:
                    raise CutRefusedError(n=tree.size + 1)
                leaf = bytes.fromhex(link.leaf)
                tree.append(leaf)
                chain, highest = suite.link(chain, leaf), max(highest, link.record_id)
        if tree.size != point.size or chain.hex() != point.head or tree.root().hex() != point.root:
            raise CutRefusedError(n=min(tree.size + 1, point.size))
        return tree, highest

    def sweep(self) -> int:
        """Delete a piece of what the cut in force covers; returns how many records, 0 when all are gone."""
        cut = newest_cut(self._ledger, self._key.public_key())
        if cut is None:
            return 0
        with self._ledger.write() as session:
            found = session.execute(select(AuditLink.n, AuditLink.record_id).where(AuditLink.n <= cut.n).order_by(AuditLink.n).limit(_SWEEP)).all()
            if found:
                session.execute(delete(OperationLog).where(OperationLog.id.in_([i for _, i in found])))
                session.execute(delete(AuditLink).where(AuditLink.n <= found[-1][0]))
                session.execute(delete(AuditCheckpoint).where(AuditCheckpoint.size < cut.n, AuditCheckpoint.size <= found[-1][0]))
        return len(found)

    def carry(self, cut: Cut) -> None:
        """The file of leaves after the cut, taken from the one before; safe to call again after a crash."""
        target = leaf_file(self._folder, cut.n)
        old = sorted((int(f.stem.partition("-")[2] or 0), f) for f in self._folder.glob("leaves*.bin") if f != target)
        source = next(((base, f) for base, f in reversed(old) if base < cut.n), None)
        if not target.exists() and source is not None:
            temporary = target.with_suffix(".new")
            with source[1].open("rb") as whole, temporary.open("wb") as rest:
                whole.seek((cut.n - source[0]) * 32)
                while piece := whole.read(1 << 20):
                    rest.write(piece)
                rest.flush()
                os.fsync(rest.fileno())
            temporary.chmod(0o600)
            temporary.replace(target)
        for _, file in old:
            file.unlink()
