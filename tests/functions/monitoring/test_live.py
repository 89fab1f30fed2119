"""The twin and its threshold alarms against a slow oracle that judges one reading at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud.core.ports import AlarmRule, DeviceInfo, PointSetting
from cloud.functions.monitoring.live import Twin


def device(rule: AlarmRule) -> DeviceInfo:
    setting = PointSetting(45, -50, 200, 0.1, 60)
    return DeviceInfo(7, 1, "a", "d", "", "", "t", "p", None, "", 0, {}, {45: setting}, (rule,))


def feed(twin: Twin, rows: list[tuple[int, float]]) -> list[tuple[int, int]]:
    at = np.array([r[0] for r in rows], "<i8")
    value = np.array([r[1] for r in rows], "<f8")
    index, known = twin.locate(np.full(len(rows), 7, "<u4"), np.full(len(rows), 45, "<u2"))
    assert known.all()
    return [(c.raised_ms, c.cleared_ms) for c in twin.update(index, at, value, np.zeros(len(rows), "u1"))]


def oracle(rows: list[tuple[int, float]], limit: float, hysteresis: float, delay_ms: int) -> list[tuple[int, int]]:
    since = raised = None
    out = []
    for at, value in rows:
        if value > limit:
            since = at if since is None else since
            if raised is None and at - since >= delay_ms:
                raised = since
                out.append((raised, 0))
        elif raised is not None and value <= limit - hysteresis:
            out.append((raised, at))
            since = raised = None
        elif raised is None:
            since = None
    return out


@given(st.lists(st.tuples(st.integers(1, 5000), st.sampled_from([9.0, 9.6, 10.0, 10.5, 12.0])), max_size=60), st.integers(1, 7), st.sampled_from([0, 700, 2500]))
def test_alarms_equal_the_oracle_however_batches_are_cut(steps: list[tuple[int, float]], cut: int, delay_ms: int) -> None:
    at, rows = 0, []
    for step, value in steps:
        at += step
        rows.append((at, value))
    twin = Twin([device(AlarmRule("r", 45, "above", 10.0, 0.5, delay_ms / 1000))])
    found = [change for k in range(0, len(rows), cut) for change in feed(twin, rows[k:k + cut])]
    assert found == oracle(rows, 10.0, 0.5, delay_ms)


def test_a_late_or_repeated_batch_raises_nothing_twice() -> None:
    twin = Twin([device(AlarmRule("r", 45, "above", 10.0))])
    assert feed(twin, [(1000, 9), (2000, 11)]) == [(2000, 0)]
    assert feed(twin, [(1000, 9), (2000, 11)]) == []
    assert feed(twin, [(1500, 12)]) == []
    assert feed(twin, [(3000, 9)]) == [(2000, 3000)]


def test_an_alarm_has_the_same_id_when_its_cause_is_seen_again_by_another_host() -> None:
    ids = []
    for _ in range(2):
        twin = Twin([device(AlarmRule("r", 45, "above", 10.0))])
        index, _known = twin.locate(np.array([7], "<u4"), np.array([45], "<u2"))
        ids += [c.id for c in twin.update(index, np.array([5000], "<i8"), np.array([11.0]), np.zeros(1, "u1"))]
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_the_twin_keeps_the_newest_value_whatever_the_order() -> None:
    twin = Twin([device(AlarmRule("r", 45, "above", 100.0))])
    feed(twin, [(3000, 3.0), (1000, 1.0)])
    feed(twin, [(2000, 2.0)])
    assert twin.at_ms[0] == 3000
    assert twin.value[0] == 3.0
