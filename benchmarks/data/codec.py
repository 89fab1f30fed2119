"""Rows 5 and 6, and the processor time of each step of a batch's life: bytes on the wire and the cost of making and reading them.

One process, processor time only, so other load hardly matters; four interleaved rounds. Must not know: transports, stores.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.data import workload
from benchmarks.report import Report
from cloud.core.ports import DeviceInfo, PointSetting, ProjectInfo
from cloud.historian.columns import decode
from cloud.historian.writer import BatchRow, raw_blocks, reference
from cloud.runtime.project import Project
from protos import batch, envelope, subjects
from protos.batch import Reading

ROUNDS = 4
MESSAGES = 200


def row_message() -> Any:
    """`repeated Reading` with a field per value: how a batch would look row by row."""
    file = descriptor_pb2.FileDescriptorProto(name="bench_rows.proto", package="bench", syntax="proto3")
    reading = file.message_type.add(name="Reading")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (name, kind) in enumerate((("device", kinds.TYPE_UINT32), ("point", kinds.TYPE_UINT32), ("at_ms", kinds.TYPE_INT64), ("value", kinds.TYPE_DOUBLE), ("quality", kinds.TYPE_UINT32)), 1):
        reading.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    file.message_type.add(name="Rows").field.add(name="rows", number=1, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=".bench.Reading")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Rows"))


def measure(report: Report) -> None:
    """All figures."""
    rows_class = row_message()
    for size in (500, 5000):
        devices = range(1, 26)
        made = workload.sweeps(devices, max(MESSAGES * 500, size * 4) // 200, start_ms=workload.month_start_ms(), seed=5)
        rows = list(workload.readings(made))
        parts = [rows[k:k + size] for k in range(0, len(rows), size)]
        _wire(report, parts, size)
        _cost(report, parts, size, rows_class)
    _steps(report)


def _objects(part: list[Reading]) -> bytes:
    return json.dumps([{"device": r.device_id, "point": r.point_id, "ts": r.at_ms, "value": r.value, "quality": r.quality} for r in part], separators=(",", ":")).encode()


def _stamp(sequence: int) -> batch.Stamp:
    return batch.Stamp(1, "a1", b"e" * 16, sequence, b"b" * 16)


def _wire(report: Report, parts: list[list[Reading]], size: int) -> None:
    count = sum(len(p) for p in parts)
    plain = sum(len(_objects(p)) for p in parts) / count
    packed = sum(len(zstd.compress(_objects(p), 1)) for p in parts) / count
    ours = sum(len(batch.encode(_stamp(k + 1), p)) + envelope.OVERHEAD for k, p in enumerate(parts)) / count
    report.add(f"data.5.wire_bytes_{size}", ours, "B/reading", note=f"sealed, {envelope.OVERHEAD} B of envelope included; JSON objects {plain:.1f} B")
    report.add(f"data.5.wire_over_json_{size}", ours / plain, "x", at_most=0.06)
    report.add(f"data.5.body_over_zstd_json_{size}", (ours - envelope.OVERHEAD * len(parts) / count) / packed, "x", at_most=0.7, note="body against body: JSON carries no signature")


def _timed(work: Callable[[], Any], readings: int) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) / readings * 1e9


def _cost(report: Report, parts: list[list[Reading]], size: int, rows_class: Any) -> None:
    """Columns as bytes, from arrays to arrays, against the same values as one message per reading; without and with zstd."""
    import numpy as np

    from protos.kang.v1 import telemetry_pb2 as pb

    count = sum(len(p) for p in parts)
    arrays = [(np.array([r.device_id for r in p], "<u4"), np.array([r.point_id for r in p], "<u2"), np.array([r.at_ms for r in p], "<i8"), np.array([r.value for r in p], "<f8")) for p in parts]
    quality = bytes(size)

    def columns(*, packed: bool) -> None:
        for device, point_id, at, value in arrays * 5:
            base = int(at[0])
            wire = pb.Batch(base_ms=base, device_id=device.tobytes(), point_id=point_id.tobytes(), offset_ms=(at - base).astype("<u4").tobytes(), value=value.tobytes(), quality=quality).SerializeToString()
            if packed:
                wire = zstd.decompress(zstd.compress(wire, 1))
            read = pb.Batch.FromString(wire)
            for name, dtype in (("device_id", "<u4"), ("point_id", "<u2"), ("offset_ms", "<u4"), ("value", "<f8"), ("quality", "u1")):
                np.frombuffer(getattr(read, name), dtype)

    def one_by_one(*, packed: bool) -> None:
        for device, point_id, at, value in arrays:
            message = rows_class()
            add = message.rows.add
            for d, p, t, v in zip(device.tolist(), point_id.tolist(), at.tolist(), value.tolist(), strict=True):
                add(device=d, point=p, at_ms=t, value=v, quality=0)
            wire = message.SerializeToString()
            if packed:
                wire = zstd.decompress(zstd.compress(wire, 1))
            read = rows_class.FromString(wire)
            [(r.device, r.point, r.at_ms, r.value, r.quality) for r in read.rows]

    ratios: dict[bool, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for packed in (False, True):
            ours = _timed(functools.partial(columns, packed=packed), count * 5)
            theirs = _timed(functools.partial(one_by_one, packed=packed), count)
            ratios[packed].append(theirs / ours)
    report.add(f"data.6.rows_over_columns_{size}", median(ratios[False]), "x", at_least=50, note="processor time of encode + decode")
    report.add(f"data.6.rows_over_columns_zstd_{size}", median(ratios[True]), "x", at_least=12, note="with zstd on both sides of the comparison")


def _steps(report: Report, size: int = 500) -> None:
    """Processor time of every step between a reading at the edge and a block for the store."""
    devices = range(1, 26)
    made = workload.sweeps(devices, MESSAGES * size // 200, start_ms=workload.month_start_ms(), seed=6)
    rows = list(workload.readings(made))
    parts = [rows[k:k + size] for k in range(0, len(rows), size)]
    signing, box = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    sealer, opener = envelope.Sealer(box.public_key().public_bytes_raw()), envelope.Opener(subjects.PLATFORM_IDENTITY, box)
    identity = subjects.agent_identity(1, "a1")
    settings = {p: PointSetting(p, -1e9, 1e9, 0.1, 60) for p in workload.POINTS}
    infos = [DeviceInfo(d, 1, "a1", f"d{d}", "", "", "t", "p", None, "", 1.0, {}, settings) for d in devices]
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        project = Project(ProjectInfo(1, "p", "", "", "r", 40, 116, "Asia/Shanghai", 100, "heat_pump"), infos)
        epoch, out = os.urandom(16), dict[str, list[Any]]()

        def step(name: str, work: Callable[[], list[Any]], out: dict[str, list[Any]] = out) -> None:
            found[name].append(_timed(lambda: out.__setitem__(name, work()), len(rows)))

        step("edge.encode", lambda: [batch.encode(_stamp(k + 1), p) for k, p in enumerate(parts)])
        headers = [envelope.Header(envelope.Kind.BATCH, envelope.identity_hash(identity), envelope.identity_hash(subjects.PLATFORM_IDENTITY), epoch, k + 1, 0) for k in range(len(parts))]
        step("edge.sign", lambda: [envelope.sign(h, b, signing) for h, b in zip(headers, out["edge.encode"], strict=True)])  # noqa: B023  used at once
        step("edge.encrypt", lambda: [sealer.seal(s) for s in out["edge.sign"]])  # noqa: B023
        step("host.decrypt", lambda: [opener.open(w, envelope.Kind.BATCH) for w in out["edge.encrypt"]])  # noqa: B023
        step("host.verify", lambda: [o.verify(signing.public_key(), identity) for o in out["host.decrypt"]])  # noqa: B023
        step("host.decode", lambda: [decode(batch.parse(o.body)) for o in out["host.decrypt"]])  # noqa: B023
        step("host.twin", lambda: [project.on_batch("a1", c, 1 << 42) for c in out["host.decode"]])  # noqa: B023
        step("host.block", lambda: raw_blocks([BatchRow(reference(1, 0, k + 1), 1, "a1", epoch, k + 1, 0, 1, 1, e.accepted, 0) for k, e in enumerate(out["host.twin"])]))  # noqa: B023
    for name, times in found.items():
        report.add(f"data.step.{name}", median(times), "ns/reading", note="batches of 500" if name == "edge.encode" else "")
    most = max(found, key=lambda n: median(found[n]))
    report.add("data.step.most", median(found[most]), "ns/reading", note=f"dearest step: {most}")
