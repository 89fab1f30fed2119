"""Rows of the refusal matrix and how they are printed. Must not know: what is tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt.

    Attributes:
        group: what kind of attempt.
        name: which one.
        refused: True when it was.
        answer: status and code, or what the other side did.
        live: True when it was tried on the live stack, False when on the same code in this process.
    """

    group: str
    name: str
    refused: bool
    answer: str
    live: bool = True


def summary(rows: Iterable[Row], *, every: bool) -> str:
    """Groups with counts, then what was accepted (or every row)."""
    listed = list(rows)
    lines = []
    tried, accepted = Counter(r.group for r in listed), Counter(r.group for r in listed if not r.refused)
    for group, count in tried.items():
        lines.append(f"{'ACCEPTED' if accepted[group] else 'refused':<9} {group:<28} {count:>6} tried {accepted[group]:>5} accepted")
    lines += [f"  {'refused ' if r.refused else 'ACCEPTED'} {r.group} / {r.name}: {r.answer}{'' if r.live else ' (same code, this process)'}" for r in listed if every or not r.refused]
    lines.append(f"{len(listed)} tried, {sum(accepted.values())} accepted")
    return "\n".join(lines)


def save(rows: Iterable[Row], file: Path) -> None:
    """All rows as JSON."""
    file.write_text(json.dumps([asdict(r) for r in rows], ensure_ascii=False, indent=1))
