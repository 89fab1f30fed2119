"""Why a command is refused before it is sent. Codes are stable; every text says what to do next."""

from __future__ import annotations

from protos.errors import KangError


class CommandError(KangError):
    """A request that never became a command; the answer carries the code and the field."""

    code = "E-CMD"
    zh = "命令未被接受：{problem}。"
    en = "The command was not accepted: {problem}."


class CommandTargetError(CommandError):
    """The device or point does not exist, or is not of that project."""

    code = "E-CMD-TARGET"
    zh = "设备 {device_id} 不存在或没有测点 {point}。请从设备页面下达。"
    en = "Device {device_id} does not exist or has no point {point}. Issue the command from the device's page."


class CommandValueError(CommandError):
    """A value is missing, not finite, outside the device's limits, or a time is out of range."""

    code = "E-CMD-VALUE"
    zh = "{field} 的值 {value} 不可用，允许范围 {low} 至 {high}。请修改后重发。"
    en = "{field} = {value} cannot be used; allowed is {low} to {high}. Correct it and send again."


class CommandWritableError(CommandError):
    """The point cannot be written."""

    code = "E-CMD-READONLY"
    zh = "测点 {point} 只读。请选择可写的设定或命令测点。"
    en = "Point {point} is read only. Choose a set-point or command."


class CommandConflictError(CommandError):
    """An idempotency key was used for another request."""

    code = "E-CMD-KEY"
    zh = "幂等键已用于另一条命令 {id}。请使用新的键。"
    en = "The idempotency key was used for another command {id}. Use a new key."


class CommandGoneError(CommandError):
    """There is no such command, or it is not in the state the call needs."""

    code = "E-CMD-STATE"
    zh = "命令 {id} 不存在或当前状态为 {state}，无法执行此操作。请刷新。"
    en = "Command {id} does not exist or is {state}; this cannot be done now. Refresh."


class PlanRefusedError(KangError):
    """A plan document that cannot be sent; names the field."""

    code = "E-PLAN"
    zh = "计划未被接受，字段 {field}：{problem}。原计划继续有效；请修改后重新下发。"
    en = "The plan was not accepted, field {field}: {problem}. The plan before it stays in force; correct it and send again."
