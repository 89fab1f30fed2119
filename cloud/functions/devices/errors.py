"""What can be wrong with a registration, each with a stable code and a way out.

    KangError
    └── RegistrationError   E-REGISTER
        ├── TemplateError   E-TEMPLATE
        └── TemplateFrozen  E-TEMPLATE-FROZEN

Must not know: HTTP.
"""

from __future__ import annotations

from protos.errors import KangError


class RegistrationError(KangError):
    """Something cannot be registered; values: what, name, reason_zh, reason_en."""

    code = "E-REGISTER"
    zh = "无法登记{what}“{name}”：{reason_zh}。请更正后重试。"
    en = "Cannot register {what} '{name}': {reason_en}. Correct it and try again."


class TemplateError(RegistrationError):
    """A template document is malformed; values: name, field, reason_zh, reason_en."""

    code = "E-TEMPLATE"
    zh = "设备模板“{name}”的 {field} 不合规：{reason_zh}。"
    en = "Device template '{name}', field {field}: {reason_en}."


class TemplateFrozen(RegistrationError):  # noqa: N818 - reads as the state it names
    """A template version already in the ledger says something else."""

    code = "E-TEMPLATE-FROZEN"
    zh = "设备模板“{name}”第 {version} 版已登记且内容不同。请提高 version 后重新登记。"
    en = "Version {version} of device template '{name}' is registered with other content. Raise its version and register again."
