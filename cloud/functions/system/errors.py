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


class PasswordRefusedError(KangError):
    """Name, password or second factor is wrong, or the account may not sign in; which of them is not told."""

    code = "E-SIGN-IN"
    zh = "登录未通过：账号、口令或验证码有误，或账号不可用。请核对后重试，或请管理员签发一次性登录码。"
    en = "Sign-in failed: the name, the password or the code is wrong, or the account may not be used. Check them, or ask the administrator for a one-time code."


class TooManyFailuresError(KangError):
    """A name or an address failed too often; said of names that do not exist just the same."""

    code = "E-SIGN-IN-RATE"
    zh = "15 分钟内失败次数过多，已暂停登录。请在 {retry_after_s} 秒后重试，或改用通行密钥、一次性登录码。"
    en = "Too many failures within 15 minutes; signing in is suspended. Try again in {retry_after_s} s, or use a passkey or a one-time code."


class FactorRefusedError(KangError):
    """The proof of identity is not right."""

    code = "E-FACTOR"
    zh = "身份验证未通过：{reason_zh}。"
    en = "The proof of identity was not accepted: {reason_en}."


class PersonError(KangError):
    """An account cannot be changed that way."""

    code = "E-PERSON"
    zh = "无法更改账号“{name}”：{reason_zh}。"
    en = "The account '{name}' cannot be changed that way: {reason_en}."


class SelfError(KangError):
    """Nobody decides about themselves."""

    code = "E-SELF"
    zh = "不能对本人{what_zh}。请由另一位管理员办理。"
    en = "You cannot {what_en} yourself. Another administrator has to."


class ApprovalError(KangError):
    """An approval cannot be given, refused or used."""

    code = "E-APPROVAL"
    zh = "审批无法处理：{reason_zh}。"
    en = "The approval cannot be handled: {reason_en}."


class EmergencyError(KangError):
    """An emergency grant cannot be taken, ended or reviewed."""

    code = "E-EMERGENCY"
    zh = "应急授权无法处理：{reason_zh}。"
    en = "The emergency grant cannot be handled: {reason_en}."
