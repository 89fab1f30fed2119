"""Says in words why a command went no further (指令终止原因): the stable code and bare facts of an agent or of the command service, in both languages.

An agent reports a code and facts without language (who, which point, which figures); the sentence is made here, once, for every page, listener and stream.
Must not know: FastAPI, transports, the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloud.functions.devices.state import interlock_words
from protos.arbitration import Authority
from protos.points import BY_KEY

#: Order of authority (DOMAIN 2) as people say it.
AUTHORITIES: Mapping[Authority, tuple[str, str]] = {
    Authority.INTERLOCK: ("联锁保护", "interlock"), Authority.EMERGENCY_STOP: ("紧急停机", "emergency stop"), Authority.LOCKOUT: ("挂牌或就地", "lockout or local control"),
    Authority.FROST: ("防冻保护", "frost protection"), Authority.GRID_ORDER: ("电网指令", "grid order"), Authority.OPERATOR: ("值班员", "operator"),
    Authority.DEMAND_RESPONSE: ("需求响应", "demand response"), Authority.RESIDENT: ("用户", "resident"), Authority.PLAN: ("优化计划", "plan"),
    Authority.EDGE_ALGORITHM: ("边缘算法", "edge algorithm"), Authority.SCHEDULE: ("时间表", "schedule")}

#: code: (zh, en); "{0}" is the fact reported with it, left out with its brackets when there is none.
ENDINGS: Mapping[str, tuple[str, str]] = {
    "device": ("现场没有这台设备（{0}）；请核对设备档案与站点配置", "The site has no such device ({0}); check the device's record against the site's configuration"),
    "kind": ("现场不支持这种操作（{0}）", "The site does not know this kind of act ({0})"),
    "fencing": ("指令来自已被取代的指令服务（{0}），未执行；请重新下发", "The command came from a command service that has been replaced ({0}) and was not carried out; send it again"),
    "clock": ("现场装置尚未对时，无法判断指令期限；对时后请重新下发", "The box at the site does not know the time yet and cannot judge the deadline; send it again once its clock is set"),
    "deadline": ("送达时已过期限（迟 {0}），未执行；仍需要时请重新下发", "It arrived after its deadline ({0} late) and was not carried out; send it again if it is still wanted"),
    "authority": ("现场不接受该权限等级（{0}）", "The site does not accept this authority ({0})"),
    "expiry": ("保持时间必须有终点，最长 {0}", "Every hold must end, at the latest after {0}"),
    "superseded": ("已被更新的指令取代（{0}）", "A newer command took its place ({0})"),
    "point": ("该测点不可写（{0}）", "This point cannot be written ({0})"),
    "value": ("数值无效（{0}）", "The value is not usable ({0})"),
    "range": ("超出允许范围（{0}）", "Outside what is allowed ({0})"),
    "held": ("由更高权限占用（{0}）；待其到期或解除后再试", "Held by a stronger authority ({0}); try again when it ends or is released"),
    "limited": ("已被更高权限限幅（{0}）", "Limited by a stronger authority ({0})"),
    "sequence": ("该类设备没有启停程序（{0}）", "This type of device has no such sequence ({0})"),
    "lockout": ("设备已挂牌闭锁（{0}）；请联系挂牌人摘牌", "The device is locked out ({0}); ask the holder to remove the tag"),
    "tag": ("只有挂牌人（{0}）或两名具名人员可以摘牌", "Only the tag's holder ({0}) or two named persons may remove it"),
    "tag_other": ("所批准摘除的挂牌已不在；现由 {0} 挂牌，请联系挂牌人", "The tag that was agreed upon hangs no more; {0} has locked the device out now. Ask the holder"),
    "holder": ("挂牌须具名", "A lockout needs a name"),
    "local_manual": ("设备处于就地控制；请现场切回远程", "The device is under local control; switch it back to remote at the site"),
    "nothing_to_stop": ("该设备没有可停之物，其安全状态为空", "There is nothing to stop on this device; its safe state is empty"),
    "device_refused": ("设备拒绝写入（{0}）；请检查设备与通信", "The device refused the write ({0}); check the device and its link"),
    "pulse_unanswered": ("脉冲指令未获设备应答（{0}），是否动作未知；请现场核实后处置", "The device did not answer the pulse ({0}); whether it acted is not known: look on site, then settle it"),
    "restart_while_acting": ("执行中现场装置重启，结果未知；请核实后处置", "The box restarted while acting and the outcome is not known; look, then settle it"),
    "wait_timeout": ("启停程序等待超时（{0}）；请检查设备", "The sequence waited too long ({0}); check the device"),
    "no_readback": ("已执行但读不到回读值，结果未知；请核实后处置", "It was carried out but nothing could be read back; the outcome is not known: look, then settle it"),
    "not_verified": ("期限内回读值未达到指令值；请检查设备", "The value read back did not come to the one sent in time; check the device"),
    "no_answer": ("设备没有应答，结果未知；请核实后处置", "The device did not answer and the outcome is not known; look, then settle it"),
    "device_offline": ("设备离线，未见生效；请检查设备与通信", "The device went offline and no effect was seen; check the device and its link"),
    "not_written": ("期限内未能写入设备；请检查设备与通信", "It could not be written to the device in time; check the device and its link"),
    "resolved": ("人工处置（{0}）", "Settled by a person ({0})"),
    "E-CMD-NEWER": ("已被更新的指令取代", "A newer command took its place"),
    "E-CMD-CANCELLED": ("下发前已取消（{0}），设备未动作", "It was cancelled before it left ({0}); nothing was done"),
    "E-CMD-OFFLINE": ("现场装置离线，指令排队等待", "The site is offline; the command waits"),
    "E-CMD-DEADLINE": ("期限内未能送达，已失效，设备未动作；仍需要时请重新下发", "It could not be delivered in time and has expired; nothing was done. Send it again if it is still wanted"),
    "E-CMD-NO-RECEIPT": ("可能已送达但没有回执，结果未知；请核实后处置", "It may have arrived but nothing came back; the outcome is not known: look, then settle it"),
    "E-CMD-NO-RESULT": ("已接收但期限内没有结果，结果未知；请核实后处置", "It was received but no result came in time; the outcome is not known: look, then settle it"),
}
_UNREADABLE = ("其输入测点读不到", "its input cannot be read")


def ending(code: str, fact: str, document: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The sentence behind a step's code.

    Args:
        code: as reported; "interlock.<id>" is looked up in the device template.
        fact: bare facts reported with it ("" when there are none).
        document: the device's template document, for the words of its interlocks.

    Returns:
        {zh, en}; None when there is no code to explain.
    """
    if not code:
        return None
    if code.startswith("interlock."):
        return _interlock(code.removeprefix("interlock."), fact, document)
    words = ENDINGS.get(code)
    if words is None:
        return {"zh": f"{code}（{fact}）" if fact else code, "en": f"{code} ({fact})" if fact else code}
    facts = _facts(code, fact)
    return {"zh": _fill(words[0], facts[0]), "en": _fill(words[1], facts[1])}


def told(command: Mapping[str, Any], document: Mapping[str, Any] | None) -> dict[str, Any]:
    """A command's view with `why` ({zh, en} or None) on it and on each of its steps; code and detail stay for machines."""
    steps = [{**step, "why": ending(str(step.get("code") or ""), str(step.get("detail") or ""), document)} for step in command.get("steps", ())]
    return {**command, "steps": steps, "why": ending(str(command.get("code") or ""), str(command.get("detail") or ""), document)}


def _interlock(lock_id: str, fact: str, document: Mapping[str, Any] | None) -> dict[str, str]:
    words = interlock_words(document, lock_id)
    unreadable = _UNREADABLE if fact == "unreadable" else ("", "")
    return {"zh": f"联锁保护：{words['zh']}" + (f"（{unreadable[0]}）" if unreadable[0] else ""),
            "en": f"Interlock: {words['en']}" + (f" ({unreadable[1]})" if unreadable[1] else "")}


def _facts(code: str, fact: str) -> tuple[str, str]:
    """The fact in both languages: a point's key or an authority's name at its beginning becomes a word."""
    first, _, rest = fact.partition(" ")
    if code in ("held", "limited") and first.upper() in Authority.__members__:
        zh, en = AUTHORITIES[Authority[first.upper()]]
        return f"{zh} {rest}".strip(" :"), f"{en} {rest}".strip(" :")
    if first in BY_KEY:
        return f"{BY_KEY[first].zh} {rest}".strip(), f"{BY_KEY[first].en} {rest}".strip()
    return fact, fact


def _fill(words: str, fact: str) -> str:
    if fact:
        return words.replace("{0}", fact)
    for empty in ("（迟 {0}）", "（{0}）", " ({0} late)", " ({0})"):
        words = words.replace(empty, "")
    return words.replace("{0}", "–")
