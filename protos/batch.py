"""Columns of a sealed batch: readings in, protobuf bytes out, and back, with every contradiction refused.

Uses only `array` from the standard library, so a small edge box needs no numpy; the platform decodes the same bytes with
numpy (`cloud.historian.columns`). Must not know: spools, transports, envelopes.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

from backports import zstd
from google.protobuf.message import DecodeError

from protos.errors import KangError
from protos.kang.v1 import telemetry_pb2 as pb

MAX_READINGS: Final = 20_000
MAX_BODY: Final = 1 << 20        # compressed bytes of one batch
MAX_DECODED: Final = 4 << 20     # uncompressed bytes
MAX_SPAN_MS: Final = 1 << 32
_BIG = sys.byteorder == "big"


class BatchError(KangError):
    """A batch is refused; `reason` is a stable word: oversize, compressed, protobuf, columns, rows, epoch, series."""

    code = "E-BATCH"
    zh = "数据批次不合规（{reason}），已隔离。请在“隔离区”查看原因后放行或丢弃。"
    en = "The batch is malformed ({reason}) and was quarantined. See the quarantine page to release or discard it."

    @property
    def reason(self) -> str:
        """The stable word."""
        return str(self.values["reason"])


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading (采样值): canonical unit, UTC milliseconds."""

    device_id: int
    point_id: int
    at_ms: int
    value: float
    quality: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a batch says of itself besides its readings."""

    project_id: int
    agent_id: str
    epoch: bytes
    sequence: int
    boot_id: bytes
    monotonic_ms: int = 0
    clock_state: int = pb.CLOCK_STATE_TRUSTED
    origin: int = pb.ORIGIN_MEASURED


def encode(stamp: Stamp, readings: Iterable[Reading], *, level: int = 3) -> bytes:
    """Pack readings into a compressed batch body. Rows are grouped by series, then ordered by time.

    Args:
        stamp: identity of the batch; `monotonic_ms` belongs to the earliest reading.
        readings: at least one.
        level: zstd level; 3 is 5 % smaller than 1 for the same time (make bench-data, row 5).
    """
    rows = sorted(readings, key=lambda r: (r.device_id, r.point_id, r.at_ms))
    base = min(r.at_ms for r in rows)
    device, point, length = array("I"), array("H"), array("I")
    offset, value, quality = array("I"), array("d"), array("B")
    last: tuple[int, int] | None = None
    for r in rows:
        series = (r.device_id, r.point_id)
        if series != last:
            device.append(r.device_id)
            point.append(r.point_id)
            length.append(0)
            last = series
        length[-1] += 1
        offset.append(r.at_ms - base)
        value.append(r.value)
        quality.append(r.quality)
    if _BIG:
        for column in (device, point, length, offset, value):
            column.byteswap()
    message = pb.Batch(
        project_id=stamp.project_id, agent_id=stamp.agent_id, epoch=stamp.epoch, sequence=stamp.sequence, base_ms=base,
        device_id=device.tobytes(), point_id=point.tobytes(), length=length.tobytes(), offset_ms=offset.tobytes(),
        value=value.tobytes(), quality=quality.tobytes(), origin=cast("pb.Origin", stamp.origin), clock_state=cast("pb.ClockState", stamp.clock_state),
        boot_id=stamp.boot_id, monotonic_ms=stamp.monotonic_ms)
    return zstd.compress(message.SerializeToString(), level)


def parse(body: bytes) -> pb.Batch:
    """Decompress and parse a batch body; check that its columns agree.

    Raises:
        BatchError: with the stable reason.
    """
    if len(body) > MAX_BODY:
        raise BatchError(reason="oversize")
    frame = zstd.ZstdDecompressor()
    try:
        clear = frame.decompress(body, MAX_DECODED + 1)
    except (zstd.ZstdError, EOFError):
        raise BatchError(reason="compressed") from None
    if len(clear) > MAX_DECODED:
        raise BatchError(reason="oversize")
    if not frame.eof or frame.unused_data:
        raise BatchError(reason="compressed")
    try:
        batch = pb.Batch.FromString(clear)
    except DecodeError:
        raise BatchError(reason="protobuf") from None
    series, rows = len(batch.device_id) // 4, len(batch.quality)
    if (len(batch.device_id) != 4 * series or len(batch.point_id) != 2 * series or len(batch.length) != 4 * series
            or len(batch.offset_ms) != 4 * rows or len(batch.value) != 8 * rows or rows == 0):
        raise BatchError(reason="columns")
    if rows > MAX_READINGS:
        raise BatchError(reason="rows")
    if sum(_whole("I", batch.length)) != rows:
        raise BatchError(reason="series")
    if len(batch.epoch) != 16 or batch.sequence == 0:
        raise BatchError(reason="epoch")
    return batch


def readings(batch: pb.Batch) -> Iterator[Reading]:
    """The rows of a parsed batch, one object each (for the edge, tests and small batches; the platform stays columnar)."""
    device, point, length = _whole("I", batch.device_id), _whole("H", batch.point_id), _whole("I", batch.length)
    offset, value = _whole("I", batch.offset_ms), _floats(batch.value)
    row = 0
    for k, n in enumerate(length):
        for _ in range(n):
            yield Reading(device[k], point[k], batch.base_ms + offset[row], value[row], batch.quality[row])
            row += 1


def quantise(value: float, resolution: float) -> float:
    """Round to the instrument's resolution without binary noise (12.300000000000001 -> 12.3); NaN and infinities pass."""
    if resolution <= 0 or not math.isfinite(value):
        return value
    steps = round(value / resolution)
    return steps * resolution if resolution >= 1 else steps / round(1 / resolution)


def _whole(code: Literal["H", "I"], data: bytes) -> array[int]:
    column = array(code, data)
    if _BIG:
        column.byteswap()
    return column


def _floats(data: bytes) -> array[float]:
    column = array("d", data)
    if _BIG:
        column.byteswap()
    return column
