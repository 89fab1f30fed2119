"""Time, chance and death: a virtual event loop, seeded randomness, processes that can be killed or paused at any await.

Nothing here sleeps, opens a socket or starts a thread; two worlds of one seed live the same life. Must not know: what the processes do.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

START_MS: Final = 1_790_000_000_000
"""UTC milliseconds at loop time 0 (September 2026)."""


class PowerCut(BaseException):
    """The process is dead from here on; nothing it still tries has an effect."""


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set: the life would stand still for ever."""


class _Jump:
    """The selector that never waits: virtual time jumps to the next timer instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise DeadlockError("no timer is set")
        if timeout > 0:
            self._loop.now += timeout
        return []

    def close(self) -> None:
        return


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio without the outside: virtual time, and `to_thread` runs at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Jump(self)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return


class World:
    """One life."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.faults = True
        self.violations: list[str] = []
        self.counts: dict[str, int] = {}
        self._print = trace
        self._hash = hashlib.sha256()

    def chance(self, name: str) -> random.Random:
        """An independent stream of randomness; the same name always gives the same stream."""
        return random.Random(f"{self.seed}:{name}")

    @property
    def now_ms(self) -> int:
        """True UTC milliseconds."""
        return START_MS + round(self.loop.now * 1000)

    def note(self, what: str) -> None:
        """A line of the trace; also its hash."""
        line = f"{self.loop.now:10.3f} {what}"
        self._hash.update(line.encode())
        if self._print:
            print(line)

    def count(self, what: str, n: int = 1) -> None:
        """How often something happened (shown by --trace)."""
        self.counts[what] = self.counts.get(what, 0) + n

    def violate(self, what: str) -> None:
        """An invariant does not hold."""
        if len(self.violations) < 20:
            self.violations.append(what)
        self.note(f"VIOLATION {what}")

    def close(self) -> None:
        """End every task and the loop."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    @property
    def trace_hash(self) -> str:
        """Two lives with the same hash were the same life."""
        return self._hash.hexdigest()


class Process:
    """Something that runs on a machine and can die. `crash` and `pause` are probabilities per point passed."""

    def __init__(self, world: World, name: str, *, crash: float = 0.0, pause: float = 0.0, on_death: Callable[[], None] | None = None,
                 on_pause: Callable[[], None] | None = None) -> None:
        self.world, self.name = world, name
        self.alive = True
        self._crash, self._pause = crash, pause
        self._on_death, self._on_pause = on_death, on_pause
        self._random = world.chance(f"process:{name}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._asleep: asyncio.Future[None] | None = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task of this process; it dies with it."""
        if not self.alive:
            work.close()
            return
        task = self.world.loop.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before its first step

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except PowerCut as cut:
            self.die(str(cut))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self.alive:  # what a dead process still complains about does not count
                self.world.violate(f"{self.name} failed: {type(error).__name__}: {error} {traceback.format_exc(limit=-4) if self.world._print else ''}")
                self.die("unexpected exception")

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a callback of this process (a message came in); None when it is dead or dies of it."""
        if not self.alive:
            return None
        try:
            return function(*args)
        except PowerCut as cut:
            self.die(str(cut))
        except Exception as error:
            self.world.violate(f"{self.name} failed: {type(error).__name__}: {error} {traceback.format_exc(limit=-4) if self.world._print else ''}")
            self.die("unexpected exception")
        return None

    def check(self, where: str, *, weight: float = 1.0) -> None:
        """A point where the process may die.

        Raises:
            PowerCut: it does, or it is dead already.
        """
        if not self.alive:
            raise PowerCut("dead")
        if self.world.faults and self._crash and self._random.random() < self._crash * weight:
            self.die(where)
            raise PowerCut(where)

    async def point(self, where: str, delay_s: float = 0.0) -> None:
        """A point where the process waits for the outside, and may die or fall asleep (a stopped virtual machine, a long garbage collection)."""
        self.check(where)
        if delay_s:
            await asyncio.sleep(delay_s)
        if self._asleep is not None:
            await asyncio.shield(self._asleep)
        elif self.world.faults and self._pause and self._random.random() < self._pause:
            await self._sleep(where)
        self.check(where)

    async def _sleep(self, where: str) -> None:
        self.world.note(f"{self.name} stands still at {where}")
        self.world.count("pauses")
        self._asleep = self.world.loop.create_future()
        if self._on_pause is not None:
            self._on_pause()
        seconds = self._random.uniform(5, 40)
        self.world.loop.call_later(seconds, self._wake)
        await asyncio.shield(self._asleep)

    def _wake(self) -> None:
        asleep, self._asleep = self._asleep, None
        if asleep is not None and not asleep.done():
            asleep.set_result(None)

    def die(self, why: str) -> None:
        """Lose the memory. What is on its disk stays."""
        if not self.alive:
            return
        self.alive = False
        self.world.note(f"{self.name} dies at {why}")
        self.world.count("crashes")
        self._wake()
        try:
            me = asyncio.current_task()
        except RuntimeError:
            me = None
        for task in list(self._tasks):
            if task is not me:
                task.cancel()
        if self._on_death is not None:
            self.world.loop.call_soon(self._on_death)
