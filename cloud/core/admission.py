"""Admission: who is let in next when there are fewer slots than callers. One queue discipline, for coroutines and for threads.

Classes: 0 safety and dispatch, 1 control, 2 operators, 3 customers, 5 third parties, 9 batch. The lowest number goes first, within a class the
longest waiting; who has waited five seconds gets every fourth slot, so nobody starves. The less urgent a class, the fewer slots it may fill. Must not know: HTTP, queries.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from protos.errors import KangError

SAFETY, CONTROL, OPERATOR, CUSTOMER, THIRD_PARTY, BATCH = 0, 1, 2, 3, 5, 9
#: The class of the request this code runs for; what asks for nobody in particular (ingest, jobs of our own) counts as control.
PRIORITY: ContextVar[int] = ContextVar("kang_priority", default=CONTROL)
#: Header that carries the class to the historian's door.
HEADER: Final = "X-Kang-Priority"
_AGED_SHARE: Final = 4


class BusyError(KangError):
    """Too many wait already, and none of them less urgently."""

    code = "E-BUSY"
    zh = "系统繁忙，当前优先级的请求暂不受理。请在 {retry_after_s} 秒后重试。"
    en = "Too busy for requests of this priority class at the moment. Try again in {retry_after_s} s."


@dataclass(slots=True)
class Waiter:
    """One in the queue. `wake` is called once, with True when a slot is given, False when it is shed."""

    priority: int
    since: float
    wake: Callable[[bool], None]
    settled: bool = False


@dataclass
class Queue:
    """The discipline, sans-IO: slots taken, who waits, who is next.

    Attributes:
        capacity: slots.
        reserved: of these, kept free from each step of urgency for the more urgent: operators and customers leave so many to `CONTROL` and
            stronger, third parties twice, batch thrice as many; one slot is open to everybody.
        aging_s: seconds after which a waiter may not be passed by for ever.
        most: waiters at most.
        fifo: True ignores classes (what the benchmark compares with).
    """

    capacity: int
    reserved: int = 0
    aging_s: float = 5.0
    most: int = 512
    fifo: bool = False
    taken: int = 0
    shed: int = 0
    granted: dict[int, int] = field(default_factory=dict)
    _queues: dict[int, deque[Waiter]] = field(default_factory=dict)
    _waiting: int = 0
    _turn: int = 0  # slots given so far

    def __len__(self) -> int:
        return self._waiting

    def free(self, priority: int) -> bool:
        """May this class take a slot now?"""
        if self.fifo or not self.reserved:
            return self.taken < self.capacity
        steps = 0 if priority <= CONTROL else 1 if priority <= CUSTOMER else 2 if priority < BATCH else 3
        return self.taken < max(1, self.capacity - self.reserved * steps)

    def take(self, priority: int) -> bool:
        """Take a slot at once when there is one and nobody is to go first."""
        if not self.free(priority) or any(queue for cls, queue in self._queues.items() if cls <= self._class(priority)):
            return False
        self._count(priority)
        return True

    def push(self, waiter: Waiter) -> None:
        """Wait; when too many do, the newest of the least urgent is shed, which may be this one."""
        cls = self._class(waiter.priority)
        if self._waiting >= self.most:
            worst = max(c for c, q in self._queues.items() if q)
            last = waiter if worst <= cls else self._queues[worst].pop()
            self.shed += 1
            if last is not waiter:
                self._waiting -= 1
            last.settled = True
            last.wake(False)
            if last is waiter:
                return
        self._queues.setdefault(cls, deque()).append(waiter)
        self._waiting += 1

    def leave(self, waiter: Waiter) -> None:
        """A waiter gives up."""
        queue = self._queues.get(self._class(waiter.priority))
        if queue is not None and not waiter.settled:
            try:
                queue.remove(waiter)
            except ValueError:
                return
            waiter.settled = True
            self._waiting -= 1

    def release(self, now: float) -> None:
        """Give a slot back and hand out what is free."""
        self.taken -= 1
        self.grant(now)

    def grant(self, now: float) -> None:
        """Hand free slots to whoever is next."""
        while self._waiting:
            waiter = self._next(now)
            if waiter is None:
                return
            self._waiting -= 1
            waiter.settled = True
            self._count(waiter.priority)
            waiter.wake(True)

    def _next(self, now: float) -> Waiter | None:
        heads = [queue for _, queue in sorted(self._queues.items()) if queue]
        if self._turn % _AGED_SHARE == _AGED_SHARE - 1:  # who waited too long is let in as a customer would be, or the less urgent would starve behind their own fewer slots
            aged = [queue for queue in heads if now - queue[0].since >= self.aging_s and self.free(min(queue[0].priority, CUSTOMER))]
            if aged:
                return min(aged, key=lambda queue: queue[0].since).popleft()
        allowed = next((queue for queue in heads if self.free(queue[0].priority)), None)
        return allowed.popleft() if allowed else None

    def _class(self, priority: int) -> int:
        return 0 if self.fifo else priority

    def _count(self, priority: int) -> None:
        self.taken += 1
        self._turn += 1
        self.granted[priority] = self.granted.get(priority, 0) + 1


class Gate:
    """The queue for coroutines of one event loop."""

    def __init__(self, capacity: int, *, reserved: int = 0, aging_s: float = 5.0, most: int = 512, fifo: bool = False,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self.queue = Queue(capacity, reserved, aging_s, most, fifo)
        self._monotonic = monotonic

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """A slot for the block.

        Raises:
            BusyError: shed.
        """
        await self._enter(priority)
        try:
            yield
        finally:
            self.queue.release(self._monotonic())

    async def _enter(self, priority: int) -> None:
        if self.queue.take(priority):
            return
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def wake(given: bool) -> None:
            if not told.done():
                told.set_result(given)
            elif given:
                self.queue.taken -= 1  # cancelled in the same turn of the loop: the slot goes on

        waiter = Waiter(priority, self._monotonic(), wake)
        self.queue.push(waiter)
        try:
            given = await told
        except asyncio.CancelledError:
            if told.done() and not told.cancelled() and told.result():
                self.queue.release(self._monotonic())
            self.queue.leave(waiter)
            raise
        if not given:
            raise BusyError(retry_after_s=2)


class ThreadGate:
    """The queue for threads; `gone` is asked now and then whether the caller still waits."""

    def __init__(self, capacity: int, *, reserved: int = 0, aging_s: float = 5.0, most: int = 2000) -> None:
        self.queue = Queue(capacity, reserved, aging_s, most)
        self._lock = threading.Lock()
        self.abandoned = 0

    @contextmanager
    def slot(self, priority: int, gone: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """A slot for the block.

        Raises:
            BusyError: shed, or nobody waits for the answer any more.
        """
        self._enter(priority, gone)
        try:
            yield
        finally:
            with self._lock:
                self.queue.release(time.monotonic())

    def _enter(self, priority: int, gone: Callable[[], bool]) -> None:
        told = threading.Event()
        answer: list[bool] = []

        def wake(given: bool) -> None:
            answer.append(given)
            told.set()

        with self._lock:
            if self.queue.take(priority):
                return
            waiter = Waiter(priority, time.monotonic(), wake)
            self.queue.push(waiter)
        while not told.wait(0.1):
            if gone():
                with self._lock:
                    if not answer:
                        self.queue.leave(waiter)
                        self.abandoned += 1
                        raise BusyError(retry_after_s=0)
        if not answer[0]:
            raise BusyError(retry_after_s=2)

    def stats(self) -> dict[str, Any]:
        """Slots, waiters, shed, abandoned."""
        with self._lock:
            return {"taken": self.queue.taken, "waiting": len(self.queue), "shed": self.queue.shed, "abandoned": self.abandoned, "granted": dict(self.queue.granted)}
