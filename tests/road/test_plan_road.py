"""A plan over the real road: sealed, held by the agent, followed on the plant's own registers, and given back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cloud.bus.connection import connect
from cloud.control.client import ControlClient, ControlRefusedError
from cloud.security.operations import Role
from protos.arbitration import Authority
from protos.points import point
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
SETPOINT = point("leaving_temp_setpoint").id


async def test_a_plan_is_held_and_followed_and_shown_as_the_holder(real: Real) -> None:
    tank, project = real.plant["ids"]["QH-TANK"], real.plant["project_id"]
    bus = await connect(real.settings.effective_nats_url, real.settings.credentials, "portal")
    control = ControlClient(bus)
    start = int(time.time() * 1000) - 1_000

    def body(values: list[float | None], name: str) -> dict[str, Any]:
        return {"project_id": project, "plan_id": name, "start_ms": start, "step_s": 900, "actor": "planner",
                "tracks": [{"device_id": tank, "point_id": SETPOINT, "authority": int(Authority.PLAN), "value": values, "holder": name, "reason": "valley"}]}

    async def held(name: str) -> bool:
        return any(p["plan_id"] == name and p["state"] == "held" for p in await control.plans(project))

    try:
        async with real.client(Role.OPERATOR) as client:
            before = await control.plans(project)
            with pytest.raises(ControlRefusedError) as refused:
                await control.plan(body([500.0], "too hot"))
            assert refused.value.code == "E-PLAN"
            assert await control.plans(project) == before
            await control.plan(body([51.5] * 8, "warm"))
            await eventually(lambda: held("warm"), 60, "the plan held")

            async def shown() -> float | None:
                holders = (await client.get(f"/devices/{tank}")).json()["holders"]
                return next((h["value"] for h in holders if h["authority"] == int(Authority.PLAN) and h["holder"] == "warm"), None)

            assert await eventually(shown, 30, "the plan shown as the holder") == 51.5

            async def measured() -> float | None:
                rows = (await client.get(f"/projects/{project}/latest")).json()["rows"]
                return next((1.0 for device, point_id, _, value, _ in rows if (device, point_id) == (tank, SETPOINT) and abs(value - 51.5) < 0.2), None)

            await eventually(measured, 60, "the set-point read back from the plant")
            await control.plan(body([None] * 8, "free"))
            await eventually(lambda: held("free"), 60, "the empty plan held")

            async def free() -> bool:
                return await shown() is None

            await eventually(free, 30, "nobody holding")
    finally:
        await bus.close()
