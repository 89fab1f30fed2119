"""The audit chain: every way of falsifying the log is named by its first record, and nothing true is ever accused."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from cloud.control.journal import Journal
from cloud.ledger import Ledger
from cloud.security.audit import OperationLog, record
from cloud.security.audit_chain import GENESIS, Checkpoint, Suite, Tree, roots_at
from cloud.security.audit_verify import Report, checkpoints_of, verify
from cloud.security.audit_writer import Chainer


class House:
    """A ledger with a chainer, both under test."""

    def __init__(self, ledger: Ledger, folder: Path, suite: str = "sha256") -> None:
        self.ledger, self.folder, self.now, self.suite = ledger, folder / "audit", 1_795_500_000_000, suite
        self.key = Ed25519PrivateKey.generate()
        self.control = folder / "control.sqlite"
        self.chainer = self.start()

    def start(self) -> Chainer:
        return Chainer(self.ledger, self.key, self.folder, control=self.control, suite=self.suite, now=lambda: self.now)

    def act(self, count: int) -> None:
        for k in range(count):
            with self.ledger.write() as session:
                record(session, "system.user.change", at_ms=self.now, target=f"users/{k}", object_=f"user_account/{k}", before={"k": k}, after={"k": k + 1}, operator="li")
        self.now += 500

    def check(self, known: list[Checkpoint] | None = None, later_ms: int = 0) -> Report:
        return verify(self.ledger, self.key.public_key(), self.folder, now_ms=self.now + later_ms, control=self.control, known=known or [], suite=self.suite)

    def tamper(self, *statements: str) -> None:
        """What somebody with the database file can do."""
        with closing(sqlite3.connect(str(self.ledger.engine.url.database), isolation_level=None)) as store:
            for trigger in ("operation_log_keeps_rows", "operation_log_keeps_values"):
                store.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            for statement in statements:
                store.execute(statement)

    def forge_links(self) -> None:
        """Recompute every leaf and link over what stands in the log now, as an insider without the audit key would."""
        from cloud.security.audit import canonical

        hashes, chain, n = Suite(self.suite), GENESIS, 0
        self.tamper("DELETE FROM audit_link")
        with self.ledger.read() as session:
            rows = list(session.query(OperationLog).order_by(OperationLog.id))
        leaves = b""
        for row in rows:
            leaf = hashes.leaf(canonical(row))
            chain, n, leaves = hashes.link(chain, leaf), n + 1, leaves + leaf
            self.tamper(f"INSERT INTO audit_link (n, record_id, leaf, chain) VALUES ({n}, {row.id}, '{leaf.hex()}', '{chain.hex()}')")
        (self.folder / "leaves.bin").write_bytes(leaves)


@pytest.fixture
def house(ledger: Ledger, tmp_path: Path) -> House:
    made = House(ledger, tmp_path)
    made.act(12)
    made.chainer.step()
    made.chainer.sign()
    made.act(8)
    made.chainer.step()
    made.chainer.sign()
    assert made.check().ok
    return made


def found(report: Report) -> tuple[str, int]:
    assert report.findings, "nothing was found"
    return report.findings[0].kind, report.findings[0].n


def test_the_log_itself_refuses_changes_and_deletions(house: House) -> None:
    for statement in ("UPDATE operation_log SET operator = 'x'", "DELETE FROM operation_log"):
        with pytest.raises(DBAPIError, match="append-only"), house.ledger.engine.begin() as connection:
            connection.exec_driver_sql(statement)


@pytest.mark.point("19")
@pytest.mark.parametrize("column", ["at_ms", "level", "target", "process_id", "operator", "result", "object", "before", "after", "request_id", "address", "channel"])
def test_an_edited_field_is_named(house: House, column: str) -> None:
    house.tamper(f"UPDATE operation_log SET {column} = '7' WHERE id = 5")
    assert found(house.check()) == ("altered", 5)


@pytest.mark.point("19")
def test_a_deleted_record_is_named(house: House) -> None:
    house.tamper("DELETE FROM operation_log WHERE id = 9")
    assert found(house.check()) == ("missing", 9)


def test_a_record_deleted_with_its_link_is_named(house: House) -> None:
    house.tamper("DELETE FROM operation_log WHERE id = 9", "DELETE FROM audit_link WHERE n = 9")
    assert found(house.check()) == ("missing", 9)


@pytest.mark.point("19")
def test_a_cut_log_is_named_where_it_ends(house: House) -> None:
    house.tamper("DELETE FROM operation_log WHERE id > 15", "DELETE FROM audit_link WHERE n > 15", "DELETE FROM audit_checkpoint WHERE size > 15")
    assert found(house.check()) == ("cut", 16)


def test_a_cut_log_is_named_even_when_every_file_of_this_host_is_cut_too(house: House) -> None:
    point = house.chainer.newest()
    assert point is not None
    house.tamper("DELETE FROM operation_log WHERE id > 15", "DELETE FROM audit_link WHERE n > 15", "DELETE FROM audit_checkpoint WHERE size > 15")
    leaves = (house.folder / "leaves.bin").read_bytes()
    (house.folder / "leaves.bin").write_bytes(leaves[:15 * 32])
    (house.folder / "checkpoints.jsonl").write_text((house.folder / "checkpoints.jsonl").read_text().splitlines()[0] + "\n")
    assert house.check().ok, "without a witness such a cut cannot be seen"
    assert found(house.check(known=[point])) == ("cut", 16)


@pytest.mark.point("19")
def test_reordered_records_are_named(house: House) -> None:
    house.tamper("UPDATE operation_log SET id = 1000 WHERE id = 3", "UPDATE operation_log SET id = 3 WHERE id = 4", "UPDATE operation_log SET id = 4 WHERE id = 1000")
    assert found(house.check()) == ("reordered", 3)


@pytest.mark.point("19")
def test_a_log_rewritten_as_a_whole_is_named_at_its_first_record(house: House) -> None:
    leaves = (house.folder / "leaves.bin").read_bytes()
    house.tamper("UPDATE operation_log SET operator = 'somebody else' WHERE id >= 7")
    house.forge_links()
    (house.folder / "leaves.bin").write_bytes(leaves)
    assert found(house.check()) == ("rewritten", 7)


def test_a_rewritten_log_with_rewritten_files_is_named_between_checkpoints(house: House) -> None:
    house.tamper("UPDATE operation_log SET operator = 'somebody else' WHERE id = 15")
    house.forge_links()
    assert found(house.check()) == ("rewritten", 13)  # the first record after the last checkpoint that still holds


def test_a_forged_checkpoint_is_named(house: House) -> None:
    house.tamper("UPDATE operation_log SET operator = 'somebody else' WHERE id = 15")
    house.forge_links()
    forged = Checkpoint(20, "00" * 32, "00" * 32, house.now, 0, "", "sha256").signed(Ed25519PrivateKey.generate())
    (house.folder / "checkpoints.jsonl").write_text(json.dumps(forged.document()) + "\nnot json\n")
    assert {f.kind for f in house.check().findings} >= {"checkpoint", "rewritten"}


def test_a_record_that_waits_too_long_is_named(house: House) -> None:
    house.act(1)
    assert house.check().ok
    assert house.check(later_ms=6000).findings[0].kind == "unlinked"


def test_a_chainer_that_starts_again_goes_on_where_it_stopped(house: House) -> None:
    house.act(3)
    with (house.folder / "leaves.bin").open("r+b") as file:
        file.truncate(18 * 32)  # the crash came between the ledger and the file
    house.chainer = house.start()
    house.chainer.step()
    house.chainer.sign()
    report = house.check()
    assert report.ok
    assert report.records == 23


def test_the_command_journal_is_part_of_the_same_check(house: House) -> None:
    journal = Journal(house.control)
    for k in range(5):
        with journal.transaction():
            journal.audit(house.now, "command.hold", "control", f"device/{k}", "li", "accepted", "{}", "portal")
    house.act(1)
    house.chainer.step()
    house.chainer.sign()
    journal.close()
    assert house.check().commands == 5
    with closing(sqlite3.connect(house.control, isolation_level=None)) as store:
        store.execute("UPDATE audit SET operator = 'nobody' WHERE n = 3")
    assert [(f.log, f.kind, f.n) for f in house.check().findings] == [("commands", "altered", 3)]
    with closing(sqlite3.connect(house.control, isolation_level=None)) as store:
        store.execute("UPDATE audit SET operator = 'li' WHERE n = 3")
        store.execute("DELETE FROM audit WHERE n > 3")
    assert [(f.log, f.kind, f.n) for f in house.check().findings] == [("commands", "cut", 4)]


def test_the_sm3_suite_chains_and_verifies_too(ledger: Ledger, tmp_path: Path) -> None:
    house = House(ledger, tmp_path, suite="sm3")
    house.act(5)
    house.chainer.step()
    assert house.chainer.sign().suite == "sm3"
    assert house.check().ok
    house.tamper("UPDATE operation_log SET operator = 'x' WHERE id = 2")
    assert found(house.check()) == ("altered", 2)


def test_a_checkpoint_is_due_after_a_thousand_records_or_a_minute(ledger: Ledger, tmp_path: Path) -> None:
    house = House(ledger, tmp_path)
    house.act(1)
    assert house.chainer.step()[1] is not None  # the first, at once
    house.act(1)
    assert house.chainer.step()[1] is None
    house.now += 60_000
    assert house.chainer.step()[1] is not None
    with house.ledger.write() as session:
        for k in range(1000):
            record(session, "system.user.change", at_ms=house.now, target=f"users/{k}", operator="li")
    point = house.chainer.step()[1]
    assert point is not None
    assert point.size == 1002
    assert [p.size for p in checkpoints_of(house.folder / "checkpoints.jsonl")] == [1, 2, 1002]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=40))
def test_the_tree_has_the_root_rfc_6962_gives(records: list[bytes]) -> None:
    hashes = Suite()
    leaves = [hashes.leaf(r) for r in records]

    def mth(part: list[bytes]) -> bytes:
        if not part:
            return hashes.digest(b"")
        if len(part) == 1:
            return part[0]
        k = 1 << (len(part) - 1).bit_length() - 1
        return hashes.node(mth(part[:k]), mth(part[k:]))

    tree = Tree(hashes)
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == mth(leaves)
    assert roots_at(hashes, leaves, range(len(leaves) + 1)) == {k: mth(leaves[:k]) for k in range(len(leaves) + 1)}


def test_a_log_that_grows_while_it_is_read_is_not_accused(house: House) -> None:
    """Somebody writes without pause; every look in between finds it whole."""
    stop, broken = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            while not stop.is_set():
                house.act(20)
                house.chainer.step()
                house.chainer.sign()
        except BaseException as error:
            broken.append(error)

    house.act(300)
    house.chainer.step()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        looks = [house.check() for _ in range(12)]
    finally:
        stop.set()
        writer.join()
    assert not broken
    assert [f for look in looks for f in look.findings] == []
    assert looks[-1].records > looks[0].records, "it grew meanwhile"
