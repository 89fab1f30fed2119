"""Equality of data with arrays in it: two of them are equal when every value is, and to ask is never an error.

Must not know: what the fields mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from optimizers.rules import as_numbers


class ByValue:
    """A dataclass (with `eq=False`) compared by the values of its fields, those with `compare=False` left out. What is unknown (NaN) in both is equal."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same(getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self) if field.compare)  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return hash((type(self), getattr(self, "name", None)))


def same(one: Any, other: Any) -> bool:
    """True when two values are equal: arrays and rows of numbers by their numbers, mappings and lists by their members."""
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        a, b = as_numbers(one), as_numbers(other)
        return a is not None and b is not None and a.shape == b.shape and bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124  NaN
