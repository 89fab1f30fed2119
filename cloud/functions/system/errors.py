"""What can go wrong at the door. Must not know: HTTP."""

from __future__ import annotations

from protos.errors import KangError


class TooManyCodesError(KangError):
    """An address tried too many wrong codes; `retry_after_s` says when it may try again."""

    code = "E-SIGN-IN-RATE"
    zh = "该地址一分钟内输入错误登录码过多。请在 {retry_after_s} 秒后重试。"
    en = "Too many wrong sign-in codes from this address within a minute. Try again in {retry_after_s} s."


class SignInRefusedError(KangError):
    """The code is unknown, used or expired; which of them is not told."""

    code = "E-SIGN-IN"
    zh = "登录链接无效：可能已用过，或已超过签发时的有效期。请让管理员重新签发。"
    en = "The sign-in link is not valid: it may have been used, or it is older than it was issued for. Ask for a new one."


class UserError(KangError):
    """A user cannot be registered."""

    code = "E-USER"
    zh = "无法登记用户“{name}”：{reason_zh}。"
    en = "Cannot register user '{name}': {reason_en}."
