"""Alarms of planning and demand response: said when it is wrong and when it is over, with the way out, never about what is fine."""

from __future__ import annotations

import math
from typing import Any

from cloud.core.ports import ProjectInfo
from cloud.functions.economic_operation.alarms import MINUTES, SILENT_MS, of_cold, of_plan, of_planner, of_response, of_weather
from cloud.functions.economic_operation.service import EconomicService, Setting
from cloud.ledger import Ledger
from cloud.planning import _state
from cloud.portal.own_alarms import OwnAlarms
from cloud.portal.plan_watch import PlanWatch
from protos.arbitration import Authority
from protos.kang.v1.telemetry_pb2 import DeviceState, Holder

P = ProjectInfo(7, "QHY", "清河苑", "Qinghe", "bj", 40.0, 116.0, "Asia/Shanghai", 2650.0, "boiler_storage")
BORN = 1_795_000_000_000


def test_a_plan_that_cannot_be_made_says_why_and_what_goes_on_instead() -> None:
    shifted = of_plan(P, {"outcome": "shifted", "code": "E-X", "zh": "求解器超时。", "en": "the solver ran out of time."})
    failed = of_plan(P, {"outcome": "failed", "code": "E-X"})
    assert (shifted["severity"], failed["severity"]) == ("minor", "major")
    assert "(the solver ran out of time); the last one goes on" in shifted["en"]
    assert "E-X" in failed["en"]
    assert of_plan(P, {"outcome": "planned", "code": ""}) == {"rule": shifted["rule"], "who": "QHY", "wrong": False}


def test_weather_is_stale_only_where_a_provider_was_set_and_is_late() -> None:
    assert of_weather(P, None)["wrong"] is False
    assert "7 h old" in of_weather(P, 7.2)["en"]
    assert math.isfinite(of_weather(P, math.inf)["value"])


def test_a_response_is_short_after_some_minutes_in_a_row_and_over_with_the_event() -> None:
    late: dict[int, int] = {}

    def minute(metered: float, state: str = "active") -> dict[str, Any] | None:
        return of_response({"id": 1, "event_id": "E1", "state": state, "minute": {"metered_kw": metered, "target_kw": 100.0}}, late)

    assert [bool(a and a.get("wrong", True)) for a in (minute(140), minute(140), minute(100), *(minute(140) for _ in range(MINUTES)))] == [False] * 5 + [True]
    assert minute(102) == {"rule": "response_short", "who": "E1", "wrong": False}
    assert of_response({"id": 1, "event_id": "E1", "state": "active"}, late) is None
    over = minute(140, "recovered")
    assert over is not None
    assert over["wrong"] is False
    assert minute(140, "settled") is None, "said once"


def test_a_silent_planner_is_told_from_one_that_has_nothing_to_plan() -> None:
    run = Setting(1, mode="act", changed_ms=BORN - 10 * SILENT_MS)
    assert of_planner([Setting(1, mode="off")], None, BORN, BORN + 10 * SILENT_MS)["wrong"] is False
    assert of_planner([run], BORN - SILENT_MS, BORN, BORN + SILENT_MS)["wrong"] is False, "what was before is not its doing"
    assert of_planner([run], BORN, BORN, BORN + SILENT_MS + 60_000)["severity"] == "critical"
    assert of_planner([run], BORN + SILENT_MS, BORN, BORN + SILENT_MS + 60_000)["wrong"] is False


class Book:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    async def books(self, alarms: Any, quarantine: Any, gaps: Any, token: str) -> None:
        self.rows += alarms

    async def alarms(self, *, project_id: int | None = None, active: bool | None = None, limit: int = 200, before_ms: int | None = None) -> list[dict[str, Any]]:
        return []


async def test_the_portal_raises_it_and_the_next_plan_clears_it(ledger: Ledger) -> None:
    at = [BORN]
    service, book = EconomicService(ledger, lambda: at[0]), Book()
    alarms = OwnAlarms(book, book, lambda: at[0])
    service.change(7, {"version": 0, "mode": "act"}, "test")
    watch = PlanWatch(service, alarms, lambda: at[0])
    for _ in range(2):
        await watch.look()
        await alarms.settle()
        at[0] += SILENT_MS + 60_000
    assert [(r.rule, r.severity, r.cleared_ms) for r in book.rows] == [("planner_silent", "critical", 0)]
    service.keep(project_id=7, issued_ms=at[0], start_ms=at[0], step_s=900, outcome="failed", summary={}, document={}, code="E-X")
    await watch.look()
    await alarms.settle()
    assert book.rows[-1].cleared_ms > 0


def test_a_plan_that_leaves_people_cold_is_an_alarm() -> None:
    assert of_cold(P, 0.3)["wrong"] is False
    assert "4.0 K below" in of_cold(P, 4.0)["en"]


def test_a_hold_of_a_person_takes_a_device_from_the_plan_until_it_ends_and_a_lockout_altogether() -> None:
    def state(*holders: tuple[Authority, int], locked: bool = False) -> dict[str, Any]:
        return _state(DeviceState(device_id=1, online=True, locked_out=locked, holders=[Holder(point_id=62, authority=int(a), until_ms=u) for a, u in holders]))

    assert (state()["locked_out"], state()["held_until_ms"]) == (False, 0)
    held = state((Authority.OPERATOR, BORN), (Authority.PLAN, BORN * 2))
    assert (held["locked_out"], held["held_until_ms"]) == (True, BORN)
    assert state((Authority.OPERATOR, BORN), locked=True)["held_until_ms"] == 0
    assert state((Authority.INTERLOCK, 0), (Authority.OPERATOR, BORN))["held_until_ms"] == 0
    assert state((Authority.GRID_ORDER, BORN))["locked_out"] is False
