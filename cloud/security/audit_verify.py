"""Checks the audit log against its chain, its file of leaves and every known checkpoint, and names the first record that is not what it was.

Kinds of findings: altered, missing, cut, reordered, rewritten, unlinked (waits longer than five seconds), checkpoint (forged or contradicting), unlawful (a cut
of records that were too young, or that the audit key did not sign). After a lawful cut the chain is checked from the hash it kept.
Must not know: the audit key's private half, who asks.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select

from cloud.ledger import Ledger
from cloud.security.audit import LAG_MS, AuditCheckpoint, AuditCut, AuditLink, OperationLog, canonical
from cloud.security.audit_chain import GENESIS, Checkpoint, Suite, roots_at
from cloud.security.audit_cut import Cut, unlawful
from cloud.security.audit_retention import leaf_file


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong: kind, place in the chain (1 = first), id of the row in the log (0 when it is gone), and why in two languages."""

    kind: str
    n: int
    record_id: int
    zh: str
    en: str
    log: str = "ledger"  # or "commands"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check."""

    records: int
    checkpoints: int
    commands: int
    findings: tuple[Finding, ...]
    cut: Cut | None = None  # the lawful cut in force: `records` are those after it

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return not self.findings


def checkpoints_of(path: Path) -> list[Checkpoint]:
    """Checkpoints from a file of JSON lines (ours, or an agent's); lines that are none are left to the caller as forged ones of size 0."""
    found = []
    for line in path.read_text().splitlines():
        if line.strip():
            try:
                found.append(Checkpoint.read(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                found.append(Checkpoint(0, "", "", 0, 0, "", "sha256", ""))
    return found


def verify(ledger: Ledger, public: Ed25519PublicKey, folder: Path | None, *, now_ms: int, control: Path | None = None, known: Iterable[Checkpoint] = (),
           suite: str = "sha256") -> Report:
    """Check everything.

    Args:
        ledger: where the log is.
        public: the audit key's public half.
        folder: where the chainer's files are (`leaves.bin`, `checkpoints.jsonl`).
        now_ms: UTC milliseconds.
        control: the command service's store.
        suite: hash suite of the chain.
        known: checkpoints from elsewhere (agents, backups, paper).
    """
    hashes = Suite(suite)
    # The log grows while it is read, so each part is read before what must cover it: cuts and checkpoints, then the leaves beside (written after
    # their links are committed), then links, then records.
    with ledger.read() as session:
        cuts = [row.document for row in session.scalars(select(AuditCut).order_by(AuditCut.n))]
        stored = [Checkpoint.read(row.document) for row in session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size))]
    beside = checkpoints_of(folder / "checkpoints.jsonl") if folder is not None and (folder / "checkpoints.jsonl").exists() else []
    points = [*stored, *beside, *known]
    findings: list[Finding] = []
    genuine = []
    for point in points:
        if point.genuine(public):
            genuine.append(point)
        else:
            findings.append(Finding("checkpoint", point.size, 0, f"检查点（{point.size} 条）签名无效", f"the checkpoint of {point.size} records is not signed by the audit key"))
    findings += _contradictions(genuine)
    cut, wrong = _lawful(cuts, public, genuine, now_ms)
    findings += wrong
    base = cut.n if cut is not None else 0
    held = _leaves(folder, base)
    every, rows, times = _read(ledger, hashes)
    links = [link for link in every if link[0] > base]  # what the cut covers may still be being deleted
    findings += _walk(hashes, links, rows, held, genuine, cut)
    if not findings:
        linked = {i for _, i, _, _ in every}
        late = [i for i in rows if i not in linked and now_ms - times[i] > LAG_MS]
        if late:
            findings.append(Finding("unlinked", 0, min(late), f"记录 {min(late)} 起 {len(late)} 条未入链", f"{len(late)} records from {min(late)} are not linked"))
    commands, wrong = _commands(control, genuine)
    findings += wrong
    return Report(len(links), len({(p.size, p.head) for p in genuine}), commands, tuple(findings), cut)


def _read(ledger: Ledger, hashes: Suite) -> tuple[list[tuple[int, int, bytes, bytes]], dict[int, bytes], dict[int, int]]:
    """Links, leaves of records, their times."""
    rows: dict[int, bytes] = {}
    times: dict[int, int] = {}
    with ledger.read() as session:
        every = [(int(n), int(i), bytes.fromhex(leaf), bytes.fromhex(chain)) for n, i, leaf, chain in session.execute(
            select(AuditLink.n, AuditLink.record_id, AuditLink.leaf, AuditLink.chain).order_by(AuditLink.n))]
        for row in session.scalars(select(OperationLog).execution_options(yield_per=2000)):
            rows[row.id], times[row.id] = hashes.leaf(canonical(row)), int(row.at_ms)
    return every, rows, times


def _lawful(documents: list[dict[str, Any]], public: Ed25519PublicKey, points: list[Checkpoint], now_ms: int) -> tuple[Cut | None, list[Finding]]:
    """The newest cut that may be, and every one that may not."""
    newest: Cut | None = None
    findings = []
    for document in documents:
        try:
            cut = Cut.read(document)
            why = unlawful(cut, public, points, now_ms)
        except ValueError:
            findings.append(Finding("unlawful", 0, 0, "清除记录无法读取", "a cut cannot be read"))
            continue
        if why is None:
            newest = cut
        else:
            findings.append(Finding("unlawful", cut.n, 0, *why))
    return newest, findings


def _leaves(folder: Path | None, base: int) -> list[bytes]:
    file = leaf_file(folder, base) if folder is not None else None
    if file is None or not file.exists():
        return []
    data = file.read_bytes()
    return [data[k:k + 32] for k in range(0, len(data) - 31, 32)]


def _contradictions(points: list[Checkpoint]) -> list[Finding]:
    by_size: dict[int, Checkpoint] = {}
    for point in points:
        other = by_size.setdefault(point.size, point)
        if (other.head, other.root) != (point.head, point.root):
            return [Finding("checkpoint", point.size, 0, f"同为 {point.size} 条的两个检查点互相矛盾：日志被改写过", f"two checkpoints of {point.size} records contradict each other: the log was rewritten")]
    return []


def _walk(hashes: Suite, links: list[tuple[int, int, bytes, bytes]], rows: dict[int, bytes], held: list[bytes], points: list[Checkpoint],
          cut: Cut | None) -> list[Finding]:
    """The first wrong record: by the signed roots where leaves are held beside, by the chain's own links otherwise."""
    base, peaks, chain = (cut.n, cut.tree().peaks, bytes.fromhex(cut.head)) if cut is not None else (0, (), GENESIS)
    sizes = sorted({p.size for p in points if p.size > base})
    roots = {p.size: p.root for p in points}
    proven = base
    for size, root in sorted(roots_at(hashes, held, sizes, peaks).items()):
        if root.hex() != roots[size]:
            break
        proven = size
    truth = held[:proven - base]
    where = {leaf: k + 1 for k, leaf in enumerate(truth or [leaf for _, _, leaf, _ in links])}
    present = set(rows.values())
    expected = base + 1
    for n, record_id, leaf, link in links:
        if n != expected:
            return [_missing(expected, 0)]
        actual = rows.get(record_id)
        true = truth[n - 1 - base] if n <= proven else leaf
        if actual != true:
            if actual is None:
                return [_missing(n, record_id)]
            if n <= proven and actual in where and true not in present:
                return [_missing(n, 0)]
            if actual in where or (n <= proven and leaf in where and leaf != true):
                return [Finding("reordered", n, record_id, f"第 {n} 条（记录 {record_id}）被换了位置", f"record {record_id}, number {n}, was put in another place")]
            if leaf == actual and n <= proven:
                return [_rewritten(n, record_id, proven)]
            return [Finding("altered", n, record_id, f"第 {n} 条（记录 {record_id}）被改动", f"record {record_id}, number {n}, was altered")]
        chain = hashes.link(chain, leaf)
        if leaf != true or chain != link:
            return [Finding("altered", n, record_id, f"第 {n} 条（记录 {record_id}）的链接被改动", f"the link of record {record_id}, number {n}, was altered")]
        expected += 1
    total = base + len(links)
    largest = max([*sizes, base + len(held)])
    if total < largest:
        return [Finding("cut", total + 1, 0, f"日志被截断：现有 {total} 条，应有 {largest} 条", f"the log was cut after number {total}; there were {largest}")]
    return _against_heads(hashes, links, points, base, peaks)


def _against_heads(hashes: Suite, links: list[tuple[int, int, bytes, bytes]], points: list[Checkpoint], base: int, peaks: Sequence[tuple[int, bytes]]) -> list[Finding]:
    sizes = sorted({p.size for p in points if base < p.size <= base + len(links)})
    roots = roots_at(hashes, [leaf for _, _, leaf, _ in links], sizes, peaks)
    good = base
    for size in sizes:
        for point in (p for p in points if p.size == size):
            if roots[size].hex() != point.root or links[size - 1 - base][3].hex() != point.head:
                return [_rewritten(good + 1, links[good - base][1], size)]
        good = size
    return []


def _missing(n: int, record_id: int) -> Finding:
    named = f"（记录 {record_id}）" if record_id else ""
    return Finding("missing", n, record_id, f"第 {n} 条{named}缺失", f"number {n}{f' (record {record_id})' if record_id else ''} is missing")


def _rewritten(n: int, record_id: int, until: int) -> Finding:
    return Finding("rewritten", n, record_id, f"自第 {n} 条（记录 {record_id}）起日志被整体改写，与 {until} 条的检查点不符",
                   f"the log was rewritten from number {n} (record {record_id}) on: it does not match the checkpoint of {until} records")


def _commands(file: Path | None, points: list[Checkpoint]) -> tuple[int, list[Finding]]:
    """The command journal's own chain, and every head of it that a checkpoint holds."""
    anchors = {p.control_n: p.control_head for p in points if p.control_n}
    if file is None or not file.exists():
        if anchors:
            return 0, [Finding("cut", 1, 0, "命令日志缺失", "the command journal is gone", "commands")]
        return 0, []
    previous, n = GENESIS, 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as store:
        store.row_factory = sqlite3.Row
        for row in store.execute("SELECT * FROM audit ORDER BY n"):
            n += 1
            fields: list[Any] = list(row)[:-1]
            digest = hashlib.sha256(previous + json.dumps(fields, ensure_ascii=False).encode()).digest()
            if row["n"] != n:
                return n, [Finding("missing", n, 0, f"命令日志第 {n} 条缺失", f"number {n} of the command journal is missing", "commands")]
            if digest != row["hash"]:
                return n, [Finding("altered", n, n, f"命令日志第 {n} 条被改动", f"number {n} of the command journal was altered", "commands")]
            if n in anchors and anchors[n] != digest.hex():
                return n, [Finding("rewritten", n, n, f"命令日志在第 {n} 条前被改写", f"the command journal was rewritten before number {n}", "commands")]
            previous = digest
    if anchors and max(anchors) > n:
        return n, [Finding("cut", n + 1, 0, f"命令日志被截断：现有 {n} 条，应有 {max(anchors)} 条", f"the command journal was cut after number {n}; there were {max(anchors)}", "commands")]
    return n, []
