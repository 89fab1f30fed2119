"""The books of an agent's stream against a plain set of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.runtime.streams import AgentStream


@given(st.lists(st.integers(1, 40), max_size=80))
def test_books_equal_a_set(sequences: list[int]) -> None:
    stream, seen = AgentStream(), set[int]()
    for sequence in sequences:
        assert stream.has(sequence) == (sequence in seen)
        stream.add(sequence)
        seen.add(sequence)
        assert all(stream.has(n) == (n in seen) for n in range(1, 42))
    contiguous = next(n for n in range(1, 43) if n not in seen) - 1
    assert stream.high == contiguous
    gaps = {n for first, last in stream.missing() for n in range(first, last + 1)}
    assert gaps == {n for n in range(1, max(seen, default=0)) if n not in seen}


def test_a_gap_is_reported_once_after_patience_and_once_when_it_heals() -> None:
    stream = AgentStream()
    for sequence in (1, 2, 5):
        stream.add(sequence)
    assert stream.gap_changes(0, patience_ms=1000) == []
    assert stream.gap_changes(1000, patience_ms=1000) == [(3, 4, 0, False)]
    assert stream.gap_changes(2000, patience_ms=1000) == []
    stream.add(3)
    stream.add(4)
    assert stream.gap_changes(3000, patience_ms=1000) == [(3, 4, 0, True)]


def test_a_message_that_does_not_continue_its_neighbour_is_seen_from_either_side() -> None:
    stream = AgentStream()
    assert stream.chained(1, b"g", b"one")
    assert not stream.chained(2, b"other", b"two")
    assert stream.chained(2, b"one", b"two")
    assert stream.chained(4, b"three", b"four")
    assert not stream.chained(3, b"two", b"not three")
    assert stream.chained(3, b"two", b"three")
