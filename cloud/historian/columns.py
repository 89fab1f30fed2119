"""Columns of readings as numpy arrays, and ClickHouse Native blocks made of them without copying row by row.

Must not know: projects, streams, HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.kang.v1 import telemetry_pb2 as pb

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """n readings. `at_ms` is UTC milliseconds, `value` in canonical units.

    Attributes:
        device: u32, shape (n,).
        point: u16, shape (n,).
        at_ms: i64, shape (n,).
        value: f64, shape (n,).
        quality: u8, shape (n,).
    """

    device: Array
    point: Array
    at_ms: Array
    value: Array
    quality: Array

    def __len__(self) -> int:
        return int(self.value.shape[0])

    def take(self, which: Array) -> Columns:
        """The rows of a boolean mask or index array."""
        return Columns(self.device[which], self.point[which], self.at_ms[which], self.value[which], self.quality[which])

    @classmethod
    def empty(cls) -> Columns:
        """No readings."""
        return cls(np.empty(0, "<u4"), np.empty(0, "<u2"), np.empty(0, "<i8"), np.empty(0, "<f8"), np.empty(0, "u1"))

    @classmethod
    def join(cls, parts: Sequence[Columns]) -> Columns:
        """Concatenate."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("device", "point", "at_ms", "value", "quality")))


def decode(batch: pb.Batch) -> Columns:
    """Columns of a parsed batch (`protos.batch.parse` has checked that they agree)."""
    length = np.frombuffer(batch.length, "<u4")
    return Columns(
        np.repeat(np.frombuffer(batch.device_id, "<u4"), length), np.repeat(np.frombuffer(batch.point_id, "<u2"), length),
        np.frombuffer(batch.offset_ms, "<u4").astype("<i8") + batch.base_ms, np.frombuffer(batch.value, "<f8"), np.frombuffer(batch.quality, "u1"))


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(len(raw)) + raw


def native_block(columns: Iterable[tuple[str, str, Array | Sequence[str | bytes]]], rows: int) -> bytes:
    """One block in ClickHouse's Native format.

    Args:
        columns: (name, ClickHouse type, values); String values as a sequence, everything else as an array already in wire layout
            (DateTime64 as i64, UUID and FixedString as contiguous bytes arrays of dtype S or V).
        rows: rows in each column.
    """
    listed = list(columns)
    parts = [_varint(len(listed)), _varint(rows)]
    for name, kind, values in listed:
        parts += (_text(name), _text(kind))
        if kind == "String":
            parts.append(b"".join(_text(v) for v in values))
        else:
            parts.append(np.ascontiguousarray(values).tobytes())
    return b"".join(parts)
