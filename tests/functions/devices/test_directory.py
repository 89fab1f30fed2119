"""Registration checks what it is given; the directory shows every change and costs nothing while nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, select

from cloud.functions.devices.agents_service import AgentService
from cloud.functions.devices.directory import LedgerDirectory
from cloud.functions.devices.errors import RegistrationError, TemplateError, TemplateFrozen
from cloud.functions.devices.service import EACH, DeviceService, NewDevice, NewProject
from cloud.functions.devices.templates import Writing, writings
from cloud.ledger import Ledger
from cloud.security.audit import OperationLog
from protos.points import BY_KEY
from tests.support import templates

PROJECT = NewProject("cuihu", "翠湖小区", "Cuihu", "bj", 40.1, 116.6, 12000.0, "boiler_storage")


def registered(ledger: Ledger) -> tuple[DeviceService, int]:
    service = DeviceService(ledger, lambda: 1)
    service.register_region("bj", "北京", "Beijing")
    project_id = service.register_project(PROJECT)
    service.register_agent("edge-1", project_id, signing_public=bytes(32), box_public=bytes(32), uplink="grpc")
    service.register_template(templates.boiler())
    service.register_template(templates.room())
    return service, project_id


def test_a_registered_device_carries_its_templates_points_and_alarms(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    device_id = service.register_device(project_id, NewDevice("B1", "1号锅炉", "Boiler 1", "edge-1", "electric_boiler_test", rated_kw=900))
    device = LedgerDirectory(ledger).device(device_id)
    assert device is not None
    assert (device.template, device.profile, device.rated_kw) == ("electric_boiler_test@1", "electric_boiler", 900)
    setpoint = device.points[BY_KEY["leaving_temp_setpoint"].id]
    assert (setpoint.writable, setpoint.verify_within_s) == (True, 20)
    assert writings(templates.boiler())[setpoint.point_id] == Writing(35, 85, pulse=False, verify_within_s=20)
    assert [(a.id, a.limit, a.severity) for a in device.alarms] == [("over_temperature", 95, "critical")]


def test_an_absent_point_takes_its_alarms_with_it(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    with_sensor = service.register_device(project_id, NewDevice("R1", "101", "101", "edge-1", "room_test"))
    without = service.register_device(project_id, NewDevice("R2", "102", "102", "edge-1", "room_test", absent_points=("room_temp",)))
    directory = LedgerDirectory(ledger)
    a, b = directory.device(with_sensor), directory.device(without)
    assert a is not None and b is not None
    assert set(a.points) - set(b.points) == {BY_KEY["room_temp"].id}


def test_registering_again_updates_and_keeps_the_id(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    first = service.register_device(project_id, NewDevice("B1", "旧名", "Old", "edge-1", "electric_boiler_test"))
    second = service.register_device(project_id, NewDevice("B1", "新名", "New", "edge-1", "electric_boiler_test"))
    device = LedgerDirectory(ledger).device(first)
    assert first == second and device is not None and device.name_zh == "新名"
    assert service.register_project(PROJECT) == project_id


def test_a_new_template_version_is_taken_when_no_version_is_named(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    service.register_template(templates.boiler(2))
    newest = service.register_device(project_id, NewDevice("B1", "a", "a", "edge-1", "electric_boiler_test"))
    named = service.register_device(project_id, NewDevice("B2", "b", "b", "edge-1", "electric_boiler_test@1"))
    directory = LedgerDirectory(ledger)
    assert [directory.device(k).template for k in (newest, named)] == ["electric_boiler_test@2", "electric_boiler_test@1"]  # type: ignore[union-attr]


def test_a_template_version_is_frozen(ledger: Ledger) -> None:
    service, _ = registered(ledger)
    assert service.register_template(templates.boiler()) == "electric_boiler_test@1"
    changed = templates.boiler()
    changed["points"][0]["high"] = 1
    with pytest.raises(TemplateFrozen, match="Raise its version"):
        service.register_template(changed)


def _without_version(d: dict[str, Any]) -> None:
    del d["version"]


def _unknown_point(d: dict[str, Any]) -> None:
    d["points"][0]["point"] = "warp_factor"


def _twice(d: dict[str, Any]) -> None:
    d["points"].append(d["points"][0])


def _crossed(d: dict[str, Any]) -> None:
    d["points"][0].update(low=5, high=1)


def _alarm_elsewhere(d: dict[str, Any]) -> None:
    d["alarms"][0]["point"] = "soc"


def _nan(d: dict[str, Any]) -> None:
    d["alarms"][0]["limit"] = float("nan")


@pytest.mark.parametrize(("spoil", "field"), [
    (_without_version, "version"), (_unknown_point, "points[0].point"), (_twice, "points[5].point"), (_crossed, "points[0].low"),
    (_alarm_elsewhere, "alarms[0].point"), (_nan, "alarms[0].limit")])
def test_a_malformed_template_names_its_field(ledger: Ledger, spoil: Callable[[dict[str, Any]], None], field: str) -> None:
    document = templates.boiler(3)
    spoil(document)
    with pytest.raises(TemplateError) as caught:
        DeviceService(ledger).register_template(document)
    assert caught.value.values["field"] == field


@pytest.mark.parametrize("new", [
    NewDevice("B 1", "a", "a", "edge-1", "electric_boiler_test"), NewDevice("B1", "a", "a", "edge-9", "electric_boiler_test"),
    NewDevice("B1", "a", "a", "edge-1", "no_such"), NewDevice("B1", "a", "a", "edge-1", "electric_boiler_test", parent_code="P"),
    NewDevice("B1", "a", "a", "edge-1", "electric_boiler_test", absent_points=("soc",))])
def test_a_wrong_device_is_refused_and_the_whole_list_with_it(ledger: Ledger, new: NewDevice) -> None:
    service, project_id = registered(ledger)
    good = NewDevice("G1", "好", "good", "edge-1", "room_test")
    with pytest.raises(RegistrationError):
        service.register_devices(project_id, [good, new])
    assert LedgerDirectory(ledger).devices(project_id) == ()


def test_an_agent_cannot_move_to_another_project(ledger: Ledger) -> None:
    service, _ = registered(ledger)
    other = service.register_project(NewProject("b", "乙", "B", "bj", 40.0, 116.0, 1.0, "heat_pump"))
    with pytest.raises(RegistrationError, match="already belongs"):
        service.register_agent("edge-1", other, signing_public=bytes(32), box_public=bytes(32), uplink="grpc")


def test_the_directory_sees_a_change_made_elsewhere_and_reads_nothing_otherwise(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    clock = [0.0]
    directory = LedgerDirectory(ledger, refresh_s=1.0, monotonic=lambda: clock[0])
    before = directory.version()
    statements: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    for _ in range(1000):
        directory.projects()
    assert statements == []
    service.revoke_agent("edge-1")
    assert directory.version() == before
    clock[0] = 1.5
    assert directory.version() > before
    agent = directory.agent("edge-1")
    assert agent is not None and agent.revoked
    assert [a.agent_id for a in directory.agents(project_id)] == ["edge-1"]


def rows_of(ledger: Ledger, object_: str) -> list[tuple[str, str, str]]:
    with ledger.read() as session:
        return [(r.operation, r.before, r.after) for r in session.scalars(select(OperationLog).where(OperationLog.object == object_).order_by(OperationLog.id))]


@pytest.mark.point("19")
def test_every_registration_leaves_digests_of_before_and_after_and_none_when_nothing_changed(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    device = NewDevice("B1", "旧名", "Old", "edge-1", "electric_boiler_test")
    device_id = service.register_device(project_id, device)
    service.register_device(project_id, device)
    service.register_device(project_id, replace(device, rated_kw=900.0))
    first, second = rows_of(ledger, f"device/{device_id}")
    assert first[:2] == ("devices.device.register", "")
    assert (second[1], len(second[2])) == (first[2], 64)
    assert second[2] != first[2]
    service.register_project(PROJECT)
    service.register_project(replace(PROJECT, heated_area_m2=12_500.0))
    made, changed = rows_of(ledger, f"project/{project_id}")
    assert (made[1], changed[1]) == ("", made[2])
    service.revoke_agent("edge-1")
    admitted, revoked = rows_of(ledger, "agent/edge-1")
    assert (admitted[1], revoked[1]) == ("", admitted[2])
    assert [row[:2] for row in rows_of(ledger, "region/bj")] == [("devices.region.register", "")]
    assert [row[:2] for row in rows_of(ledger, "template/electric_boiler_test@1")] == [("devices.template.register", "")]


def test_a_plant_registered_at_once_is_one_act_and_a_refused_one_leaves_nothing(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    rooms = [NewDevice(f"R{k}", f"{k}", f"{k}", "edge-1", "room_test") for k in range(EACH + 1)]
    with pytest.raises(RegistrationError):
        service.register_devices(project_id, [*rooms, NewDevice("X", "x", "x", "nobody", "room_test")])
    assert rows_of(ledger, f"device/project {project_id}") == []
    service.register_devices(project_id, rooms)
    service.register_devices(project_id, rooms)
    assert len(rows_of(ledger, f"device/project {project_id}")) == 1


def test_when_only_an_identity_changes_only_agents_are_read_again(ledger: Ledger) -> None:
    service, project_id = registered(ledger)
    service.register_device(project_id, NewDevice("B1", "1号锅炉", "Boiler 1", "edge-1", "electric_boiler_test"))
    directory, identities = LedgerDirectory(ledger, refresh_s=0), AgentService(ledger)
    devices, version, asked = directory.devices(project_id), directory.version(), []

    @event.listens_for(ledger.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    identities.renew("edge-1", signing=bytes(31) + b"\1", nkey="", serial="a1", not_after_ms=2, grace=False)
    asked.clear()
    agent = directory.agent("edge-1")
    assert agent is not None
    assert (agent.signing_public[-1], agent.certificates) == (1, {"a1"})
    assert [f.stream for f in agent.former_keys] == ["batch", "result"]
    assert not any("FROM device" in s or "FROM project" in s for s in asked)
    assert directory.devices(project_id) is devices
    assert directory.version() == version
    identities.revoke("edge-1")
    agent = directory.agent("edge-1")
    assert agent is not None
    assert agent.revoked
