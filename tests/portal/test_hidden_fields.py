"""What a client may not see is not in its answers, whatever shape they have."""

from __future__ import annotations

from cloud.portal.doorman import _without


def test_columns_lose_the_cells_of_hidden_fields() -> None:
    answer = {"at_ms": 5, "columns": ["device_id", "point_id", "at_ms", "value", "quality"], "rows": [[1, 2, 3, 4.5, 0], [6, 7, 8, 9.5, 1]]}
    assert _without(answer, frozenset({"value"}))["rows"] == [[1, 2, 3, None, 0], [6, 7, 8, None, 1]]
    assert _without(answer, frozenset({"quality", "device_id"}))["rows"] == [[None, 2, 3, 4.5, None], [None, 7, 8, 9.5, None]]
    assert answer["rows"][0][3] == 4.5, "what others are answered is untouched"


def test_a_hidden_value_is_hidden_where_it_is_summed_up_too() -> None:
    answer = {"series": [{"device_id": 1, "at_ms": [1], "mean": [2.0], "low": [1.0], "high": [3.0], "count": [4]}], "readback": 2.0}
    assert _without(answer, frozenset({"value"})) == {"series": [{"device_id": 1, "at_ms": [1], "count": [4]}]}


def test_everything_else_stays() -> None:
    answer = {"rows": [{"name": "x", "address": "y"}], "columns": ["name"], "total": 1}
    assert _without(answer, frozenset({"address"})) == {"rows": [{"name": "x"}], "columns": ["name"], "total": 1}
    assert _without([1, "a", None], frozenset({"a"})) == [1, "a", None]
