"""The short way through a project's judgement says exactly what the long way says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud.core.ports import DeviceInfo, PointSetting, ProjectInfo
from cloud.historian.columns import Columns
from cloud.runtime.project import FUTURE_MS, OLDEST_MS, Effects, Project

NOW = 1_700_000_000_000
DEVICES = [DeviceInfo(k, 7, "a1" if k < 4 else "a2", f"d{k}", "", "", "t", "p", None, "", 1.0, {}, {p: PointSetting(p, -10, 100, 0.1, 60) for p in (1, 2, 9)}) for k in range(1, 6)]
rows = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 2, 9, 11]), st.sampled_from([NOW, NOW - 1000, NOW + FUTURE_MS, NOW + FUTURE_MS + 1, OLDEST_MS, OLDEST_MS - 1]),
                          st.sampled_from([0.0, 5.0, 100.0, 101.0, -11.0, float("nan"), float("inf")]), st.sampled_from([0, 0, 0, 2, 4])), min_size=1, max_size=12)


def project() -> Project:
    return Project(ProjectInfo(7, "p", "", "", "r", 40, 116, "Asia/Shanghai", 100, "heat_pump"), DEVICES)


def columns(some: list[tuple[int, int, int, float, int]]) -> Columns:
    device, point, at, value, quality = zip(*some, strict=True)
    return Columns(np.array(device, "<u4"), np.array(point, "<u2"), np.array(at, "<i8"), np.array(value, "<f8"), np.array(quality, "u1"))


def told(effects: Effects) -> object:
    kept = effects.accepted
    listed = [kept.device.tolist(), kept.point.tolist(), kept.at_ms.tolist(), kept.value.tolist(), kept.quality.tolist()]
    return listed, [(a.reason, a.detail, len(a.rows)) for a in effects.set_aside]


def long_way(p: Project, agent: str, cols: Columns) -> Effects:
    index, known = p.twin.locate(cols.device, cols.point)
    return p._sort_out(agent, cols, NOW, index, known, cols.quality != 2, judge=True)


@given(rows, st.sampled_from(["a1", "a2", "stranger"]))
def test_the_short_way_and_the_long_way_agree(some: list[tuple[int, int, int, float, int]], agent: str) -> None:
    short, long = project(), project()
    cols = columns(some)
    assert told(short.on_batch(agent, cols, NOW)) == told(long_way(long, agent, cols))
    np.testing.assert_array_equal(short.twin.value, long.twin.value)
    np.testing.assert_array_equal(short.twin.at_ms, long.twin.at_ms)


def test_a_faultless_batch_goes_the_short_way() -> None:
    p = project()
    p._sort_out = None  # type: ignore[assignment,method-assign]  # would fail if it were asked
    effects = p.on_batch("a1", columns([(1, 1, NOW, 5.0, 0), (2, 9, NOW - 1000, 7.0, 0)]), NOW)
    assert len(effects.accepted) == 2


@given(rows)
def test_order_of_rows_does_not_matter_to_the_twin(some: list[tuple[int, int, int, float, int]]) -> None:
    unique = {(d, p, t): (d, p, t, v, q) for d, p, t, v, q in some}
    mixed, ordered = list(unique.values()), [unique[k] for k in sorted(unique)]
    one, two = project(), project()
    one.on_batch("a1", columns(mixed), NOW)
    two.on_batch("a1", columns(ordered), NOW)
    np.testing.assert_array_equal(one.twin.value, two.twin.value)
    np.testing.assert_array_equal(one.twin.at_ms, two.twin.at_ms)
