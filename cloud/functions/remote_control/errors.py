"""Why a command is refused before it leaves (远程控制). Must not know: HTTP.

KangError
├── CommandRefusedError        E-COMMAND
├── NotWritableError       E-COMMAND-POINT
├── OutOfRangeError        E-COMMAND-RANGE
├── NotWholeError          E-COMMAND-WHOLE
├── LockedOutError         E-COMMAND-LOCKED
│   └── LockedByYouError   E-COMMAND-LOCKED-BY-YOU
├── IncompleteError        E-COMMAND-INCOMPLETE
└── FourEyesError          E-COMMAND-FOUR-EYES
└── BatchError                 E-BATCH
├── BatchSizeError         E-BATCH-SIZE
├── BatchStateError        E-BATCH-STATE
└── RestoreError           E-BATCH-RESTORE
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


class LockedByYouError(LockedOutError):
    """The asker's own tag hangs on it."""

    code = "E-COMMAND-LOCKED-BY-YOU"
    zh = "设备由您本人挂牌检修（{reason}），拒绝远程控制。检修完成后请先摘牌。"
    en = "You have locked this device out ({reason}); remote control is refused. Remove your tag when the work is done."


class TagGoneError(CommandRefusedError):
    """The lockout that is meant does not hang there: it was removed, or another hangs there now."""

    code = "E-COMMAND-TAG"
    zh = "设备上没有 {holder} 在该时间挂的检修牌（可能已摘除或已换人挂牌）。请刷新设备页后重新提出。"
    en = "No lockout of {holder} from that time hangs on the device (removed, or another hangs there now). Look at the device again and ask anew."


class IncompleteError(CommandRefusedError):
    """Something needed is missing."""

    code = "E-COMMAND-INCOMPLETE"
    zh = "命令不完整：{reason_zh}。"
    en = "The command is incomplete: {reason_en}."


class FourEyesError(CommandRefusedError):
    """The template marks the act as dangerous: one person alone may not."""

    code = "E-COMMAND-FOUR-EYES"
    zh = "此操作需要第二人批准（{reason_zh}）。请在“批量控制”中下发，由另一人批准后执行。"
    en = "This needs a second person ({reason_en}). Send it as a batch; another person approves it there."


class BatchError(KangError):
    """A batch cannot be made."""

    code = "E-BATCH"
    zh = "这批控制无法下发：{reason_zh}。"
    en = "The batch cannot be sent: {reason_en}."


class BatchSizeError(BatchError):
    """Too few or too many devices, or one named twice."""

    code = "E-BATCH-SIZE"
    zh = "设备选择不可用：{problem_zh}。请重新选择。"
    en = "These devices cannot be used: {problem_en}. Choose again."


class BatchStateError(BatchError):
    """It is not in the state that the call needs."""

    code = "E-BATCH-STATE"
    zh = "批次 {id} 已结束或不在可操作的状态。请刷新。"
    en = "Batch {id} has ended, or is not in a state where this can be done. Refresh."


class RestoreError(BatchError):
    """Nothing of it can be put back."""

    code = "E-BATCH-RESTORE"
    zh = "无法恢复：{reason_zh}。请在设备页逐台处理。"
    en = "It cannot be put back: {reason_en}. See to it device by device."
