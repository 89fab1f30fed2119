"""Reads a device template (设备模板): the edge's own document, as data, into point and alarm rows in canonical units.

`low`, `high`, `resolution`, alarm `limit` and `hysteresis` of the document are in the point's canonical unit; `unit` and `scale` tell how
the register is read and matter to the edge only. Must not know: the ledger, FastAPI, the edge's code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloud.core.ports import AlarmRule, DeviceInfo, PointSetting
from cloud.functions.devices.errors import TemplateError
from protos.points import BY_ID, BY_KEY, Kind

#: Acts that a template may mark as dangerous, beside its points: a second person must agree.
ACTS = ("start", "stop", "pulse", "lock", "unlock")
SEVERITIES = ("critical", "major", "minor", "warning", "info")


@dataclass(frozen=True, slots=True)
class Template:
    """A template as read: identity, points by id, alarm rules, and the document they came from."""

    key: str
    version: int
    profile: str
    points: Mapping[int, PointSetting]
    alarms: tuple[AlarmRule, ...]
    document: Mapping[str, Any]
    digest: str


def read_template(document: Mapping[str, Any]) -> Template:
    """Check a template document and derive its rows.

    Raises:
        TemplateError: names the field and what is wrong with it.
    """
    name = str(document.get("template", "?"))
    key = document.get("template")
    if not isinstance(key, str) or not key or len(key) > 80:
        raise _wrong(name, "template", "缺少模板名", "the template's name is missing")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _wrong(name, "version", "应为正整数", "must be a positive integer")
    profile = document.get("profile")
    if not isinstance(profile, str) or not profile:
        raise _wrong(name, "profile", "缺少设备类型", "the profile is missing")
    rows = document.get("points")
    if not isinstance(rows, list) or not rows:
        raise _wrong(name, "points", "至少需要一个测点", "at least one point is needed")
    points: dict[int, PointSetting] = {}
    for k, row in enumerate(rows):
        setting = _point(name, f"points[{k}]", row)
        if setting.point_id in points:
            raise _wrong(name, f"points[{k}].point", "测点重复", f"'{BY_ID[setting.point_id].key}' is given twice")
        points[setting.point_id] = setting
    for word in document.get("dangerous") or ():
        if word not in ACTS and (word not in BY_KEY or BY_KEY[word].id not in points):
            raise _wrong(name, "dangerous", f"“{word}”既不是操作也不是本模板的测点", f"'{word}' is neither an act nor a point of this template")
    alarms = tuple(_alarm(name, f"alarms[{k}]", row, points) for k, row in enumerate(document.get("alarms") or ()))
    if len({rule.id for rule in alarms}) != len(alarms):
        raise _wrong(name, "alarms", "报警 id 重复", "an alarm id is given twice")
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return Template(key, version, profile, points, alarms, json.loads(text), hashlib.sha256(text.encode()).hexdigest())


def alarm_rules(document: Mapping[str, Any], points: Mapping[int, PointSetting]) -> tuple[AlarmRule, ...]:
    """The alarm rules of a document already checked, for the points given."""
    name = str(document.get("template", "?"))
    wanted = [row for row in document.get("alarms") or () if BY_KEY[str(row["point"])].id in points]
    return tuple(_alarm(name, "alarms", row, points) for row in wanted)


@dataclass(frozen=True, slots=True)
class Writing:
    """How a writable point may be written: limits in the canonical unit, pulse or hold, time until the effect is verified (s).

    `whole`: the point counts or is one of a few states, so a fraction means nothing to it.
    """

    low: float
    high: float
    pulse: bool
    verify_within_s: float
    whole: bool = False


def writings(document: Mapping[str, Any]) -> dict[int, Writing]:
    """The writable points of a document already checked, by point id."""
    found: dict[int, Writing] = {}
    for row in document.get("points") or ():
        if row.get("writable"):
            known, write = BY_KEY[str(row["point"])], row.get("write") or {}
            found[known.id] = Writing(
                low=float(write.get("low", row.get("low", known.low))), high=float(write.get("high", row.get("high", known.high))),
                pulse=bool(write.get("pulse", False)), verify_within_s=float(write.get("verify_within_s", 30.0)),
                whole=known.kind in (Kind.STATE, Kind.COMMAND) or (known.unit == "1" and known.resolution >= 1))
    return found


def device_writings(device: DeviceInfo, document: Mapping[str, Any]) -> dict[int, Writing]:
    """How this very device may be written: the template's limits, and what the device is rated for.

    A template serves a whole series; a limit of power above the rated power, or more stages than there are, means nothing.
    """
    stages = device.attributes.get("stages")
    most: dict[str, float] = {}
    if device.rated_kw > 0:
        most["power_limit_setpoint"] = device.rated_kw
    if isinstance(stages, int | float) and not isinstance(stages, bool) and stages > 0:
        most["stage_command"] = float(stages)
    found = writings(document)
    for key, high in most.items():
        write = found.get(BY_KEY[key].id)
        if write is not None and high < write.high:
            found[BY_KEY[key].id] = dataclasses.replace(write, low=min(write.low, high), high=high)
    return found


def _point(name: str, field: str, row: Any) -> PointSetting:
    if not isinstance(row, Mapping):
        raise _wrong(name, field, "应为键值表", "must be a mapping")
    known = BY_KEY.get(str(row.get("point")))
    if known is None:
        raise _wrong(name, f"{field}.point", f"测点目录中没有“{row.get('point')}”", f"'{row.get('point')}' is not in the point catalogue")
    low = _number(name, f"{field}.low", row.get("low", known.low))
    high = _number(name, f"{field}.high", row.get("high", known.high))
    if low > high:
        raise _wrong(name, f"{field}.low", "下限大于上限", f"low {low:g} is above high {high:g}")
    given = row.get("write")
    write: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    writable = bool(row.get("writable", False))
    if writable:
        allowed = (_number(name, f"{field}.write.low", write.get("low", low)), _number(name, f"{field}.write.high", write.get("high", high)))
        if allowed[0] > allowed[1]:
            raise _wrong(name, f"{field}.write.low", "写下限大于写上限", f"low {allowed[0]:g} is above high {allowed[1]:g}")
    return PointSetting(
        point_id=known.id, low=low, high=high,
        resolution=_number(name, f"{field}.resolution", row.get("resolution", known.resolution)),
        max_silent_s=_number(name, f"{field}.max_silent_s", row.get("max_silent_s", 300.0)),
        writable=writable, verify_within_s=_number(name, f"{field}.write.verify_within_s", write.get("verify_within_s", 30.0 if writable else 0.0)))


def _alarm(name: str, field: str, row: Any, points: Mapping[int, PointSetting]) -> AlarmRule:
    if not isinstance(row, Mapping) or not row.get("id"):
        raise _wrong(name, f"{field}.id", "缺少报警 id", "the alarm's id is missing")
    known = BY_KEY.get(str(row.get("point")))
    if known is None or known.id not in points:
        raise _wrong(name, f"{field}.point", f"模板没有测点“{row.get('point')}”", f"the template has no point '{row.get('point')}'")
    if row.get("when") not in ("above", "below"):
        raise _wrong(name, f"{field}.when", "应为 above 或 below", "must be 'above' or 'below'")
    severity = row.get("severity", "warning")
    if severity not in SEVERITIES:
        raise _wrong(name, f"{field}.severity", f"应为 {'、'.join(SEVERITIES)} 之一", f"must be one of {', '.join(SEVERITIES)}")
    return AlarmRule(
        id=str(row["id"]), point_id=known.id, when=str(row["when"]), limit=_number(name, f"{field}.limit", row.get("limit")),
        hysteresis=_number(name, f"{field}.hysteresis", row.get("hysteresis", 0.0)),
        delay_s=_number(name, f"{field}.delay_s", row.get("delay_s", 0.0)), severity=str(severity), zh=str(row.get("zh", "")), en=str(row.get("en", "")))


def _number(name: str, field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, field, "应为数值", f"must be a number, not {value!r}")
    return float(value)


def _wrong(name: str, field: str, zh: str, en: str) -> TemplateError:
    return TemplateError(what="template", name=name, field=field, reason_zh=zh, reason_en=en)
