"""Batches through the API over a real ledger: preview, followed device by device, second person, cancel, put back, list, export, scope, restart."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cloud.core.ports import CommandRequest
from cloud.functions.devices.errors import TemplateError
from cloud.functions.devices.service import DeviceService, NewDevice
from cloud.functions.remote_control.batches import BatchService, dangerous
from cloud.functions.remote_control.runner import BatchRunner
from cloud.functions.system import approvals
from cloud.ledger import Ledger
from cloud.security.operations import Role
from protos.points import BY_KEY
from tests.portal.conftest import Clock, SignIn
from tests.support.site import Site

SETPOINT = BY_KEY["room_temp_setpoint"].id


def rooms(site: Site, n: int = 3, project: str = "cuihu") -> list[int]:
    return [d.id for d in site.directory.devices(site.projects[project]) if SETPOINT in d.points and d.points[SETPOINT].writable][:n]


def wish(devices: list[int], **more: Any) -> dict[str, Any]:
    return {"device_ids": devices, "kind": "hold", "point_id": SETPOINT, "value": 19.0, "reason": "night", **more}


async def send(client: httpx.AsyncClient, body: dict[str, Any], key: str = "") -> httpx.Response:
    return await client.post("command-batches", json=body, headers={"Idempotency-Key": key or uuid.uuid4().hex})


async def until(client: httpx.AsyncClient, batch: str, test: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while True:
            view: dict[str, Any] = (await client.get(f"command-batches/{batch}")).json()
            if test(view):
                return view
            await asyncio.sleep(0.05)


def ended(view: dict[str, Any]) -> bool:
    return view["state"] in ("done", "failed", "cancelled")


@pytest.fixture
async def operator(sign_in: SignIn) -> httpx.AsyncClient:
    return await sign_in("operator")


async def test_a_preview_tells_device_by_device_what_would_come_of_it(site: Site, operator: httpx.AsyncClient, clock: Clock) -> None:
    free, held, locked = rooms(site)
    site.live.device_states[held] = {"holders": [{"point_id": SETPOINT, "authority": 4, "value": 16.0, "until_ms": clock() + 600_000, "holder": "grid", "reason": "order", "command_id": ""}]}
    site.live.device_states[locked] = {"locked_out": True, "lockout_holder": "王师傅", "lockout_reason": "检修"}
    found = (await operator.post("command-batches/preview", json=wish([free, held, locked]))).json()
    rows = {r["device"]["id"]: r for r in found["rows"]}
    assert rows[free]["wins"] and rows[free]["effective"] == 19.0 and rows[free]["limits"]["low"] < 19 < rows[free]["limits"]["high"]
    assert not rows[held]["wins"] and rows[held]["stronger"][0]["holder"] == "grid" and rows[held]["holders"][0]["until_ms"] == clock() + 600_000
    assert rows[locked]["problem"]["code"] == "E-COMMAND-LOCKED" and rows[locked]["locked_out"]
    assert (found["possible"], found["second"], site.commands.requests) == (2, [], [])


async def test_a_batch_is_sent_and_followed_on_every_device(site: Site, operator: httpx.AsyncClient) -> None:
    devices, key = rooms(site), uuid.uuid4().hex
    answer = await send(operator, wish(devices), key)
    assert answer.status_code == 202, answer.text
    again = await send(operator, wish(devices), key)
    assert again.json()["id"] == answer.json()["id"]
    assert (await send(operator, wish(devices, value=20.0), key)).json()["code"] == "E-BATCH"
    view = await until(operator, answer.json()["id"], ended)
    assert view["state"] == "done" and view["counts"] == {"verified": 3} and [i["readback"] for i in view["items"]] == [19.0] * 3
    assert len(site.commands.requests) == 3


async def test_what_one_device_would_refuse_is_refused_whole_before_anything_is_sent(site: Site, operator: httpx.AsyncClient) -> None:
    first, second, _ = rooms(site)
    site.live.device_states[second] = {"locked_out": True, "lockout_holder": "王师傅", "lockout_reason": "检修"}
    refused = (await send(operator, wish([first, second]))).json()
    assert refused["code"] == "E-COMMAND-LOCKED" and site.directory.device(second).code in refused["en"]
    for body, code in ((wish([first], value=99.0), "E-COMMAND-RANGE"), (wish([first, first]), "E-BATCH-SIZE"), (wish([first], reason=" "), "E-BATCH-SIZE"), (wish([]), "E-INPUT"), (wish([first], value=None), "E-COMMAND-INCOMPLETE"),
                       (wish([first], gap_s=-1.0), "E-INPUT"), (wish([999_999]), "E-NOT-FOUND")):
        assert (await send(operator, body)).json()["code"] == code, body
    assert site.commands.requests == []
    assert (await operator.get("command-batches")).json()["total"] == 0


async def test_a_large_batch_waits_for_a_second_person_and_then_goes_once(site: Site, operator: httpx.AsyncClient, sign_in: SignIn, clock: Clock) -> None:
    devices = rooms(site, 21)
    assert len(devices) == 21
    made = (await send(operator, wish(devices))).json()
    assert (made["state"], site.commands.requests) == ("pending", []) and "20" in made["second"][0]["en"]
    call = f"command-batches/{made['id']}/release"
    for body in (None, {}):
        assert (await operator.post(call, json=body)).json()["code"] == "E-APPROVAL-NEEDED", "no second, emptier approval is asked for"
    assert [a["id"] for a in (await operator.get("approvals")).json()] == [made["approval_id"]]
    early = await operator.post(call, headers={"X-Kang-Approval": made["approval_id"]})
    assert early.json()["code"] == "E-APPROVAL", "nobody has approved"
    assert (await operator.post(f"approvals/{made['approval_id']}", json={"approve": True})).json()["code"] == "E-SELF"
    engineer = await sign_in("engineer")
    told = next(a for a in (await engineer.get("approvals")).json() if a["id"] == made["approval_id"])
    assert told["decidable"] and '"kw"' in told["payload"] and told["target"] == f"/batches/{made['id']}"
    assert (await engineer.post(f"approvals/{made['approval_id']}", json={"approve": True, "reason": "agreed"})).json()["state"] == "approved"
    assert (await engineer.post(call, headers={"X-Kang-Approval": made["approval_id"]})).json()["code"] == "E-APPROVAL", "only its asker carries it out"
    other = (await send(operator, wish(devices, value=18.0))).json()
    assert (await operator.post(f"command-batches/{other['id']}/release", headers={"X-Kang-Approval": made["approval_id"]})).json()["code"] == "E-APPROVAL", "approved for another batch"
    assert (await operator.post(call, headers={"X-Kang-Approval": made["approval_id"]})).status_code == 202
    view = await until(operator, made["id"], ended)
    assert view["state"] == "done" and len(site.commands.requests) == 21
    assert (await operator.post(call, headers={"X-Kang-Approval": made["approval_id"]})).json()["code"] == "E-APPROVAL", "used"
    clock.ms += 1_801_000  # the other one's deadline passes
    client = await sign_in("engineer")
    assert (await client.post(f"approvals/{other['approval_id']}", json={"approve": True})).json()["code"] == "E-APPROVAL"


def test_power_and_what_a_template_marks_need_a_second_person_too() -> None:
    document = {"dangerous": ["stop", "enable_command"]}
    request = CommandRequest(1, 2, "stop")
    assert dangerous(request, document) is not None and dangerous(request, {}) is None
    assert dangerous(CommandRequest(1, 2, "hold", BY_KEY["enable_command"].id, 0.0), document) is not None
    assert dangerous(CommandRequest(1, 2, "release", BY_KEY["enable_command"].id), document) is None


async def test_what_a_template_marks_is_refused_to_one_person_alone_and_waits_for_two(site: Site, operator: httpx.AsyncClient, ledger: Ledger) -> None:
    boiler = next(d for d in site.directory.devices(site.projects["cuihu"]) if d.code == "EB1")
    document = dict(site.directory.template(boiler.template) or {})
    with pytest.raises(TemplateError, match="dangerous"):
        DeviceService(ledger).register_template({**document, "version": 90, "dangerous": ["explode"]})
    DeviceService(ledger).register_template({**document, "version": 91, "dangerous": ["start"]})
    device = DeviceService(ledger).register_devices(boiler.project_id, [NewDevice("EB9", "九号", "Nine", boiler.agent_id, str(document["template"]), rated_kw=90.0)])["EB9"]
    site.directory.refresh()
    start = {"device_id": device, "kind": "start", "reason": "cold"}
    assert (await operator.post("commands", json=start, headers={"Idempotency-Key": uuid.uuid4().hex})).json()["code"] == "E-COMMAND-FOUR-EYES"
    assert (await operator.post("commands", json={**start, "kind": "stop"}, headers={"Idempotency-Key": uuid.uuid4().hex})).status_code == 202
    made = (await send(operator, {"device_ids": [device], "kind": "start", "reason": "cold"})).json()
    assert made["state"] == "pending" and "template" in made["second"][0]["en"]


async def test_what_is_not_sent_can_be_cancelled_and_stays_unsent(site: Site, operator: httpx.AsyncClient, clock: Clock) -> None:
    made = (await send(operator, wish(rooms(site, 4), gap_s=100.0))).json()
    await until(operator, made["id"], lambda v: v["counts"].get("verified") == 1)
    assert (await operator.post(f"command-batches/{made['id']}/cancel")).status_code == 200
    view = await until(operator, made["id"], ended)
    assert view["state"] == "cancelled" and view["counts"] == {"verified": 1, "cancelled": 3} and view["cancelled_by"] == "operator"
    clock.ms += 200_000
    assert len(site.commands.requests) == 1
    assert (await operator.post(f"command-batches/{made['id']}/cancel")).json()["code"] == "E-BATCH-STATE"


async def test_the_approval_of_a_batch_ends_with_it(site: Site, operator: httpx.AsyncClient, sign_in: SignIn) -> None:
    engineer, auditor = await sign_in("engineer"), await sign_in("auditor")
    waits, agreed = [(await send(operator, wish(rooms(site, 21), reason=reason))).json() for reason in ("first", "second")]
    assert (await engineer.post(f"approvals/{agreed['approval_id']}", json={"approve": True})).status_code == 200
    assert (await engineer.get("approvals/waiting")).json() == {"waiting": 1}
    for batch in (waits, agreed):
        assert (await operator.post(f"command-batches/{batch['id']}/cancel")).json()["state"] == "cancelled"
        shown = next(a for a in (await engineer.get("approvals")).json() if a["id"] == batch["approval_id"])
        assert (shown["state"], shown["decidable"]) == ("withdrawn", False) and batch["id"] in shown["decision"]
        assert (await engineer.post(f"approvals/{batch['approval_id']}", json={"approve": True})).json()["code"] == "E-APPROVAL"
        assert (await operator.post(f"command-batches/{batch['id']}/release", headers={"X-Kang-Approval": batch["approval_id"]})).json()["code"] == "E-APPROVAL"
        told = (await auditor.get("audit", params={"name": "system.approval.withdraw", "about": f"approval/{batch['approval_id']}"})).json()
        assert [(r["operator"], r["result"]) for r in told] == [("operator", "done")]
    assert (await engineer.get("approvals/waiting")).json() == {"waiting": 0}
    assert site.commands.requests == []


async def test_nobody_is_asked_about_a_batch_that_was_not_taken_or_has_ended(site: Site, operator: httpx.AsyncClient, sign_in: SignIn) -> None:
    engineer, devices, key = await sign_in("engineer"), rooms(site, 22), uuid.uuid4().hex
    made = (await send(operator, wish(devices[:21]), key)).json()
    assert (await engineer.post(f"approvals/{made['approval_id']}", json={"approve": False, "reason": "no"})).status_code == 200
    for other in (wish(devices[:21], value=18.0), wish(devices[1:])):  # the same key, other content, as many devices
        assert (await send(operator, other, key)).json()["code"] == "E-BATCH"
    assert [a["id"] for a in (await engineer.get("approvals")).json()] == [made["approval_id"]], "an approval of one batch cannot be shown under the words of another"
    assert (await operator.post(f"command-batches/{made['id']}/cancel")).status_code == 200
    assert (await send(operator, wish(devices[:21]), key)).json()["state"] == "cancelled"
    assert (await engineer.get("approvals/waiting")).json() == {"waiting": 0}


async def test_a_batch_ends_when_the_second_person_refuses_or_never_answers(site: Site, operator: httpx.AsyncClient, sign_in: SignIn, ledger: Ledger, clock: Clock) -> None:
    engineer, service = await sign_in("engineer"), BatchService(ledger, clock)
    refused, late, agreed = [(await send(operator, wish(rooms(site, 21), reason=reason))).json() for reason in ("no", "late", "yes")]
    assert (await engineer.post(f"approvals/{refused['approval_id']}", json={"approve": False, "reason": "not tonight"})).status_code == 200
    assert (await engineer.post(f"approvals/{agreed['approval_id']}", json={"approve": True})).status_code == 200
    assert service.lapse() == [refused["id"]]
    clock.ms += 1_801_000
    assert set(service.lapse()) == {late["id"], agreed["id"]}, "an agreement is good for half an hour, too"
    assert service.lapse() == []
    shown = {b["id"]: b for b in (await (await sign_in("engineer")).get("command-batches")).json()["rows"]}
    assert [(shown[b["id"]]["state"], shown[b["id"]]["cancelled_by"]) for b in (refused, late, agreed)] == [("cancelled", "engineer"), ("cancelled", "~"), ("cancelled", "~")]
    assert site.commands.requests == []


async def test_a_batch_nobody_can_be_asked_about_does_not_wait(site: Site, operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "_MOST_PENDING", 1)
    assert (await send(operator, wish(rooms(site, 21)))).status_code == 202
    assert (await send(operator, wish(rooms(site, 21)))).json()["code"] == "E-APPROVAL"
    assert [r["state"] for r in (await operator.get("command-batches", params={"sort": "state"})).json()["rows"]] == ["cancelled", "pending"]


async def test_after_a_failure_the_rest_is_stopped_and_what_was_done_is_put_back(site: Site, operator: httpx.AsyncClient, clock: Clock) -> None:
    held, free, bad = rooms(site)
    site.live.device_states[held] = {"holders": [{"point_id": SETPOINT, "authority": 5, "value": 22.0, "until_ms": clock() + 7_200_000, "holder": "engineer", "reason": "guests", "command_id": ""}]}
    submit = site.commands.submit

    async def failing(request: CommandRequest) -> dict[str, Any]:
        site.commands.end = "failed" if request.device_id == bad else "verified"
        view = await submit(request)
        while site.commands.rows[view["id"]]["state"] not in ("failed", "verified"):  # noqa: ASYNC110 - the fake walks by itself
            await asyncio.sleep(0)
        return view

    site.commands.submit = failing  # type: ignore[method-assign]
    made = (await send(operator, wish([held, free, bad], on_failure="restore", start_ms=0))).json()
    view = await until(operator, made["id"], lambda v: ended(v) and v["restored_by"])
    assert view["state"] == "failed" and view["cancelled_by"] == "-"
    back = await until(operator, view["restored_by"], ended)
    assert (back["kind"], back["of"]) == ("restore", made["id"])
    ways = {i["device_id"]: (i["wish"]["kind"], i["wish"]["value"]) for i in back["items"]}
    assert ways[held] == ("hold", 22.0) and ways[free] == ("release", None)
    assert next(i for i in back["items"] if i["device_id"] == held)["wish"]["hold_s"] == pytest.approx(7200, abs=1)


async def test_by_hand_only_set_points_nobody_changed_since_are_put_back(site: Site, operator: httpx.AsyncClient, sign_in: SignIn, clock: Clock) -> None:
    kept, changed, _ = rooms(site)
    made = (await send(operator, wish([kept, changed]))).json()
    await until(operator, made["id"], ended)
    clock.ms += 60_000
    engineer = await sign_in("engineer")
    assert (await engineer.post("commands", json={"device_id": changed, "kind": "hold", "point_id": SETPOINT, "value": 23.0}, headers={"Idempotency-Key": uuid.uuid4().hex})).status_code == 202
    answer = await operator.post(f"command-batches/{made['id']}/restore", json={"reason": "too cold"})
    assert answer.status_code == 202, answer.text
    assert [i["device_id"] for i in answer.json()["items"]] == [kept] and [i["device_id"] for i in answer.json()["left"]] == [changed]
    await until(operator, answer.json()["id"], ended)
    for batch in (made["id"], answer.json()["id"]):
        assert (await operator.post(f"command-batches/{batch}/restore", json={"reason": "again"})).json()["code"] == "E-BATCH-RESTORE"
    boiler = site.device("cuihu", "EB1")
    started = (await send(operator, {"device_ids": [boiler], "kind": "start", "reason": "cold"})).json()
    if started["state"] != "pending":
        await until(operator, started["id"], ended)
        assert (await operator.post(f"command-batches/{started['id']}/restore", json={"reason": "x x"})).json()["code"] == "E-BATCH-RESTORE"


async def test_the_list_is_filtered_sorted_paged_exported_and_kept_to_ones_projects(site: Site, operator: httpx.AsyncClient, sign_in: SignIn, clock: Clock) -> None:
    ids = []
    for project, reason in (("cuihu", "=cmd|evil"), ("yanqi", "evening"), ("cuihu", "morning")):
        devices = rooms(site, 2, project) or [site.device(project, "HP1")]
        point = SETPOINT if rooms(site, 1, project) else BY_KEY["leaving_temp_setpoint"].id
        made = (await send(operator, wish(devices, point_id=point, value=19.0 if point == SETPOINT else 40.0, reason=reason))).json()
        ids.append(made["id"])
        await until(operator, made["id"], ended)
        clock.ms += 1000
    page = (await operator.get("command-batches", params={"limit": 2})).json()
    assert (page["total"], [r["id"] for r in page["rows"]]) == (3, [ids[2], ids[1]])
    assert [r["id"] for r in (await operator.get("command-batches", params={"sort": "created_ms", "limit": 2, "offset": 2})).json()["rows"]] == [ids[2]]
    assert [r["id"] for r in (await operator.get("command-batches", params={"text": "even"})).json()["rows"]] == [ids[1]]
    assert (await operator.get("command-batches", params={"text": "%"})).json()["total"] == 0
    assert (await operator.get("command-batches", params={"state": "done", "project_id": site.projects["cuihu"]})).json()["total"] == 2
    table = (await operator.get("command-batches/export")).text
    assert table.count("\n") >= 5 and "'=cmd|evil" in table and ids[1] in table
    site.sessions.register_user("narrow", "narrow", [Role.ENGINEER], project_ids=[site.projects["yanqi"]])
    narrow = await sign_in("narrow")
    assert [r["id"] for r in (await narrow.get("command-batches")).json()["rows"]] == [ids[1]]
    for path, body in ((ids[0], None), (f"{ids[0]}/cancel", {}), (f"{ids[0]}/restore", {"reason": "mine"})):
        answer = await (narrow.get(f"command-batches/{path}") if body is None else narrow.post(f"command-batches/{path}", json=body))
        assert answer.json()["code"] == "E-NOT-FOUND"
    assert ids[0] not in (await narrow.get("command-batches/export")).text


async def test_figures_of_a_batch_are_of_what_one_may_see(site: Site, operator: httpx.AsyncClient, sign_in: SignIn) -> None:
    mine, others = rooms(site, 2), rooms(site, 21, "liulin")
    made = (await send(operator, wish([*mine, *others]))).json()
    whole = made["devices"], made["kw"], made["counts"]
    assert (whole[0], whole[2], made["state"]) == (23, {"waiting": 23}, "pending")
    site.sessions.register_user("narrow", "narrow", [Role.ENGINEER], project_ids=[site.projects["cuihu"]])
    narrow = await sign_in("narrow")
    page, one = (await narrow.get("command-batches")).json(), (await narrow.get(f"command-batches/{made['id']}")).json()
    kw = sum(d.rated_kw for k in mine if (d := site.directory.device(k)) is not None)
    for view in (page["rows"][0], one):
        assert (view["devices"], view["kw"], view["counts"]) == (2, kw, {"waiting": 2})
        assert view["second"] and not any("23" in str(s) for s in view["second"])
    assert page["total"] == 1 and [i["device_id"] for i in one["items"]] == mine
    assert (await narrow.get("approvals")).json() == [] and (await narrow.get("approvals/waiting")).json() == {"waiting": 0}
    assert (await narrow.post(f"approvals/{made['approval_id']}", json={"approve": True})).status_code == 404, "nobody agrees to what one may not look at"
    seen = (await operator.get("command-batches")).json()["rows"][0]
    assert (seen["devices"], seen["kw"], seen["counts"]) == whole and "23" in seen["second"][0]["en"]


async def test_a_restart_in_the_middle_goes_on_and_sends_nothing_twice(site: Site, operator: httpx.AsyncClient, ledger: Ledger, clock: Clock) -> None:
    made = (await send(operator, wish(rooms(site, 3), gap_s=5.0))).json()
    await until(operator, made["id"], lambda v: v["counts"].get("verified") == 1)
    runner: BatchRunner = site.app.state.batches
    await runner.close()
    clock.ms += 6000
    again = BatchRunner(BatchService(ledger, clock), site.commands, site.live, site.directory, clock)
    again.resume()
    await until(operator, made["id"], lambda v: v["counts"].get("verified", 0) >= 2)
    clock.ms += 6000
    view = await until(operator, made["id"], ended)
    assert view["state"] == "done" and len(site.commands.requests) == 3
    await again.close()




async def test_control_parameters_are_listed_compared_exported_and_kept_to_ones_projects(site: Site, operator: httpx.AsyncClient, sign_in: SignIn) -> None:
    room = rooms(site, 1)[0]
    made = (await send(operator, wish([room], value=18.0))).json()
    await until(operator, made["id"], ended)
    page = (await operator.get("parameters", params={"project_id": site.projects["cuihu"], "point_id": SETPOINT, "limit": 5})).json()
    assert page["total"] > 5 and len(page["rows"]) == 5
    async with asyncio.timeout(10):
        while (row := (await operator.get(f"parameters/{room}/{SETPOINT}")).json())["source"] is None or row["value"] != 18.0:  # noqa: ASYNC110 - what pages share is up to two seconds old
            await asyncio.sleep(0.1)
    assert row["source"]["holder"] == "operator" and row["value"] == 18.0 and row["commands"][0]["reason"] == "night"
    drifting = (await operator.get("parameters", params={"drift": "any", "limit": 500})).json()
    assert all(r["drift"] for r in drifting["rows"]) and drifting["total"] <= sum(drifting["drifts"].values())
    assert (await operator.get("parameters/export", params={"project_id": site.projects["cuihu"]})).text.count("\n") > 5
    site.sessions.register_user("narrow", "narrow", [Role.ENGINEER], project_ids=[site.projects["yanqi"]])
    narrow = await sign_in("narrow")
    assert {r["project_id"] for r in (await narrow.get("parameters", params={"limit": 500})).json()["rows"]} == {site.projects["yanqi"]}
    assert (await narrow.get(f"parameters/{room}/{SETPOINT}")).json()["code"] == "E-NOT-FOUND"
    assert (await operator.get(f"parameters/{room}/{BY_KEY['room_temp'].id}")).json()["code"] == "E-NOT-FOUND", "a measurement is no parameter"
