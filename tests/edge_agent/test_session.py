"""The uplink session: live first, nothing freed without an acknowledgement, everything sent until it is."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.session import UplinkSession
from protos.kang.v1 import link_pb2

EPOCH = b"e" * 16


class Shelf:
    """A spool in memory: sequences only."""

    def __init__(self, n: int = 0) -> None:
        self.epoch = EPOCH
        self.last_sequence = n
        self.held = set(range(1, n + 1))

    def add(self) -> None:
        self.last_sequence += 1
        self.held.add(self.last_sequence)

    def pending(self, after: int, limit: int, *, until: int | None = None) -> list[int]:
        return sorted(s for s in self.held if s > after and (until is None or s <= until))[:limit]

    def free(self, ranges) -> int:
        gone = {s for s in self.held if any(a <= s <= b for a, b in ranges)}
        self.held -= gone
        return len(gone)


def ack(*ranges: tuple[int, int], epoch: bytes = EPOCH) -> link_pb2.Ack:
    return link_pb2.Ack(epoch=epoch, ranges=[link_pb2.Ack.Range(first=a, last=b) for a, b in ranges])


def test_nothing_is_sent_before_a_connection():
    assert UplinkSession(Shelf(3)).due(0) == []


def test_after_a_reconnect_the_newest_goes_first_then_the_backlog_in_order():
    session = UplinkSession(Shelf(10), window=6, live_reserve=2)
    session.connected()
    assert session.due(0) == [10, 1, 2, 3]


def test_a_new_batch_goes_ahead_of_the_backlog():
    shelf = Shelf(100)
    session = UplinkSession(shelf, window=6, live_reserve=2)
    session.connected()
    session.due(0)
    shelf.add()
    assert session.due(1) == [101]
    session.acked(ack((1, 2)))
    assert session.due(2) == [4]


def test_an_acknowledgement_opens_the_window_and_frees():
    shelf = Shelf(4)
    session = UplinkSession(shelf, window=8, live_reserve=1)
    session.connected()
    assert sorted(session.due(0)) == [1, 2, 3, 4]
    assert session.acked(ack((1, 3))) == 3
    assert (shelf.held, session.in_flight) == ({4}, 1)


def test_another_epochs_acknowledgement_frees_nothing():
    shelf = Shelf(4)
    session = UplinkSession(shelf)
    session.connected()
    session.due(0)
    assert session.acked(ack((1, 4), epoch=b"x" * 16)) == 0
    assert shelf.held == {1, 2, 3, 4}
    assert session.counts["foreign_ack"] == 1


def test_what_stays_unacknowledged_is_sent_again_with_growing_patience():
    session = UplinkSession(Shelf(1), resend_ms=1000, resend_cap_ms=4000)
    session.connected()
    sent_at = [now for now in range(0, 20_000, 500) if session.due(now)]
    assert sent_at == [0, 1000, 3000, 7000, 11_000, 15_000, 19_000]


def test_a_refused_batch_waits_and_comes_again():
    session = UplinkSession(Shelf(1), resend_ms=1000)
    session.connected()
    session.due(0)
    session.refused(link_pb2.Refusal(code="E-BUSY", sequence=1), 100)
    assert session.due(1500) == []
    assert session.due(2100) == [1]


def test_a_lost_connection_forgets_what_was_in_flight_and_sends_it_again():
    session = UplinkSession(Shelf(3))
    session.connected()
    session.due(0)
    session.lost()
    assert session.due(1) == []
    session.connected()
    assert sorted(session.due(2)) == [1, 2, 3]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 10))
def test_over_any_bad_link_everything_arrives_and_the_window_holds(seed, backlog, window):
    """Frames and acks are lost, the link breaks, batches are added: in the end the shelf is empty and all were delivered."""
    chance = random.Random(seed)
    shelf = Shelf(backlog)
    session = UplinkSession(shelf, window=window, live_reserve=min(2, window - 1) if window > 1 else 0, resend_ms=100, resend_cap_ms=400)
    delivered: set[int] = set()
    for now in range(0, 400_000, 50):
        if now < 3000 and chance.random() < 0.2:
            shelf.add()
        if chance.random() < 0.05:
            session.lost()
            session.connected()
        elif now == 0:
            session.connected()
        sent = session.due(now)
        assert session.in_flight <= max(window, 1)
        for sequence in sent:
            if chance.random() < 0.7:
                delivered.add(sequence)
        got = [s for s in sent if s in delivered]
        if got and chance.random() < 0.8:
            session.acked(ack(*[(s, s) for s in got]))
        if now > 3000 and not shelf.held:
            break
    assert shelf.held == set()
    assert delivered == set(range(1, shelf.last_sequence + 1))
