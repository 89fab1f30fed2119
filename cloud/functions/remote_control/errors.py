"""Why a command is refused before it leaves (远程控制). Must not know: HTTP.

KangError
└── CommandRefusedError        E-COMMAND
├── NotWritableError       E-COMMAND-POINT
├── OutOfRangeError        E-COMMAND-RANGE
├── NotWholeError          E-COMMAND-WHOLE
├── LockedOutError         E-COMMAND-LOCKED
└── IncompleteError        E-COMMAND-INCOMPLETE
"""

from __future__ import annotations

from protos.errors import KangError


class CommandRefusedError(KangError):
    """A command is refused."""

    code = "E-COMMAND"


class NotWritableError(CommandRefusedError):
    """The device has no such writable point, or cannot do this act."""

    code = "E-COMMAND-POINT"
    zh = "设备“{device}”不能执行“{act}”：模板未声明可写。请选择页面上列出的操作。"
    en = "Device '{device}' cannot do '{act}': its template does not declare it. Choose one of the acts on the page."


class OutOfRangeError(CommandRefusedError):
    """The value is outside what the template allows."""

    code = "E-COMMAND-RANGE"
    zh = "{name_zh} {value:g} {unit} 超出允许范围 {low:g}–{high:g} {unit}。请改为范围内的值。"
    en = "{name_en} {value:g} {unit} is outside the allowed {low:g}-{high:g} {unit}. Choose a value within."


class NotWholeError(CommandRefusedError):
    """The point counts, or is one of a few states; a fraction means nothing to it."""

    code = "E-COMMAND-WHOLE"
    zh = "{name_zh} 须为整数，不能是 {value:g}。请改为整数。"
    en = "{name_en} must be a whole number, not {value:g}. Choose a whole number."


class LockedOutError(CommandRefusedError):
    """The device carries a maintenance tag."""

    code = "E-COMMAND-LOCKED"
    zh = "设备已被 {holder} 挂牌检修（{reason}），拒绝远程控制。请联系持牌人摘牌。"
    en = "The device is locked out by {holder} ({reason}); remote control is refused. Ask the holder to remove the tag."


class IncompleteError(CommandRefusedError):
    """Something needed is missing."""

    code = "E-COMMAND-INCOMPLETE"
    zh = "命令不完整：{reason_zh}。"
    en = "The command is incomplete: {reason_en}."
