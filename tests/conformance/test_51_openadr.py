"""响应策略管理 (7.3.7) by OpenADR 3.1 over the real stack: a dispatch centre with an independent client (PyPI `openadr3`) makes a program and an event, sees it allocated and confirmed, changes it, takes it back."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from typing import Any

import httpx
import openadr3
import pytest
from openadr3.entities.models import Event, Program

from cloud.security.operations import Role
from tests.conformance.test_33_start_stop import online
from tests.support.openadr import FOLDER, PREFIX, complaints
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
SCOPE = ["demand_response.resource.read", "demand_response.program.change", *(f"demand_response.dispatch.{act}" for act in ("read", "submit", "cancel"))]


def judged(answer: httpx.Response, status: int, path: str) -> Any:
    """The body, when the answer is the wanted one and as the public document says."""
    assert answer.status_code == status, answer.text
    assert complaints(answer.request.method, path, status, answer.json()) == []
    return answer.json()


@pytest.mark.point("51", route="POST /api/v1/openadr3/3.1.0/events", page="/demand-response")
@pytest.mark.point("52", route="GET /api/v1/openadr3/3.1.0/resources", page="/demand-response")
async def test_an_independent_openadr_client_orders_sees_it_confirmed_and_takes_it_back(real: Real) -> None:
    project = real.plant["project_id"]
    async with real.client(Role.SECURITY_ADMIN) as security, real.client(Role.OPERATOR) as operator:
        await online(operator, "plant-a1")
        made = await security.post("/interfaces/clients", json={"name": f"oadr-{uuid.uuid4().hex[:8]}", "operations": SCOPE, "project_ids": [project], "rate": 100.0, "burst": 100, "priority": 0})
        assert made.status_code == 201, made.text
        vtn = openadr3.OpenADRClient(f"http://127.0.0.1:{real.settings.portal_port}/api/v1/{PREFIX}", spec_path=FOLDER / "openadr3-3.1.0.yaml")
        assert vtn.get_programs().status_code == 401
        await asyncio.to_thread(vtn.fetch_token, made.json()["id"], made.json()["secret"])
        event = ""
        try:
            async def published() -> Any:
                """A strategy saved again is published at once."""
                version = (await operator.get(f"/projects/{project}/demand-response")).json()["strategy"]["version"]
                (await operator.put(f"/projects/{project}/demand-response", json={"version": version, "rebound_s": 0})).raise_for_status()
                await asyncio.sleep(4)
                return await asyncio.to_thread(lambda: judged(vtn.get_resources(), 200, "/resources"))

            resources = await eventually(published, 200, "a resource", 5)
            values = {a["type"]: a["values"][0] for a in resources[0]["attributes"]}
            limit = max(500.0, values["KANG_LEAST_KW"])
            program = await asyncio.to_thread(lambda: judged(vtn.create_program({"programName": "conformance", "attributes": [{"type": "KANG_KIND", "values": ["order"]}]}), 201, "/programs"))
            start = dt.datetime.fromtimestamp(int(time.time()) + 90, dt.UTC)
            asked = {"programID": program["id"], "eventName": "feeder above its rating", "targets": [resources[0]["resourceName"]], "intervalPeriod": {"start": start.isoformat(), "duration": "PT15M"},
                     "payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
                     "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [limit]}]}]}
            late = await asyncio.to_thread(lambda: judged(vtn.create_event({**asked, "intervalPeriod": {"start": "2020-01-01T00:00:00Z", "duration": "PT15M"}}), 400, "/events"))
            assert late["field"] == "intervalPeriod.start"
            sent = await asyncio.to_thread(lambda: judged(vtn.create_event(asked), 201, "/events"))
            event = sent["id"]

            async def stands(state: str, version: int) -> Any:
                found = await asyncio.to_thread(lambda: judged(vtn.get_event_by_id(event), 200, f"/events/{event}"))
                return found if (found["kang"]["state"], found["kang"]["version"]) == (state, version) else None

            await eventually(lambda: stands("confirmed", 1), 60, "the event confirmed", 1.0)
            lower = [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [limit - 10]}]}]
            await asyncio.to_thread(lambda: judged(vtn.update_event(event, {**sent, "intervals": lower}), 200, f"/events/{event}"))
            await eventually(lambda: stands("confirmed", 2), 60, "the event as changed, confirmed", 1.0)
            # the library's own reading of what it got
            found = (await asyncio.to_thread(vtn.events, active=True))[0]
            assert isinstance(found, Event)
            assert (found.program_id, found.intervals[0].payloads[0].values, found.targets) == (program["id"], [limit - 10], asked["targets"])
            assert isinstance((await asyncio.to_thread(vtn.programs))[0], Program)
            row = next(r for r in (await operator.get("/demand-response/events", params={"state": "confirmed"})).json()["rows"] if r["event_id"] == event)
            held = (await operator.get(f"/demand-response/events/{row['id']}")).json()["commitments"]
            assert [(c["project_id"], c["out"]) for c in held] == [(project, "")]
        finally:
            if event:
                gone = await asyncio.to_thread(vtn.delete_event, event)
            vtn.close()
        assert judged(gone, 200, f"/events/{event}")["kang"]["state"] == "cancelled"
        page = (await operator.get(f"/demand-response/events/{row['id']}")).json()
        assert (page["event"]["state"], page["event"]["dispatcher"]) == ("cancelled", f"client:{made.json()['id']}")
