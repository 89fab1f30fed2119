"""Checks and previews commands (远程控制): what the template allows, who holds the actuator, what would come of it.

The preview decides with the agent's own code (`protos.arbitration`) over the holders last heard; only the agent sees local control,
interlocks and frost at the instant of writing, so a preview promises nothing. Must not know: FastAPI, transports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from cloud.core.ports import CommandRequest, DeviceInfo
from cloud.functions.devices.templates import Writing, device_writings
from cloud.functions.remote_control.errors import (
    IncompleteError,
    LockedByYouError,
    LockedOutError,
    NotWholeError,
    NotWritableError,
    OutOfRangeError,
)
from cloud.security.operations import Principal, Role
from protos.arbitration import Authority, Hold, decide
from protos.points import BY_ID

KINDS = ("hold", "release", "pulse", "stop", "start", "lock", "unlock")
MIN_HOLD_S, MAX_HOLD_S = 60.0, 7 * 86_400.0
#: How long the start that restores heat is held before plan and schedule have their say again, s.
RESTORE_HOLD_S = 4 * 3600.0


def authority_of(who: Principal) -> Authority:
    """The place in the order of authority that a person's wish takes."""
    return Authority.RESIDENT if who.roles == {Role.RESIDENT} else Authority.OPERATOR


def check(request: CommandRequest, device: DeviceInfo, document: Mapping[str, Any], heard: Mapping[str, Any] | None) -> CommandRequest:
    """Refuse what the template or a maintenance tag forbids; emergency acts are not brought here, they are never refused.

    Returns:
        The request, a hold on a pulse point turned into a pulse.

    Raises:
        CommandRefusedError: with code, reason and way out.
    """
    if request.kind not in KINDS:
        raise NotWritableError(device=device.code, act=request.kind)
    if request.kind in ("lock", "unlock"):
        if not request.reason.strip():
            raise IncompleteError(reason_zh="挂牌与摘牌须写明原因", reason_en="locking and unlocking need a reason")
        return request
    if heard is not None and heard.get("locked_out"):
        if heard.get("lockout_holder") == request.actor:
            raise LockedByYouError(reason=heard.get("lockout_reason", ""))
        raise LockedOutError(holder=heard.get("lockout_holder", "?"), reason=heard.get("lockout_reason", ""))
    sequences = document.get("sequences") or {}
    if request.kind in ("start", "stop"):
        if not sequences.get(request.kind):
            raise NotWritableError(device=device.code, act=request.kind)
        return _with_hold(request)
    write = device_writings(device, document).get(request.point_id)
    setting = device.points.get(request.point_id)
    if write is None or setting is None or not setting.writable:
        raise NotWritableError(device=device.code, act=BY_ID[request.point_id].en if request.point_id in BY_ID else request.point_id)
    if request.kind == "release":
        return request
    _range(request, write)
    return dataclasses.replace(request, kind="pulse") if write.pulse else _with_hold(request)


def after_unlock(heard: Mapping[str, Any], commands: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What was heard of a locked device, less the tag where an unlock was verified since: the next heartbeat only repeats it.

    Args:
        heard: the device's state, with `agent_heard_ms`.
        commands: the device's newest commands.
    """
    ended = max((step["at_ms"] for c in commands if c["kind"] == "unlock" for step in c["steps"] if step["state"] == "verified"), default=0)
    return {**heard, "locked_out": bool(heard.get("locked_out")) and ended <= int(heard.get("agent_heard_ms") or 0)}


def preview(request: CommandRequest, device: DeviceInfo, heard: Mapping[str, Any] | None, now_ms: int) -> dict[str, Any]:
    """What would come of a checked request, by the holders last heard.

    Returns:
        {effective, requested, limited_by, wins, stronger: [...holders], weaker: [...], until_ms, online}.
    """
    holders = [h for h in (heard or {}).get("holders", ()) if int(h["point_id"]) == request.point_id]
    holds = [Hold(Authority(int(h["authority"])), value=h.get("value"), version=1, expires_ms=int(h.get("until_ms") or 0),
                  holder=str(h.get("holder", "")), reason=str(h.get("reason", ""))) for h in holders]
    until = now_ms + int(request.hold_s * 1000)
    mine = Hold(Authority(request.authority), value=request.value, low=request.low, high=request.high, version=1 << 62, expires_ms=until,
                holder=request.actor)
    others = [h for h in holds if h.authority != mine.authority]
    setting = device.points.get(request.point_id)
    decision = decide([*others, *([] if request.kind == "release" else [mine])], now_ms, low=setting.low if setting else -math.inf,
                      high=setting.high if setting else math.inf)
    return {
        "requested": request.value, "effective": decision.value, "wins": decision.chosen_by is mine,
        "limited_by": _holder(decision.limited_by) if decision.limited_by else None,
        "stronger": [_holder(h) for h in _sorted(holds) if h.authority < mine.authority],
        "weaker": [_holder(h) for h in _sorted(holds) if h.authority > mine.authority],
        "replaces": [_holder(h) for h in holds if h.authority == mine.authority], "until_ms": until,
        "online": bool(heard and heard.get("online") and heard.get("agent_online")), "local_manual": bool(heard and heard.get("local_manual"))}


def _range(request: CommandRequest, write: Writing) -> None:
    point = BY_ID[request.point_id]
    given = [v for v in (request.value, request.low, request.high) if v is not None]
    if not given:
        raise IncompleteError(reason_zh="需要一个值或上下限", reason_en="a value or bounds are needed")
    for value in given:
        if not math.isfinite(value) or not write.low <= value <= write.high:
            raise OutOfRangeError(name_zh=point.zh, name_en=point.en, value=value, low=write.low, high=write.high,
                                  unit=point.unit.replace("degC", "°C").replace("m3", "m³"))
        if write.whole and value != int(value):
            raise NotWholeError(name_zh=point.zh, name_en=point.en, value=value)


def _with_hold(request: CommandRequest) -> CommandRequest:
    if not MIN_HOLD_S <= request.hold_s <= MAX_HOLD_S:
        raise IncompleteError(reason_zh="保持时间应在 1 分钟到 7 天之间", reason_en="the hold must last between 1 minute and 7 days")
    return request


def _sorted(holds: Iterable[Hold]) -> list[Hold]:
    return sorted(holds, key=lambda h: h.authority)


def _holder(hold: Hold) -> dict[str, Any]:
    return {"authority": int(hold.authority), "value": hold.value, "until_ms": hold.expires_ms, "holder": hold.holder, "reason": hold.reason}
