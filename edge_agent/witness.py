"""Keeps the last hundred checkpoints of the platform's audit log, so that nobody can rewrite it unseen.

Two checkpoints of one size that differ, or a later one that is shorter, contradict each other: both are kept, counted and reported.
Must not know: how the log is kept, transports.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("kang.edge.witness")
KEEP: Final = 100
_FIELDS: Final = (("size", int), ("head", str), ("root", str), ("at_ms", int))


class Witness:
    """Checkpoints in `file`, JSON lines, oldest first; the form `kang audit verify --checkpoints` reads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.contradictions = 0
        self._held: list[dict[str, Any]] = []
        if file.exists():
            for line in file.read_text().splitlines():
                known = _read(line.encode())
                if known is not None:
                    self._held.append(known)

    def take(self, data: bytes) -> bool:
        """A checkpoint arrived; False when it is malformed or contradicts one held (it is kept nevertheless, as evidence)."""
        new = _read(data)
        if new is None:
            return False
        if any(new == old for old in self._held):
            return True
        against = [old for old in self._held if (old["size"] == new["size"] and (old["head"], old["root"]) != (new["head"], new["root"]))
                   or (old["at_ms"] < new["at_ms"] and old["size"] > new["size"])]
        if against:
            self.contradictions += 1
            log.error("the platform's audit log was rewritten: checkpoint of %d records contradicts one held of %d", new["size"], against[0]["size"])
        evidence = [against[0]] if against else []
        self._held = [*evidence, *[old for old in self._held if old not in evidence][-(KEEP - 1 - len(evidence)):], new]
        temporary = self._file.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, "".join(json.dumps(row) + "\n" for row in self._held).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self._file)
        return not against


def _read(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data[:4096])
    except ValueError:
        return None
    if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in _FIELDS):
        return None
    return found
