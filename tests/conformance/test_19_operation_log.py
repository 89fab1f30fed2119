"""操作日志管理 (7.2.5 b): who did what from where, chained and signed, searchable, exported, found out when altered."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cloud.security.operations import Role
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow


@pytest.mark.point("19", route="GET /api/v1/audit", page="/audit")
async def test_an_operation_leaves_time_type_level_point_process_and_operator(real: Real) -> None:
    device = real.plant["ids"]["QH-B1"]
    async with real.client(Role.OPERATOR) as operator:
        refused = await operator.post("/commands", json={"device_id": device, "kind": "hold", "point_id": 65, "value": 9999, "hold_s": 60, "reason": "conformance"}, headers={"Idempotency-Key": uuid.uuid4().hex})
        assert refused.status_code in (400, 409, 422)
    async with real.client(Role.AUDIT_ADMIN) as auditor:
        async def linked() -> list[dict]:
            rows = (await auditor.get("/audit", params={"operator": f"test-{Role.OPERATOR}"})).json()
            return [r for r in rows if r["operation"].startswith("remote_control.command") and r["target"].endswith("= 9999") and r["linked"]]

        rows = await eventually(linked, 30, "the row, linked into the chain")
        row = rows[0]
        assert row["at_ms"] > 0
        assert row["level"]
        assert (row["target"].split()[0], row["result"], row["code"]) == ("QH-B1", "refused", "E-COMMAND-RANGE")
        assert row["process_id"] > 0
        assert row["operator"] == f"test-{Role.OPERATOR}"
        verdict = (await auditor.get("/audit/verify")).json()
        assert verdict["ok"] is True, verdict
        table = list(csv.reader(io.StringIO((await auditor.get("/audit/export.csv", params={"operator": f"test-{Role.OPERATOR}"})).text.removeprefix("\ufeff"))))
        assert len(table) > 1
        assert any(f"test-{Role.OPERATOR}" in cell for cell in table[1])


@pytest.mark.point("19", route="kang audit verify", page="/audit")
def test_the_chain_is_verified_from_the_command_line(real: Real) -> None:
    run = subprocess.run([sys.executable, "-m", "cloud.cli", "--home", str(real.settings.home), "audit", "verify"], capture_output=True, text=True, timeout=120, check=False,
                         cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.point("19", route="GET /api/v1/audit", page="/audit")
async def test_nobody_but_the_audit_administrator_reads_it_and_nobody_writes_it(real: Real) -> None:
    for role in (Role.OPERATOR, Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN):
        async with real.client(role) as client:
            assert (await client.get("/audit")).status_code == 403
    async with real.client(Role.AUDIT_ADMIN) as auditor:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await auditor.request(method, "/audit")).status_code in (403, 404, 405)
