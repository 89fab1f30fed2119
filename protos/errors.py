"""The root of the one error tree: a stable code, what happened in Chinese and English, and a way out.

    KangError
    ├── FrameError        a field protocol's frame cannot be what it claims (edge drivers)
    ├── EnvelopeError     a sealed message is refused (protos.envelope)
    ├── BatchError        a batch's columns contradict each other (protos.batch)
    └── ...               each room hangs its own branch below the root

Must not know: transports, HTTP, who shows the text.
"""

from __future__ import annotations

from typing import Any


class KangError(Exception):
    """A failure a person may read: `code` never changes meaning, `zh`/`en` say what happened and what to do.

    Subclasses set `code`, `zh`, `en`; the texts are `str.format` templates over the keyword values given.
    """

    code: str = "E-KANG"
    zh: str = "平台内部错误，请查看日志并联系管理员。"
    en: str = "Internal error; see the log and tell the administrator."

    def __init__(self, **values: Any) -> None:
        self.values = values
        super().__init__(self.message("en"))

    def message(self, language: str = "zh") -> str:
        """The text in `language` ("zh" or "en"), values filled in; a missing value never raises."""
        template = self.zh if language.startswith("zh") else self.en
        try:
            return template.format(**self.values)
        except (KeyError, IndexError, ValueError):
            return f"{template} {self.values}"

    def __str__(self) -> str:
        return f"{self.code}: {self.message('en')}"
