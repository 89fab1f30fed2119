"""Columns: readings survive, contradictions are refused by name, quantising leaves no binary noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from protos import batch
from protos.batch import BatchError, Reading, Stamp
from protos.kang.v1 import telemetry_pb2 as pb

STAMP = Stamp(7, "a1", b"e" * 16, 3, b"b" * 16, 12_345)
READINGS = st.builds(Reading, st.integers(1, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(1_795_000_000_000, 1_795_000_000_000 + 10**9), st.floats(allow_nan=False), st.integers(0, 6))


@given(st.lists(READINGS, min_size=1, max_size=80))
def test_readings_survive_grouped_by_series_in_time_order(readings):
    parsed = batch.parse(batch.encode(STAMP, readings))
    back = list(batch.readings(parsed))
    assert sorted(back, key=repr) == sorted(readings, key=repr)
    assert [(r.device_id, r.point_id, r.at_ms) for r in back] == sorted((r.device_id, r.point_id, r.at_ms) for r in readings)
    assert (parsed.project_id, parsed.agent_id, parsed.epoch, parsed.sequence, parsed.boot_id, parsed.monotonic_ms) == (7, "a1", b"e" * 16, 3, b"b" * 16, 12_345)


def good() -> pb.Batch:
    return batch.parse(batch.encode(STAMP, [Reading(1, 2, 1000 * k, float(k)) for k in range(3)]))


@pytest.mark.parametrize(("change", "reason"), [
    (lambda b: setattr(b, "value", b.value[:-1]), "columns"), (lambda b: setattr(b, "quality", b""), "columns"), (lambda b: setattr(b, "device_id", b.device_id + b"\0" * 4), "columns"),
    (lambda b: setattr(b, "length", b"\x02\0\0\0"), "series"), (lambda b: setattr(b, "epoch", b"short"), "epoch"), (lambda b: setattr(b, "sequence", 0), "epoch")])
def test_columns_that_contradict_each_other_are_refused(change, reason):
    message = good()
    change(message)
    with pytest.raises(BatchError) as caught:
        batch.parse(zstd.compress(message.SerializeToString()))
    assert caught.value.reason == reason


@pytest.mark.parametrize(("body", "reason"), [
    (b"", "compressed"), (zstd.compress(b""), "columns"), (b"not zstd", "compressed"), (zstd.compress(b"\xff" * 50), "protobuf"), (zstd.compress(bytes(5 << 20)), "oversize"), (bytes(2 << 20), "oversize")])
def test_rubbish_is_refused_by_name(body, reason):
    with pytest.raises(BatchError) as caught:
        batch.parse(body)
    assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(data):
    with pytest.raises(BatchError):
        batch.parse(data)


@given(st.floats(-1e6, 1e6), st.sampled_from([0.0001, 0.001, 0.01, 0.1, 1.0, 5.0]))
def test_quantised_values_lie_on_the_grid_and_print_short(value, resolution):
    out = batch.quantise(value, resolution)
    assert abs(out - value) <= resolution / 2 * (1 + 1e-9)
    assert batch.quantise(out, resolution) == out
    assert len(repr(out).split("e")[0].split(".")[-1]) <= 5


def test_quantising_passes_what_is_not_finite():
    assert math.isnan(batch.quantise(math.nan, 0.1))
    assert batch.quantise(math.inf, 0.1) == math.inf
    assert batch.quantise(12.345, 0) == 12.345


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-3], lambda b: b[: len(b) // 2], lambda b: b + b"\x00"], ids=["a byte short", "three short", "half", "a byte more"])
def test_a_body_that_was_cut_or_lengthened_is_refused_even_when_what_is_left_decompresses(damage: Callable[[bytes], bytes]) -> None:
    rows = [Reading(1, 1, 1_790_000_000_000 + k, float(k)) for k in range(5000)]
    body = batch.encode(Stamp(1, "a", bytes(16), 1, bytes(16)), rows)
    with pytest.raises(BatchError) as caught:
        batch.parse(damage(body))
    assert caught.value.reason == "compressed"
