"""The admission gate: urgent first, nobody for ever last, nothing lost when callers give up."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.core.admission import BATCH, CONTROL, CUSTOMER, SAFETY, THIRD_PARTY, BusyError, Gate, Queue, ThreadGate, Waiter


@pytest.mark.point("32")
async def test_an_urgent_call_overtakes_a_long_queue() -> None:
    gate, order = Gate(2), list[str]()
    blocker = asyncio.Event()

    async def call(name: str, priority: int, block: bool = False) -> None:
        async with gate.slot(priority):
            if block:
                await blocker.wait()
            order.append(name)

    calls = [asyncio.create_task(call("block", CONTROL, True)) for _ in range(2)]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(call("low", BATCH)) for _ in range(100)]
    await asyncio.sleep(0)
    calls.append(asyncio.create_task(call("high", SAFETY)))
    await asyncio.sleep(0)
    blocker.set()
    await asyncio.gather(*calls)
    assert order.index("high") <= 3
    assert (gate.queue.taken, len(gate.queue)) == (0, 0)


def test_who_has_waited_five_seconds_gets_every_fourth_slot() -> None:
    queue, got = Queue(1), list[str]()
    assert queue.take(SAFETY)
    for k in range(4):
        queue.push(Waiter(BATCH, 0.0, lambda _ok, k=k: got.append(f"low{k}")))
    for k in range(12):
        queue.push(Waiter(SAFETY, 5.5, lambda _ok, k=k: got.append(f"high{k}")))
    for _ in range(16):
        queue.release(6.0)
    assert [name[:3] for name in got[:8]].count("low") == 2
    assert len(got) == 16
    queue = Queue(1)
    assert queue.take(SAFETY)
    young = list[str]()
    queue.push(Waiter(BATCH, 5.0, lambda _ok: young.append("low")))
    for _ in range(8):
        queue.push(Waiter(SAFETY, 5.5, lambda _ok: young.append("high")))
    for _ in range(9):
        queue.release(6.0)
    assert young[-1] == "low"


@pytest.mark.point("32")
async def test_a_full_queue_sheds_the_least_urgent() -> None:
    gate = Gate(1, most=2)
    blocker, outcomes = asyncio.Event(), list[tuple[str, bool]]()

    async def call(name: str, priority: int) -> None:
        try:
            async with gate.slot(priority):
                await blocker.wait()
            outcomes.append((name, True))
        except BusyError:
            outcomes.append((name, False))

    names = [("first", 2), ("low1", BATCH), ("low2", BATCH), ("high", CONTROL), ("third", THIRD_PARTY)]
    tasks = []
    for name, priority in names:
        tasks.append(asyncio.create_task(call(name, priority)))
        await asyncio.sleep(0)
    blocker.set()
    await asyncio.gather(*tasks)
    assert dict(outcomes) == {"first": True, "low2": False, "low1": False, "high": True, "third": True}


async def test_a_reserved_slot_is_for_control_only() -> None:
    gate = Gate(2, reserved=1)
    assert gate.queue.take(BATCH)
    assert not gate.queue.take(BATCH)
    assert gate.queue.take(CONTROL)


def test_the_less_urgent_a_class_the_fewer_slots_it_may_fill() -> None:
    for priority, most in ((CONTROL, 4), (CUSTOMER, 3), (THIRD_PARTY, 2), (BATCH, 1)):
        queue = Queue(4, reserved=1)
        assert sum(queue.take(priority) for _ in range(10)) == most


def test_a_class_with_few_slots_does_not_starve_behind_others_that_keep_theirs_full() -> None:
    queue, let_in = Queue(4, reserved=1, aging_s=5), list[float]()
    queue.take(CUSTOMER)
    queue.take(CUSTOMER)
    for k in range(3):
        queue.push(Waiter(BATCH, float(k), lambda _ok, k=k: let_in.append(k)))
    for now in range(60):  # customers come and go, two are always inside: the one slot that is batch's own is never free
        queue.take(CUSTOMER)
        queue.release(float(now))
        while queue.taken > 2:
            queue.release(float(now))
    assert let_in == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 5, 9]), st.booleans()), max_size=40), st.integers(1, 4), st.integers(0, 1))
def test_no_slot_is_lost_whoever_is_cancelled(calls: list[tuple[int, bool]], capacity: int, reserved: int) -> None:
    async def run() -> None:
        gate = Gate(capacity + reserved, reserved=reserved)

        async def call(priority: int) -> None:
            async with gate.slot(priority):
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(call(p)) for p, _ in calls]
        await asyncio.sleep(0)
        for task, (_, cancelled) in zip(tasks, calls, strict=True):
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (gate.queue.taken, len(gate.queue)) == (0, 0)

    asyncio.run(run())


def test_a_thread_whose_caller_has_gone_leaves_the_queue() -> None:
    gate = ThreadGate(1)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with gate.slot(CONTROL):
            entered.set()
            leave.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(5)
    started = time.monotonic()
    with pytest.raises(BusyError), gate.slot(BATCH, gone=lambda: True):
        pass
    assert time.monotonic() - started < 1
    leave.set()
    holder.join()
    assert gate.stats()["abandoned"] == 1
    assert (gate.queue.taken, len(gate.queue)) == (0, 0)
