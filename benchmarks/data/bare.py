"""The bare engine: chDB in a process of its own with our schema, fed ready-made Native blocks. The baseline everything durable is divided by.

`python -m benchmarks.data.bare DIR` answers one JSON line per JSON line: {"do": "insert", ...}, {"do": "sql", "sql": ...}. Must not know: the road.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.data import workload
from cloud.historian.columns import Columns
from cloud.historian.schema import create
from cloud.historian.store import Engine
from cloud.historian.writer import RAW, BatchRow, raw_blocks, reference


def columns(made: workload.Sweeps) -> Columns:
    """The rows of some sweeps in the order an agent reads them."""
    sweeps, devices, points = made.value.shape
    return Columns(np.tile(np.repeat(np.array(made.devices, "<u4"), points), sweeps), np.tile(np.array(workload.POINTS, "<u2"), sweeps * devices),
                   np.repeat(made.at_ms, devices * points), made.value.reshape(-1).astype("<f8"), np.zeros(made.rows, "u1"))


def blocks(parts: list[tuple[int, workload.Sweeps]], *, batch: int, rows: int, first_sequence: int = 1) -> list[tuple[int, bytes]]:
    """(rows, Native block) pairs: the very blocks the road would insert: batches of every project in turn, `rows` readings a block.

    Args:
        parts: (project id, its sweeps).
        batch: readings of one batch.
        rows: readings of one block, about.
        first_sequence: of the stream.
    """
    cut = []
    for project, made in parts:
        whole = columns(made)
        cut.append([(project, whole.take(np.arange(k, min(k + batch, len(whole))))) for k in range(0, len(whole), batch)])
    flow = [item for turn in zip(*cut, strict=True) for item in turn]
    out, waiting, held = list[tuple[int, bytes]](), list[BatchRow](), 0
    for k, (project, part) in enumerate(flow):
        waiting.append(BatchRow(reference(1, 0, first_sequence + k), project, "a", bytes(16), k + 1, 0, 1, 1, part, 0))
        held += len(part)
        if held >= rows or k == len(flow) - 1:
            out += [(held, block) for _, block in raw_blocks(waiting)]
            waiting, held = [], 0
    return out


class Bare:
    """The process, seen from the benchmark."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.data.bare", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read()["ready"]

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare engine ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """One exchange."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def sql(self, statement: str) -> str:
        """Run a statement; TabSeparated result."""
        return str(self.ask("sql", sql=statement)["result"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _insert(engine: Engine, asked: dict[str, Any], token: int) -> dict[str, Any]:
    parts = [(p["project"], workload.sweeps(p["devices"], asked["sweeps"], start_ms=asked["start_ms"], seed=p["seed"])) for p in asked["parts"]]
    made = blocks(parts, batch=asked["batch"], rows=asked["rows"], first_sequence=token * 1_000_000 + 1)
    head = f"INSERT INTO {asked.get('table', 'heat.raw')} ({', '.join(RAW)}) FORMAT Native".encode()
    used, started = time.process_time(), time.perf_counter()
    for k, (_, block) in enumerate(made):
        engine.insert(head, "Native", block, {"insert_deduplication_token": f"bare:{token}:{k}"})
    return {"rows": sum(n for n, _ in made), "wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - used, "blocks": len(made)}


def main() -> None:
    """Entry point."""
    engine = Engine(Path(sys.argv[1]) / "data", handles=1)
    create(lambda statement: engine.query(statement, "Null", {}, {}))
    print(json.dumps({"ready": True}), flush=True)
    token = 0
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked["do"] == "insert":
                token += 1
                answer = _insert(engine, asked, token)
            else:
                started = time.perf_counter()
                answer = {"result": engine.query(asked["sql"], "TabSeparated", {}, {}).decode(), "wall_s": time.perf_counter() - started}
        except Exception as error:  # noqa: BLE001  told to the asker
            answer = {"error": f"{type(error).__name__}: {str(error)[:600]}"}
        print(json.dumps(answer), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
