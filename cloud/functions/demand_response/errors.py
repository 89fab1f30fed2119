"""What can be wrong with demand response. Codes are stable; every text says what to do next."""

from __future__ import annotations

from protos.errors import KangError


class ResponseError(KangError):
    """Demand response refuses."""

    code = "E-DR"
    zh = "需求响应：{problem}。"
    en = "Demand response: {problem}."


class EventError(ResponseError):
    """An event will not do; names the field. Nothing was executed."""

    code = "E-DR-EVENT"
    zh = "字段 {field}：{problem_zh}。事件未受理，未执行任何动作；请更正后以新版本号重发。"
    en = "Field {field}: {problem_en}. The event was not taken and nothing was done; correct it and send it again."


class VersionError(ResponseError):
    """An older version than the one known, or another content under the same number."""

    code = "E-DR-STALE"
    zh = "事件 {event_id} 已有版本 {version}；收到的版本 {given} 已过期或内容不同。请以更高版本号重发。"
    en = "Event {event_id} stands at version {version}; version {given} is older, or differs from what was taken under it. Send a higher version."


class StateError(ResponseError):
    """It cannot happen in the event's state."""

    code = "E-DR-STATE"
    zh = "事件处于“{state}”状态，不能执行“{happening}”。请刷新事件后再操作。"
    en = "The event is {state}; '{happening}' cannot happen now. Look at the event again."


class UnknownEventError(ResponseError):
    """No such event of this dispatcher."""

    code = "E-DR-UNKNOWN"
    zh = "没有事件“{event_id}”，或不属于该调度机构。请核对事件编号。"
    en = "There is no event '{event_id}' of this dispatcher. Check its number."


class StrategyError(ResponseError):
    """A strategy will not do; names the field."""

    code = "E-DR-STRATEGY"
    zh = "字段 {field}：{problem_zh}。请修改后再保存，已填内容保留。"
    en = "Field {field}: {problem_en}. Correct it and save again; what you typed is kept."


class StaleStrategyError(ResponseError):
    """Somebody else changed it meanwhile."""

    code = "E-DR-STRATEGY-STALE"
    zh = "{by} 已在此期间修改了策略（版本 {version}）。请查看新值后再改。"
    en = "{by} changed the strategy meanwhile (version {version}). Look at the new values, then change yours."


class NoOptOutError(ResponseError):
    """A mandatory order leaves no choice."""

    code = "E-DR-MANDATORY"
    zh = "有序用电指令不可退出；低于保安负荷或防冻最低功率的部分不会被削减。"
    en = "A mandatory order cannot be declined; security load and frost minimum are never cut."
