"""What suite SM costs against STD on this machine: `python -m benchmarks.suites` prints, judges nothing.

Processor time of one core. A batch is 500 readings. Must not know: how a suite works inside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Final

from benchmarks.data import workload
from protos import batch, envelope, subjects, suites
from protos.suites import Suite

SIZE: Final = 500
ROUNDS: Final = 7
SECONDS: Final = 0.15
IDENTITY: Final = subjects.agent_identity(1, "a1")
COMMAND: Final = 120  # bytes of a typical command's body


def rate(work: Callable[[], object]) -> float:
    """Calls per second of processor time: the median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        calls, began = 0, time.process_time()
        while (spent := time.process_time() - began) < SECONDS:
            work()
            calls += 1
        found.append(calls / spent)
    return median(found)


def figures(suite: Suite, body: bytes) -> dict[str, float]:
    """Calls per second and bytes of one suite."""
    signing, box = suites.signing_key(suite), suites.box_key(suite)
    public, point = suites.verifying_key(suites.raw_public(signing)), suites.raw_public(box)
    header = envelope.Header(envelope.Kind.BATCH, envelope.identity_hash(IDENTITY), envelope.identity_hash(subjects.PLATFORM_IDENTITY), os.urandom(16), 1, 0, suite=suite)
    signed, sealer, opener = envelope.sign(header, body, signing), envelope.Sealer(point, suite=suite), envelope.Opener(subjects.PLATFORM_IDENTITY, box)
    wire = sealer.seal(signed)
    opened = opener.open(wire, envelope.Kind.BATCH)
    return {"bare signatures/s": rate(lambda: suites.signed(signing, b"x" * 32)), "bare checks/s": rate(lambda: suites.verifies(public, signed.signature, b"x" * 32)),
            "key agreements/s": rate(lambda: envelope.Sealer(point, suite=suite)), "batches signed/s": rate(lambda: envelope.sign(header, body, signing)),
            "batches sealed/s": rate(lambda: sealer.seal(signed)), "batches opened/s": rate(lambda: opener.open(wire, envelope.Kind.BATCH)),
            "batches checked/s": rate(lambda: opened.verify(public, IDENTITY)), "bytes per batch": len(wire), "of which envelope": len(wire) - len(body),
            "bytes per command": len(sealer.seal(envelope.sign(header, bytes(COMMAND), signing)))}


def main() -> None:
    """Print the table."""
    rows = list(workload.readings(workload.sweeps(range(1, 26), SIZE // 200 + 1, start_ms=workload.month_start_ms(), seed=6)))[:SIZE]
    body = batch.encode(batch.Stamp(1, "a1", os.urandom(16), 1, os.urandom(16)), rows)
    found = {suite: figures(suite, body) for suite in Suite if suite is Suite.STD or suites.self_test()["SM"] is True}
    print(f"{len(rows)} readings a batch, body {len(body)} B" + ("" if Suite.SM in found else "; this machine has no SM2"))
    print(f"{'':20}" + "".join(f"{suite.text:>10}" for suite in found) + f"{'sm / std':>10}")
    for name in found[Suite.STD]:
        values = [one[name] for one in found.values()]
        print(f"{name:20}" + "".join(f"{v:10.0f}" for v in values) + (f"{values[1] / values[0]:10.2f}" if len(values) > 1 else ""))


if __name__ == "__main__":
    main()
