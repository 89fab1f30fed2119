"""What can go wrong at the door. Must not know: HTTP."""

from __future__ import annotations

from protos.errors import KangError


class SignInRefusedError(KangError):
    """The code is unknown, used or expired; which of them is not told."""

    code = "E-SIGN-IN"
    zh = "登录链接无效：可能已用过或已过期（15 分钟）。请让管理员重新签发。"
    en = "The sign-in link is not valid: it may have been used, or it is older than 15 minutes. Ask for a new one."


class UserError(KangError):
    """A user cannot be registered."""

    code = "E-USER"
    zh = "无法登记用户“{name}”：{reason_zh}。"
    en = "Cannot register user '{name}': {reason_en}."
