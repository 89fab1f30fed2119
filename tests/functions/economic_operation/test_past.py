"""What the plan page says of the past, and what it calls devices."""

from __future__ import annotations

import math

from cloud.core.ports import DeviceInfo, Series
from cloud.functions.economic_operation.api import _mean, named


def test_the_measured_room_is_the_mean_of_those_that_were_heard() -> None:
    a = Series(1, 1, 900, [0, 900], [20.0, 21.0], [], [], [], [])
    b = Series(2, 1, 900, [900, 1800], [19.0, math.nan], [], [], [], [])
    assert _mean([a, b]) == {"at_ms": [0, 900], "mean": [20.0, 20.0]}


def test_reasons_call_a_device_by_its_name_and_leave_other_words_alone() -> None:
    device = DeviceInfo(1, 1, "a", "QH-B1", "1 号电锅炉", "Boiler 1", "", "t", None, "", 90.0, {}, {})
    devices = [device]
    (row,) = named([[{"kind": "full", "zh": f"“{device.code}”已满", "en": f"{device.code} is full, {device.code}9 is not", "amount": 1.0, "unit": ""}]], devices)
    assert (row[0]["zh"], row[0]["en"]) == (f"“{device.name_zh}”已满", f"{device.name_en} is full, {device.code}9 is not")
    assert named([[]], []) == [[]]
