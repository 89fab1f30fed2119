"""网络记录 (8.3 g): who connected, called and signed in stands on record for half a year at least, found by site and day."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from cloud.core.settings import SettingsError, load
from cloud.historian.flow import FlowReader
from cloud.security.operations import Role
from tests.support.real import Real, eventually

pytestmark = [pytest.mark.slow, pytest.mark.point("P8", route="GET /api/v1/network", page="/network")]


async def test_agents_people_and_external_systems_are_found_by_site_and_day(real: Real) -> None:
    day = datetime.now(ZoneInfo(real.settings.timezone)).date().isoformat()
    async with real.client(Role.AUDIT_ADMIN) as auditor, real.client(Role.OPERATOR) as operator:
        async def found(site: str, kind: str = "") -> list[dict[str, Any]]:
            answer = await auditor.get("/network", params={"day": day, "site": site, "kind": kind})
            assert answer.status_code == 200, answer.text
            rows: list[dict[str, Any]] = answer.json()
            return rows

        for agent in (real.rigs[0].agent_id, real.rigs[1].agent_id, "plant-a1"):
            rows = await eventually(lambda a=agent: found(a, "connect"), 60, f"the connection of {agent}")
            assert {r["zone"] for r in rows} == {"monitoring"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.settings.portal_port}/api/v1", timeout=30) as stranger:
            assert (await stranger.post("/session", json={"code": "not-a-code-at-all"})).status_code in (401, 422, 429)

        async def signed_in() -> list[dict[str, Any]]:
            return [r for r in await found("", "auth") if r["result"] == "ok"]

        assert await eventually(signed_in, 30, "sign-ins")
        assert await found("no-such-site") == []
        assert (await auditor.get("/network", params={"day": "1999-01-01"})).json() == []
        assert (await operator.get("/network", params={"day": day})).status_code == 403
    reader = FlowReader(real.store(), days=real.settings.network_days)
    table = await real.store().query("SELECT create_table_query FROM system.tables WHERE database = 'heat' AND name = 'flow'")
    assert "TTL" in str(table)
    assert any(span in str(table).replace("(", " ").replace(")", " ") for span in (f"{real.settings.network_days} DAY", f"toIntervalDay {real.settings.network_days}"))
    assert await reader.search(day, real.settings.timezone, site="plant-a1")


def test_no_setting_keeps_them_shorter_than_half_a_year(real: Real) -> None:
    for days in (0, 30, 182):
        with pytest.raises(SettingsError, match="183"):
            load(real.settings.home, network_days=days)
