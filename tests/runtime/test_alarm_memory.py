"""What a project host still knows of alarms after a restart: a replayed or late batch raises nothing again, and nothing stands for ever."""

from __future__ import annotations

import numpy as np

from cloud.core.ports import AlarmRule, DeviceInfo, Latest, PointSetting
from cloud.functions.monitoring.live import AlarmChange, LastAlarm, Twin

RULE = AlarmRule("hot", 63, "above", 85.0, hysteresis=3.0, delay_s=0.0)
SLOW = AlarmRule("hot_for_long", 63, "above", 85.0, delay_s=30.0)


def twin(*rules: AlarmRule) -> Twin:
    return Twin([DeviceInfo(1, 1, "a", "B1", "", "", "t", "p", None, "", 1.0, {}, {63: PointSetting(63, -50, 200, 0.1, 900)}, rules or (RULE,))])


def feed(t: Twin, *rows: tuple[int, float]) -> list[AlarmChange]:
    at, values = np.array([r[0] for r in rows], "<i8"), np.array([r[1] for r in rows])
    index, _ = t.locate(np.full(len(rows), 1, "<u4"), np.full(len(rows), 63, "<u2"))
    return t.update(index, at, values, np.zeros(len(rows), "u1"))


def test_a_flush_replayed_after_its_alarms_were_stored_raises_nothing_again() -> None:
    t = twin()
    t.restore([Latest(1, 63, 1000, 90.0, 0)], [LastAlarm(1, "hot", 1000, 9000, 90.0)])  # raised before, cleared in the flush that is replayed
    assert feed(t, (7000, 91.0), (9000, 70.0)) == []


def test_a_late_batch_after_a_restart_does_not_raise_what_newer_values_have_settled() -> None:
    t = twin()
    t.restore([Latest(1, 63, 9000, 70.0, 0)], [])
    assert feed(t, (7000, 91.0)) == []


def test_an_alarm_that_stands_is_cleared_by_the_next_host_under_its_own_id_with_its_own_value() -> None:
    first, second = twin(), twin()
    (raised,) = feed(first, (1000, 90.0))
    second.restore([Latest(1, 63, 1000, 90.0, 0)], [LastAlarm(1, "hot", raised.raised_ms, 0, raised.value)])
    (cleared,) = feed(second, (2000, 70.0))
    assert (cleared.id, cleared.raised_ms, cleared.cleared_ms, cleared.value) == (raised.id, 1000, 2000, 90.0)


def test_a_delay_that_ran_before_the_restart_is_not_begun_anew() -> None:
    t = twin(SLOW)
    t.restore([Latest(1, 63, 1000, 90.0, 0)], [])
    (raised,) = feed(t, (31_000, 91.0))
    assert raised.raised_ms == 1000
