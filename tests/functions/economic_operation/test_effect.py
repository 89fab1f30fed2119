"""What commands do to rooms and bill, by one temperature: signs, limits, conservation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.core.ports import CommandRequest
from cloud.functions.economic_operation.effect import change, course
from cloud.functions.economic_operation.site import Boiler, Pump, Room, Site
from protos.points import point

POWER, SETPOINT, STAGE, LIMIT = (point(k).id for k in ("active_power", "room_temp_setpoint", "stage_command", "power_limit_setpoint"))
WHERE = Site(1, 1000.0, (Boiler(1, "EB1", 200.0, 4),), (Pump(2, "HP1", 300.0, 100.0),), None, (Room(3, 100.0, True, True), Room(4, 100.0, True, True, 3.0)), 0, 0, 0, 0, 1e9)
LATEST = {(1, POWER): 100.0, (2, POWER): 60.0, (3, SETPOINT): 20.0, (4, SETPOINT): 20.0}


def wish(device: int, kind: str, point_id: int = 0, value: float | None = None) -> CommandRequest:
    return CommandRequest(1, device, kind, point_id, value)


def test_each_kind_of_device_changes_as_it_should() -> None:
    assert change(WHERE, wish(1, "stop"), LATEST, 2.0) == (-100.0, -100.0)
    assert change(WHERE, wish(2, "stop"), LATEST, 2.0) == (-180.0, -60.0)
    assert change(WHERE, wish(1, "hold", STAGE, 4.0), LATEST, 2.0) == (100.0, 100.0)
    assert change(WHERE, wish(1, "hold", LIMIT, 70.0), LATEST, 2.0) == (-30.0, -30.0)
    assert change(WHERE, wish(1, "hold", LIMIT, 150.0), LATEST, 2.0) == (0.0, 0.0)
    heat, power = change(WHERE, wish(3, "hold", SETPOINT, 18.0), LATEST, 2.0) or (0.0, 0.0)
    assert heat == pytest.approx(-0.4)
    assert heat < power < 0
    assert (change(WHERE, wish(4, "hold", SETPOINT, 18.0), LATEST, 2.0) or ()) == pytest.approx((-0.4, -0.4))
    for unknown in (wish(9, "stop"), wish(3, "stop"), wish(1, "pulse"), wish(1, "release")):
        assert change(WHERE, unknown, LATEST, 2.0) is None
    assert change(WHERE, wish(1, "stop"), {}, 2.0) is None, "without a reading nothing is said"


@given(st.floats(-500, 500), st.floats(0.25, 6), st.floats(0.1, 20), st.floats(1, 500))
def test_rooms_move_with_the_heat_never_beyond_what_it_can_hold_and_come_back(heat: float, hours: float, loss: float, capacity: float) -> None:
    rooms, power = course([((heat, heat), hours)], loss, capacity)
    assert all(r * heat >= 0 and abs(r) <= abs(heat) / loss + 1e-9 for r in rooms)
    assert sum(power) * 0.25 == pytest.approx(heat * -(-hours // 0.25) * 0.25)
    peak = max(range(len(rooms)), key=lambda k: abs(rooms[k]))
    assert all(abs(a) >= abs(b) - 1e-12 for a, b in zip(rooms[peak:], rooms[peak + 1:], strict=False))
