"""`kang-edge run`, with a spool that also keeps a ledger of what it sealed: the truth a campaign compares the historian with.

The ledger names every reading of every sealed batch (count and checksums per sequence). It is written after the batch is durable; after a crash
in between, what stands in the spool is entered before anything is sent. Must not know: the platform.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent import agent as agents
from edge_agent import cli
from edge_agent.spool import Spool
from protos import batch

MODULUS = 1 << 61


def identity(device: int, point: int, at_ms: int) -> int:
    """A number per reading whose sum names a set of readings."""
    return (device * 1_000_003 + point * 10_007 + at_ms) % MODULUS


class LedgerSpool(Spool):
    """A spool whose sealed batches are entered in `sealed.jsonl` beside it."""

    ledger: Path

    def __init__(self, path: Path | str, **options: Any) -> None:
        super().__init__(path, **options)
        self.ledger = Path(path).parent / "sealed.jsonl"
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        if lines and not lines[-1].endswith("}"):
            lines.pop()
            self.ledger.write_text("".join(f"{line}\n" for line in lines))
        self._entered = max((json.loads(line)["sequence"] for line in lines), default=0)
        self._enter()

    def append(self, readings: Sequence[batch.Reading], **options: Any) -> int:
        """Seal, then enter."""
        taken = super().append(readings, **options)
        self._enter()
        return taken

    def redate(self, **options: Any) -> Any:
        """Re-date, then enter."""
        done = super().redate(**options)
        self._enter()
        return done

    def _enter(self) -> None:
        with self.ledger.open("a") as out:
            for sequence in self.pending(self._entered, 100_000):
                signed = self.get(sequence)
                assert signed is not None, "freed before it was entered"
                rows = list(batch.readings(batch.parse(signed.body)))
                out.write(json.dumps({"epoch": self.epoch.hex(), "sequence": sequence, "rows": len(rows), "ids": sum(identity(r.device_id, r.point_id, r.at_ms) for r in rows) % MODULUS,
                                      "value": sum(round(r.value * 100) for r in rows)}) + "\n")
                self._entered = sequence


def sealed(state_dir: Path) -> dict[str, int]:
    """Totals of everything ever sealed: rows, ids (mod 2^61), value (hundredths)."""
    rows = [json.loads(line) for line in (state_dir / "sealed.jsonl").read_text().splitlines() if line.endswith("}")]
    return {"rows": sum(r["rows"] for r in rows), "ids": sum(r["ids"] for r in rows) % MODULUS, "value": sum(r["value"] for r in rows), "batches": len(rows)}


def main() -> None:
    """`python -m benchmarks.rig.agent --site FILE`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--site", type=Path, required=True)
    args = parser.parse_args()
    vars(agents)["Spool"] = LedgerSpool  # the agent makes its own spool; here it keeps a ledger too
    sys.exit(cli.main(["run", "--site", str(args.site)]))


if __name__ == "__main__":
    main()
