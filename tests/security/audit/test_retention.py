"""Audit records past three years are deleted under a signed cut: the chain stays verifiable, and every unlawful cut is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from cloud.core.retention import AUDIT_FLOOR_DAYS, DAY_MS, RetentionError
from cloud.core.settings import SettingsError, load
from cloud.ledger import Ledger
from cloud.security.audit import AuditCheckpoint, AuditCut, AuditLink, OperationLog, health
from cloud.security.audit_chain import Suite, Tree
from cloud.security.audit_cut import Cut
from cloud.security.audit_retention import CutRefusedError
from cloud.security.audit_writer import Chainer
from tests.security.audit.test_chain import House, found

YEARS = AUDIT_FLOOR_DAYS * DAY_MS
pytestmark = pytest.mark.point("19")


class OldHouse(House):
    """A house whose log began long ago."""

    days = AUDIT_FLOOR_DAYS

    def start(self) -> Chainer:
        return Chainer(self.ledger, self.key, self.folder, control=self.control, suite=self.suite, now=lambda: self.now, days=self.days)

    def chapter(self, count: int) -> None:
        self.act(count)
        self.chainer.step()
        self.chainer.sign()

    def expire(self) -> Cut | None:
        made = self.chainer.retain()
        while self.chainer.retention.sweep():
            continue
        self.chainer.step()
        self.chainer.sign()
        return made

    def count(self) -> int:
        with self.ledger.read() as session:
            return session.scalar(select(func.count()).select_from(OperationLog)) or 0


@pytest.fixture
def house(ledger: Ledger, tmp_path: Path) -> OldHouse:
    """Twelve records, eight a year later, five when three years and a day have passed since the first twelve."""
    made = OldHouse(ledger, tmp_path)
    made.chapter(12)
    made.now += 366 * DAY_MS
    made.chapter(8)
    made.now += YEARS - 365 * DAY_MS
    made.chapter(5)
    return made


def test_what_is_past_three_years_goes_and_the_chain_still_verifies(house: OldHouse) -> None:
    witnessed = house.chainer.newest()
    made = house.expire()
    assert made is not None
    assert made.n == 12
    report = house.check(known=[witnessed] if witnessed else [])
    assert report.ok, report.findings
    assert report.cut == made
    assert report.records == 8 + 5 + 1  # the cut itself stands in the log
    assert house.count() == 14
    assert house.expire() is None
    with house.ledger.read() as session:
        assert session.scalars(select(OperationLog).where(OperationLog.operation == "system.audit.cut")).one().detail["n"] == 12
        assert session.scalar(select(func.min(AuditLink.n))) == 13
        assert not health(session, house.now).failing


def test_a_chainer_that_starts_again_after_a_cut_goes_on_and_a_second_cut_follows_the_first(house: OldHouse) -> None:
    assert house.expire() is not None
    house.chainer = house.start()
    house.chapter(3)
    assert house.check().ok
    house.now += 366 * DAY_MS
    second = house.expire()
    assert second is not None
    assert second.n == 20
    house.chainer = house.start()
    house.chapter(2)
    report = house.check()
    assert report.ok, report.findings
    assert report.cut == second
    assert [f.name for f in sorted(house.folder.glob("leaves*"))] == ["leaves-20.bin"]
    house.tamper("UPDATE operation_log SET operator = 'nobody' WHERE id = 23")
    assert found(house.check()) == ("altered", 23)


@pytest.mark.parametrize("crash", ["before the sweep", "in the sweep", "before the file"])
def test_a_crash_in_the_middle_of_a_cut_is_finished_by_the_next_life(house: OldHouse, crash: str) -> None:
    if crash == "before the file":
        assert house.chainer.retention.cut() is not None
    else:
        assert house.chainer.retain() is not None
    if crash == "in the sweep":
        house.tamper("DELETE FROM operation_log WHERE id <= 4", "DELETE FROM audit_link WHERE n <= 4")
    assert house.check().ok
    house.chainer = house.start()
    house.chapter(1)
    assert house.check().ok
    while house.chainer.retention.sweep():
        continue
    assert house.count() == 8 + 5 + 1 + 1
    assert house.check().ok


def test_an_altered_record_is_evidence_and_is_not_deleted(house: OldHouse) -> None:
    house.tamper("UPDATE operation_log SET operator = 'nobody' WHERE id = 7")
    with pytest.raises(CutRefusedError) as refusal:
        house.chainer.retain()
    assert refusal.value.values["n"] == 7
    assert house.chainer.retention.sweep() == 0
    assert found(house.check()) == ("altered", 7)


def test_a_checkpoint_with_a_date_put_back_cuts_nothing(house: OldHouse) -> None:
    with house.ledger.write() as session:
        point = session.get(AuditCheckpoint, 20)
        assert point is not None
        point.at_ms -= YEARS
        point.document = {**point.document, "at_ms": point.at_ms}
    with pytest.raises(CutRefusedError):
        house.chainer.retain()
    assert house.count() == 25


def test_only_what_stands_under_a_cut_can_be_deleted(house: OldHouse) -> None:
    assert house.chainer.retain() is not None
    for statement in ("DELETE FROM operation_log WHERE id = 13", "DELETE FROM operation_log", "UPDATE operation_log SET operator = 'x' WHERE id = 1"):
        with pytest.raises(DBAPIError, match="append-only"), house.ledger.engine.begin() as connection:
            connection.exec_driver_sql(statement)
    with house.ledger.engine.begin() as connection:
        assert connection.exec_driver_sql("DELETE FROM operation_log WHERE id <= 12").rowcount == 12


def forged(house: OldHouse, cut: Cut) -> None:
    """Somebody with the database puts a cut there, and deletes what it covers."""
    with house.ledger.write() as session:
        session.merge(AuditCut(n=cut.n, at_ms=cut.at_ms, document=cut.document()))
    house.tamper(f"DELETE FROM operation_log WHERE id IN (SELECT record_id FROM audit_link WHERE n <= {cut.n})", f"DELETE FROM audit_link WHERE n <= {cut.n}",
                 f"DELETE FROM audit_checkpoint WHERE size < {cut.n}")


def of(house: OldHouse, n: int, *, covered_ms: int, days: int = AUDIT_FLOOR_DAYS) -> Cut:
    """What a cut of n records must look like."""
    with house.ledger.read() as session:
        links = session.scalars(select(AuditLink).where(AuditLink.n <= n).order_by(AuditLink.n)).all()
    tree = Tree(Suite())
    for link in links:
        tree.append(bytes.fromhex(link.leaf))
    return Cut(n, links[-1].chain, tree.root().hex(), tuple((size, node.hex()) for size, node in tree.peaks), links[-1].record_id, covered_ms, house.now, days, "sha256")


def test_a_cut_the_audit_key_did_not_sign_is_named(house: OldHouse) -> None:
    forged(house, of(house, 20, covered_ms=house.now - 2 * YEARS).signed(Ed25519PrivateKey.generate()))
    assert found(house.check()) == ("unlawful", 20)


def test_the_chainer_deletes_nothing_under_a_cut_it_did_not_sign(house: OldHouse) -> None:
    with house.ledger.write() as session:
        for n, document in ((20, of(house, 20, covered_ms=0).signed(Ed25519PrivateKey.generate()).document()), (24, {"n": "x"})):
            session.add(AuditCut(n=n, at_ms=house.now, document=document))
    house.chainer = house.start()
    assert house.chainer.retention.sweep() == 0
    house.chapter(1)
    assert house.count() == 26
    assert {f.kind for f in house.check().findings} == {"unlawful"}


@pytest.mark.parametrize(("covered", "days"), [(YEARS - DAY_MS, AUDIT_FLOOR_DAYS), (2 * YEARS, AUDIT_FLOOR_DAYS - 1), (-DAY_MS, AUDIT_FLOOR_DAYS)])
def test_a_cut_of_young_records_is_named_even_with_the_audit_key(house: OldHouse, covered: int, days: int) -> None:
    forged(house, of(house, 20, covered_ms=house.now - covered, days=days).signed(house.key))
    assert found(house.check()) == ("unlawful", 20)


def test_a_cut_that_lies_about_its_age_is_named_by_a_witness(house: OldHouse) -> None:
    """The audit key itself was stolen: only checkpoints that left the host tell how young the records were."""
    points = [json.loads(line) for line in (house.folder / "checkpoints.jsonl").read_text().splitlines()]
    assert {p["size"] for p in points} == {12, 20, 25}
    forged(house, of(house, 25, covered_ms=house.now - 2 * YEARS).signed(house.key))
    assert found(house.check()) == ("unlawful", 25)


def test_a_cut_that_was_removed_again_leaves_the_log_without_a_beginning(house: OldHouse) -> None:
    house.expire()
    house.tamper("DELETE FROM audit_cut")
    assert found(house.check()) == ("missing", 1)


def test_a_cut_altered_in_any_field_is_named(house: OldHouse) -> None:
    made = house.expire()
    assert made is not None
    for change in ({"n": 13}, {"head": "00" * 32}, {"root": "00" * 32}, {"peaks": ()}, {"covered_ms": 1}, {"at_ms": house.now - 1}, {"days": 5000}, {"record_id": 1}):
        with house.ledger.write() as session:
            row = session.get(AuditCut, 12)
            assert row is not None
            row.document = replace(made, **change).document()
        assert found(house.check())[0] == "unlawful", change


def test_zero_days_deletes_nothing(house: OldHouse) -> None:
    house.days = 0
    house.chainer = house.start()
    assert house.expire() is None
    assert house.count() == 25


@pytest.mark.parametrize("days", [1, 183, AUDIT_FLOOR_DAYS - 1])
def test_nothing_goes_below_the_floor(house: OldHouse, tmp_path: Path, days: int) -> None:
    house.days = days
    with pytest.raises(RetentionError):
        house.start()
    with pytest.raises(SettingsError, match="1098"):
        load(tmp_path / "home", audit_days=days)
    assert load(tmp_path / "home", audit_days=AUDIT_FLOOR_DAYS).audit_days == AUDIT_FLOOR_DAYS


@pytest.mark.point("P8")
def test_network_records_below_half_a_year_are_no_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="183"):
        load(tmp_path, network_days=182)
    assert load(tmp_path, network_days=183).network_days == 183


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60))
def test_a_tree_goes_on_from_its_peaks(before: int, after: int) -> None:
    suite = Suite()
    whole = Tree(suite)
    for k in range(before):
        whole.append(suite.leaf(bytes([k])))
    rest = Tree(suite, whole.peaks)
    for k in range(after):
        leaf = suite.leaf(bytes([100 + k]))
        whole.append(leaf)
        rest.append(leaf)
    assert (rest.size, rest.root()) == (whole.size, whole.root())
