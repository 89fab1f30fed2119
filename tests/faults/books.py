"""What the agents sealed against what the historian holds: counts and checksums, by stream sequence."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error

from benchmarks.rig.agent import MODULUS
from benchmarks.rig.build import RigAgent
from cloud.core.settings import Settings
from cloud.historian.schema import FIRST_WINS


@dataclass(frozen=True)
class ReadingBooks:
    """The comparison of one agent."""

    agent_id: str
    sent: int
    found: int
    lost: int
    doubled: int
    surplus: int
    checksum_ok: bool

    @property
    def ok(self) -> bool:
        """Every reading once, with its value."""
        return self.lost == 0 and self.doubled == 0 and self.checksum_ok and self.sent > 0


logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


class Books:
    """Reads both sides."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def _query(self, sql: str) -> list[tuple[int, ...]]:
        password = (self._settings.credentials / "store.secret").read_text()
        client = clickhouse_connect.get_client(host="127.0.0.1", port=self._settings.store_port, username="kang", password=password, compress=False, connect_timeout=5)
        try:
            return list(client.query(sql).result_rows)
        finally:
            client.close()

    def _try(self, sql: str) -> list[tuple[int, ...]]:
        """Empty while the store is down or young."""
        try:
            return self._query(sql)
        except (Error, OSError):
            return []

    def committed_rows(self, agent: RigAgent) -> int:
        """Readings of an agent in the historian."""
        rows = self._try(f"SELECT sum(rows) FROM heat.batch WHERE agent_id = '{agent.agent_id}'")
        return int(rows[0][0]) if rows and rows[0][0] else 0

    def last_sealed(self, agent: RigAgent) -> int:
        """Newest sequence in the agent's ledger."""
        lines = [line for line in (agent.state / "sealed.jsonl").read_text().splitlines() if line.endswith("}")]
        return int(json.loads(lines[-1])["sequence"]) if lines else 0

    def committed_after(self, agent: RigAgent, sequence: int) -> bool:
        """Is a batch sealed after `sequence` committed?"""
        rows = self._try(f"SELECT max(agent_seq) FROM heat.batch WHERE agent_id = '{agent.agent_id}' AND rows > 0")
        return bool(rows) and int(rows[0][0] or 0) > sequence

    def compare(self, agent: RigAgent, wait_s: float = 120) -> ReadingBooks:
        """Wait until everything sealed so far is committed, then compare it."""
        from benchmarks.stack import wait_until

        last = self.last_sealed(agent)
        seqs = f"SELECT DISTINCT agent_seq FROM heat.batch WHERE agent_id = '{agent.agent_id}' AND agent_seq <= {last} AND epoch != toFixedString(unhex('00000000000000000000000000000000'), 16)"
        try:
            wait_until(lambda: len(self._try(seqs)) >= last, wait_s, f"{last} batches of {agent.agent_id} committed", 0.5)
        except TimeoutError:
            pass
        lines = [json.loads(line) for line in (agent.state / "sealed.jsonl").read_text().splitlines() if line.endswith("}")]
        mine = [r for r in lines if r["sequence"] <= last]
        sent, ids, value = sum(r["rows"] for r in mine), sum(r["ids"] for r in mine) % MODULUS, sum(r["value"] for r in mine)
        refs = f"SELECT {FIRST_WINS} - ref FROM heat.batch WHERE agent_id = '{agent.agent_id}' AND agent_seq <= {last}"
        where = f"project_id = {agent.project_id} AND batch IN ({refs})"
        number = "toUInt64(device_id) * 1000003 + toUInt64(point_id) * 10007 + toUInt64(toUnixTimestamp64Milli(ts))"
        found, found_ids, found_value = self._query(f"SELECT count(), sum({number}), sum(toInt64(round(value * 100))) FROM heat.raw FINAL WHERE {where}")[0]
        raw, unique = self._query(f"SELECT count(), uniqExact(device_id, point_id, ts) FROM heat.raw WHERE project_id = {agent.project_id} AND batch IN ({refs})")[0]
        return ReadingBooks(agent.agent_id, sent, found, max(0, sent - unique), max(0, found - sent), raw - unique, found_ids % MODULUS == ids and found_value == value)
