"""What can be wrong with an OpenADR request. Codes are stable; every text says what to do next. Must not know: HTTP."""

from __future__ import annotations

from protos.errors import KangError


class ExchangeError(KangError):
    """OpenADR refuses."""

    code = "E-OPENADR"
    zh = "OpenADR：{problem_zh}。"
    en = "OpenADR: {problem_en}."


class FieldError(ExchangeError):
    """A field cannot be taken as it is; names it by its place in the document. Nothing was executed."""

    code = "E-OPENADR-FIELD"
    zh = "字段 {field}：{problem_zh}。未受理，未执行任何动作；请更正后重发。"
    en = "Field {field}: {problem_en}. It was not taken and nothing was done; correct it and send it again."


class UnknownObjectError(ExchangeError):
    """No such object of this client."""

    code = "E-OPENADR-UNKNOWN"
    zh = "没有 {what}“{name}”，或不属于该客户端。请核对编号。"
    en = "There is no {what} '{name}' of this client. Check its id."


class StaleObjectError(ExchangeError):
    """It was changed after the caller read it."""

    code = "E-OPENADR-STALE"
    zh = "字段 modificationDateTime：{name} 已于 {known} 更改。请重新读取后再改。"
    en = "Field modificationDateTime: {name} was changed at {known}. Read it again, then change it."


class NameTakenError(ExchangeError):
    """Another object of the client has this name."""

    code = "E-OPENADR-NAME"
    zh = "字段 {field}：名称“{name}”已用于 {other}。请更换名称，或修改原对象。"
    en = "Field {field}: the name '{name}' is that of {other}. Choose another, or change that one."


class ProgramUsedError(ExchangeError):
    """Events of the program are not over."""

    code = "E-OPENADR-USED"
    zh = "项目 {name} 仍有未结束的事件。请先删除这些事件。"
    en = "Events of program {name} are not over. Delete them first."


class NotOfferedError(ExchangeError):
    """The standard has it, this platform does not."""

    code = "E-OPENADR-NOT-OFFERED"
    zh = "本平台不提供{what_zh}。{way_zh}。"
    en = "This platform does not offer {what_en}. {way_en}."
