"""The spool keeps its promises across crashes, full disks and clocks that wake in 1970."""

from __future__ import annotations

import sqlite3

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.spool import Spool
from protos import batch, envelope
from protos.batch import Reading
from protos.kang.v1 import telemetry_pb2 as pb
from protos.points import Quality, point

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BOOT, OTHER_BOOT, EPOCH = b"b" * 16, b"o" * 16, b"e" * 16
T0 = 1_795_000_000_000
POWER, ENERGY, ALARM = point("active_power").id, point("energy_import").id, point("low_water_alarm").id


def make(path, **options) -> Spool:
    return Spool(path, project_id=7, agent_id="a1", signing_key=KEY, new_epoch=options.pop("epoch", EPOCH), **options)


def rows(n: int, *, at: int = T0, point_id: int = POWER) -> list[Reading]:
    return [Reading(1, point_id, at + 1000 * k, float(k)) for k in range(n)]


def append(spool: Spool, readings: list[Reading]) -> int:
    return spool.append(readings, now_ms=T0, boot_id=BOOT, monotonic_ms=5)


def opened(spool: Spool, sequence: int) -> pb.Batch:
    signed = spool.get(sequence)
    assert signed is not None
    return batch.parse(signed.body)


def test_a_restart_continues_epoch_sequence_and_chain(tmp_path):
    first = make(tmp_path / "s.db")
    append(first, rows(3))
    head = first.get(1).digest
    first.close()
    again = make(tmp_path / "s.db", epoch=b"x" * 16)
    assert (again.epoch, again.last_sequence, again.batches, again.readings) == (EPOCH, 1, 1, 3)
    append(again, rows(2))
    assert envelope.Header.unpack(again.get(2).header).previous == head
    assert envelope.Header.unpack(again.get(2).header).sequence == 2


def test_the_file_is_for_its_owner_only(tmp_path):
    make(tmp_path / "s.db")
    assert (tmp_path / "s.db").stat().st_mode & 0o777 == 0o600


def test_every_batch_verifies_and_is_chained(tmp_path):
    spool = make(tmp_path / "s.db", batch_readings=4)
    append(spool, rows(10))
    previous = envelope.GENESIS
    for sequence in (1, 2, 3):
        signed = spool.get(sequence)
        header = envelope.Header.unpack(signed.header)
        assert header.previous == previous
        envelope.Opened(header, signed).verify(KEY.public_key(), "kang://project/7/agent/a1")
        previous = signed.digest
    assert sum(len(list(batch.readings(opened(spool, s)))) for s in (1, 2, 3)) == 10


class DiskGoneError(Exception):
    pass


class Brittle:
    """The real connection; from the n-th statement on the disk is gone."""

    def __init__(self, db: sqlite3.Connection, allowed: int) -> None:
        self.db, self.left = db, allowed

    def execute(self, sql: str, args=()):
        if self.left <= 0:
            raise DiskGoneError(sql)
        self.left -= 1
        return self.db.execute(sql, args)

    def close(self) -> None:
        self.db.close()


@pytest.mark.parametrize("point_of_failure", range(8))
def test_a_crash_at_any_statement_loses_the_whole_append_or_nothing(tmp_path, point_of_failure):
    spool = make(tmp_path / "s.db")
    append(spool, rows(1))
    spool._db = Brittle(spool._db, point_of_failure)
    try:
        append(spool, rows(5, at=T0 + 60_000))
        done = True
    except DiskGoneError:
        done = False
    spool._db.close()
    back = make(tmp_path / "s.db")
    assert back.last_sequence == (2 if done else 1)
    assert back.pending(0, 10) == ([1, 2] if done else [1])
    append(back, rows(1, at=T0 + 120_000))
    last, before = back.get(back.last_sequence), back.get(back.last_sequence - 1)
    assert envelope.Header.unpack(last.header).previous == before.digest
    assert done == (point_of_failure >= 5), "the failing statements must include some that fail and some that do not"


def test_only_acknowledged_ranges_free_batches(tmp_path):
    spool = make(tmp_path / "s.db")
    for k in range(5):
        append(spool, rows(2, at=T0 + 10_000 * k))
    assert spool.free([(2, 3), (4, 4), (90, 2**62)]) == 3
    assert spool.pending(0, 10) == [1, 5]
    assert (spool.batches, spool.readings, spool.last_sequence) == (2, 4, 5)
    again_bytes = spool.stored_bytes
    spool.close()
    assert make(tmp_path / "s.db").stored_bytes == again_bytes


def test_a_full_spool_refuses_gauges_keeps_counters_and_alarms_and_counts(tmp_path):
    spool = make(tmp_path / "s.db", limit_bytes=20_000)
    while append(spool, rows(20)) == 20:
        pass
    before = spool.pending(0, 1000)
    refused = spool.refused["full"]
    mixed = [*rows(3, at=T0), *rows(1, at=T0, point_id=ENERGY), *rows(1, at=T0, point_id=ALARM)]
    assert append(spool, mixed) == 2
    assert spool.refused["full"] == refused + 3
    assert spool.pending(0, 1000)[:len(before)] == before
    while append(spool, rows(20, point_id=ENERGY)):
        assert spool.stored_bytes < 40_000
    assert spool.free([(1, spool.last_sequence)]) > 0
    assert append(spool, rows(20)) == 20


def test_readings_of_this_boot_are_redated_and_flagged(tmp_path):
    spool = make(tmp_path / "s.db")
    spool.hold([Reading(1, POWER, 10_000, 1.0), Reading(1, POWER, 20_000, 2.0, Quality.BAD)], boot_id=BOOT, wall_minus_mono_ms=-5)
    assert (spool.batches, spool.undated, spool.readings) == (0, 2, 2)
    spool.close()
    spool = make(tmp_path / "s.db")
    assert spool.undated == 2
    assert spool.redate(boot_id=BOOT, offset_ms=T0 + 400, now_ms=T0 + 30_000, monotonic_ms=30_000) == 1
    sealed = opened(spool, 1)
    assert (sealed.clock_state, sealed.boot_id, sealed.monotonic_ms) == (pb.CLOCK_STATE_REDATED, BOOT, 10_000)
    assert [(r.at_ms, r.quality) for r in batch.readings(sealed)] == [(T0 + 10_401, Quality.REDATED), (T0 + 20_401, Quality.BAD)]
    assert (spool.undated, spool.batches) == (0, 1)


def test_readings_of_an_earlier_boot_are_sealed_untrusted(tmp_path):
    spool = make(tmp_path / "s.db")
    spool.hold([Reading(1, POWER, 10_000, 1.0)], boot_id=OTHER_BOOT, wall_minus_mono_ms=86_400_000)
    spool.redate(boot_id=BOOT, offset_ms=T0, now_ms=T0, monotonic_ms=50)
    sealed = opened(spool, 1)
    assert (sealed.clock_state, sealed.boot_id) == (pb.CLOCK_STATE_UNTRUSTED, OTHER_BOOT)
    assert [r.at_ms for r in batch.readings(sealed)] == [86_410_000]


def test_the_floor_only_rises(tmp_path):
    spool = make(tmp_path / "s.db")
    spool.raise_floor(T0)
    spool.raise_floor(T0 - 1)
    spool.close()
    assert make(tmp_path / "s.db").floor_ms == T0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.just("append"), st.integers(1, 9)), st.tuples(st.just("free"), st.integers(1, 12)), st.tuples(st.just("hold"), st.integers(1, 5)),
                          st.tuples(st.just("redate"), st.just(0)), st.tuples(st.just("restart"), st.just(0))), max_size=25))
def test_no_reading_is_lost_or_doubled_by_any_history(tmp_path_factory, history):
    path = tmp_path_factory.mktemp("spool") / "s.db"
    spool = make(path, batch_readings=3)
    given_, freed, clock = 0, 0, 0
    for what, n in history:
        clock += 100_000
        if what == "append":
            given_ += append(spool, rows(n, at=T0 + clock))
        elif what == "hold":
            given_ += spool.hold(rows(n, at=clock), boot_id=BOOT, wall_minus_mono_ms=0)
        elif what == "redate":
            spool.redate(boot_id=BOOT, offset_ms=T0, now_ms=T0, monotonic_ms=0)
        elif what == "free" and spool.get(n) is not None:
            freed += len(opened(spool, n).quality)
            assert spool.free([(n, n)]) == 1
        elif what == "restart":
            spool.close()
            spool = make(path, batch_readings=3)
    stored = sum(len(opened(spool, s).quality) for s in spool.pending(0, 1000))
    assert stored + spool.undated + freed == given_
    assert spool.readings == stored + spool.undated
    spool.close()


@pytest.mark.parametrize("offset", [T0, T0 + 1, T0 + 100, T0 + 399, T0 + 999])
def test_a_redated_reading_never_takes_the_place_of_a_dated_one(tmp_path, offset):
    """Dated readings stand on a grid of tenths of a second; one time would make two readings one (found by killing processes)."""
    spool = make(tmp_path / "s.db")
    spool.hold([Reading(1, POWER, 10_000 + 100 * k, float(k)) for k in range(50)], boot_id=BOOT, wall_minus_mono_ms=0)
    spool.redate(boot_id=BOOT, offset_ms=offset, now_ms=T0 + 60_000, monotonic_ms=60_000)
    times = [r.at_ms for r in batch.readings(opened(spool, 1))]
    assert len(set(times)) == 50
    assert all(at % 100 for at in times)
    assert all(abs(at - (10_000 + 100 * k + offset)) <= 1 for k, at in enumerate(times))
