"""A gap one host reported is closed by the next one."""

from __future__ import annotations

from cloud.runtime.streams import AgentStream


def test_a_gap_reported_by_the_host_before_is_closed_when_it_heals() -> None:
    stream = AgentStream(2, [[5, 5]])
    stream.since_ms[3], stream.reported[3] = 100, 4  # as taken up from the historian
    assert stream.gap_changes(200, patience_ms=1000) == []
    stream.add(3)
    stream.add(4)
    assert stream.gap_changes(300, patience_ms=1000) == [(3, 4, 100, True)]
