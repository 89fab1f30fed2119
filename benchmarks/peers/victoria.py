"""VictoriaMetrics (Debian package victoria-metrics): line protocol over HTTP, eight fields a line. Must not know: our road."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Self

from benchmarks.data import workload
from benchmarks.peers.engine import Served, bodies, post_all, tree_bytes
from benchmarks.peers.packages import program


class Victoria(Served):
    """One server."""

    name = "victoriametrics"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._binary = program("victoria-metrics", "victoria-metrics")

    def __enter__(self) -> Self:
        self.start([self._binary, f"-storageDataPath={self.folder / 'data'}", f"-httpListenAddr=127.0.0.1:{self.port}", "-retentionPeriod=100y"], lambda: self.answers("/health"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self, made: list[workload.Sweeps], batch: int) -> tuple[int, float]:
        """Ingest; the write path of its single-node server takes nanosecond line protocol at /write."""
        parts = bodies(chain.from_iterable(workload.lines(m, unit=1_000_000) for m in made), batch // len(workload.POINTS))
        return sum(m.rows for m in made), post_all(self.port, "/write", parts)

    def bytes_on_disk(self) -> int:
        """After a forced flush and merge."""
        post_all(self.port, "/internal/force_flush", [b""])
        post_all(self.port, "/internal/force_merge", [b""])
        return tree_bytes(self.folder / "data")
