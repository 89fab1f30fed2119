"""PostgreSQL 15 with ThingsBoard's `ts_kv` table: upserts of unnested arrays, one per batch, from prepared statements' text through psql.

Runs as an unprivileged user in a directory of its own. Must not know: our road.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Self

from benchmarks.data import workload
from benchmarks.peers.engine import Served, tree_bytes
from benchmarks.peers.packages import PeerMissingError, program

_BIN = "/usr/lib/postgresql/15/bin"
#: ThingsBoard's schema for PostgreSQL: entity as a UUID, key as an integer of a dictionary, one column per type.
_TABLE = ("CREATE TABLE ts_kv (entity_id uuid NOT NULL, key int NOT NULL, ts bigint NOT NULL, bool_v boolean, str_v varchar(10000000), long_v bigint, dbl_v double precision, json_v json,"
          " CONSTRAINT ts_kv_pkey PRIMARY KEY (entity_id, key, ts))")


class Postgres(Served):
    """One cluster."""

    name = "postgresql_ts_kv"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._bin = Path(program("postgres", "postgresql-15", f"{_BIN}/postgres")).resolve().parent
        if not (self._bin / "initdb").exists():
            raise PeerMissingError("initdb is not beside postgres")
        self._user = self._unprivileged()

    def _unprivileged(self) -> str | None:
        """PostgreSQL refuses to run as root: use its own user, or nobody."""
        if os.getuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            return name
        raise PeerMissingError("run as root, and there is neither user postgres nor nobody")

    def _run(self, command: list[str], text: bytes = b"") -> None:
        done = subprocess.run(command, input=text, capture_output=True, cwd=self.folder, user=self._user, check=False)
        if done.returncode or b"ERROR" in done.stderr:
            raise RuntimeError(f"{command[0]}: {done.stderr.decode(errors='replace')[:300]}")

    @property
    def _psql(self) -> list[str]:
        return [str(self._bin / "psql"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "kang", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"]

    def __enter__(self) -> Self:
        self._run([str(self._bin / "initdb"), "-D", str(self.folder / "data"), "-U", "kang", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])

        def ready() -> bool:
            return subprocess.run([str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode == 0

        self.start([str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)], ready, user=self._user)
        self._run(self._psql, _TABLE.encode())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self, made: list[workload.Sweeps], batch: int) -> tuple[int, float]:
        """Ingest, `synchronous_commit` on as by default."""
        statements: list[str] = []
        for m in made:
            rows = list(workload.readings(m))
            for k in range(0, len(rows), batch):
                part = rows[k:k + batch]
                entity = ",".join(f"00000000-0000-0000-0000-{r.device_id:012d}" for r in part)
                statements.append(
                    f"INSERT INTO ts_kv (entity_id, key, ts, dbl_v) SELECT * FROM unnest('{{{entity}}}'::uuid[], '{{{','.join(str(r.point_id) for r in part)}}}'::int[],"
                    f" '{{{','.join(str(r.at_ms) for r in part)}}}'::bigint[], '{{{','.join(repr(r.value) for r in part)}}}'::float8[])"
                    " ON CONFLICT (entity_id, key, ts) DO UPDATE SET dbl_v = EXCLUDED.dbl_v;")
        text = "\n".join(statements).encode()
        started = time.perf_counter()
        self._run(self._psql, text)
        return sum(m.rows for m in made), time.perf_counter() - started

    def bytes_on_disk(self) -> int:
        """The table's files (heap and index)."""
        return tree_bytes(self.folder / "data" / "base")
