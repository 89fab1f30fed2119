"""The books of one agent's stream: which sequences are committed, whether the chain holds, which gaps are open. Sans-IO.

Must not know: stores, transports.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass, field

KEEP = 2048


@dataclass(slots=True)
class AgentStream:
    """Sequences of one (project, agent, epoch).

    Attributes:
        high: every sequence <= high is committed.
        ranges: committed sequences above `high`, as sorted disjoint inclusive [first, last] pairs.
        since_ms: when each open gap (by its first sequence) was first seen.
    """

    high: int = 0
    ranges: list[list[int]] = field(default_factory=list)
    since_ms: dict[int, int] = field(default_factory=dict)
    reported: dict[int, int] = field(default_factory=dict)
    _digests: OrderedDict[int, tuple[bytes, bytes]] = field(default_factory=OrderedDict)

    def has(self, sequence: int) -> bool:
        """Was it committed?"""
        if sequence <= self.high:
            return True
        at = bisect.bisect_right(self.ranges, [sequence, 1 << 64]) - 1
        return at >= 0 and self.ranges[at][1] >= sequence

    def add(self, sequence: int) -> None:
        """Record a committed sequence."""
        if self.has(sequence):
            return
        at = bisect.bisect_right(self.ranges, [sequence, 1 << 64])
        joins_left = at > 0 and self.ranges[at - 1][1] == sequence - 1
        joins_right = at < len(self.ranges) and self.ranges[at][0] == sequence + 1
        if joins_left and joins_right:
            self.ranges[at - 1][1] = self.ranges[at][1]
            del self.ranges[at]
        elif joins_left:
            self.ranges[at - 1][1] = sequence
        elif joins_right:
            self.ranges[at][0] = sequence
        else:
            self.ranges.insert(at, [sequence, sequence])
        if self.ranges and self.ranges[0][0] == self.high + 1:
            self.high = self.ranges.pop(0)[1]

    def chained(self, sequence: int, previous: bytes, digest: bytes) -> bool:
        """Does this message fit its known neighbours? Remembers it when it does."""
        before, after = self._digests.get(sequence - 1), self._digests.get(sequence + 1)
        if (before is not None and before[1] != previous) or (after is not None and after[0] != digest):
            return False
        self._digests[sequence] = (previous, digest)
        if len(self._digests) > KEEP:
            self._digests.popitem(last=False)
        return True

    def missing(self) -> list[tuple[int, int]]:
        """Open gaps, inclusive."""
        edges, at = [], self.high
        for first, last in self.ranges:
            edges.append((at + 1, first - 1))
            at = last
        return edges

    def gap_changes(self, now_ms: int, *, patience_ms: int = 120_000) -> list[tuple[int, int, int, bool]]:
        """(first, last, seen_ms, healed) for gaps that lasted longer than patience and for reported ones that closed."""
        open_now = dict(self.missing())
        changes: list[tuple[int, int, int, bool]] = []
        for first, last in open_now.items():
            seen = self.since_ms.setdefault(first, now_ms)
            if now_ms - seen >= patience_ms and first not in self.reported:
                self.reported[first] = last
                changes.append((first, last, seen, False))
        for first in [f for f in self.since_ms if f not in open_now]:
            seen = self.since_ms.pop(first)
            if first in self.reported:
                changes.append((first, self.reported.pop(first), seen, True))
        return changes
