"""What a number, a series or a name may be: one judge for every value that enters this package, so that a wrong one is refused by name before anything is computed.

A `Number` or `Things` says what is allowed; `problem` says in both languages what is wrong with a value, `refuse` judges a whole dataclass, `number` and `numbers`
an argument. Must not know: what the fields mean, solvers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from optimizers.errors import InputError, OptimizerError, SpecificationError, Words

Array = NDArray[np.float64]
T = TypeVar("T")
#: Sizes beyond this are slips of a unit, and no solver is exact there.
LARGEST = 1e7


@dataclass(frozen=True, slots=True)
class Number:
    """What a number may be.

    Attributes:
        low, high: bounds, both included.
        above: `low` itself is not allowed.
        endless: plus infinity is allowed: there is no such limit; `bottomless`: minus infinity.
        missing: NaN is allowed: nobody knows.
        optional: None is allowed.
        whole: no fractions.
        series: an array with one value a step is allowed too.
        loose: values are repaired elsewhere; only kind and length are judged.
    """

    low: float = 0.0
    high: float = LARGEST
    above: bool = False
    endless: bool = False
    bottomless: bool = False
    missing: bool = False
    optional: bool = False
    whole: bool = False
    series: bool = False
    loose: bool = False

    def problem(self, value: Any, steps: int | None = None) -> Words | None:
        """What is wrong with a value; None: nothing.

        Args:
            value: a number, or an array when `series`.
            steps: length an array must have; None: any.
        """
        if value is None:
            return None if self.optional else Words("None is not a number", "None 不是数")
        if not self.series:
            if isinstance(value, bool | np.bool_ | np.timedelta64) or not isinstance(value, int | float | np.integer | np.floating):
                return _no_number(value)
            single = as_float(value)
            if math.isinf(single) and value not in (math.inf, -math.inf):
                return Words("it is beyond all floats", "超出浮点数范围")
            return None if self.loose else self._outside(single)
        found = as_numbers(value)
        if found is None or found.ndim > 1:
            return _no_number(value) if found is None else _shape(found.shape, steps)
        if found.ndim == 1 and steps is not None and len(found) != steps:
            return _shape(found.shape, steps)
        if self.loose:
            return None
        good = (found >= self.low) & (found <= self.high) & ~(self.above & (found == self.low)) & ~(self.whole & (found != np.rint(found)))
        good |= (self.missing & np.isnan(found)) | (self.endless & (found == np.inf)) | (self.bottomless & (found == -np.inf))
        if good.all():
            return None
        where = int(np.argmin(good))
        said = self._outside(float(found.flat[where])) or _no_number(value)
        return said if found.ndim == 0 else Words(f"{said} at step {where}", f"第 {where} 步{said.zh}")

    def _outside(self, value: float) -> Words | None:
        if math.isnan(value):
            return None if self.missing else Words("nan is not a number", "nan 不是数")
        if (value == math.inf and self.endless) or (value == -math.inf and self.bottomless):
            return None
        if self.whole and value not in (math.inf, -math.inf) and value != round(value):
            return Words(f"{value:g} is not a whole number", f"{value:g} 不是整数")
        if self.low <= value <= self.high and not (self.above and value == self.low):
            return None
        return Words(f"{value:g} is outside {'(' if self.above else '['}{self.low:g}, {self.high:g}]", f"{value:g} 超出范围 {'(' if self.above else '['}{self.low:g}, {self.high:g}]")


@dataclass(frozen=True, slots=True)
class Things:
    """A value, or with `many` a sequence of values, of some types.

    Attributes:
        types: allowed.
        many: a list or tuple of them.
        filled: an empty text or sequence is not allowed.
        optional: None is allowed.
        each: rule for every member that is a number, with `count` members.
    """

    types: tuple[type, ...]
    many: bool = False
    filled: bool = False
    optional: bool = False
    each: Number | None = None
    count: int = 0

    def problem(self, value: Any, steps: int | None = None) -> Words | None:  # noqa: ARG002  one signature for both kinds of rule
        """What is wrong with a value; None: nothing."""
        if value is None and self.optional:
            return None
        wanted = " / ".join(t.__name__ for t in self.types)
        members = [value]
        if self.many or self.each is not None:
            if not isinstance(value, list | tuple):
                return Words(f"{_short(value)} is no list of {wanted}", f"{_short(value)} 不是 {wanted} 的列表")
            members = list(value)
            if self.each is not None:
                if len(members) != self.count:
                    return Words(f"{len(members)} numbers instead of {self.count}", f"应有 {self.count} 个数，实有 {len(members)} 个")
                return next((said for m in members if (said := self.each.problem(m)) is not None), None)
        for member in members:
            if not isinstance(member, self.types):
                return Words(f"{_short(member)} is no {wanted}", f"{_short(member)} 不是 {wanted}")
        if self.filled and not value:
            return Words("it is empty", "为空")
        return None


Rule = Number | Things
TEXT, FLAG = Things((str,)), Things((bool, np.bool_))


def refuse(name: Any, thing: Any, rules: Mapping[str, Rule], steps: int | None = None, *, error: type[OptimizerError] = SpecificationError) -> None:
    """Judge every field of a dataclass.

    Args:
        name: of the thing, for the message.
        thing: what is judged.
        rules: field -> rule.
        steps: length of its series.
        error: raised, with name, field and problem.

    Raises:
        OptimizerError: the first field that cannot be.
    """
    for field, rule in rules.items():
        said = rule.problem(getattr(thing, field), steps)
        if said is not None:
            raise error(name=name if isinstance(name, str) else _short(name), field=field, problem=said)


def number(name: str, field: str, value: Any, rule: Number) -> float:
    """One number that was given to a function.

    Raises:
        InputError: it cannot be.
    """
    said = rule.problem(value)
    if said is not None:
        raise InputError(name=name, field=field, problem=said)
    return as_float(value)


def numbers(name: str, field: str, value: Any, shape: tuple[int | None, ...] = (None,), rule: Number | None = None) -> Array:
    """An array that was given to a function.

    Args:
        name: of the function.
        field: of the argument.
        value: array, or nested lists of numbers.
        shape: length of each axis; None: any.
        rule: what each value may be; None: any finite number.

    Raises:
        InputError: another shape, or a value that cannot be; the first is named.
    """
    found = as_numbers(value)
    if found is None:
        raise InputError(name=name, field=field, problem=_no_number(value))
    if found.ndim != len(shape) or any(want is not None and want != have for want, have in zip(shape, found.shape, strict=True)):
        wanted = ", ".join("n" if s is None else str(s) for s in shape)
        raise InputError(name=name, field=field, problem=Words(f"its shape is {found.shape}, ({wanted}) is needed", f"形状为 {found.shape}，应为 ({wanted})"))
    allowed = rule or ANY
    said = Number.problem(_series(allowed), found.ravel())
    if said is not None:
        raise InputError(name=name, field=field, problem=said)
    return found


def money(name: str, field: str, value: Any, rule: Number | None = None) -> Decimal:
    """An exact amount (Decimal, or a whole number) that was given to a function.

    Raises:
        InputError: a float (it is not exact), text, infinite, or outside the rule.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise InputError(name=name, field=field, problem=Words(f"{_short(value)} is no Decimal", f"{_short(value)} 不是 Decimal"))
    found = Decimal(value)
    said = (rule or ANY).problem(float(found) if not found.is_snan() else math.nan)
    if said is not None:
        raise InputError(name=name, field=field, problem=said)
    return found


def one_of(name: str, field: str, value: Any, types: tuple[type, ...]) -> None:
    """Refuse an argument of another type.

    Raises:
        InputError: it is none of these types.
    """
    said = Things(types).problem(value)
    if said is not None:
        raise InputError(name=name, field=field, problem=said)


def as_numbers(value: Any) -> Array | None:
    """Floats of a number, an array or (nested) lists; None when there is anything else in it: text, complex numbers, truth values, rows of unequal length.

    What a masked array masks is a hole: NaN.
    """
    if isinstance(value, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(value), np.nan, np.asarray(value.data, np.float64)) if value.dtype.kind in "iuf" else None
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value
    if value is None or isinstance(value, str | bytes | Mapping | complex | bool):
        return None
    try:
        with np.errstate(over="ignore"):  # beyond all floats: infinite, and judged as that
            return _floats(np.asarray(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _floats(found: NDArray[Any]) -> Array | None:
    if found.dtype.kind == "O":  # decimals, fractions
        return None if any(isinstance(v, str | bytes | complex | bool | None) for v in found.flat) else found.astype(np.float64)
    return found.astype(np.float64) if found.dtype.kind in "iuf" or (found.size == 0 and found.ndim == 1) else None


def _series(rule: Number) -> Number:
    return rule if rule.series else Number(**{**{name: getattr(rule, name) for name in Number.__slots__}, "series": True})


def _no_number(value: Any) -> Words:
    return Words(f"{_short(value)} is not a number", f"{_short(value)} 不是数")


def _shape(shape: tuple[int, ...], steps: int | None) -> Words:
    return Words(f"{shape} values for {'a row of' if steps is None else steps} steps", f"值的形状为 {shape}，时段数为 {'一维' if steps is None else steps}")


def as_float(value: Any) -> float:
    """A number of any kind as a float; beyond all floats: infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def plain(thing: T, rules: Mapping[str, Rule]) -> T:
    """The same judged dataclass, its single numbers as Python's own: numpy's half and long ones would pass their precision on to everything computed from them."""
    changed: dict[str, Any] = {}
    for field, rule in rules.items():
        value = getattr(thing, field)
        if isinstance(rule, Number) and not rule.series and value is not None and (isinstance(value, np.generic) or (type(value) is int and abs(value) > LARGEST)):
            changed[field] = int(value) if rule.whole else as_float(value)
        elif isinstance(rule, Things) and rule.each is not None and any(isinstance(v, np.generic) for v in value):
            changed[field] = tuple(as_float(v) for v in value)
    return dataclasses.replace(thing, **changed) if changed else thing  # type: ignore[type-var]


def _short(value: Any) -> str:
    try:
        said = repr(value)
    except (ValueError, TypeError, AttributeError, RuntimeError):  # a number too long to print, or a class that cannot say what it is
        said = type(value).__name__
    return said if len(said) <= 40 else f"{said[:37]}..."


#: Any finite number; any finite number or NaN where nobody knows; any number at all, to be repaired elsewhere.
ANY = Number(-1e12, 1e12)
KNOWN_OR_NOT = Number(-1e12, 1e12, missing=True)
UNJUDGED = Number(loose=True)
