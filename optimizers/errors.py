"""The one error base of this package: stable code, zh/en text with a way out. It imports nobody, so it stands apart from the platform's tree."""

from __future__ import annotations


class OptimizerError(ValueError):
    """A request that cannot be planned.

    Attributes:
        code: stable.
        zh, en: text in both languages.
    """

    code = "E-OPTIMIZER"
    zh = "无法求解。"
    en = "This cannot be planned."

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        self.zh = type(self).zh.format(**facts)
        self.en = type(self).en.format(**facts)
        super().__init__(f"{self.code}: {self.en}")


class SpecificationError(OptimizerError):
    """The specification contradicts itself; nothing was planned."""

    code = "E-SPECIFICATION"
    zh = "优化对象“{name}”的“{field}”有误：{problem}。请更正后重试。"
    en = "'{field}' of '{name}' is wrong: {problem}. Correct it and try again."
