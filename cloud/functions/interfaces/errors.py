"""What can go wrong at the interfaces. Must not know: HTTP."""

from __future__ import annotations

from protos.errors import KangError


class ClientRefusedError(KangError):
    """The client id or secret is wrong, the client is disabled or its time is over; which of them is not told."""

    code = "E-CLIENT"
    zh = "客户端凭据无效。请核对客户端编号与密钥，或联系平台管理员。"
    en = "The client's credentials are not valid. Check id and secret, or ask the platform's administrator."


class ClientScopeError(KangError):
    """The client's scope does not hold this operation."""

    code = "E-CLIENT-SCOPE"
    zh = "该客户端未获授权“{what_zh}”。请联系平台管理员配置接口权限。"
    en = "This client's scope does not hold: {what_en}. Ask the platform's administrator."


class RateError(KangError):
    """The client asks more often than it was granted."""

    code = "E-RATE"
    zh = "请求频率超过授予的每秒 {rate} 次。请在 {retry_after_s} 秒后重试。"
    en = "More than the {rate} requests a second this client was granted. Try again in {retry_after_s} s."


class GrantError(KangError):
    """Only client credentials are granted."""

    code = "E-GRANT"
    zh = "只支持 grant_type=client_credentials，表单编码。"
    en = "Only grant_type=client_credentials is supported, form-encoded."


class ClientInvalidError(KangError):
    """A client cannot be configured like that."""

    code = "E-CLIENT-INVALID"
    zh = "接口配置无效：{reason_zh}。请更正后重试。"
    en = "The interface cannot be configured like that: {reason_en}. Correct it and try again."


class RepeatedError(KangError):
    """An idempotency key comes back with another body."""

    code = "E-IDEMPOTENCY"
    zh = "该 Idempotency-Key 已用于不同的请求。请换一个新的键。"
    en = "This Idempotency-Key was used for a different request. Use a new key."


class InProgressError(KangError):
    """The first call with this key has not been answered, or its answer is shown once only."""

    code = "E-IDEMPOTENCY-DONE"
    zh = "使用该 Idempotency-Key 的请求正在处理或已处理完毕，其结果不再显示。请查询当前状态。"
    en = "The request with this Idempotency-Key is under way or done, and its answer is not shown again. Read the present state."
