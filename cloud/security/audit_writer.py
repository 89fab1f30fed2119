"""The chainer: a process of its own that links every audit row within a second and signs checkpoints; the only holder of the audit key.

It never changes a row. Heads leave the host in acknowledgements to agents, and stand in files beside the ledger. Must not know: functions, HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import nats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cloud.bus.connection import connect
from cloud.core.clock import now_ms
from cloud.core.log import configure
from cloud.core.settings import Settings, load
from cloud.ledger import Ledger, open_ledger
from cloud.security import keys
from cloud.security.audit import BEAT_MS, AuditCheckpoint, AuditLink, AuditState, OperationLog, canonical
from cloud.security.audit_chain import GENESIS, Checkpoint, Suite, Tree
from cloud.security.audit_cut import Cut
from cloud.security.audit_retention import CutRefusedError, Retention, leaf_file, newest_cut
from protos import suites
from protos.sm2 import Sm2PrivateKey

log = logging.getLogger("kang.audit")
CHECKPOINT_MS, CHECKPOINT_RECORDS = 60_000, 1_000
SUBJECT = "audit.checkpoint"
RETAIN_MS = 60_000
_AT_ONCE = 2_000
_SETTLING = 10_000  # ids below the newest link that may still be without one: transactions that committed late (PostgreSQL)


class Chainer:
    """Links and signs; call `step` again and again.

    Args:
        folder: where `leaves.bin` (32 bytes a record) and `checkpoints.jsonl` are appended.
        control: the command service's store, whose own chain is anchored in every checkpoint.
        days: retention, days; 0 = nothing is ever deleted.
        also: signs every checkpoint a second time, for witnesses of suite SM.

    Raises:
        RetentionError: fewer than three years.
    """

    def __init__(self, ledger: Ledger, key: Ed25519PrivateKey, folder: Path, *, control: Path | None = None, suite: str = "sha256",
                 now: Callable[[], int] = now_ms, days: int = 0, also: Sm2PrivateKey | None = None) -> None:
        self._also = also
        self._ledger, self._key, self._folder, self._control, self._now = ledger, key, folder, control, now
        self._suite = Suite(suite)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.retention = Retention(ledger, key, folder, days=days, now=now)
        self._tree = Tree(self._suite)
        self._chain = GENESIS
        self._last_id = 0
        self._signed_size, self._signed_ms, self._beat_ms = 0, 0, 0
        self._recall()

    def _recall(self) -> None:
        """Take up where the ledger stands; the file of leaves is completed from it, never the other way round."""
        cut = newest_cut(self._ledger, self._key.public_key())
        base = 0
        if cut is not None:
            base, self._tree, self._chain, self._last_id = cut.n, cut.tree(), bytes.fromhex(cut.head), cut.record_id
            self.retention.carry(cut)
        self._file = leaf_file(self._folder, base)
        held = base + (self._file.stat().st_size // 32 if self._file.exists() else 0)
        missing = bytearray()
        with self._ledger.read() as session:
            for n, record_id, leaf, chain in session.execute(select(AuditLink.n, AuditLink.record_id, AuditLink.leaf, AuditLink.chain).where(AuditLink.n > base)
                                                           .order_by(AuditLink.n)):
                self._tree.append(bytes.fromhex(leaf))
                self._chain, self._last_id = bytes.fromhex(chain), max(self._last_id, record_id)
                if n > held:
                    missing += bytes.fromhex(leaf)
            newest = session.scalar(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1))
        if missing:
            self._append(self._file.name, bytes(missing))
        if newest is not None:
            self._signed_size, self._signed_ms = newest.size, newest.at_ms

    @property
    def size(self) -> int:
        """Records linked."""
        return self._tree.size

    def step(self) -> tuple[int, Checkpoint | None]:
        """Link what waits, say that we live, sign when it is time.

        Returns:
            (records linked now, the checkpoint made or None)
        """
        linked = self._link()
        now = self._now()
        due = self._tree.size - self._signed_size >= CHECKPOINT_RECORDS or (self._tree.size > self._signed_size and now - self._signed_ms >= CHECKPOINT_MS)
        return linked, self.sign() if due else None

    def _link(self) -> int:
        with self._ledger.read() as session:
            rows = list(session.scalars(
                select(OperationLog).outerjoin(AuditLink, AuditLink.record_id == OperationLog.id)
                .where(AuditLink.n.is_(None), OperationLog.id > self._last_id - _SETTLING).order_by(OperationLog.id).limit(_AT_ONCE)))
        now = self._now()
        if not rows and now - self._beat_ms < BEAT_MS:
            return 0
        leaves = [self._suite.leaf(canonical(row)) for row in rows]
        chain, links = self._chain, list[AuditLink]()
        for k, (row, leaf) in enumerate(zip(rows, leaves, strict=True)):
            chain = self._suite.link(chain, leaf)
            links.append(AuditLink(n=self._tree.size + 1 + k, record_id=row.id, leaf=leaf.hex(), chain=chain.hex()))
        with self._ledger.write() as session:
            session.add_all(links)
            session.merge(AuditState(id=1, beat_ms=now, process_id=os.getpid()))
        self._beat_ms = now
        if leaves:
            self._append(self._file.name, b"".join(leaves))
            for leaf in leaves:
                self._tree.append(leaf)
            self._chain, self._last_id = chain, max(self._last_id, rows[-1].id)
        return len(rows)

    def retain(self) -> Cut | None:
        """Make the cut that is due, if one is; `retention.sweep` deletes what it covers.

        Raises:
            CutRefusedError: what would be deleted is not what was signed.
        """
        made = self.retention.cut()
        if made is not None:
            self.retention.carry(made)
            self._file = leaf_file(self._folder, made.n)
        return made

    def sign(self) -> Checkpoint:
        """Sign what stands now."""
        control_n, control_head = control_head_of(self._control)
        point = Checkpoint(self._tree.size, self._chain.hex(), self._tree.root().hex(), self._now(), control_n, control_head, self._suite.name).signed(self._key, self._also)
        with self._ledger.write() as session:
            session.merge(AuditCheckpoint(size=point.size, at_ms=point.at_ms, document=point.document()))
        self._append("checkpoints.jsonl", json.dumps(point.document()).encode() + b"\n")
        self._signed_size, self._signed_ms = point.size, point.at_ms
        return point

    def newest(self) -> Checkpoint | None:
        """The checkpoint signed last."""
        with self._ledger.read() as session:
            row = session.scalar(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1))
        return Checkpoint.read(row.document) if row is not None else None

    def _append(self, name: str, data: bytes) -> None:
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def control_head_of(file: Path | None) -> tuple[int, str]:
    """(rows, hash of the last) of the command journal's own audit; (0, "") when there is none."""
    if file is None or not file.exists():
        return 0, ""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=2)) as store:
            row = store.execute("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return 0, ""
    return (int(row[0]), bytes(row[1]).hex()) if row else (0, "")


def chainer(settings: Settings, ledger: Ledger) -> Chainer:
    """The chainer of an installation."""
    here = settings.credentials
    return Chainer(ledger, keys.signing_key(here / "audit.ed25519"), settings.home / "audit", control=settings.home / "control.sqlite", days=settings.audit_days,
                   also=keys.sm2_key(here / "audit.sm2") if suites.Suite.SM in keys.suites_here() else None)


def _retain(worker: Chainer) -> tuple[int, dict[str, Any] | None]:
    """Cut and sweep a piece: (records deleted, what to say in the alarm list)."""
    over: dict[str, Any] = {"rule": "audit_cut_refused", "wrong": False}
    try:
        swept = worker.retention.sweep()
        return swept, None if swept or worker.retain() is not None else over
    except CutRefusedError as error:
        log.error("%s", error.message("en"))
        return 0, {"rule": "audit_cut_refused", "severity": "critical", "zh": error.message("zh"), "en": error.message("en")}
    except SQLAlchemyError as error:
        log.error("nothing is deleted: %s", type(error).__name__)
        return 0, None


async def serve(home: Path) -> None:
    """Link until SIGTERM."""
    settings = load(home)
    ledger = open_ledger(settings.effective_ledger_url)
    worker = chainer(settings, ledger)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = None
    told: Checkpoint | None = await asyncio.to_thread(worker.newest)
    said, retained, swept = 0, 0, 0
    log.info("the chainer holds %d records", worker.size)
    while not stop.is_set():
        try:
            _, made = await asyncio.to_thread(worker.step)
        except SQLAlchemyError as error:
            log.error("the ledger cannot be written: %s", type(error).__name__)
            made = None
        if now_ms() - retained > RETAIN_MS or swept:
            swept, refused = await asyncio.to_thread(_retain, worker)
            retained = now_ms()
            if refused is not None and client is not None:
                with suppress(nats.errors.Error, OSError):
                    await client.publish("alarm.own", json.dumps(refused).encode())
        told = made or told
        if told is not None and (made is not None or now_ms() - said > 10_000):
            try:
                client = client or await connect(settings.effective_nats_url, settings.credentials, "audit")
                await client.publish(SUBJECT, json.dumps(told.document()).encode())
                said = now_ms()
            except (TimeoutError, nats.errors.Error, OSError) as error:
                log.warning("no bus to tell the checkpoint on: %s", type(error).__name__)
                said = now_ms()
        try:
            await asyncio.wait_for(stop.wait(), 0.2)
        except TimeoutError:
            continue
    if client is not None:
        await client.close()
    ledger.close()


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.security.audit_writer --home DIR`."""
    parser = argparse.ArgumentParser(prog="kang-audit")
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args(argv)
    configure("audit")
    asyncio.run(serve(args.home))


if __name__ == "__main__":
    main()
