"""Hostile and broken batches over the real stack: each is set aside with a reason the page shows, the next good one is unaffected (issue line 8)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.rig.source import Source
from cloud.bus.connection import connect
from protos import batch, envelope, subjects
from protos.kang.v1 import telemetry_pb2 as pb
from protos.points import point
from tests.support.real import Real, eventually

pytestmark = pytest.mark.slow
POWER = point("active_power").id
Made = Callable[[Source, int], bytes]


def good(source: Source, at_ms: int, value: float = 6110.5, device: int | None = None, point_id: int = POWER) -> list[batch.Reading]:
    return [batch.Reading(device or source.devices[0], point_id, at_ms, value)]


def signed(source: Source, body: bytes) -> bytes:
    """A body of ours in a correct envelope."""
    source.sequence += 1
    header = envelope.Header(envelope.Kind.BATCH, envelope.identity_hash(subjects.agent_identity(source.project_id, source.agent_id)), envelope.identity_hash(subjects.PLATFORM_IDENTITY),
                             source.epoch, source.sequence, time.time_ns() // 1_000_000, previous=source.previous)
    made = envelope.sign(header, body, source.key)
    source.previous = made.digest
    return source.sealer.seal(made)


def flipped(source: Source, now: int) -> bytes:
    sequence, previous = source.sequence, source.previous
    sealed = bytearray(source.seal(good(source, now)))
    sealed[-20] ^= 1
    source.sequence, source.previous = sequence, previous  # the agent would send the same batch again
    return bytes(sealed)


def other_project(source: Source, now: int) -> bytes:
    body = batch.encode(batch.Stamp(source.project_id + 1, source.agent_id, source.epoch, source.sequence + 1, bytes(16)), good(source, now))
    return signed(source, body)


def oversize(source: Source, now: int) -> bytes:
    rows = [batch.Reading(source.devices[0], POWER, now - 1000 * k, 1.0) for k in range(batch.MAX_READINGS + 1)]
    return signed(source, batch.encode(batch.Stamp(source.project_id, source.agent_id, source.epoch, source.sequence + 1, bytes(16)), rows))


def torn(source: Source, now: int) -> bytes:
    body = batch.encode(batch.Stamp(source.project_id, source.agent_id, source.epoch, source.sequence + 1, bytes(16)), good(source, now))
    return signed(source, body[:-3])


def contradicting(source: Source, now: int) -> bytes:
    from backports import zstd

    message = pb.Batch(project_id=source.project_id, agent_id=source.agent_id, epoch=source.epoch, sequence=source.sequence + 1, base_ms=now, device_id=b"\1\0\0\0", point_id=b"\1\0",
                       length=b"\7\0\0\0", offset_ms=bytes(4), value=bytes(8), quality=b"\0")
    return signed(source, zstd.compress(message.SerializeToString()))


CASES: dict[str, tuple[Made, str]] = {
    "garbage": (lambda s, now: b"\x00\xff" * 500, "envelope_version"),
    "a flipped bit": (flipped, "envelope_decrypt"),
    "a torn body": (torn, "batch_compressed"),
    "columns that contradict": (contradicting, "batch_series"),
    "another project's number": (other_project, "project"),
    "an oversize batch": (oversize, "batch_rows"),
    "an unknown point": (lambda s, now: s.seal(good(s, now, point_id=9999)), "point"),
    "another agent's device": (lambda s, now: s.seal(good(s, now, device=1)), "device"),
    "not a number": (lambda s, now: s.seal(good(s, now, math.nan)), "not_finite"),
    "1e308": (lambda s, now: s.seal(good(s, now, 1e308)), "range"),
    "a clock of 2036": (lambda s, now: s.seal(good(s, 2_085_978_496_000)), "future"),
    "a clock of 1970": (lambda s, now: s.seal(good(s, 86_400_000)), "past"),
}


@pytest.fixture
async def road(real: Real) -> Any:
    client = await connect(real.settings.effective_nats_url, real.settings.credentials, "hostile")
    yield client.jetstream()
    await client.close()


@pytest.mark.parametrize("name", list(CASES))
async def test_bad_input_is_set_aside_with_its_reason_and_the_next_good_batch_arrives(real: Real, road: Any, name: str) -> None:
    make, reason = CASES[name]
    source, store = real.source, real.store()
    now = time.time_ns() // 1_000_000
    before = (await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id} AND value = 6110.5"))[0][0]
    await road.publish(source.subject, make(source, now))
    await road.publish(source.subject, source.seal(good(source, now)))
    async with real.client() as page:
        async def shown() -> list[dict[str, Any]]:
            answer = await page.get("/quarantine", params={"project_id": source.project_id})
            return [r for r in answer.json() if r["reason"] == reason and r["received_ms"] >= now - 2000]

        rows = await eventually(shown, 20, f"quarantine shows {reason}")
        assert rows[0]["detail"]

        async def arrived() -> bool:
            found: int = (await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id} AND value = 6110.5"))[0][0]
            return found > before

        await eventually(arrived, 20, "the next good batch")
    bad = await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id} AND (NOT isFinite(value) OR abs(value) > 1e300 OR ts > now() + INTERVAL 1 DAY OR toYear(ts) < 2000)")
    assert bad == [(0,)]


async def test_a_message_of_ten_megabytes_is_refused_at_the_door(real: Real, road: Any) -> None:
    import nats

    with pytest.raises((nats.errors.MaxPayloadError, nats.js.errors.Error, nats.errors.Error)):
        await road.publish(real.source.subject, bytes(10 << 20), timeout=5)
    await road.publish(real.source.subject, real.source.seal(good(real.source, time.time_ns() // 1_000_000)))


async def test_an_unvouched_clock_is_held_and_comes_in_when_released_with_an_offset(real: Real, road: Any) -> None:
    source, store = real.source, real.store()
    wrong, right = 1_000_000_000_000 // 1000, time.time_ns() // 1_000_000 - 60_000
    stamp = batch.Stamp(source.project_id, source.agent_id, source.epoch, source.sequence + 1, bytes(16), 0, pb.CLOCK_STATE_UNTRUSTED)
    await road.publish(source.subject, signed(source, batch.encode(stamp, [batch.Reading(source.devices[1], POWER, wrong + k, 6177.5) for k in range(3)])))
    async with real.client() as page:
        async def held() -> str:
            rows = [r for r in (await page.get("/quarantine", params={"project_id": source.project_id})).json() if r["reason"] == "clock" and r["state"] == "held"]
            return rows[0]["id"] if rows else ""

        item = await eventually(held, 20, "the batch is held")
        answer = await page.post(f"/quarantine/{item}/release", json={"offset_ms": right - wrong, "reason": "boot clock"})
        assert answer.status_code < 300, answer.text
        twice = await page.post(f"/quarantine/{item}/release", json={"offset_ms": right - wrong, "reason": "boot clock"})
        assert twice.status_code in (404, 409, 422), twice.text

    async def arrived() -> bool:
        found = await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id} AND value = 6177.5 AND abs(toUnixTimestamp64Milli(ts) - {right}) < 1000")
        return bool(found == [(3,)])

    await eventually(arrived, 20, "the released rows")


async def test_a_duplicate_and_a_replay_change_nothing(real: Real, road: Any) -> None:
    source, store = real.source, real.store()
    now = time.time_ns() // 1_000_000 + 17
    sealed = source.seal(good(source, now, 6133.7))
    for _ in range(3):
        await road.publish(source.subject, sealed)
    marker = source.seal(good(source, now + 1, 6134.7))
    await road.publish(source.subject, marker)

    async def arrived() -> bool:
        return bool((await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id} AND value = 6134.7"))[0][0])

    await eventually(arrived, 20, "the marker")
    assert await store.query(f"SELECT count() FROM heat.raw WHERE project_id = {source.project_id} AND value = 6133.7") == [(1,)]
