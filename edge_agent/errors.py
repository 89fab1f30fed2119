"""What can go wrong at the edge: one tree, stable codes, Chinese and English text with a way out.

Must not know: drivers, transports, the platform.

    KangError
     ├─ FrameError      E-FRAME      bytes on a field bus are not a frame, or not the one asked for
     ├─ DeviceError     E-DEVICE     a device did not answer, or answered no
     ├─ TemplateError   E-TEMPLATE   a device template is wrong; names file, line and field
     ├─ SiteError       E-SITE       the site file or the credentials directory is wrong
     ├─ SpoolError      E-SPOOL      the spool refuses
     ├─ CommandError    E-COMMAND    a command is refused
     ├─ PlanError       E-PLAN       a plan document does not fit this site
     └─ MissingExtra    E-EXTRA      an optional package is needed
"""

from __future__ import annotations

from protos.errors import KangError


class FrameError(KangError):
    """Bytes are not a valid frame. `reason` is a stable word.

    Reasons: short, start, long, end, checksum, address, control, length, di, bcd, unit, type, sequence, value, mbap, error_reply.
    """

    code = "E-FRAME"
    zh = "报文不合规（{reason}）。请检查接线、波特率、校验位、表地址和设备模板的协议配置。"
    en = "The frame is not valid ({reason}). Check wiring, baud rate, parity, meter address and the template's protocol profile."

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason=reason, detail=detail)

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.values["reason"])


class DeviceError(KangError):
    """A device did not answer in time, refused, or the channel to it is down. `reason`: timeout, connect, closed, refused, read_only, point."""

    code = "E-DEVICE"
    zh = "设备通信失败（{reason}）：{detail}。请检查供电、通道、站地址；系统会自动重试。"
    en = "The device could not be reached ({reason}): {detail}. Check power, channel and unit address; the agent keeps trying."

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason=reason, detail=detail)

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.values["reason"])


class TemplateError(KangError):
    """A device template is wrong."""

    code = "E-TEMPLATE"
    zh = "设备模板 {file} 第 {line} 行，字段 {field}：{problem}。请按模板手册修改后重试。"
    en = "Device template {file}, line {line}, field {field}: {problem}. Correct it as the template guide says and try again."


class SiteError(KangError):
    """The site file or the credentials directory is wrong."""

    code = "E-SITE"
    zh = "站点配置 {field}：{problem}。请修改 site.yaml 或凭据目录后重新启动。"
    en = "Site configuration {field}: {problem}. Correct site.yaml or the credentials directory and start again."


class SpoolError(KangError):
    """The spool refuses. `reason`: full, version, locked, suite (what waits was signed in the other suite)."""

    code = "E-SPOOL"
    zh = "本地缓存拒绝写入（{reason}）。请恢复上行链路或扩大缓存上限；更换算法套件（suite）前，先用原密钥把缓存传完，或改用新的 state_dir。"
    en = ("The local spool refused ({reason}). Restore the uplink or raise the spool's limit; before a change of suite let the spool drain with the keys of before, "
          "or take a new state_dir.")


class CommandError(KangError):
    """A command is refused; `reason` becomes the result's code, `detail` holds bare facts without language (the platform makes the sentence)."""

    code = "E-COMMAND"
    zh = "指令被拒绝（{reason}）：{detail}。"
    en = "The command was refused ({reason}): {detail}."

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason=reason, detail=detail)

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.values["reason"])


class PlanError(KangError):
    """A plan document does not fit this site; nothing of it is followed. `reason`: protobuf, addressee, fencing, clock, steps, device, point, authority, length, range."""

    code = "E-PLAN"
    zh = "计划文件不适用于本站点（{reason}），字段 {field}：{detail}。继续执行原计划；请核对站点设备与计划后重新下发。"
    en = "The plan does not fit this site ({reason}), field {field}: {detail}. The plan before it stays in force; check the site's devices and send it again."

    def __init__(self, reason: str, field: str, detail: str = "") -> None:
        super().__init__(reason=reason, field=field, detail=detail)

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.values["reason"])


class MissingExtra(KangError):  # noqa: N818 - says what to do, as a name
    """An optional package is needed."""

    code = "E-EXTRA"
    zh = "缺少组件 {package}。请运行：pip install 'kang[{extra}]'。"
    en = "Package {package} is missing. Run: pip install 'kang[{extra}]'."
