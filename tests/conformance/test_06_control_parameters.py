"""调控参数管理 (7.2.2 d) over the real stack: what is in force, by whom, what stood before, compared with its template."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.security.operations import Role
from protos.points import point
from tests.conformance.test_33_start_stop import ended, online, send
from tests.support.real import Real, eventually

pytestmark = [pytest.mark.slow, pytest.mark.point("6", route="GET /api/v1/parameters", page="/parameters")]
SETPOINT = point("leaving_temp_setpoint").id


async def test_a_parameter_in_force_names_who_set_it_what_stood_before_and_its_template(real: Real) -> None:
    agent = real.rigs[0]
    device = agent.devices[2]
    async with real.client(Role.OPERATOR) as client:
        await online(client, agent.agent_id)
        for value in (41.0, 47.0):
            assert (await ended(client, await send(client, device, "hold", point_id=SETPOINT, value=value, hold_s=3600)))["state"] == "verified"

            async def stored(value: float = value) -> dict[str, Any]:
                row: dict[str, Any] = (await client.get(f"/parameters/{device}/{SETPOINT}")).json()
                return row if row.get("value") == value and row["source"] and row["source"]["value"] == value else {}

            row = await eventually(stored, 40, f"{value} stands in the record")
        assert (row["source"]["holder"], row["source"]["authority"]) == (f"test-{Role.OPERATOR}", 5)
        assert (row["low"], row["high"], row["template"]) == (0.0, 120.0, "rig_device@1")

        async def explained() -> list[dict[str, Any]]:
            found = (await client.get(f"/parameters/{device}/{SETPOINT}")).json()["changes"]
            return [c for c in found if c["value"] == 47.0 and c["command"]]

        (change, *_) = await eventually(explained, 40, "the change stands in the history with the command that made it")
        assert change["before"] == 41.0
        assert change["command"]["reason"] == "conformance"
        page = (await client.get("/parameters", params={"project_id": agent.project_id, "point_id": SETPOINT})).json()
        assert {r["device_id"] for r in page["rows"]} == set(agent.devices)
        table = await client.get("/parameters/export", params={"project_id": agent.project_id})
        assert "leaving_temp_setpoint" in table.text
        assert (await ended(client, await send(client, device, "release", point_id=SETPOINT)))["state"] == "verified"
