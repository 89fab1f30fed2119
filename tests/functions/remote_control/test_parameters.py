"""Control parameters: in force, by whom, changed when and by what, and where they left their template."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.core.ports import DeviceInfo, Latest, PointSetting, Series
from cloud.functions.remote_control.parameters import changes, rows
from protos.points import point

SETPOINT = point("leaving_temp_setpoint").id
DOCUMENT = {"points": [{"point": "leaving_temp_setpoint", "writable": True, "write": {"low": 30, "high": 60}}, {"point": "reset_command", "writable": True, "write": {"pulse": True}}, {"point": "active_power"}]}


def device(number: int, template: str = "boiler@1") -> DeviceInfo:
    return DeviceInfo(number, 1, "a", f"B{number}", "", "", template, "electric_boiler", None, "", 0, {}, {SETPOINT: PointSetting(SETPOINT, 0, 100, 0.1, 60, True, 5)})


def found(values: dict[int, float], heard: dict[int, Any] | None = None, template: str = "boiler@1", newest: int = 1) -> dict[int, dict[str, Any]]:
    latest = {(d, SETPOINT): Latest(d, SETPOINT, 1000, v, 0) for d, v in values.items()}
    return {r["device_id"]: r for r in rows([device(d, template) for d in values], lambda _: DOCUMENT, latest, heard or {}, {"boiler": newest})}


def test_only_what_can_be_held_is_a_parameter_and_nobody_holding_it_is_said() -> None:
    (row,) = found({1: 45.0}).values()
    assert (row["point_id"], row["value"], row["low"], row["high"], row["source"], row["drift"]) == (SETPOINT, 45.0, 30.0, 60.0, None, [])


@pytest.mark.parametrize(("values", "heard", "newest", "drift"), [
    ({1: 70.0}, {}, 1, ["limits"]),
    ({1: 45.0}, {1: {"holders": [{"point_id": SETPOINT, "authority": 5, "value": 50.0, "until_ms": 9, "holder": "op", "reason": ""}]}}, 1, ["held"]),
    ({1: 50.0}, {1: {"holders": [{"point_id": SETPOINT, "authority": 8, "value": 40.0}, {"point_id": SETPOINT, "authority": 5, "value": 50.0}]}}, 1, []),
    ({1: 45.0}, {1: {"local_manual": True}}, 1, ["local"]),
    ({1: 45.0}, {}, 2, ["version"]),
    ({1: 55.0, 2: 45.0, 3: 45.0, 4: 45.1}, {}, 1, ["unlike"]),
    ({1: 45.2, 2: 45.0, 3: 45.0}, {}, 1, [])])
def test_each_way_of_leaving_the_template_is_named(values: dict[int, float], heard: dict[int, Any], newest: int, drift: list[str]) -> None:
    assert found(values, heard, newest=newest)[1]["drift"] == drift


def test_a_change_is_explained_by_the_verified_command_of_its_time_and_value_and_by_no_other() -> None:
    minute = 60_000
    series = Series(1, SETPOINT, 0, [k * minute for k in range(10)], [45.0, 45.0, 50.0, 50.0, float("nan"), 50.0, 40.0, 40.0, 40.02, 40.0], [], [], [], [])
    commands = [{"id": "a", "point_id": SETPOINT, "state": "verified", "value": 50.0, "actor": "op", "reason": "cold", "authority": 5, "created_ms": minute, "steps": [{"at_ms": 2 * minute}]},
                {"id": "b", "point_id": SETPOINT, "state": "failed", "value": 40.0, "actor": "op", "reason": "", "authority": 5, "created_ms": 6 * minute, "steps": []}]
    newest, oldest = changes(series, commands, 0.1)
    assert (newest["at_ms"], newest["before"], newest["value"], newest["command"]) == (6 * minute, 50.0, 40.0, None), "somebody at the device"
    assert oldest["command"]["id"] == "a"
