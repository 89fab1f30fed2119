"""Settings of economic operation and the plans made: written in one transaction with their audit row, versions checked.

Must not know: FastAPI, how a plan is made.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from sqlalchemy import delete, func, select

from cloud.functions.economic_operation.errors import SettingError, StaleSettingError
from cloud.functions.economic_operation.tables import EconomicPlan, EconomicSetting
from cloud.ledger import Ledger
from cloud.security import audit
from optimizers.tariff.model import Tariff, parse

MODES: Final = ("off", "advise", "act")
#: Plans kept per project: three years of hourly ones would fill the ledger; a month of quarter hours is enough to explain a bill's month.
KEPT: Final = 3_000
_RANGES: Final = {"target_c": (10.0, 28.0), "floor_c": (5.0, 24.0), "down_k": (0.0, 5.0), "up_k": (0.0, 5.0)}


@dataclass(frozen=True, slots=True)
class Setting:
    """How a project is run; fields as of `tables.EconomicSetting`."""

    project_id: int
    mode: str = "off"
    tariff: str = "beijing_business_pattern"
    target_c: float = 20.0
    floor_c: float = 18.0
    down_k: float = 0.0
    up_k: float = 1.5
    contract_kw: float | None = None
    version: int = 0
    changed_ms: int = 0
    changed_by: str = ""


class EconomicService:
    """Keeps settings and plans."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self._ledger, self._now = ledger, now

    def setting(self, project_id: int) -> Setting:
        """How a project is run; the default ("off") when nobody has said."""
        with self._ledger.read() as session:
            row = session.get(EconomicSetting, project_id)
            return Setting(project_id) if row is None else _setting(row)

    def settings(self) -> dict[int, Setting]:
        """All that were ever set."""
        with self._ledger.read() as session:
            return {r.project_id: _setting(r) for r in session.scalars(select(EconomicSetting))}

    def change(self, project_id: int, values: Mapping[str, Any], by: str) -> Setting:
        """Change settings.

        Args:
            project_id: the project.
            values: fields of `Setting` to change, with the `version` that was seen.
            by: who.

        Raises:
            SettingError: a field is out of its range; names it.
            StaleSettingError: the version seen is not the newest.
        """
        known = self.setting(project_id)
        wanted = {name: values.get(name, getattr(known, name)) for name in ("mode", "tariff", *_RANGES, "contract_kw")}
        _check(wanted)
        with self._ledger.write() as session:
            row = session.get(EconomicSetting, project_id)
            version = row.version if row is not None else 0
            if values.get("version", version) != version:
                raise StaleSettingError(by=row.changed_by if row is not None else "", version=version)
            before = None if row is None else {k: getattr(row, k) for k in wanted}
            if row is None:
                row = EconomicSetting(project_id=project_id, version=0, changed_ms=0, changed_by="", tariff="")
                session.add(row)
            for name, value in wanted.items():
                setattr(row, name, value)
            row.version, row.changed_ms, row.changed_by = version + 1, self._now(), by[:60]
            session.flush()
            audit.record(session, "economic_operation.setting.change", at_ms=self._now(), target=f"project/{project_id}", object_=f"economic_setting/{project_id}", before=before, after=wanted, level="notice")
            return _setting(row)

    def keep(self, *, project_id: int, issued_ms: int, start_ms: int, step_s: int, outcome: str, summary: Mapping[str, Any], document: Mapping[str, Any], code: str = "", sent: bool = False) -> str:
        """Keep a plan, or the failure to make one; returns its id."""
        plan_id = f"p{project_id}-{issued_ms}-{uuid.uuid4().hex[:6]}"
        with self._ledger.write() as session:
            session.add(EconomicPlan(id=plan_id, project_id=project_id, issued_ms=issued_ms, start_ms=start_ms, step_s=step_s, steps=len(document.get("grid_kw", ())), outcome=outcome, code=code[:40],
                                     sent=sent, summary=dict(summary), document=dict(document)))
            old = session.scalars(select(EconomicPlan.issued_ms).where(EconomicPlan.project_id == project_id).order_by(EconomicPlan.issued_ms.desc()).offset(KEPT).limit(1)).first()
            if old is not None:
                session.execute(delete(EconomicPlan).where(EconomicPlan.project_id == project_id, EconomicPlan.issued_ms <= old))
        return plan_id

    def sent(self, plan_id: str) -> None:
        """It was handed to the command service."""
        with self._ledger.write() as session:
            row = session.get(EconomicPlan, plan_id)
            if row is not None:
                row.sent = True

    def plans(self, project_id: int, *, limit: int = 50, before_ms: int | None = None) -> list[dict[str, Any]]:
        """Plans without their series, newest first."""
        with self._ledger.read() as session:
            asked = select(EconomicPlan).where(EconomicPlan.project_id == project_id).order_by(EconomicPlan.issued_ms.desc()).limit(limit)
            return [_row(r) for r in session.scalars(asked if before_ms is None else asked.where(EconomicPlan.issued_ms < before_ms))]

    def last_issued(self) -> int | None:
        """When the newest plan or failure of all projects was kept, UTC milliseconds; None = never."""
        with self._ledger.read() as session:
            return session.scalar(select(func.max(EconomicPlan.issued_ms)))

    def newest(self, project_id: int, *, planned: bool = False) -> dict[str, Any] | None:
        """The newest plan with its series; `planned`: the newest that was really made."""
        with self._ledger.read() as session:
            asked = select(EconomicPlan).where(EconomicPlan.project_id == project_id).order_by(EconomicPlan.issued_ms.desc()).limit(1)
            row = session.scalar(asked.where(EconomicPlan.outcome == "planned") if planned else asked)
            return None if row is None else {**_row(row), "document": row.document}


def published() -> dict[str, Tariff]:
    """Tariffs the platform ships."""
    folder = resources.files("optimizers.tariff").joinpath("published")
    return {f.name.removesuffix(".json"): parse(json.loads(f.read_text(encoding="utf-8"))) for f in folder.iterdir() if f.name.endswith(".json")}


def _check(wanted: Mapping[str, Any]) -> None:
    if wanted["mode"] not in MODES:
        raise SettingError(field="mode", problem_zh=f"须为 {'、'.join(MODES)}", problem_en=f"must be one of {', '.join(MODES)}")
    if wanted["tariff"] not in published():
        raise SettingError(field="tariff", problem_zh=f"没有电价“{str(wanted['tariff'])[:60]}”", problem_en=f"there is no tariff '{str(wanted['tariff'])[:60]}'")
    for name, (low, high) in _RANGES.items():
        value = wanted[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SettingError(field=name, problem_zh=f"须在 {low:g} 与 {high:g} 之间", problem_en=f"must lie between {low:g} and {high:g}")
    if wanted["floor_c"] > wanted["target_c"] - wanted["down_k"]:
        raise SettingError(field="floor_c", problem_zh="保证温度不得高于目标温度减去允许下降", problem_en="the floor must not be above the target less what it may fall")
    contract = wanted["contract_kw"]
    if contract is not None and (isinstance(contract, bool) or not isinstance(contract, int | float) or not math.isfinite(contract) or not 0 < contract <= 1e6):
        raise SettingError(field="contract_kw", problem_zh="须为正数（kW）或留空", problem_en="must be a positive number (kW) or empty")


def _setting(row: EconomicSetting) -> Setting:
    return Setting(row.project_id, row.mode, row.tariff, row.target_c, row.floor_c, row.down_k, row.up_k, row.contract_kw, row.version, row.changed_ms, row.changed_by)


def _row(row: EconomicPlan) -> dict[str, Any]:
    return {"id": row.id, "project_id": row.project_id, "issued_ms": row.issued_ms, "start_ms": row.start_ms, "step_s": row.step_s, "steps": row.steps, "outcome": row.outcome, "code": row.code,
            "sent": row.sent, "summary": row.summary}
