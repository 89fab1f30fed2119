"""Row 13, second half: backup, restore and checksum of three years of a thousand devices.

The rows are made inside the engine; what is timed is BACKUP, RESTORE and a checksum over both. Must not know: how backups are scheduled.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.data.bare import Bare
from benchmarks.report import QUICK, Report

DEVICES = 100 if QUICK else 1000
DAYS = 3 * 365
_CHECK = "SELECT count(), sum(cityHash64(project_id, device_id, point_id, ts, value)) FROM {table}"


def measure(report: Report, home: Path) -> None:
    """One backup and restore."""
    with Bare(home / "years") as bare:
        bare.sql("DROP VIEW heat.latest_of_raw")
        started = time.perf_counter()
        steps = DAYS // 3 * 96
        begin = (int(time.time()) // 86_400 - DAYS - 1) * 86_400
        for year in range(3):
            first = begin + year * steps * 900
            bare.sql("INSERT INTO heat.raw SELECT device % 100 AS project_id, device AS device_id, 1 + number % 4 AS point_id, toDateTime64("
                     f"{first} + intDiv(intDiv(number, 4), {DEVICES}) * 900, 3, 'UTC') AS ts, round(40 + 10 * sin(number / 1e5) + (cityHash64(number) % 20) / 10, 1) AS value, 0 AS quality,"
                     f" number AS batch FROM (SELECT number, intDiv(number, 4) % {DEVICES} AS device FROM numbers({steps * DEVICES * 4})) SETTINGS max_partitions_per_insert_block = 100")
        loaded = time.perf_counter() - started
        rows = int(bare.sql("SELECT count() FROM heat.raw"))
        started = time.perf_counter()
        bare.sql(f"BACKUP TABLE heat.raw TO File('{(home / 'years' / 'backups' / 'full').resolve()}')")
        backed_up = time.perf_counter() - started
        bare.sql(f"RESTORE TABLE heat.raw AS heat.again FROM File('{(home / 'years' / 'backups' / 'full').resolve()}')")
        restored = time.perf_counter() - started - backed_up
        same = bare.sql(_CHECK.format(table="heat.raw")) == bare.sql(_CHECK.format(table="heat.again"))
        took = time.perf_counter() - started
    report.add("data.13.backup_restore_checksum", took, "s", at_most=60,
               note=f"{rows / 1e6:,.0f} M rows: backup {backed_up:.1f}, restore {restored:.1f}, checksums {took - backed_up - restored:.1f} s; loaded in {loaded:.0f} s")
    report.add("data.13.checksums_equal", float(same), "", at_least=1)
