"""The one error base of this package: stable code, zh/en text with a way out. It imports nobody, so it stands apart from the platform's tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self


class Words(str):
    """A part of a message in both languages: a `str` in English that knows its Chinese.

    Attributes:
        zh: the same in Chinese.
    """

    __slots__ = ("zh",)

    def __new__(cls, en: str, zh: str) -> Self:
        """Both languages of one thing."""
        made = super().__new__(cls, en)
        made.zh = zh
        return made

    zh: str

    def __reduce__(self) -> tuple[type[Words], tuple[str, str]]:
        return Words, (str(self), self.zh)


#: Python prints no longer whole numbers than this.
_PRINTED = 10**4000


class OptimizerError(ValueError):
    """A request that cannot be planned.

    Attributes:
        code: stable.
        zh, en: text in both languages.
        facts: what was filled into the text.
    """

    code = "E-OPTIMIZER"
    zh = "无法求解。"
    en = "This cannot be planned."

    def __init__(self, **facts: object) -> None:
        facts = {name: "10^4000..." if isinstance(fact, int) and abs(fact) > _PRINTED else fact for name, fact in facts.items()}
        self.facts = facts
        self.zh = type(self).zh.format(**{name: fact.zh if isinstance(fact, Words) else fact for name, fact in facts.items()})
        self.en = type(self).en.format(**facts)
        super().__init__(f"{self.code}: {self.en}")

    def __reduce__(self) -> tuple[Callable[..., OptimizerError], tuple[type[OptimizerError], dict[str, object]]]:
        return _again, (type(self), self.facts)  # errors of worker processes arrive whole


def _again(kind: type[OptimizerError], facts: dict[str, object]) -> OptimizerError:
    return kind(**facts)


class SpecificationError(OptimizerError):
    """The specification contradicts itself; nothing was planned."""

    code = "E-SPECIFICATION"
    zh = "优化对象“{name}”的“{field}”有误：{problem}。请更正后重试。"
    en = "'{field}' of '{name}' is wrong: {problem}. Correct it and try again."


class InputError(OptimizerError):
    """A value given to a function cannot be; nothing was computed."""

    code = "E-INPUT"
    zh = "“{name}”的输入“{field}”有误：{problem}。请更正后重试。"
    en = "'{field}' given to '{name}' is wrong: {problem}. Correct it and try again."


class UnsolvedError(OptimizerError):
    """The solver gave no usable point: there is no plan, and none is made up."""

    code = "E-UNSOLVED"
    zh = "“{name}”没有可用的解（求解器：{status}）：{problem}。"
    en = "There is no usable solution for '{name}' (solver: {status}): {problem}."
