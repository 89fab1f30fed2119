"""InfluxDB 1.6 (Debian package influxdb): line protocol over HTTP, eight fields a line. Must not know: our road."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Self
from urllib.parse import quote

from benchmarks.data import workload
from benchmarks.peers.engine import Served, bodies, post_all, tree_bytes
from benchmarks.peers.packages import program
from benchmarks.stack import free_ports


class Influx(Served):
    """One server."""

    name = "influxdb"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._binary = program("influxd", "influxdb")

    def __enter__(self) -> Self:
        rpc = free_ports(1)[0]
        (self.folder / "conf").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n[meta]\n  dir = "{self.folder}/meta"\n[data]\n  dir = "{self.folder}/data"\n  wal-dir = "{self.folder}/wal"\n'
            f'[http]\n  bind-address = "127.0.0.1:{self.port}"\n  log-enabled = false\n[monitor]\n  store-enabled = false\n')
        self.start([self._binary, "-config", "conf"], lambda: self.answers("/ping"))
        post_all(self.port, f"/query?q={quote('CREATE DATABASE heat')}", [b""])
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self, made: list[workload.Sweeps], batch: int) -> tuple[int, float]:
        """Ingest with millisecond precision."""
        parts = bodies(chain.from_iterable(workload.lines(m, unit=1) for m in made), batch // len(workload.POINTS))
        return sum(m.rows for m in made), post_all(self.port, "/write?db=heat&precision=ms", parts)

    def bytes_on_disk(self) -> int:
        """Data and log, not compacted."""
        return tree_bytes(self.folder / "data") + tree_bytes(self.folder / "wal")
